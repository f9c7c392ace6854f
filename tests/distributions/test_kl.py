"""KL(q ‖ p) against torch, quadrature, Monte Carlo and finite differences. One line of PAIRS adds a pair to all."""

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath  # torch brings it, by way of sympy
import numpy as np
import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.distributions import Distribution
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import normalize

from ppl_vae.blocks import InverseAutoregressiveFlow, MixtureNormal, PowerSpherical, SphericalUniform, distributions
from ppl_vae.core.errors import InputError
from ppl_vae.distributions.kl import NoClosedForm, _own, describe, kl
from ppl_vae.distributions.kl_rules import RULES

STANDARD_ERRORS = 4


class Family(NamedTuple):
    """Unconstrained parameters of these event shapes, built into a distribution of z · scale."""

    shapes: tuple[tuple[int, ...], ...]
    build: Callable[..., Distribution]
    box: tuple[float, float] | None = None  # the support, where it is not the whole real line
    on_circle: bool = False
    gaussian: bool = True

    def draw(self, batch: tuple[int, ...], seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [0.5 * torch.randn(batch + s, generator=generator, dtype=torch.float64) for s in self.shapes]


def tril(raw: Tensor) -> Tensor:
    return raw.tril(-1) + raw.diagonal(dim1=-2, dim2=-1).exp().diag_embed()


def diagonal(*event: int, module: Any = dist) -> Family:
    def build(m: Tensor, s: Tensor, scale: float = 1.0) -> Distribution:
        normal = module.Normal(m * scale, s.exp() * scale)
        return module.Independent(normal, len(event)) if event else normal

    return Family((event, event), build)


def standard_normal(*event: int) -> Family:
    def build(m: Tensor, s: Tensor, scale: float = 1.0) -> Distribution:
        return dist.Normal(0 * m, torch.ones_like(s) * scale).to_event(len(event))

    return Family((event, event), build)


def full(module: Any = dist) -> Family:
    def build(m: Tensor, L: Tensor, scale: float = 1.0) -> Distribution:
        return module.MultivariateNormal(m * scale, scale_tril=tril(L) * scale)

    return Family(((2,), (2, 2)), build)


def low_rank(module: Any = dist) -> Family:
    def build(m: Tensor, F: Tensor, d: Tensor, scale: float = 1.0) -> Distribution:
        return module.LowRankMultivariateNormal(m * scale, F * scale, d.exp() * scale**2)

    return Family(((2,), (2, 1), (2,)), build)


def full_rows() -> Family:
    def build(m: Tensor, L: Tensor, scale: float = 1.0) -> Distribution:
        return dist.MultivariateNormal(m * scale, scale_tril=tril(L) * scale).to_event(1)

    return Family(((1, 2), (1, 2, 2)), build)


def nested() -> Family:
    def build(m: Tensor, s: Tensor, scale: float = 1.0) -> Distribution:
        rows = td.Independent(td.Independent(td.Normal(m * scale, s.exp() * scale), 0), 1)
        return td.Independent(rows, 1)

    return Family(((1, 2), (1, 2)), build)


def positive(name: str, box: tuple[float, float], *event: int) -> Family:
    def build(a: Tensor, b: Tensor) -> Distribution:
        return getattr(dist, name)(2 + 2 * a.exp(), 2 + 2 * b.exp()).to_event(len(event))

    return Family((event, event), build, box, gaussian=False)


def laplace(*event: int) -> Family:
    def build(m: Tensor, s: Tensor) -> Distribution:
        return dist.Laplace(m, s.exp()).to_event(len(event))

    return Family((event, event), build, gaussian=False)


def power_spherical() -> Family:
    def build(m: Tensor, k: Tensor) -> Distribution:
        return PowerSpherical(normalize(m, dim=-1), 3 * k.exp())

    return Family(((2,), ()), build, on_circle=True, gaussian=False)


def spherical_uniform() -> Family:
    def build(nothing: Tensor) -> Distribution:
        return SphericalUniform(nothing.new_zeros(2), nothing.shape[:-1])

    return Family(((0,),), build, on_circle=True, gaussian=False)


PAIRS: dict[str, tuple[Family, Family]] = {
    "normal-normal": (diagonal(), diagonal()),
    "normal-normal-torch": (diagonal(module=td), diagonal(module=td)),
    "normal-standard": (diagonal(), standard_normal()),
    "diagonal-diagonal": (diagonal(2), diagonal(2)),
    "diagonal-diagonal-mixed": (diagonal(2, module=td), diagonal(2)),
    "diagonal-standard": (diagonal(2), standard_normal(2)),
    "diagonal-diagonal-2d": (diagonal(1, 2), diagonal(1, 2)),
    "diagonal-nested": (diagonal(1, 2), nested()),
    "nested-nested": (nested(), nested()),
    "full-diagonal": (full(), diagonal(2)),
    "full-diagonal-torch": (full(td), diagonal(2, module=td)),
    "full-standard": (full(), standard_normal(2)),
    "full-rows-diagonal": (full_rows(), diagonal(1, 2)),
    "full-rows-nested": (full_rows(), nested()),
    "full-full": (full(), full(td)),
    "diagonal-full": (diagonal(2), full()),
    "diagonal-full-torch": (diagonal(2, module=td), full(td)),
    "low-rank-diagonal": (low_rank(), diagonal(2)),
    "low-rank-diagonal-torch": (low_rank(td), diagonal(2, module=td)),
    "low-rank-standard": (low_rank(), standard_normal(2)),
    "low-rank-full": (low_rank(), full()),
    "low-rank-low-rank": (low_rank(), low_rank()),
    "full-low-rank": (full(), low_rank()),
    "gamma-gamma": (positive("Gamma", (0.0, 60.0)), positive("Gamma", (0.0, 60.0))),
    "beta-beta": (positive("Beta", (0.0, 1.0), 2), positive("Beta", (0.0, 1.0), 2)),
    "normal-laplace": (diagonal(2), laplace(2)),
    "power-spherical-uniform": (power_spherical(), spherical_uniform()),
}
TORCHS = {"low-rank-low-rank", "full-low-rank", "gamma-gamma", "beta-beta", "normal-laplace"}
OURS = {"power-spherical-uniform"}  # torch has nothing to compare with


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> tuple[Family, Family]:
    return PAIRS[request.param]


def build(
    pair: tuple[Family, Family], batch_q: tuple[int, ...] = (), batch_p: tuple[int, ...] = (), seed: int = 0
) -> tuple[Distribution, Distribution]:
    q, p = pair
    return q.build(*q.draw(batch_q, 2 * seed)), p.build(*p.draw(batch_p, 2 * seed + 1))


def dense(d: Distribution) -> Distribution:
    """A Gaussian as a MultivariateNormal over all its event dims, which is what torch pairs with anything."""
    if not isinstance(d, td.MultivariateNormal | td.LowRankMultivariateNormal | td.Independent):
        return d
    batch, dim = d.batch_shape, d.event_shape.numel()
    if isinstance(d, td.MultivariateNormal | td.LowRankMultivariateNormal):
        return td.MultivariateNormal(d.loc, d.covariance_matrix)
    base: Any = d
    while isinstance(base, td.Independent):
        base = base.base_dist
    if isinstance(base, td.Normal):
        return td.MultivariateNormal(d.mean.reshape(*batch, dim), d.variance.reshape(*batch, dim).diag_embed())
    if isinstance(base, td.MultivariateNormal):  # with one row
        return td.MultivariateNormal(base.loc.squeeze(-2), base.covariance_matrix.squeeze(-3))
    return d


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected.expand(actual.shape), rtol=tolerance, atol=tolerance)


