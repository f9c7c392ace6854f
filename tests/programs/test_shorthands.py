"""The names that stand for a line of settings: bit for bit what the files were that once had these names.

`tests/support/old_sources` holds those files, `tests/support/old_runs` runs that were fitted with them, and what
log p and log q were at given draws.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ppl_vae
from ppl_vae.core.errors import InputError
from ppl_vae.core.palette import REWRITTEN, SHORTHANDS
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import Pair, parameters, resolve_pair, score
from ppl_vae.programs.find import Finder, locate, sha256_of, shipped_folder
from ppl_vae.programs.scores import as_batch
from ppl_vae.runs.run import Run
from ppl_vae.training.prepare import isolated
from ppl_vae.training.step import Trainer

SUPPORT = Path(__file__).parents[1] / "support"
OLD = SUPPORT / "old_sources"
SMALL: dict[str, Any] = {"hidden": 4, "latent_dim": 2}
KINDS = "real,positive,count,binary,categorical:3,ordinal:4"


def binary() -> Tensor:
    return (torch.rand(30, 6) < 0.3).float()


def counts() -> Tensor:
    return torch.poisson(torch.full((30, 6), 3.0)) * binary()


def images() -> Tensor:
    return (torch.rand(30, 2, 5, 6) < 0.3).float()


def table() -> Tensor:
    columns = [5 + 3 * torch.randn(30), torch.randn(30).exp(), torch.poisson(torch.full((30,), 4.0))]
    x = torch.stack([*columns, *(torch.randint(n, (30,)).float() for n in (2, 3, 4))], 1)
    return torch.where(torch.rand_like(x) < 0.1, torch.nan, x)


PAIRS: list[tuple[str, str, dict[str, Any], Any]] = [
    ("mixture", "diagonal_normal", SMALL, binary),
    ("mixture", "full_normal", SMALL | {"components": 3}, binary),
    ("vampprior", "diagonal_normal", SMALL, binary),
    ("vampprior", "iaf", SMALL | {"model.components": 4, "steps": 1, "flow_hidden": 5}, binary),
    ("gtm_vampprior", "diagonal_normal", SMALL, binary),
    ("gtm_vampprior", "full_normal", SMALL | {"grid": 3}, binary),
    ("flow", "iaf", SMALL | {"guide.steps": 3, "guide.flow_hidden": 6}, binary),
    ("flow", "iaf", SMALL | {"flow": "autoregressive", "model.layers": 2}, binary),
    ("spherical", "power_spherical", SMALL, binary),
    ("spherical", "power_spherical", {"model.hidden": 5, "guide.hidden": 3}, binary),
    ("counts", "diagonal_normal", {"latent_dim": 2}, counts),
    ("counts", "full_normal", SMALL, counts),
    ("convolutional", "convolutional", {}, images),
    ("convolutional", "convolutional", {"latent_dim": 2, "channels": 3}, lambda: binary()[:, :4]),
    ("categorical", "categorical", {}, binary),
    ("categorical", "categorical", {"classes": 3, "guide.hidden": 5}, binary),
    ("table", "table", {"kinds": KINDS}, table),
    ("table", "diagonal_normal", SMALL, lambda: table().nan_to_num()),
    ("bernoulli", "full_normal", {}, binary),
    ("autoregressive", "diagonal_normal", SMALL | {"decoder_hidden": 12}, lambda: binary()[:, :4]),
    ("conditional", "conditional", SMALL, lambda: (binary(), torch.randint(10, (30,)))),
    ("conditional", "conditional", SMALL | {"y_dim": 2}, lambda: (binary(), 5 + 3 * torch.randn(30, 2))),
]
ids = [f"{model}, {guide}, {' '.join(map(str, settings))}" for model, guide, settings, _ in PAIRS]


def old(kind: str, name: str) -> str:
    file = OLD / f"{kind}s" / f"{name}.py"
    return str(file) if file.is_file() else name


def trained(model: str, guide: str, settings: dict[str, Any], make: Any) -> tuple[Pair, dict[str, Tensor], list[float]]:
    """Three steps: the parameters, and the value of the objective at each step."""
    with isolated(1):
        rows = as_batch(make())
        pair = resolve_pair(model, guide, rows, settings)
        trainer = Trainer(pair, Trace_ELBO(), 1e-2)
        values = [trainer.step(rows).value for _ in range(3)]
    return pair, parameters(pair.model, pair.guide, pair.borrower), values


@pytest.mark.parametrize(("model", "guide", "settings", "make"), PAIRS, ids=ids)
def test_parameters_draws_and_losses_are_what_they_were(model: str, guide: str, settings: dict, make: Any) -> None:
    before, old_parameters, old_values = trained(old("model", model), old("guide", guide), settings, make)
    now, new_parameters, values = trained(model, guide, settings, make)
    assert values == old_values
    assert list(new_parameters) == list(old_parameters)
    assert all(torch.equal(new_parameters[name], old_parameters[name]) for name in old_parameters)
    for kind in ("model", "guide"):
        assert getattr(now, kind).state_dict().keys() == getattr(before, kind).state_dict().keys()


def test_every_shorthand_is_compared_and_has_the_hash_of_its_file() -> None:
    for kind, position in (("model", 0), ("guide", 1)):
        files = {path.stem: sha256_of(path) for path in OLD.glob(f"{kind}s/*.py")}
        assert files.keys() <= {pair[position] for pair in PAIRS}
        known = {name: shorthand.sha256 for name, shorthand in SHORTHANDS[kind].items()}
        assert files == known | REWRITTEN.get(kind, {})


def test_a_shorthand_says_what_it_stands_for() -> None:
    _, source = Finder().find("vampprior", ["model"])
    assert str(source).startswith("vampprior: vae with --set prior=vamp (")
    assert source.path is not None
    assert source.path.name == "vae.py"
    assert source.shipped


def test_a_run_tells_the_settings_that_are_in_effect() -> None:
    with isolated(0):
        pair = resolve_pair("table", "table", (table(),), {"kinds": KINDS, "latent_dim": 3})
    assert str(pair.sources["model"]).startswith("table: vae with --set likelihood=table --set hidden=100 (")


@pytest.mark.parametrize("spec", ["mixture", "mixture:Model", "ppl_vae.models.mixture", "ppl_vae.models.mixture:Model"])
def test_every_form_of_a_name_is_found(spec: str) -> None:
    pair = resolve_pair(spec, "diagonal_normal", (binary(),), SMALL | {"components": 3})
    assert pair.model.p_z.logits.shape == (3,)


def test_a_users_own_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    shutil.copy(OLD / "models" / "mixture.py", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert locate("mixture", "model") == tmp_path / "models" / "mixture.py"


def test_unknown_names_are_told_the_shorthands_too() -> None:
    with pytest.raises(InputError, match=r"there are .*, vampprior, .*did you mean 'vampprior'"):
        locate("vamprior", "model")


# ---- runs ----

EXPECTED = json.loads((SUPPORT / "old_runs" / "expected.json").read_text())


def check(run: Run, expected: dict[str, Any]) -> None:
    """log p(z), log p(x|z) and log q(z|x) at the draws of the version that fitted it."""
    pair = run.pair()
    x = torch.tensor([[torch.nan if n is None else n for n in row] for row in expected["x"]]).reshape(expected["shape"])
    with torch.no_grad():
        t = score(pair.model, pair.guide, (x,), {"z": torch.tensor(expected["z"])})
    for name, found in (("log_prior", t.log_prior["z"]), ("log_lik", t.log_lik["x"]), ("log_q", t.log_q["z"])):
        torch.testing.assert_close(found, torch.tensor(expected[name]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_run_of_before_opens_and_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    shutil.copytree(SUPPORT / "old_runs" / name, tmp_path / "run")
    check(Run(tmp_path / "run"), EXPECTED[name])


def test_a_run_of_before_goes_on(tmp_path: Path) -> None:
    """Two epochs by the version before and one by this one are three by this one."""
    rows = (np.random.default_rng(0).random((40, 6)) < 0.3).astype(np.float32)  # those that it was fitted to
    shutil.copytree(SUPPORT / "old_runs" / "mixture-diagonal_normal", tmp_path / "run")
    resumed = ppl_vae.fit(data=rows, out=tmp_path / "run", resume=True, epochs=3)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 10, "set": SMALL | {"components": 3}}
    afresh = ppl_vae.fit("mixture", "diagonal_normal", rows, tmp_path / "afresh", **options)
    (one, _), (other, _) = (run.checkpoints.load(run.checkpoints.steps[-1]) for run in (resumed, afresh))
    assert one.keys() == other.keys()
    torch.testing.assert_close(one, other)


def test_a_file_that_is_not_the_one_of_before_is_still_refused(tmp_path: Path) -> None:
    name = "mixture-diagonal_normal"
    shutil.copytree(SUPPORT / "old_runs" / name, tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace("cb537b2d775d7f40", "0000000000000000"))
    with pytest.raises(InputError, match=r"is not what .* was fitted with"):
        Run(tmp_path / "run").pair()


@pytest.mark.parametrize(
    "model", ["mixture", "mixture:Model", "ppl_vae.models.mixture", str(shipped_folder("model") / "mixture.py")]
)
def test_a_run_of_a_shorthand_opens_again(model: str, tmp_path: Path) -> None:
    run = ppl_vae.fit(
        model, "full_normal", binary(), tmp_path / "run", epochs=1, binarize="none", set=SMALL | {"components": 3}
    )
    assert run.record["programs"]["model"]["path"].endswith("vae.py")
    pair = run.pair()
    assert pair.model.p_z.logits.shape == (3,)
    assert type(pair.guide.family).__name__ == "FullNormal"
