"""`check`: each planted fault is found, and its message names the site and the mend; sound pairs pass untouched."""

from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import objectives
from ppl_vae.checker import Report, check_pair
from ppl_vae.data import Dataset, open_data
from ppl_vae.guides import diagonal_normal
from ppl_vae.models import bernoulli, gaussian
from ppl_vae.programs import resolve_pair
from ppl_vae.training.setup import isolated

SOUND = """\
import pyro
import pyro.distributions as dist
import torch
from torch import nn

STRAY = torch.zeros(5, requires_grad=True)

class Model(nn.Module):
    def __init__(self, data_shape):
        super().__init__()
        self.f = nn.Linear(2, 5)

    def forward(self, x):
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = self.f(z)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

class Guide(nn.Module):
    def __init__(self, data_shape):
        super().__init__()
        self.g = nn.Linear(5, 2)

    def forward(self, x):
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            loc = self.g(x)
            pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
"""
MODEL_Z = 'z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))'
GUIDE_Z = 'pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))'
MODEL_X = 'pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)'
MODEL_PLATE = 'pyro.module("model", self)\n        with pyro.plate("data", x.shape[0]):'
GUIDE_PLATE = 'pyro.module("guide", self)\n        with pyro.plate("data", x.shape[0]):'
MIXTURE = (
    "z = pyro.sample('z', dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), "
    "dist.Normal(torch.zeros(2, 2), 1.0).to_event(1)))"
)


def small(rows: int = 40, columns: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, columns)).astype("float32")


def check_text(folder: Path, text: str, data: np.ndarray | None = None, objective: str = "trace") -> Report:
    file = folder / "vae.py"
    file.write_text(text)
    return check(str(file), str(file), open_data(small() if data is None else data), objective)


def check(model: object, guide: object, dataset: Dataset, objective: str = "trace", **settings: object) -> Report:
    with isolated(0):
        batch = tuple(x[:1000] for x in dataset.train)
        pair = resolve_pair(model, guide, batch, settings)  # type: ignore[arg-type]
        return check_pair(pair, dataset, objectives.get(objective)())