# ---- the value ----


@pytest.mark.parametrize("name", sorted(PAIRS.keys() - OURS))
def test_agrees_with_torch(name: str) -> None:
    pair = PAIRS[name]
    q, p = build(pair, (6,), (6,))
    if pair[0].gaussian and pair[1].gaussian:
        close(kl(q, p), td.kl_divergence(dense(q), dense(p)), 1e-10)
    else:
        close(kl(q, p), td.kl_divergence(q, p), 1e-10)


def test_agrees_with_quadrature(pair: tuple[Family, Family]) -> None:
    """Gauss–Legendre over 1-D or 2-D z, split at the kink of a Laplace prior; equal steps around a circle."""
    q, p = build(pair)
    z, w = circle() if pair[0].on_circle else box(pair, q, p)
    log_q = q.log_prob(z)
    close(kl(q, p), (w * log_q.exp() * (log_q - p.log_prob(z))).sum(), 1e-8)


def circle(n: int = 6400) -> tuple[Tensor, Tensor]:
    angle = torch.arange(n, dtype=torch.float64) * (2 * np.pi / n)
    return torch.stack([angle.cos(), angle.sin()], dim=-1), torch.full((n,), 2 * np.pi / n, dtype=torch.float64)


def box(pair: tuple[Family, Family], q: Distribution, p: Distribution) -> tuple[Tensor, Tensor]:
    lower, upper = (q.mean - 11 * q.stddev, q.mean + 11 * q.stddev)
    if pair[0].box is not None:
        lower, upper = (torch.full_like(q.mean, edge) for edge in pair[0].box)
    kink = p.mean if isinstance(p, td.Independent) and isinstance(p.base_dist, td.Laplace) else q.mean
    axes, weights = [], []
    for a, b, c in zip(lower.flatten(), upper.flatten(), kink.flatten(), strict=True):
        z, w = (np.concatenate(part) for part in zip(legendre(a, c), legendre(c, b), strict=True))
        axes.append(torch.from_numpy(z))
        weights.append(torch.from_numpy(w))
    z = torch.cartesian_prod(*axes).reshape(-1, *q.event_shape)
    return z, torch.cartesian_prod(*weights).reshape(z.shape[0], -1).prod(-1)


