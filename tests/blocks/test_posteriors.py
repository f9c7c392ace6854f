"""Families of q(z|x) against quadrature and finite differences. One line of FAMILIES adds a family to every test."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms.householder import ConditionedHouseholder
from support.families import FAMILIES
from support.small import part_of
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.blocks import (
    MIN_SIGMA,
    InverseAutoregressiveFlow,
    MixtureNormal,
    ReparameterizedMixture,
    families,
)
from ppl_vae.core.errors import InputError
from ppl_vae.core.palette import PARTS
from ppl_vae.distributions.relaxed import ExpRelaxedCategorical
from ppl_vae.distributions.sphere import PowerSpherical

STANDARD_ERRORS = 4
DRAWS = 40_000
QUADRATURE = 1e-6  # the error of a lattice sum

every_family = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES.keys())


def built(make: Callable[[int], nn.Module], *batch: int, dim: int = 2) -> tuple[nn.Module, Tensor]:
    """A family and a raw output of an encoder, in float64; the networks inside it far from the identity."""
    torch.manual_seed(1)
    family = make(dim).double()
    for parameter in family.parameters():
        nn.init.normal_(parameter, std=0.7)
    return family, torch.randn(*batch, family.width, dtype=torch.float64)


def grid() -> tuple[Tensor, float]:
    """Points of a lattice over (−12, 12)² and the area of its cell; for a smooth density the sum is the integral."""
    axis, step = torch.linspace(-12, 12, 401, dtype=torch.float64), 24 / 400
    return torch.cartesian_prod(axis, axis), step**2


def features(z: Tensor) -> Tensor:
    """Functions that tell distributions apart, `(..., 2) -> (..., 7)`: moments, and waves of three directions."""
    a, b = z.unbind(-1)
    return torch.stack([a, b, a * b, a**2, (a + 2 * b).sin(), (2 * a - b).cos(), (3 * b).cos()], dim=-1)


def test_every_family_is_tested() -> None:
    assert {part_of(name) for name in FAMILIES} | OTHER_SPACES.keys() == PARTS["family"].keys()


# ---- draws and density are of one distribution ----


@every_family
def test_the_density_integrates_to_one(make: Callable[[int], nn.Module]) -> None:
    family, raw = built(make)
    z, cell = grid()
    assert cell * family(raw).log_prob(z).exp().sum().item() == pytest.approx(1, abs=QUADRATURE)


@every_family
def test_draws_have_the_density(make: Callable[[int], nn.Module]) -> None:
    """Two rows at once, drawn with a sample shape, as `sample` and as `rsample`."""
    family, raw = built(make, 2)
    q, (z, cell) = family(raw), grid()
    density = cell * q.log_prob(z.unsqueeze(1).expand(-1, 2, -1)).exp()
    truth = torch.einsum("nb,nf->bf", density, features(z))
    for draw in (q.sample, q.rsample):
        f = features(draw(torch.Size([DRAWS])))
        assert ((f.mean(0) - truth).abs() < STANDARD_ERRORS * f.std(0) / DRAWS**0.5).all()


@every_family
def test_pathwise_gradients_are_those_of_the_expectation(make: Callable[[int], nn.Module]) -> None:
    """∇ E[f(z)] by quadrature of the density, and by the mean of the gradient of each draw, to every raw output."""
    family, raw = built(make)
    z, cell = grid()
    rows = raw.expand(DRAWS, -1).clone().requires_grad_()
    raw.requires_grad_()
    for f in range(features(z).shape[-1]):
        (truth,) = torch.autograd.grad(cell * (family(raw).log_prob(z).exp() @ features(z)[:, f]), raw)
        (each,) = torch.autograd.grad(features(family(rows).rsample())[:, f].sum(), rows)
        assert ((each.mean(0) - truth).abs() <= STANDARD_ERRORS * each.std(0) / DRAWS**0.5 + QUADRATURE).all()


# ---- the density at any value ----


@every_family
def test_the_density_at_a_detached_draw_is_that_of_the_draw(make: Callable[[int], nn.Module]) -> None:
    """In value and in gradient: no cache of the draw answers for another value, nor for other parameters."""
    family, raw = built(make, 5, dim=4)
    raw.requires_grad_()
    leaves = [raw, *family.parameters()]
    q = family(raw)
    z = q.rsample()
    fresh = q.log_prob(z)
    detached = q.log_prob(z.detach())
    elsewhere = family(raw).log_prob(z.detach())
    torch.testing.assert_close(detached, fresh)
    torch.testing.assert_close(detached, elsewhere)
    for ours, other in [(detached, elsewhere), (fresh, family(raw).log_prob(z)), (q.log_prob(z), fresh)]:
        a, b = (torch.autograd.grad(log_q.sum(), leaves, retain_graph=True) for log_q in (ours, other))
        torch.testing.assert_close(a, b)


@every_family
def test_the_density_at_a_fixed_value_has_the_gradient_of_finite_differences(make: Callable[[int], nn.Module]) -> None:
    family, raw = built(make, dim=3)
    z = torch.randn(4, 3, dtype=torch.float64)
    leaves = [raw.requires_grad_(), z.requires_grad_(), *family.parameters()]
    assert torch.autograd.gradcheck(lambda raw, z, *_: family(raw).log_prob(z), leaves)


# ---- shapes and precision ----


@every_family
def test_any_leading_dimensions(make: Callable[[int], nn.Module]) -> None:
    """A raw output of a shape `(K, B, width)` is as good as K of them, and so is one that is expanded."""
    family, raw = built(make, 3, 5, dim=4)
    q = family(raw)
    assert (q.batch_shape, q.event_shape) == ((3, 5), (4,))
    z = q.rsample()
    rows = torch.stack([family(raw[k]).log_prob(z[k]) for k in range(3)])
    torch.testing.assert_close(q.log_prob(z), rows)
    wide = family(raw[0]).expand((3, 5))
    z = wide.rsample()
    assert z.shape == (3, 5, 4)
    torch.testing.assert_close(wide.log_prob(z)[2], family(raw[0]).log_prob(z[2]))


@every_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_dtype(make: Callable[[int], nn.Module], dtype: torch.dtype) -> None:
    family, raw = built(make, 5, dim=4)
    family, raw = family.to(dtype), raw.to(dtype)
    q = family(raw)
    z = q.rsample()
    log_q = q.log_prob(z.clone())
    assert z.dtype == q.log_prob(z).dtype == log_q.dtype == dtype
    exact = family.double()(raw.double()).log_prob(z.double())
    torch.testing.assert_close(log_q.double(), exact, rtol=1e-4, atol=1e-4)


class DrawAndScore(nn.Module):
    def __init__(self, family: nn.Module) -> None:
        super().__init__()
        self.family = family

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        q = self.family(raw)
        z = q.rsample()
        return z, q.log_prob(z)


@every_family
def test_can_be_captured_with_a_free_batch_size(make: Callable[[int], nn.Module]) -> None:
    family, raw = built(make, 9, dim=4)
    program, shapes = DrawAndScore(family), ({0: torch.export.Dim("B")},)
    with pyro.validation_enabled(False):
        captured = torch.export.export(program, (raw[:6],), strict=False, dynamic_shapes=shapes).module()
        values = []
        for f in (captured, program):
            torch.manual_seed(2)
            values.append(f(raw))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize(
    "name",
    [
        "diagonal_normal",
        "full_normal",
        "low_rank_normal",
        "householder_normal",
        "mixture_normal",
        "delta_normal",
        "batch_norm_normal",
    ],
)
def test_moments(name: str) -> None:
    family, raw = built(FAMILIES[name], dim=3)
    q = family(raw)
    z = q.sample(torch.Size([DRAWS]))
    assert ((z.mean(0) - q.mean).abs() < STANDARD_ERRORS * q.stddev / DRAWS**0.5).all()
    squares = (z - q.mean).square()
    assert ((squares.mean(0) - q.variance).abs() < STANDARD_ERRORS * squares.std(0) / DRAWS**0.5).all()


# ---- each by itself ----

OTHER_SPACES: dict[str, Callable[[Tensor], dist.Distribution]] = {
    "power_spherical": lambda raw: PowerSpherical(
        raw[..., 1:] / raw[..., 1:].norm(dim=-1, keepdim=True), (raw.shape[-1] - 1) * softplus(raw[..., 0]) + 1e-6
    ),
    "categorical": lambda raw: dist.Categorical(logits=raw),
    "relaxed_categorical": lambda raw: ExpRelaxedCategorical(torch.tensor(0.5).to(raw), logits=raw),
}
"""What is made of the raw output; the distributions have tests of their own."""


@pytest.mark.parametrize("name", OTHER_SPACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_families_of_other_spaces_are_their_distributions(name: str, dtype: torch.dtype) -> None:
    family = families.build(name, 4)
    raw = torch.randn(3, 5, family.width, dtype=dtype)
    q, expected = family(raw), OTHER_SPACES[name](raw)
    z = expected.sample()
    assert type(q) is type(expected)
    assert (q.batch_shape, q.sample().dtype) == ((3, 5), z.dtype)
    torch.testing.assert_close(q.log_prob(z), expected.log_prob(z))


def test_householder_is_pyros_flow() -> None:
    family, raw = built(FAMILIES["householder_normal"], 6, dim=4)
    loc, scale, v = raw.split([4, 4, 12], dim=-1)
    base = dist.Normal(loc, softplus(scale) + MIN_SIGMA).to_event(1)
    flow = dist.TransformedDistribution(base, [ConditionedHouseholder(v.unflatten(-1, (3, 4)))])
    z = flow.sample()
    torch.testing.assert_close(family(raw).log_prob(z), flow.log_prob(z))


def test_the_log_determinant_of_each_step_of_the_flow_is_that_of_autograd() -> None:
    family, raw = built(FAMILIES["iaf"], dim=4)
    z = torch.randn(4, dtype=torch.float64)
    for step in family(raw).transforms:
        J = torch.autograd.functional.jacobian(step, z)
        torch.testing.assert_close(step.log_abs_det_jacobian(z, step(z)), J.slogdet().logabsdet)
        torch.testing.assert_close(step.inv(step(z).clone()), z)


def test_the_inverse_of_a_step_of_the_flow_is_pyros_bit_for_bit() -> None:
    """With its gradient. Ours counts the dimensions by Python's numbers."""
    family, raw = built(FAMILIES["iaf"], 6, dim=4)
    z, h = torch.randn(6, 4, dtype=torch.float64), raw[..., 8:]
    weights = list(family.parameters())
    for ours, step in zip(family(raw).transforms, family.steps, strict=True):
        both = []
        for transform in (ours, step.condition(h)):
            assert isinstance(transform.arn.permutation, list) == (transform is ours)
            ε = transform.inv(z)
            both.append([ε, *torch.autograd.grad(ε.square().sum(), weights, allow_unused=True)])
        assert all(a is b or torch.equal(a, b) for a, b in zip(*both, strict=True))


