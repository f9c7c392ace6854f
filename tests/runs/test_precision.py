"""`fit --precision`: float64 from the file to what is written, and bfloat16 in the products of layers alone."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_vae import compare, encode, evaluate, sample
from ppl_vae.core.errors import InputError
from ppl_vae.objectives import AnalyticKL_ELBO, Trace_ELBO
from ppl_vae.objectives.numbers import followed
from ppl_vae.objectives.products import Products
from ppl_vae.programs import resolve_pair
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.run import Run

SETTINGS = {"latent_dim": 2, "hidden": 8}


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Run:
    """A run of float64 on a file whose numbers need its digits: a million, and a millionth."""
    folder = tmp_path_factory.mktemp("wide")
    x = 1e6 + 1e-3 * np.random.default_rng(0).normal(size=(60, 4))
    np.save(folder / "x.npy", x)
    return fit(
        "gaussian",
        "diagonal_normal",
        str(folder / "x.npy"),
        folder / "run",
        precision="float64",
        epochs=2,
        set=SETTINGS,
        standardize=True,
    )


def test_every_number_of_a_run_is_float64(wide):
    pair = wide.pair()
    assert {t.dtype for program in (pair.model, pair.guide) for t in program.parameters()} == {torch.float64}
    assert wide.record["batch"]["dtypes"] == ["float64"]
    assert torch.get_default_dtype() == torch.float32
    codes = encode(wide)
    assert {x.dtype for x in codes.values()} == {np.dtype("float64")}
    again = encode(wide, np.load(wide.config.data[0]))
    assert np.array_equal(codes["z_mean"], again["z_mean"])


def test_numbers_that_float32_does_not_tell_apart_are_told_apart(wide):
    """A row is 1e6 ± 1e-3: float32 knows it to 0.06."""
    assert np.ptp(encode(wide)["z_mean"]) > 1e-4
    assert abs(sample(wide, num=20)["x"] - 1e6).max() < 1


def test_verbs_take_a_run_of_float64(wide):
    found = evaluate(wide, num_samples=20, gap_rows=3, simulations=0, calibrations=20)
    assert found.found.value.dtype == torch.float64
    assert found.found.value.isfinite().all()
    compare(wide, draws=3)
    assert fit(out=wide.folder, resume=True, epochs=3).checkpoints.steps[-1] > wide.step("first")


def test_a_compiled_run_of_float64_is_that_of_the_programs_to_nine_digits(tmp_path):
    data = np.random.default_rng(0).random((60, 6))
    options = {"precision": "float64", "epochs": 2, "set": SETTINGS}
    ours, theirs = (
        fit("gaussian", "diagonal_normal", data, tmp_path / how, compile=how, **options) for how in ("on", "off")
    )
    assert ours.record["step"]["captured"]
    for a, b in zip(ours.pair().model.parameters(), theirs.pair().model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_float32_tensors_are_refused(tmp_path):
    with pytest.raises(InputError, match="given as float32: give it as float64"):
        fit("gaussian", "diagonal_normal", torch.rand(30, 4), tmp_path / "run", precision="float64")


def test_products_of_layers_alone_have_fewer_digits():
    """And what they give is float32 again, with the gradients of the rounded factors."""
    x, w, b = torch.rand(5, 7), torch.rand(3, 7, requires_grad=True), torch.rand(3)
    with Products(torch.bfloat16):
        found, other = F.linear(x, w, b), x @ w.T
    lower = F.linear(x.bfloat16(), w.bfloat16(), b.bfloat16()).float()
    assert torch.equal(found, lower)
    assert torch.equal(other, x @ w.T)
    assert found.dtype == torch.float32
    found.sum().backward()
    torch.testing.assert_close(w.grad, x.sum(0).expand(3, 7), rtol=0.01, atol=0)
    with Products(torch.bfloat16):
        assert F.linear(x.double(), w.double()).dtype == torch.float64


def test_a_training_pass_has_them_and_a_validation_has_not(tmp_path):
    seen = []

    class Telling(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            found = super().forward(x)
            exact = x.double() @ self.weight.double().T + self.bias.double()
            seen.append(((found - exact).abs().max() > 1e-4 * exact.abs().max(), torch.is_grad_enabled()))
            return found

    class Model(nn.Module):
        def __init__(self, data_shape: tuple[int, ...]) -> None:
            super().__init__()
            self.layer = Telling(2, *data_shape)

        def forward(self, x: Tensor) -> None:
            pyro.module("model", self)
            with pyro.plate("data", x.shape[0]):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.layer(z), 1.0).to_event(1), obs=x)

    fit(
        Model,
        "diagonal_normal",
        torch.rand(40, 6),
        tmp_path / "run",
        precision="bfloat16",
        epochs=1,
        compile="off",
        set={"latent_dim": 2},
    )
    by_grad = {grad: [bool(low) for low, with_grad in seen if with_grad == grad] for grad in (True, False)}
    assert not any(by_grad[False])
    assert any(by_grad[True])


def test_compare_says_what_they_cost(tmp_path):
    """The bias is that of the same draws, and small: log p(x) is summed in float32."""
    x = (np.random.default_rng(0).random((60, 30)) < 0.3).astype(np.float32)
    run = fit("bernoulli", "diagonal_normal", x, tmp_path / "run", epochs=1, precision="bfloat16", set=SETTINGS)
    found = compare(run, draws=20, precision="bfloat16", data=x)
    assert list(found.estimators) == ["trace", "analytic-kl", "trace in bfloat16", "analytic-kl in bfloat16"]
    cost = next(p for p in found.pairs if (p.a, p.b) == ("trace", "trace in bfloat16"))
    assert 0 < abs(cost.difference.value) < 0.05
    with pytest.raises(InputError, match="precision is for the estimators of one run"):
        compare([run, run], precision="bfloat16")


@pytest.mark.parametrize("kind", [Trace_ELBO, AnalyticKL_ELBO])
def test_the_estimate_is_that_of_rounded_weights(kind):
    """Where all weights and inputs are numbers of bfloat16, the first layer's products are the same as in float32."""
    x = (torch.rand(8, 5) < 0.5).float()
    pair = resolve_pair("bernoulli", "diagonal_normal", (x,), SETTINGS)
    objective = kind()
    found = []
    for each in (objective, objective.with_products(torch.bfloat16)):
        torch.manual_seed(0)
        found.append(followed(each, pair.model, pair.guide, (x,))[0].value.detach())
    assert objective.products is None
    assert not torch.equal(*found)
    torch.testing.assert_close(*found, rtol=0.02, atol=0.02)