def legendre(a: Tensor, b: Tensor, n: int = 160) -> tuple[np.ndarray, np.ndarray]:
    z, w = np.polynomial.legendre.leggauss(n)
    half = float(b - a) / 2
    return float(a) + half * (z + 1), half * w


def test_agrees_with_monte_carlo(pair: tuple[Family, Family]) -> None:
    q, p = build(pair, (4,), (), seed=3)
    torch.manual_seed(0)
    z = q.sample((20_000,))
    log_ratio = q.log_prob(z) - p.log_prob(z)
    error = (kl(q, p) - log_ratio.mean(0)).abs()
    assert (error < STANDARD_ERRORS * log_ratio.std(0) / len(z) ** 0.5).all()


@pytest.mark.parametrize("seed", range(5))
def test_is_never_negative(pair: tuple[Family, Family], seed: int) -> None:
    assert (kl(*build(pair, (50,), (50,), seed=seed)) > 0).all()


@pytest.mark.parametrize("name", [name for name, (q, p) in PAIRS.items() if q.shapes == p.shapes])
def test_to_itself_is_zero(name: str) -> None:
    family, _ = PAIRS[name]
    raw = family.draw((20,), 0)
    close(kl(family.build(*raw), family.build(*raw)), torch.zeros(20, dtype=torch.float64), 1e-12)


def test_to_its_own_dense_form_is_zero() -> None:
    for family in (diagonal(2), full(), low_rank()):
        q = family.build(*family.draw((20,), 0))
        close(kl(q, dense(q)), torch.zeros(20, dtype=torch.float64), 1e-12)


def test_standard_normal_of_kingma_and_welling() -> None:
    μ, σ = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.3, 1.0, 1.7])
    expected = -0.5 * (1 + (σ**2).log() - μ**2 - σ**2).sum()
    close(kl(dist.Normal(μ, σ).to_event(1), dist.Normal(0.0, 1.0).expand([3]).to_event(1)), expected, 1e-6)


