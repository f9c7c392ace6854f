"""The relaxed categorical against quadrature over the simplex of three classes."""

import pytest
import torch
from torch import Tensor

from ppl_vae.blocks import ExpRelaxedCategorical

STANDARD_ERRORS = 4
DRAWS = 40_000
LOGITS = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)
TEMPERATURES = [0.5, 1.0, 2.0]
every_temperature = pytest.mark.parametrize("τ", TEMPERATURES)


def relaxed(τ: float, logits: Tensor = LOGITS) -> ExpRelaxedCategorical:
    return ExpRelaxedCategorical(torch.tensor(τ, dtype=torch.float64), logits=logits)


def grid() -> tuple[Tensor, float]:
    """y on a lattice over u = (y_1 − y_3, y_2 − y_3), and the area of its cell."""
    axis = torch.linspace(-60, 60, 601, dtype=torch.float64)
    u = torch.cartesian_prod(axis, axis)
    return torch.cat([u, u.new_zeros(len(u), 1)], dim=-1).log_softmax(-1), (120 / 600) ** 2


def features(y: Tensor) -> Tensor:
    z = y.exp()
    return torch.cat([z[..., :2], z[..., :1] * z[..., 1:], (3 * z).sin()], dim=-1)


@every_temperature
def test_the_density_integrates_to_one(τ: float) -> None:
    y, cell = grid()
    assert cell * relaxed(τ).log_prob(y).exp().sum().item() == pytest.approx(1, abs=1e-6)


@every_temperature
def test_draws_have_the_density(τ: float) -> None:
    q, (y, cell) = relaxed(τ).expand(torch.Size([2])), grid()
    truth = cell * relaxed(τ).log_prob(y).exp() @ features(y)
    f = features(q.rsample(torch.Size([DRAWS])))
    assert ((f.mean(0) - truth).abs() < STANDARD_ERRORS * f.std(0) / DRAWS**0.5).all()


@every_temperature
def test_the_largest_entry_is_a_categorical_draw(τ: float) -> None:
    shares = torch.bincount(relaxed(τ).sample(torch.Size([DRAWS])).argmax(-1), minlength=3) / DRAWS
    π = LOGITS.softmax(-1)
    assert ((shares - π).abs() < STANDARD_ERRORS * (π * (1 - π) / DRAWS).sqrt()).all()


def test_pathwise_gradients_are_those_of_the_expectation() -> None:
    logits, (y, cell) = LOGITS.clone().requires_grad_(), grid()
    rows = LOGITS.expand(DRAWS, -1).clone().requires_grad_()
    for f in range(features(y).shape[-1]):
        (truth,) = torch.autograd.grad(cell * relaxed(1.0, logits).log_prob(y).exp() @ features(y)[:, f], logits)
        (each,) = torch.autograd.grad(features(relaxed(1.0, rows).rsample())[:, f].sum(), rows)
        assert ((each.mean(0) - truth).abs() < STANDARD_ERRORS * each.std(0) / DRAWS**0.5 + 1e-6).all()


def test_the_density_at_a_detached_draw_is_differentiable_in_the_logits() -> None:
    logits = LOGITS.clone().requires_grad_()
    y = relaxed(0.3, logits).rsample(torch.Size([4])).detach()
    assert torch.autograd.gradcheck(lambda logits: relaxed(0.3, logits).log_prob(y), logits)


def test_a_draw_in_a_corner_of_the_simplex_has_a_density_in_float32() -> None:
    q = ExpRelaxedCategorical(torch.tensor(0.05), logits=torch.tensor([9.0, 0.0, -9.0], requires_grad=True))
    y = q.rsample(torch.Size([1000]))
    assert (y.exp() == 0).any()
    assert q.log_prob(y).isfinite().all()
