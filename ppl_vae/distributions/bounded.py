"""Distributions on a bounded support or a grid that torch and Pyro do not have, or compute with too few digits."""

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.nn.functional import logsigmoid


class OpenUnitInterval(constraints.Constraint):
    """0 < x < 1."""

    def check(self, value: Tensor) -> Tensor:
        return (value > 0) & (value < 1)

    def __repr__(self) -> str:
        return "0 < x < 1"


class Grid(constraints.Constraint):
    """`levels` evenly spaced numbers from `low` to `high`. A deviation of a thousandth of their spacing is allowed."""

    is_discrete = True

    def __init__(self, low: float, high: float, levels: int) -> None:
        self.low, self.high, self.levels = low, high, levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        level = (value - self.low) / (self.high - self.low) * (self.levels - 1)
        return ((level - level.round()).abs() < 1e-3) & (level > -0.5) & (level < self.levels - 0.5)

    def __repr__(self) -> str:
        return f"{self.levels} evenly spaced numbers from {self.low:g} to {self.high:g}"


class Beta(dist.Beta):
    """torch's Beta, without 0 and 1 in its support, since its density is 0 or infinite there unless α or β is 1.

    log p(x) = (α − 1) log x + (β − 1) log (1 − x) + log Γ(α + β) − log Γ(α) − log Γ(β). The terms can be large where
    their sum is small, so they are added in float64.
    """

    support = OpenUnitInterval()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        x, α, β = value.double(), self.concentration1.double(), self.concentration0.double()
        log_p = torch.xlogy(α - 1, x) + torch.special.xlog1py(β - 1, -x) + (α + β).lgamma() - α.lgamma() - β.lgamma()
        return log_p.to(torch.result_type(self.concentration1, value))


class Mixture(dist.MixtureSameFamily):
    """A mixture whose support is that of its components, so that it is known whether the mixture is discrete."""

    @property
    def support(self) -> constraints.Constraint:
        return self.component_distribution.support


class ContinuousBernoulli(dist.ContinuousBernoulli):
    """p(x) = C(λ) λˣ (1 − λ)¹⁻ˣ on [0, 1], in the log-odds η = log λ/(1 − λ). Loaiza-Ganem & Cunningham (2019).

    p(x) = η eᵑˣ / (eᵑ − 1), so that with t = η/2

        log p(x) = η (x − ½) − log (sinh t / t).

    torch clamps λ to the floating-point numbers below 1. So its density in float32 is wrong for η > 15, by −0.6 nats at
    η = 30, and its mean never exceeds 0.94. Here the density is computed from η.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.logits * (value - 0.5) - self.log_normalizer()

    def log_normalizer(self) -> Tensor:
        """log (sinh t / t)."""
        η = self.logits
        t, near = self._halves()
        away = t + (-torch.expm1(-2 * t)).log() - (2 * t).log()
        return torch.where(near, η.square() / 24 - η**4 / 2880 + η**6 / 181440, away)

    def entropy(self) -> Tensor:
        return self.log_normalizer() - self.logits * (self.mean - 0.5)

    @property
    def mean(self) -> Tensor:
        """E[x] = ½ + ½ coth t − 1/η."""
        η = self.logits
        t, near = self._halves()
        away = η.sign() * (1 / torch.tanh(t) - 1 / t) / 2
        return 0.5 + torch.where(near, η / 12 - η**3 / 720 + η**5 / 30240 - η**7 / 1209600, away)

    @property
    def variance(self) -> Tensor:
        """1/η² − 1/(4 sinh² t)."""
        t, near = self._halves()
        away = (1 / t.square() - 1 / t.clamp(max=40).sinh().square()) / 4
        return torch.where(near, 1 / 12 - self.logits.square() / 240, away)

    def icdf(self, value: Tensor) -> Tensor:
        """log(1 + u (eᵑ − 1))/η. For η > 0 it is computed by symmetry, since x at η is 1 − x at −η."""
        η, value = torch.broadcast_tensors(self.logits, value)
        t, near = self._halves()
        u = torch.where(η > 0, 1 - value, value)
        lower = -torch.log1p(u * torch.expm1(-2 * t)) / (2 * t)
        x = torch.where(η > 0, 1 - lower, lower)
        series = value * (1 - value) * (η / 2 + η.square() * (1 - 2 * value) / 6)
        return torch.where(near, value + series, x).clamp(0, 1)

    def _halves(self) -> tuple[Tensor, Tensor]:
        """t = |η|/2, and where t is so small that a series is used. There t is replaced by 1."""
        t = self.logits.abs() / 2
        near = t < 0.05
        return torch.where(near, torch.ones_like(t), t), near


class DiscretizedLogistic(dist.TorchDistribution):
    """A logistic variable rounded to a grid of `levels` numbers from `low` to `high`. Salimans et al. (2017).

    With bins of half-width h, b = (x + h − μ)/s and a = (x − h − μ)/s,

        P(x) = σ(b) − σ(a) = σ(b) σ(−a) (1 − e^{−2h/s}),

    a product that loses no digits. The lowest bin reaches to −∞, so that its P = σ(b), and the highest to ∞, so that
    its P = σ(−a): P sums to 1 exactly.

    Args:
        loc: μ, `batch`.
        scale: s, `batch`.
        low, high, levels: the grid.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        low: float = 0.0,
        high: float = 1.0,
        levels: int = 256,
        *,
        validate_args: Any = None,
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.low, self.high, self.levels = low, high, levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "DiscretizedLogistic":
        shape = torch.Size(batch_shape)
        return DiscretizedLogistic(
            self.loc.expand(shape), self.scale.expand(shape), self.low, self.high, self.levels, validate_args=False
        )

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return Grid(self.low, self.high, self.levels)

    @property
    def spacing(self) -> float:
        """The distance between two neighbours of the grid, 2h."""
        return (self.high - self.low) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        h = self.spacing / 2
        below = logsigmoid((value + h - self.loc) / self.scale)
        above = logsigmoid(-(value - h - self.loc) / self.scale)
        inside = below + above + (-torch.expm1(-self.spacing / self.scale)).log()
        return torch.where(value < self.low + h, below, torch.where(value > self.high - h, above, inside))

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            x = self.loc + self.scale * torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).logit(eps=1e-7)
            return self.low + self.spacing * ((x - self.low) / self.spacing).round().clamp(0, self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """E[x] = high − 2h Σ_{i < levels − 1} P(x ≤ x_i)."""
        edges = self.low + self.spacing * (torch.arange(self.levels - 1).to(self.loc) + 0.5)
        return self.high - self.spacing * torch.sigmoid(
            (edges - self.loc.unsqueeze(-1)) / self.scale.unsqueeze(-1)
        ).sum(-1)