def test_keeps_its_digits_where_q_is_almost_p() -> None:
    """To second order KL(N(0, (1 + ε)²) ‖ N(0, 1)) is ε²; a formula with `r² − 1 − log r²` has no digit left."""
    ε = 1e-9
    one = torch.ones((), dtype=torch.float64)
    assert kl(dist.Normal(0 * one, one + ε), dist.Normal(0 * one, one)).item() == pytest.approx(ε**2, rel=1e-6, abs=0)


def test_low_rank_to_diagonal_builds_no_square_matrix() -> None:
    D = 200_000  # a (D, D) matrix would take 160 GB
    q = dist.LowRankMultivariateNormal(torch.zeros(D), torch.ones(D, 2) / D, torch.ones(D))
    assert kl(q, dist.Normal(torch.zeros(D), 1.0).to_event(1)).shape == ()


# ---- gradients, shapes, precision ----


def test_gradients(pair: tuple[Family, Family]) -> None:
    q, p = pair
    raw = [r.requires_grad_() for r in (*q.draw((2,), 0), *p.draw((), 1))]
    n = len(q.shapes)
    assert torch.autograd.gradcheck(lambda *raw: kl(q.build(*raw[:n]), p.build(*raw[n:])), raw)


@pytest.mark.parametrize(
    ("batch_q", "batch_p"),
    [
        ((), ()),
        ((7,), ()),
        ((), (7,)),
        ((5, 7), (7,)),
        ((5, 7), ()),
        ((5, 1), (1, 7)),
        ((1,), (5, 1)),
    ],
)
def test_batches_broadcast(pair: tuple[Family, Family], batch_q: tuple[int, ...], batch_p: tuple[int, ...]) -> None:
    q, p = build(pair, batch_q, batch_p)
    batch = torch.broadcast_shapes(batch_q, batch_p)
    value = kl(q, p)
    assert value.shape == batch
    close(value, kl(q.expand(batch), p.expand(batch)), 1e-12)


@pytest.mark.parametrize(("scale_q", "scale_p"), [(1e-12, 1e12), (1e6, 1e-6), (1e-15, 1e-15), (1e15, 1e15)])
@pytest.mark.parametrize("name", sorted(PAIRS.keys() - TORCHS - OURS))
def test_float32_at_extreme_scales(name: str, scale_q: float, scale_p: float) -> None:
    q, p = PAIRS[name]
    raw_q, raw_p = q.draw((9,), 0), p.draw((9,), 1)
    double = kl(q.build(*raw_q, scale=scale_q), p.build(*raw_p, scale=scale_p))
    single = kl(
        q.build(*(r.float() for r in raw_q), scale=scale_q),
        p.build(*(r.float() for r in raw_p), scale=scale_p),
    )
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)


# ---- wrappers ----


def test_expanded_is_unwrapped() -> None:
    q = ExpandedDistribution(dist.Normal(torch.tensor([0.5]), 2.0), torch.Size((3, 4)))
    value = kl(q, dist.Normal(0.0, 1.0))
    close(value, kl(dist.Normal(0.5, 2.0), dist.Normal(0.0, 1.0)), 1e-6)
    assert value.shape == (3, 4)


@pytest.mark.parametrize("name", ["normal-normal", "full-diagonal", "gamma-gamma"])
def test_equal_masks_select(name: str) -> None:
    q, p = build(PAIRS[name], (3,))
    mask = torch.tensor([True, False, True])
    close(kl(q.mask(mask), p.expand((3,)).mask(mask.clone())), kl(q, p) * mask, 1e-12)
    close(kl(q.mask(False), p.mask(False)), torch.zeros(3, dtype=torch.float64), 0)
    close(kl(q.mask(True), p), kl(q, p), 0)


def test_mask_under_the_event_selects_dimensions() -> None:
    mask = torch.tensor([True, False])
    q, p = dist.Normal(torch.tensor([1.0, 5.0]), 1.0), dist.Normal(torch.zeros(2), 1.0)
    close(kl(q.mask(mask).to_event(1), p.mask(mask).to_event(1)), torch.tensor(0.5), 1e-6)