FAULTS = {
    "the guide lacks a site": (GUIDE_Z, "pass", ["'z'", "sample it in the guide"]),
    "the guide has a site of its own": (
        GUIDE_Z,
        f"{GUIDE_Z}; pyro.sample('u', dist.Normal(loc, 1.0).to_event(1))",
        ["'u'", "no latent site of the model"],
    ),
    "a latent of the model outside the plate": (
        MODEL_PLATE,
        f"u = pyro.sample('u', dist.Normal(0.0, 1.0))\n        {MODEL_PLATE}",
        ["'u'"],
    ),
    "a latent of both outside the plate": (
        (MODEL_PLATE, GUIDE_PLATE),
        tuple(f"u = pyro.sample('u', dist.Normal(0.0, 1.0))\n        {plate}" for plate in (MODEL_PLATE, GUIDE_PLATE)),
        ["'u'", "outside the plate 'data'", 'pyro.plate("data", x.shape[0])'],
    ),
    "the prior lacks to_event": (MODEL_Z, MODEL_Z.replace(".to_event(1)", ""), ["z", "to_event"]),
    "the likelihood lacks to_event": (MODEL_X, MODEL_X.replace(".to_event(1)", ""), ["x", "to_event"]),
    "a likelihood that broadcasts over columns": (
        MODEL_X,
        MODEL_X.replace("loc, 1.0", "loc[..., :1], 1.0"),
        ["'x'", "(1,)", "(5,)", "broadcast silently", "give them one shape"],
    ),
    "a likelihood of another width": (MODEL_X, MODEL_X.replace("loc, 1.0", "loc[..., :3], 1.0"), ["'x'"]),
    "an observation that broadcasts over rows": (MODEL_X, MODEL_X.replace("obs=x", "obs=x[0]"), ["'x'", "broadcast"]),
    "the guide's plate of constant size": (
        GUIDE_PLATE,
        GUIDE_PLATE.replace("x.shape[0]", "100"),
        ["plate 'data' of the guide is of size 100 for a batch of 7 rows", "make it x.shape[0]"],
    ),
    "the model's plate as long as another tensor": (
        MODEL_PLATE,
        MODEL_PLATE.replace("x.shape[0]", "len(self.f.weight)"),
        ["plate 'data' of the model is of size 5", "make it x.shape[0]"],
    ),
    "a plate of size 1, over which Pyro would broadcast": (
        (MODEL_PLATE, GUIDE_PLATE),
        tuple(plate.replace("x.shape[0]", "1") for plate in (MODEL_PLATE, GUIDE_PLATE)),
        ["of size 1 ", "make it x.shape[0]"],
    ),
    "the model alone scales": (
        MODEL_PLATE,
        MODEL_PLATE.replace("x.shape[0]", "1000, subsample_size=x.shape[0]"),
        ["z (guide) 1", "z 142.857", "scaled differently"],
    ),
    "one site alone is scaled": (
        MODEL_X,
        f"with pyro.poutine.scale(scale=0.5): {MODEL_X}",
        ["x 0.5", "z 1", "scaled differently"],
    ),
    "a free pyro.param in a module": (
        MODEL_X,
        MODEL_X.replace("loc, 1.0", "loc + pyro.param('shift', torch.zeros(5)), 1.0"),
        ["pyro.param 'shift'", "would never be trained", "make it an nn.Parameter of the module"],
    ),
    "a global tensor that nobody owns": (
        MODEL_X,
        MODEL_X.replace("loc, 1.0", "loc + STRAY, 1.0"),
        ["a tensor of shape (5,)", "would never be trained", "make it an nn.Parameter"],
    ),
    "a site that is called as the plate should be": (
        (MODEL_PLATE, GUIDE_PLATE, MODEL_X),
        (
            MODEL_PLATE.replace('"data"', '"rows"'),
            GUIDE_PLATE.replace('"data"', '"rows"'),
            MODEL_X.replace('"x"', '"data"'),
        ),
        ["outside the plate 'data'"],
    ),
    "the model observes nothing": (MODEL_X, "pass", ["observes nothing", "obs=x"]),
    "no latent": ((MODEL_Z, GUIDE_Z), ("z = torch.zeros(x.shape[0], 2)", "pass"), ["no latent site"]),
    "the guide observes": (GUIDE_Z, f"{GUIDE_Z}; {MODEL_X.replace('loc', 'x')}", ["observes 'x'"]),
    "an exception in the model": (
        MODEL_X,
        f"raise RuntimeError('boom'); {MODEL_X}",
        ["the model fails", "vae.py:18: ", "boom"],
    ),
    "an exception in the guide": ("loc = self.g(x)", "loc = self.g(x[:, :3])", ["the guide fails", "vae.py:28: "]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(tmp_path, fault):
    old, new, words = FAULTS[fault]
    text = SOUND
    for before, after in zip(*((part,) if isinstance(part, str) else part for part in (old, new)), strict=True):
        assert text.count(before) == 1
        text = text.replace(before, after)
    report = check_text(tmp_path, text)
    assert not report.passed
    (error,) = report.errors[:1]
    for word in words:
        assert word in error.message
    assert len(error.message.splitlines()) == 1


def test_the_pair_without_a_fault_passes(tmp_path):
    assert check_text(tmp_path, SOUND).findings == ()


def test_mixture_prior_is_refused_under_analytic_kl_alone(tmp_path):
    text = SOUND.replace(MODEL_Z, MIXTURE)
    assert check_text(tmp_path, text).passed
    (error,) = check_text(tmp_path, text, objective="analytic-kl").errors
    assert "'z'" in error.message
    assert "Mixture" in error.message
    assert "use trace" in error.message


def test_data_outside_the_support_by_its_row_in_the_file():
    data = small() > 0
    data = data.astype("float32")
    for row in range(len(data)):  # wherever the split and the shuffle put it
        faulty = data.copy()
        faulty[row, 3] = 0.5
        (error,) = check("bernoulli", "diagonal_normal", open_data(faulty), hidden=4, latent_dim=2).errors
        assert f"site 'x': row {row}, column 3 of the data is 0.5, outside the support of Bernoulli" in error.message
        assert "binarize" in error.message


def test_row_of_image_data_and_name_of_a_transformed_family(tmp_path):
    data = np.exp(small())
    text = SOUND.replace(MODEL_X, MODEL_X.replace("dist.Normal", "dist.LogNormal"))
    assert check_text(tmp_path, text, data).passed
    data[11, 2] = -1
    (error,) = check_text(tmp_path, text, data).errors
    assert "row 11, column 2 of the data is -1.0, outside the support of LogNormal" in error.message
    images = (small(40, 4) > 0).reshape(40, 2, 2).astype("float32")
    images[5, 1, 0] = 2
    (error,) = check("bernoulli", "diagonal_normal", open_data(images), hidden=4, latent_dim=2).errors
    assert "row 5, column 1, 0 of the data" in error.message


@pytest.mark.parametrize("masked", [".mask(x >= 0).to_event(1)", ".to_event(1).mask((x >= 0).all(-1))"])
def test_masked_entries_need_no_support(tmp_path, masked):
    data = (small() > 0).astype("float32")
    data[7, 1] = -1
    likelihood = MODEL_X.replace("dist.Normal(loc, 1.0)", "dist.Bernoulli(logits=loc)")
    assert not check_text(tmp_path, SOUND.replace(MODEL_X, likelihood), data).passed
    assert check_text(tmp_path, SOUND.replace(MODEL_X, likelihood.replace(".to_event(1)", masked)), data).passed


def test_row_where_an_inner_plate_stands_left_of_the_data(tmp_path):
    data = (small() > 0).astype("float32")
    data[9, 4] = 0.5
    inner = "pyro.plate('columns', 5)"
    text = SOUND.replace(MODEL_X, f"with {inner}: pyro.sample('x', dist.Bernoulli(logits=loc.T), obs=x.T)")
    (error,) = check_text(tmp_path, text, data).errors
    assert "row 9, column 4 of the data is 0.5" in error.message


def test_grey_values_that_are_binarized_in_each_epoch_are_no_fault():
    grey = np.random.default_rng(0).uniform(size=(40, 5)).astype("float32")
    assert check("bernoulli", "diagonal_normal", open_data(grey, binarize="epoch"), hidden=4).findings == ()
    assert not check("bernoulli", "diagonal_normal", open_data(grey), hidden=4).passed


@pytest.mark.parametrize(
    ("model", "guide", "binarize", "objective"),
    [
        ("gaussian", "diagonal_normal", "none", "trace"),
        ("gaussian", "diagonal_normal", "none", "analytic-kl"),
        ("linear_gaussian", "linear_gaussian", "none", "trace"),
        ("linear_gaussian", "diagonal_normal", "none", "trace"),
        ("bernoulli", "diagonal_normal", "once", "trace"),
        ("bernoulli", "diagonal_normal", "epoch", "analytic-kl"),
    ],
)
def test_shipped_pairs_pass_without_findings(model, guide, binarize, objective):
    settings = {"latent_dim": 3}
    assert check(model, guide, open_data("digits", binarize=binarize), objective, **settings).findings == ()


def test_an_unused_parameter_and_a_common_scale_are_warnings(tmp_path):
    report = check_text(tmp_path, SOUND.replace("self.g = nn", "self.idle = nn.Linear(1, 1); self.g = nn"))
    assert report.passed
    assert [f.level for f in report.findings] == ["warning"]
    assert "guide.idle.weight, guide.idle.bias" in report.findings[0].message
    subsampled = "1000, subsample_size=x.shape[0]"
    report = check_text(tmp_path, SOUND.replace("x.shape[0]", subsampled))
    assert report.passed
    assert "scaled by 142.857" in report.findings[0].message
    assert "subsample_size" in report.findings[0].message


def test_a_deterministic_site_has_no_support_to_keep(tmp_path):
    text = SOUND.replace(
        MODEL_PLATE, f"pyro.deterministic('nothing', torch.tensor(float('nan')))\n        {MODEL_PLATE}"
    )
    assert check_text(tmp_path, text).findings == ()


def test_a_missing_to_event_that_fits_the_probe_by_chance(tmp_path):
    wide = SOUND.replace("Linear(2, 5)", "Linear(1, 5)").replace("Linear(5, 2)", "Linear(5, 1)")
    prior = MODEL_Z.replace("torch.zeros(2), 1.0).to_event(1)", "torch.zeros(7), 1.0)")
    wide = wide.replace(MODEL_Z, prior).replace("self.f(z)", "self.f(z[..., None])")
    wide = wide.replace(GUIDE_Z, GUIDE_Z.replace("loc, 1.0).to_event(1)", "loc[..., 0], 1.0)"))
    (error,) = check_text(tmp_path, wide).errors
    assert "site z dim -1, 32 vs 7" in error.message
    assert "to_event" in error.message


def test_nothing_to_train_is_an_error(tmp_path):
    frozen = SOUND.replace("nn.Linear(2, 5)", "nn.Linear(2, 5).requires_grad_(False)")
    frozen = frozen.replace("nn.Linear(5, 2)", "nn.Linear(5, 2).requires_grad_(False)")
    frozen = frozen.replace('        pyro.module("model", self)\n', "").replace(
        '        pyro.module("guide", self)\n', ""
    )
    (error,) = check_text(tmp_path, frozen).errors
    assert "nothing to train" in error.message


def test_a_module_that_a_function_does_not_register_would_not_be_trained():
    decoder = nn.Linear(2, 5)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)

    report = check(model, diagonal_normal.Guide((5,), latent_dim=2, hidden=4), open_data(small()))
    assert "pyro.module" in report.errors[0].message


class Normed(gaussian.Model):
    """Has buffers that every pass moves: in place, and by assignment."""

    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 2, hidden: int = 4) -> None:
        super().__init__(data_shape, latent_dim, hidden)
        self.norm = nn.BatchNorm1d(latent_dim)
        self.register_buffer("passes", torch.zeros(()))

    def likelihood(self, z: Tensor) -> dist.Distribution:
        self.passes = self.passes + 1
        return super().likelihood(self.norm(z.reshape(-1, self.latent_dim)).reshape(z.shape))


def test_check_leaves_no_trace():
    dataset = open_data(small())
    batch = dataset.train
    pair = resolve_pair(Normed, "diagonal_normal", batch, {"latent_dim": 2, "hidden": 4})
    state = {k: v.clone() for k, v in (pair.model.state_dict() | pair.guide.state_dict()).items()}
    rng = torch.get_rng_state()
    assert check_pair(pair, dataset).passed
    assert torch.equal(torch.get_rng_state(), rng)
    assert not list(pyro.get_param_store().keys())
    assert pyro.settings.get("validate_distributions_pyro")
    for name, tensor in (pair.model.state_dict() | pair.guide.state_dict()).items():
        assert torch.equal(tensor, state[name]), name
    assert all(p.grad is None for p in pair.model.parameters())


def test_a_store_with_the_same_names_does_not_mislead_check():
    pyro.module("model", bernoulli.Model((3,), latent_dim=1, hidden=2))
    assert check("bernoulli", "diagonal_normal", open_data((small() > 0).astype("float32")), hidden=4).findings == ()