@pytest.mark.slow
def test_compiled_in_bfloat16(tmp_path):
    """The rounding to bfloat16 is the programs' own: `fit` compares both, and so does each twin of `compare`."""
    x = (np.random.default_rng(0).random((60, 30)) < 0.3).astype(np.float32)
    options = {"epochs": 1, "precision": "bfloat16", "set": SETTINGS}
    ours, theirs = (
        fit("bernoulli", "diagonal_normal", x, tmp_path / how, compile=how, **options) for how in ("on", "off")
    )
    assert ours.record["step"]["captured"]
    for a, b in zip(ours.pair().model.parameters(), theirs.pair().model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3)
    found = compare(ours, draws=6, precision="bfloat16", compile="on", data=x)
    assert all(each.compiled for each in found.estimators.values())


def test_runs_of_two_precisions_are_compared(tmp_path):
    data = np.random.default_rng(0).random((40, 6))
    runs = [
        fit("gaussian", "diagonal_normal", data, tmp_path / precision, precision=precision, epochs=1, set=SETTINGS)
        for precision in ("float32", "float64")
    ]
    assert len(compare(runs, draws=2, data=data).pairs) == 1
    with pytest.raises(InputError, match="is of float64"):
        compare(runs[1], draws=2, precision="bfloat16", data=data)


def test_grey_rows_of_float64_are_drawn_anew_in_each_epoch(tmp_path):
    grey = np.random.default_rng(0).random((40, 6))
    run = fit(
        "bernoulli",
        "diagonal_normal",
        grey,
        tmp_path / "run",
        precision="float64",
        binarize="epoch",
        epochs=2,
        set=SETTINGS,
    )
    assert run.record["batch"]["dtypes"] == ["float64"]
    batches = [torch.cat([b for (b,) in run.data(grey).batches("train", 10, epoch=e, seed=0)]) for e in (0, 1)]
    assert all(set(x.unique().tolist()) == {0.0, 1.0} and x.dtype == torch.float64 for x in batches)