def test_masks_that_broadcast_to_the_same_are_equal() -> None:
    mask = torch.tensor([True, False])
    q = dist.Normal(torch.ones(3, 2), 1.0).mask(mask.expand(3, 2))
    close(kl(q, dist.Normal(torch.zeros(2), 1.0).mask(mask)), torch.tensor([0.5, 0.0]), 1e-6)


def test_nan_under_a_false_mask_does_not_leak() -> None:
    mask = torch.tensor([True, False, True])
    μ = torch.tensor([1.0, float("nan"), 1.0], requires_grad=True)
    σ = torch.ones(3, requires_grad=True)
    q = dist.Normal(μ, σ, validate_args=False).mask(mask)
    value = kl(q, dist.Normal(torch.zeros(3), 1.0).mask(mask))
    close(value, torch.tensor([0.5, 0.0, 0.5]), 1e-6)
    value.sum().backward()
    assert μ.grad is not None
    assert torch.equal(μ.grad[mask], torch.ones(2))


# ---- what has no closed form ----

NORMAL = dist.Normal(0.0, 1.0)
DIAGONAL = dist.Normal(torch.zeros(3), 1.0).to_event(1)
MIXTURE = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), 1.0))
MIXTURE_3 = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2, 3), 1.0).to_event(1))
LOW_RANK = dist.LowRankMultivariateNormal(torch.zeros(3), torch.ones(3, 1), torch.ones(3))
PAIR = dist.Normal(torch.zeros(2), 1.0)
TRIPLE = dist.Normal(torch.zeros(3), 1.0)
ZERO = torch.zeros(())
FOLDED = dist.TransformedDistribution(dist.Normal(1.0, 1.0), [td.AbsTransform()])
WISHART = dist.Wishart(torch.tensor(3.0), torch.eye(2))
UNIT = dist.Uniform(0.0, 1.0)
CB = dist.ContinuousBernoulli(0.3)
RELAXED = dist.RelaxedOneHotCategorical(torch.tensor(0.5), logits=torch.zeros(3))
RELAXED_BIT = dist.RelaxedBernoulli(torch.tensor(0.5), logits=ZERO)
SPHERE = SphericalUniform(torch.zeros(3))
POWER = PowerSpherical(torch.eye(3)[0], torch.ones(()))
MIXED = MixtureNormal(3)(torch.zeros(MixtureNormal(3).width))
IAF = InverseAutoregressiveFlow(3, hidden=3)
WARPED = IAF(torch.zeros(IAF.width))
YES_NO, NO_YES = torch.tensor([True, False]), torch.tensor([False, True])

