"""Families of q(z|x): each turns the raw output of an encoder, `(..., width)`, into a distribution over `(dim,)`.

A family is a module with a `width`, the number of outputs that it asks of the encoder:

    self.family = FullNormal(latent_dim)
    self.encoder = mlp(prod(data_shape), hidden, self.family.width)
    ...
    return self.family(self.encoder(x))

Every draw is reparameterized, and the density at any value is exact and differentiable, be the value a fresh draw of
the same object or not.
"""

from collections.abc import Iterable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import ConditionalAffineAutoregressive
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.mixture import ReparameterizedMixture
from ppl_vae.distributions.normals import LowRank

# No standard deviation falls below it. A draw z = μ + σε is rounded to about 6e-8 |μ| in float32, which log q(z|x) sees
# in units of σ: with σ ≥ 1e-4 and |μ| ≤ 10 that is 6e-3 at most. A posterior as narrow as that knows z to four digits,
# at a price of log 1e4 = 9.2 nats a dimension; none that is learned from real data comes near.
MIN_SIGMA = 1e-4


class DiagonalNormal(nn.Module):
    """N(μ, diag σ²), σ = softplus(s). Source: Kingma & Welling 2014."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.width = 2 * dim

    def forward(self, raw: Tensor) -> dist.Distribution:
        loc, scale = raw.chunk(2, dim=-1)
        return dist.Normal(loc, _positive(scale)).to_event(1)


class FullNormal(nn.Module):
    """N(μ, L Lᵀ), L lower triangular with diagonal softplus(s): any covariance. Source: Kingma & Welling 2019.

    Below the diagonal L is the raw output over √dim, so that at first a row's many numbers do not drown the signal.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.width = 2 * dim + dim * (dim - 1) // 2

    def forward(self, raw: Tensor) -> dist.Distribution:
        loc, diagonal, below = raw.split([self.dim, self.dim, self.width - 2 * self.dim], dim=-1)
        rows, columns = torch.tril_indices(self.dim, self.dim, -1, device=raw.device)
        L = _positive(diagonal).diag_embed()
        L[..., rows, columns] = below / self.dim**0.5
        return dist.MultivariateNormal(loc, scale_tril=L)


class LowRankNormal(nn.Module):
    """N(μ, F Fᵀ + diag σ²), F of `rank` columns: O(dim · rank) outputs. Source: Ong, Nott & Smith 2018.

    Here σ has a floor of 1e-3, since the density divides F by it.
    """

    def __init__(self, dim: int, rank: int = 2) -> None:
        super().__init__()
        self.dim, self.rank = dim, rank
        self.width = (2 + rank) * dim

    def forward(self, raw: Tensor) -> dist.Distribution:
        loc, scale, factor = raw.split([self.dim, self.dim, self.rank * self.dim], dim=-1)
        variance = _positive(scale, 1e-3).square()
        return LowRank(loc, factor.unflatten(-1, (self.dim, self.rank)), variance)


class HouseholderNormal(nn.Module):
    """z = H_T … H_1 z_0, z_0 ~ N(μ, diag σ²), with reflections H = I − 2vvᵀ/‖v‖²: the Householder flow.

    With U = H_T … H_1 this *is* N(Uμ, U diag σ² Uᵀ), and so it is returned: with its moments, its density at any value
    and its closed-form KL. The Cholesky factor is Rᵀ of the QR decomposition (U diag σ)ᵀ = QR, up to signs.

    Source: Tomczak & Welling 2016.
    """

    def __init__(self, dim: int, reflections: int = 4) -> None:
        super().__init__()
        self.dim, self.reflections = dim, reflections
        self.width = (2 + reflections) * dim

    def forward(self, raw: Tensor) -> dist.Distribution:
        loc, scale, v = raw.split([self.dim, self.dim, self.reflections * self.dim], dim=-1)
        columns = torch.cat([loc.unsqueeze(-1), _positive(scale).diag_embed()], dim=-1)
        for u in normalize(v.unflatten(-1, (self.reflections, self.dim)), dim=-1).unbind(-2):
            columns = columns - 2 * u.unsqueeze(-1) * (u.unsqueeze(-2) @ columns)
        R = torch.linalg.qr(columns[..., 1:].mT).R
        L = (R * R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-1)).mT
        return dist.MultivariateNormal(columns[..., 0], scale_tril=L)


class MixtureNormal(nn.Module):
    """Σ_k π_k N(μ_k, diag σ_k²), reparameterized implicitly, see `ReparameterizedMixture`."""

    def __init__(self, dim: int, components: int = 5) -> None:
        super().__init__()
        self.dim, self.components = dim, components
        self.width = components * (1 + 2 * dim)

    def forward(self, raw: Tensor) -> dist.Distribution:
        logits, normals = raw.split([self.components, self.width - self.components], dim=-1)
        loc, scale = normals.unflatten(-1, (self.components, 2 * self.dim)).chunk(2, dim=-1)
        parts = dist.Normal(loc, _positive(scale)).to_event(1)
        return ReparameterizedMixture(dist.Categorical(logits=logits), parts)


class InverseAutoregressiveFlow(nn.Module):
    """z_0 ~ N(μ, diag σ²); z_t = σ_t ⊙ z_{t−1} + (1 − σ_t) ⊙ m_t, with m_t and σ_t ∈ (0, 1) of z_{t−1} and h.

    (m_t, σ_t)_d depends on the dimensions of z_{t−1} before d alone, so that log det ∂z_t/∂z_{t−1} = Σ_d log σ_td. The
    order is reversed from step to step. μ, σ and the context h are outputs of the encoder. A draw and its density take
    one pass; the density at another value inverts the flow, one dimension after the other.

    Args:
        hidden: units of each autoregressive network, at least `dim`.

    Raises:
        InputError: `dim` is 1, for which there is nothing to regress on, or `hidden` is below `dim`.

    Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling 2016.
    """

    def __init__(self, dim: int, steps: int = 2, hidden: int = 100, context: int = 20) -> None:
        super().__init__()
        if dim < 2:
            raise InputError("an autoregressive flow needs at least 2 dimensions: use DiagonalNormal for 1")
        if hidden < dim:
            raise InputError(
                f"hidden is {hidden}: an autoregressive network over {dim} dimensions needs at least {dim}"
            )
        self.dim, self.context = dim, context
        self.width = 2 * dim + context
        orders = [torch.arange(dim), torch.arange(dim).flip(0)]
        networks = [
            ConditionalAutoRegressiveNN(dim, context, [hidden], permutation=orders[t % 2], nonlinearity=nn.Softplus())
            for t in range(steps)
        ]
        self.steps: Iterable[Any] = nn.ModuleList(ConditionalAffineAutoregressive(n, stable=True) for n in networks)

    def forward(self, raw: Tensor) -> dist.Distribution:
        loc, scale, h = raw.split([self.dim, self.dim, self.context], dim=-1)
        base = dist.Normal(loc, _positive(scale)).to_event(1)
        return AutoregressiveFlow(base, [step.condition(h) for step in self.steps])


class AutoregressiveFlow(dist.TransformedDistribution):
    """Scores a value that only broadcasts against the batch, which Pyro's conditioned networks do not."""

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return super().log_prob(value if value.shape[:-1] == shape else value.expand(*shape, -1))


def _positive(raw: Tensor, floor: float = MIN_SIGMA) -> Tensor:
    return softplus(raw) + floor