def test_the_jacobian_of_the_mixtures_quantiles_is_that_of_autograd() -> None:
    family, raw = built(FAMILIES["mixture_normal"], dim=4)
    q: ReparameterizedMixture = family(raw)
    z = q.sample()
    J = torch.autograd.functional.jacobian(lambda z: q._quantiles(z)[0], z)
    torch.testing.assert_close(q._jacobian(z, *q._quantiles(z)), J)


def test_a_mixture_whose_means_coincide_has_finite_gradients() -> None:
    raw = torch.zeros(7, MixtureNormal(2).width, requires_grad=True)
    MixtureNormal(2)(raw).rsample().sum().backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize("σ", [1.0, 3e-3, 1e-3, 1e-4, 1e-6])
@pytest.mark.parametrize("apart", [0, 4, 8])
def test_the_gradient_of_a_narrow_mixtures_draw_is_right_in_float32(σ: float, apart: int) -> None:
    """That of the same draw in float64, but for rounding, where components overlap in all dimensions, some, or none."""
    torch.manual_seed(4)
    B, K, D = 50, 5, 8
    logits, scale, c = torch.randn(B, K), σ * (1 + torch.rand(B, K, D)), torch.randn(B, D)
    loc = torch.randn(B, 1, D) + torch.where(torch.arange(D) % 8 < 8 - apart, σ, 1.0) * torch.randn(B, K, D)
    z, found = None, []
    for dtype in (torch.float32, torch.float64):
        raw = [t.to(dtype).requires_grad_() for t in (logits, loc, scale)]
        q = ReparameterizedMixture(dist.Categorical(logits=raw[0]), dist.Normal(*raw[1:]).to_event(1))
        z = q.sample() if z is None else z
        found.append(torch.autograd.grad((q._attached(z.to(dtype)) * c.to(dtype)).sum(), raw))
    for single, double in zip(*found, strict=True):
        error = (single.double() - double).flatten(1).norm(dim=1) / double.flatten(1).norm(dim=1)
        assert error.max() < 100 * K * D * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("σ", [1.0, 1e-3, 1e-6])