REFUSED: list[tuple[Distribution, Distribution, str]] = [
    (NORMAL, MIXTURE, "KL(Normal ‖ MixtureSameFamily)"),
    (MIXTURE, NORMAL, "KL(MixtureSameFamily ‖ Normal)"),
    (DIAGONAL, MIXTURE_3, "KL(Normal with event shape (3,) ‖ MixtureSameFamily with event shape (3,))"),
    (DIAGONAL, LOW_RANK, "KL(Normal with event shape (3,) ‖ LowRankMultivariateNormal with event shape (3,))"),
    (MIXTURE.mask(YES_NO), MIXTURE.mask(YES_NO), "KL(MixtureSameFamily ‖ MixtureSameFamily)"),
    (NORMAL, DIAGONAL, "KL(Normal ‖ Normal with event shape (3,)): their event shapes differ"),
    (PAIR, TRIPLE, "KL(Normal ‖ Normal): their batch shapes (2,) and (3,) do not broadcast"),
    (dist.Delta(ZERO), NORMAL, "KL(Delta ‖ Normal): a Delta has no density"),
    (NORMAL, dist.Delta(ZERO), "KL(Normal ‖ Delta): a Delta has no density"),
    (
        dist.Delta(torch.zeros(3)).to_event(1),
        DIAGONAL,
        "KL(Delta with event shape (3,) ‖ Normal with event shape (3,)): a Delta has no density",
    ),
    (PAIR.mask(YES_NO), PAIR, "KL(Normal ‖ Normal): only q is masked"),
    (PAIR, PAIR.mask(YES_NO), "KL(Normal ‖ Normal): only p is masked"),
    (PAIR.mask(YES_NO), PAIR.mask(NO_YES), "KL(Normal ‖ Normal): q and p are masked differently"),
    (PAIR.mask(YES_NO), PAIR.mask(False), "KL(Normal ‖ Normal): q and p are masked differently"),
    (FOLDED, FOLDED, "KL(TransformedDistribution ‖ TransformedDistribution): a transform is not one-to-one"),
    (CB, UNIT, "KL(ContinuousBernoulli ‖ Uniform): torch gives inf for Uniform(0, 1)"),
    (UNIT, CB, "KL(Uniform ‖ ContinuousBernoulli): torch gives inf for Uniform(0, 1)"),
    (
        WISHART,
        WISHART,
        "KL(Wishart with event shape (2, 2) ‖ Wishart with event shape (2, 2)): "
        "torch's rule sums over the batch and detaches q",
    ),
    (
        RELAXED,
        RELAXED,
        "KL(RelaxedOneHotCategorical with event shape (3,) ‖ RelaxedOneHotCategorical with event shape (3,))",
    ),
    (RELAXED_BIT, RELAXED_BIT, "KL(RelaxedBernoulli ‖ RelaxedBernoulli)"),
    (SPHERE, POWER, "KL(SphericalUniform with event shape (3,) ‖ PowerSpherical with event shape (3,))"),
    (POWER, DIAGONAL, "KL(PowerSpherical with event shape (3,) ‖ Normal with event shape (3,))"),
    (MIXED, DIAGONAL, "KL(ReparameterizedMixture with event shape (3,) ‖ Normal with event shape (3,))"),
    (WARPED, DIAGONAL, "KL(AutoregressiveFlow with event shape (3,) ‖ Normal with event shape (3,))"),
]


@pytest.mark.parametrize(("q", "p", "message"), REFUSED)
def test_refuses(q: Distribution, p: Distribution, message: str) -> None:
    with pytest.raises(NoClosedForm) as raised:
        kl(q, p)
    assert str(raised.value) == "no closed-form " + message
    assert isinstance(raised.value, InputError)


def test_a_rule_of_torch_that_does_not_broadcast() -> None:
    """torch's Bernoulli rule indexes a `batch_q` tensor with a `batch_p` mask."""
    q, p = dist.Bernoulli(torch.full((5, 7), 0.2)), dist.Bernoulli(torch.full((7,), 0.5))
    close(kl(q, p), td.kl_divergence(q, p.expand((5, 7))), 0)


def test_bijective_transforms_are_torchs() -> None:
    q, p = dist.LogNormal(0.5, 2.0), dist.LogNormal(0.0, 1.0)
    close(kl(q, p), kl(q.base_dist, p.base_dist), 1e-6)


# ---- a class with a density of its own ----


class Shifted(td.Normal):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value - 3)


class ShiftedParameter(td.MultivariateNormal):
    @property
    def scale_tril(self) -> Tensor:  # its density reads another attribute
        return 2 * self._unbroadcasted_scale_tril


class ShiftedRows(td.Independent):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value - 3)


class Gammas(dist.Gamma):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(2 * value) + np.log(2)


class Unlike(td.ExpTransform):
    def _call(self, x: Tensor) -> Tensor:
        return (2 * x).exp()


def transformed(base: Distribution, *transforms: td.Transform) -> Distribution:
    return dist.TransformedDistribution(base, list(transforms))


ONE = torch.ones(())
SHIFTED = ShiftedParameter(torch.zeros(3), torch.eye(3), validate_args=False)
OWN = "has its own log_prob, so its density need not be that of"


