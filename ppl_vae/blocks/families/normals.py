"""Normal families of q(z|x)."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ppl_vae.blocks.families.base import positive
from ppl_vae.distributions.mixture import ReparameterizedMixture
from ppl_vae.distributions.normals import LowRank


class DiagonalNormal(nn.Module):
    """N(μ, diag σ²), σ = softplus(s). Source: Kingma & Welling 2014."""

    name = "diagonal_normal"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.width = 2 * dim

    def forward(self, raw: Tensor) -> dist.Distribution:
        loc, scale = raw.chunk(2, dim=-1)
        return dist.Normal(loc, positive(scale)).to_event(1)


class FullNormal(nn.Module):
    """N(μ, L Lᵀ), L lower triangular with diagonal softplus(s): any covariance. Source: Kingma & Welling 2019.

    Below the diagonal L is the raw output over √dim, so that at first a row's many numbers do not drown the signal.
    """

    name = "full_normal"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.width = 2 * dim + dim * (dim - 1) // 2

    def forward(self, raw: Tensor) -> dist.Distribution:
        loc, diagonal, below = raw.split([self.dim, self.dim, self.width - 2 * self.dim], dim=-1)
        rows, columns = torch.tril_indices(self.dim, self.dim, -1, device=raw.device)
        L = positive(diagonal).diag_embed()
        L[..., rows, columns] = below / self.dim**0.5
        return dist.MultivariateNormal(loc, scale_tril=L)


class LowRankNormal(nn.Module):
    """N(μ, F Fᵀ + diag σ²), F of `rank` columns: O(dim · rank) outputs. Source: Ong, Nott & Smith 2018.

    Here σ has a floor of 1e-3, since the density divides F by it.
    """

    name = "low_rank_normal"

    def __init__(self, dim: int, rank: int = 2) -> None:
        super().__init__()
        self.dim, self.rank = dim, rank
        self.width = (2 + rank) * dim

    def forward(self, raw: Tensor) -> dist.Distribution:
        loc, scale, factor = raw.split([self.dim, self.dim, self.rank * self.dim], dim=-1)
        variance = positive(scale, 1e-3).square()
        return LowRank(loc, factor.unflatten(-1, (self.dim, self.rank)), variance)


class HouseholderNormal(nn.Module):
    """z = H_T … H_1 z_0, z_0 ~ N(μ, diag σ²), with reflections H = I − 2vvᵀ/‖v‖²: the Householder flow.

    With U = H_T … H_1 this *is* N(Uμ, U diag σ² Uᵀ), and so it is returned: with its moments, its density at any value
    and its closed-form KL. The Cholesky factor is Rᵀ of the QR decomposition (U diag σ)ᵀ = QR, up to signs.

    Source: Tomczak & Welling 2016.
    """

    name = "householder_normal"

    def __init__(self, dim: int, reflections: int = 4) -> None:
        super().__init__()
        self.dim, self.reflections = dim, reflections
        self.width = (2 + reflections) * dim

    def forward(self, raw: Tensor) -> dist.Distribution:
        loc, scale, v = raw.split([self.dim, self.dim, self.reflections * self.dim], dim=-1)
        columns = torch.cat([loc.unsqueeze(-1), positive(scale).diag_embed()], dim=-1)
        for u in normalize(v.unflatten(-1, (self.reflections, self.dim)), dim=-1).unbind(-2):
            columns = columns - 2 * u.unsqueeze(-1) * (u.unsqueeze(-2) @ columns)
        R = torch.linalg.qr(columns[..., 1:].mT).R
        L = (R * R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-1)).mT
        return dist.MultivariateNormal(columns[..., 0], scale_tril=L)


class MixtureNormal(nn.Module):
    """Σ_k π_k N(μ_k, diag σ_k²), reparameterized implicitly, see `ReparameterizedMixture`."""

    name = "mixture_normal"

    def __init__(self, dim: int, components: int = 5) -> None:
        super().__init__()
        self.dim, self.components = dim, components
        self.width = components * (1 + 2 * dim)

    def forward(self, raw: Tensor) -> dist.Distribution:
        logits, normals = raw.split([self.components, self.width - self.components], dim=-1)
        loc, scale = normals.unflatten(-1, (self.components, 2 * self.dim)).chunk(2, dim=-1)
        parts = dist.Normal(loc, positive(scale)).to_event(1)
        return ReparameterizedMixture(dist.Categorical(logits=logits), parts)