def test_a_mixture_of_equals_has_the_gradients_of_a_normal(σ: float) -> None:
    """z = μ + σε: summed over the components dz/dμ is 1 and dz/dσ is ε, and no weight matters."""
    logits = torch.randn(20, 3, requires_grad=True)
    loc = torch.randn(20, 1, 4).expand(20, 3, 4).clone().requires_grad_()
    scale = torch.full((20, 3, 4), σ, requires_grad=True)
    z = ReparameterizedMixture(dist.Categorical(logits=logits), dist.Normal(loc, scale).to_event(1)).rsample()
    z.sum().backward()
    torch.testing.assert_close(loc.grad.sum(1), torch.ones(20, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(scale.grad.sum(1), (z - loc[:, 0]) / σ, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits.grad, torch.zeros(20, 3), rtol=0, atol=1e-5 * σ)


def test_flows_that_have_nothing_to_regress_on_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2 dimensions"):
        InverseAutoregressiveFlow(1)
    with pytest.raises(InputError, match="hidden is 3: an autoregressive network over 4 dimensions needs at least 4"):
        InverseAutoregressiveFlow(4, hidden=3)


@every_family
def test_a_value_may_broadcast_against_the_batch(make: Callable[[int], nn.Module]) -> None:
    """As in a VampPrior: every row's z under every pseudo-input's posterior."""
    family, raw = built(make, 4, dim=3)
    z = torch.randn(5, 1, 3, dtype=torch.float64)
    together = family(raw).log_prob(z)
    assert together.shape == (5, 4)
    one_by_one = torch.stack([family(raw).log_prob(row.expand(4, 3).contiguous()) for row in z])
    torch.testing.assert_close(together, one_by_one)