@pytest.mark.parametrize(
    ("q", "p", "why"),
    [
        (Shifted(ZERO, ONE), NORMAL, f"Shifted {OWN} Normal"),
        (NORMAL, Shifted(ZERO, ONE), f"Shifted {OWN} Normal"),
        (Shifted(ZERO, ONE), dist.Laplace(ZERO, ONE), f"Shifted {OWN} Normal"),
        (ShiftedRows(PAIR, 1), td.Independent(PAIR, 1), "no closed-form"),
        (SHIFTED, DIAGONAL, "ShiftedParameter has its own scale_tril"),
        (Gammas(ONE, ONE), dist.Gamma(ONE, ONE), f"Gammas {OWN} Gamma"),
        (transformed(Shifted(ZERO, ONE), td.ExpTransform()), dist.LogNormal(ZERO, ONE), f"Shifted {OWN} Normal"),
        (dist.FoldedDistribution(NORMAL), dist.FoldedDistribution(NORMAL), f"FoldedDistribution {OWN}"),
        (dist.FoldedDistribution(NORMAL), dist.HalfNormal(ONE), "FoldedDistribution"),
        (dist.HalfNormal(ONE), dist.FoldedDistribution(dist.Normal(2 * ONE, ONE)), "HalfNormal"),
        (transformed(NORMAL, td.ExpTransform()), transformed(NORMAL, Unlike()), "their maps differ"),
        (transformed(NORMAL, Unlike()), transformed(NORMAL, Unlike()), "their maps differ"),
        (
            transformed(NORMAL, td.AffineTransform(ONE.clone().requires_grad_(), ONE)),
            transformed(NORMAL, td.AffineTransform(ONE, ONE)),
            "their maps differ",
        ),
    ],
)  # fmt: skip
def test_a_density_of_its_own_is_refused(q: Distribution, p: Distribution, why: str) -> None:
    with pytest.raises(NoClosedForm, match=why):
        kl(q, p)


class Wide(dist.Normal):
    """Made and drawn in another way, but a Normal."""

    def __init__(self, loc: Tensor) -> None:
        super().__init__(loc, torch.full_like(loc, 2.0))

    def twice(self) -> Tensor:
        return 2 * self.loc


def test_a_subclass_with_its_parents_density_has_its_parents_kl() -> None:
    q = Wide(torch.tensor([0.5, 1.0]))
    close(kl(q.to_event(1), PAIR.to_event(1)), kl(dist.Normal(q.loc, 2.0), PAIR).sum(), 0)


def test_a_rule_that_is_registered_for_a_class_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(td.kl, "_KL_REGISTRY", td.kl._KL_REGISTRY.copy())
    monkeypatch.setattr("ppl_vae.distributions.kl._KL_REGISTRY", td.kl._KL_REGISTRY)
    td.register_kl(Shifted, td.Normal)(lambda q, p: kl(td.Normal(q.loc + 3, q.scale), p))
    close(kl(Shifted(ZERO, ONE), NORMAL), torch.tensor(4.5), 1e-6)
    with pytest.raises(NoClosedForm, match="Shifted has its own"):
        kl(NORMAL, Shifted(ZERO, ONE))


def test_no_class_of_pyro_or_torch_has_a_density_of_its_own_under_a_parents_rule() -> None:
    """Each that overrides what a density is made of is refused, has a rule, or was read and found the same."""
    below: set[Any] = set()
    todo: list[Any] = [Distribution]
    while todo:
        new = set(todo.pop().__subclasses__()) - below
        below |= new
        todo += new
    registered = {c for pair in (td.kl._KL_REGISTRY | RULES) for c in pair} - {dist.Distribution}
    library = {
        c for c in below if c.__module__.startswith(("torch.distributions.", "pyro.distributions.", "ppl_vae."))
    } - registered
    families = {c: next((f for f in c.__mro__ if f in registered), None) for c in library}
    changed = {c.__name__ for c, f in families.items() if f and _own(c, f)}
    assert changed == {
        *("AutoregressiveFlow", "ExtendedBinomial", "FlowDistribution", "FoldedDistribution"),
        *("NanMaskedMultivariateNormal", "NanMaskedNormal"),
        *("RelaxedBernoulliStraightThrough", "RelaxedOneHotCategoricalStraightThrough", "Wishart"),
    }


