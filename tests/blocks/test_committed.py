"""Families whose rate can't vanish: the bound holds for every input, and is reached."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_vae.blocks import families
from ppl_vae.checks.pair import check_pair
from ppl_vae.core.errors import InputError
from ppl_vae.data import open_data
from ppl_vae.distributions.kl import kl_by_dimension
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import owned, resolve_pair
from ppl_vae.programs.scores import batches
from ppl_vae.training.evaluation import evaluate
from ppl_vae.training.prepare import isolated
from ppl_vae.training.step import Trainer

ROWS = (torch.rand(60, 12, generator=torch.Generator().manual_seed(0)) < 0.4).float()
SMALL = {"latent_dim": 3, "hidden": 8}


def rates(q: dist.Distribution) -> Tensor:
    """KL(q ‖ N(0, I)) of each dimension."""
    return kl_by_dimension(q, dist.Normal(torch.zeros_like(q.mean), 1.0).to_event(1))


# ---- the δ-VAE ----


@pytest.mark.parametrize("rate", [0.01, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_rate_is_at_least_delta_whatever_the_encoder_says(rate: float, dtype: torch.dtype) -> None:
    family = families.DeltaNormal(4, rate=rate)
    size = torch.tensor([0.01, 1, 10, 1000], dtype=dtype).repeat_interleave(2000).unsqueeze(-1)
    raw = (size * torch.randn(8000, 8, dtype=dtype)).requires_grad_()
    found = rates(family(raw))
    rounding = 100 * torch.finfo(dtype).eps * (1 + rate)
    assert found.min() >= rate - rounding
    assert found.max() > 2 * rate
    (gradient,) = torch.autograd.grad(family(raw).rsample().sum(), raw)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("rate", [0.01, 0.1, 1.0, 5.0])
def test_delta_is_reached_at_every_width(rate: float) -> None:
    family = families.DeltaNormal(1, rate=rate)
    s = torch.linspace(-8, 8, 50, dtype=torch.float64)
    q = family(torch.stack([torch.zeros_like(s), s], -1))
    torch.testing.assert_close(rates(q), torch.full((50, 1), rate, dtype=torch.float64), rtol=1e-9, atol=1e-11)
    assert q.stddev.min() < 1 < q.stddev.max()
    for σ in (family.low, family.high):
        assert (σ * σ - 1) / 2 - math.log(σ) == pytest.approx(rate, rel=1e-12)


def test_the_mean_has_the_sign_of_the_raw_output() -> None:
    family = families.DeltaNormal(2, rate=0.2)
    q = family(torch.tensor([-1.0, 1.0, 0.0, 0.0]))
    assert q.mean[0] == -q.mean[1]
    assert q.mean[1] > 1


# ---- the batch normalization ----


def test_the_mean_rate_of_a_batch_is_at_least_half_of_gamma_squared() -> None:
    family = families.BatchNormNormal(5, gamma=0.8).double()
    raw = 3 + 0.5 * torch.randn(2, 400, 10, dtype=torch.float64)
    q = family(raw)
    torch.testing.assert_close(q.mean.mean((0, 1)), torch.zeros(5).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(q.mean.var((0, 1), correction=0), torch.full((5,), 0.64).double(), rtol=1e-4, atol=0)
    assert (rates(q).mean((0, 1)) >= 0.32 * 0.9999).all()
    narrow = raw.clone()
    narrow[..., 5:] = math.log(math.e - 1)  # softplus of it is 1
    torch.testing.assert_close(rates(family(narrow)).mean((0, 1)), torch.full((5,), 0.32).double(), rtol=1e-3, atol=0)


def test_it_is_torchs_batch_norm() -> None:
    family, theirs = families.BatchNormNormal(5, gamma=0.8), torch.nn.BatchNorm1d(5, affine=False)
    for scale in (1.0, 2.0, 0.5):
        raw = scale * torch.randn(30, 10) + 1
        torch.testing.assert_close(family(raw).mean, 0.8 * theirs(raw[:, :5]))
    torch.testing.assert_close(family.running_mean, theirs.running_mean)
    torch.testing.assert_close(family.running_variance, theirs.running_var)
    family.eval(), theirs.eval()
    torch.testing.assert_close(family(raw).mean, 0.8 * theirs(raw[:, :5]))


def test_in_evaluation_each_row_stands_for_itself_and_nothing_moves() -> None:
    rows = ROWS
    with isolated(1):
        pair = resolve_pair("vae", "amortized", (rows,), SMALL | {"family": "batch_norm_normal"})
        trainer = Trainer(pair, Trace_ELBO(num_particles=3), lr=1e-2)
        for _ in range(20):
            trainer.step((rows,))
        before = {name: t.clone() for name, t in owned(pair.model, pair.guide)}
        assert before["guide.family.running_mean"].abs().max() > 0
        whole, single = (evaluate(pair, Trace_ELBO(), batches((rows,), size), seed=1) for size in (60, 1))
        torch.testing.assert_close(whole.rate, single.rate, rtol=1e-4, atol=1e-5)
        assert all(torch.equal(t, before[name]) for name, t in owned(pair.model, pair.guide))
        assert pair.guide.training


def test_a_batch_of_one_row_is_trained_on_by_the_running_statistics() -> None:
    family = families.BatchNormNormal(5)
    raw = torch.randn(1, 10)
    training = family(raw).mean
    torch.testing.assert_close(training, family.eval()(raw).mean)


@pytest.mark.parametrize(("name", "warned"), [("delta_normal", False), ("batch_norm_normal", True)])
def test_check_takes_them_and_warns_of_rows_that_depend_on_each_other(name: str, warned: bool) -> None:
    with isolated(1):
        pair = resolve_pair("vae", "amortized", (ROWS,), SMALL | {"family": name})
        report = check_pair(pair, open_data(ROWS), Trace_ELBO())
    assert report.errors == []
    assert any("in training mode" in str(finding) for finding in report.findings) == warned


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
def test_what_makes_no_sense_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="delta_normal: rate is"):
        families.DeltaNormal(3, rate=value)
    with pytest.raises(InputError, match="batch_norm_normal: gamma is"):
        families.BatchNormNormal(3, gamma=value)