def test_half_cauchy_is_the_cauchys() -> None:
    q, p = dist.HalfCauchy(torch.tensor([0.5, 2.0])), dist.HalfCauchy(ONE)
    close(kl(q, p), td.kl_divergence(td.Cauchy(0.0, q.scale), td.Cauchy(0.0, ONE)), 1e-6)


def test_a_transform_of_vectors_keeps_the_batch() -> None:
    loc = torch.randn(5, 1, 3)
    q, p = td.LogisticNormal(loc, torch.ones(3)), td.LogisticNormal(torch.zeros(7, 3), torch.ones(3))
    close(kl(q, p), (loc.square().sum(-1) / 2).expand(5, 7), 1e-6)


# ---- the continuous Bernoulli ----


@pytest.mark.parametrize("module", [distributions, dist, td])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_continuous_bernoulli_at_all_logits(module: Any, dtype: torch.dtype) -> None:
    """(η_q − η_p) E_q[x] − A(η_q) + A(η_p), A = log (eᵑ − 1)/η, in 50 digits."""
    values = [-1e4, -60.0, -30.0, -20.0, -1.0, -0.11, -0.09, -1e-3, 1e-3, 0.09, 0.5, 15.0, 20.0, 60.0, 1.001e4]
    η = torch.tensor(values, dtype=dtype)
    q, p = (module.ContinuousBernoulli(logits=t) for t in (η.unsqueeze(1), η))
    with mpmath.workdps(50):

        def A(e: Any) -> Any:
            return mpmath.log(mpmath.expm1(e) / e)

        def exact(a: Any, b: Any) -> float:
            return float((a - b) * (1 / (1 - mpmath.exp(-a)) - 1 / a) - A(a) + A(b))

        numbers = [mpmath.mpf(e) for e in η.tolist()]
        truth = torch.tensor([[exact(a, b) for b in numbers] for a in numbers], dtype=torch.float64)
    torch.testing.assert_close(kl(q, p).double(), truth, rtol=16 * torch.finfo(dtype).eps, atol=1e-11)


def test_continuous_bernoulli_has_gradients() -> None:
    η = [torch.tensor([-30.0, 0.05, 2.0], dtype=torch.float64).roll(i).requires_grad_() for i in (0, 1)]
    CB = distributions.ContinuousBernoulli
    assert torch.autograd.gradcheck(lambda a, b: kl(CB(logits=a), CB(logits=b)), η)


@pytest.mark.parametrize(
    ("d", "text"),
    [
        (NORMAL, "Normal"),
        (DIAGONAL, "Normal with event shape (3,)"),
        (DIAGONAL.expand((2,)).mask(YES_NO), "Normal with event shape (3,)"),
        (PAIR.mask(YES_NO).to_event(1), "Normal with event shape (2,)"),
        (ExpandedDistribution(DIAGONAL, torch.Size((2,))), "Normal with event shape (3,)"),
        (LOW_RANK, "LowRankMultivariateNormal with event shape (3,)"),
    ],
)
def test_describe(d: Distribution, text: str) -> None:
    assert describe(d) == text


def test_categories_of_other_numbers_are_refused_in_words() -> None:
    q, p = (dist.Categorical(torch.ones(n)) for n in (3, 4))
    with pytest.raises(NoClosedForm, match="their parameters do not fit"):
        kl(q, p)


def test_masks_that_are_traced_give_nan_where_they_differ() -> None:
    """Whether they do can't be said when the graph is made."""

    def masked(q_mask: Tensor, p_mask: Tensor) -> Tensor:
        q, p = (dist.Normal(loc, 1.0).expand([3]) for loc in (0.0, 2.0))
        return kl(q.mask(q_mask), p.mask(p_mask))

    on = torch.tensor([True, False, True])
    graph = make_fx(masked, tracing_mode="fake")(on, on.clone())
    assert torch.equal(graph(on, on.clone()), torch.tensor([2.0, 0.0, 2.0]))
    different = graph(on, torch.tensor([True, True, False]))
    assert torch.equal(different.isnan(), torch.tensor([False, True, True]))
