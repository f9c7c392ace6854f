"""Priors p(z). Each is a module; calling it returns a Pyro distribution over one z, of event shape `(latent_dim,)`.

A model keeps one as `self.p_z` and its `prior` returns `self.p_z()`. Flows are in `flows.py`.
"""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.blocks.networks import mlp
from ppl_vae.blocks.posteriors import MIN_SIGMA
from ppl_vae.core.errors import InputError, at_least
from ppl_vae.distributions.sphere import SphericalUniform


class StandardNormalPrior(nn.Module):
    """p(z) = N(z; 0, I). Kingma & Welling (2014)."""

    zero: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent_dim), persistent=False)

    def forward(self) -> dist.Distribution:
        return dist.Normal(self.zero, 1.0).to_event(1)


class DiagonalNormalPrior(nn.Module):
    """p(z) = N(z; μ, diag σ²), μ and σ learned; it starts as N(0, I)."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(latent_dim)), nn.Parameter(torch.zeros(latent_dim))

    def forward(self) -> dist.Distribution:
        return dist.Normal(self.loc, self.log_scale.exp()).to_event(1)


class MixturePrior(nn.Module):
    """p(z) = Σ_c π_c N(z; μ_c, diag σ_c²): each component is a Normal over all of z, π, μ and σ learned.

    The means start as draws of N(0, I), so that components differ; σ_c = 1 and π_c = 1/C.
    """

    def __init__(self, latent_dim: int, components: int = 10) -> None:
        super().__init__()
        at_least(1, components=components)
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(components, latent_dim))

    def forward(self) -> dist.Distribution:
        return mixture(self.logits, dist.Normal(self.loc, self.log_scale.exp()).to_event(1))


class VampPrior(nn.Module):
    """p(z) = (1/C) Σ_c q(z|u_c), q the guide's own posterior, pseudo-inputs u_c learned. Tomczak & Welling (2018).

    The guide is borrowed: its tensors stay its own. Pseudo-inputs start as rows of `data`, with a little noise so that
    no two are the same, and are unconstrained, as in Tomczak's book (2022). The paper's code clips them to [0, 1], but
    a clip has no gradient at its ends, which is where all of a binary row would start. Of a table, missing cells stay
    missing, and codes get no gradient.

    Args:
        guide: has a method `posterior(x)`, `(C, *data_shape)` to a distribution of batch shape `(C,)`.
        data: rows, `(N, *data_shape)`.
    """

    def __init__(self, guide: nn.Module, data: Tensor, components: int = 100) -> None:
        super().__init__()
        at_least(1, components=components)
        self.borrowed = (_with_posterior(guide),)  # in a tuple: a module stored as an attribute would be owned
        rows = data[torch.arange(components, device=data.device) % len(data)]
        self.pseudo_inputs = nn.Parameter(rows + 0.01 * torch.randn_like(rows))

    def forward(self) -> dist.Distribution:
        (guide,) = self.borrowed
        return mixture(self.pseudo_inputs.new_zeros(len(self.pseudo_inputs)), guide.posterior(self.pseudo_inputs))


class GTMPrior(nn.Module):
    """p(z) = Σ_c π_c N(z; μ(u_c), diag σ(u_c)²), u_c fixed points of a square grid, μ and σ from a small network.

    Bishop, Svensén & Williams (1998), the generative topographic mapping; as a prior: Tomczak (2022).

    Args:
        grid: points along a side; the mixture has grid² components.
    """

    points: Tensor

    def __init__(self, latent_dim: int, grid: int = 10, hidden: int = 100) -> None:
        super().__init__()
        self.register_buffer("points", _square(grid), persistent=False)
        self.logits = nn.Parameter(torch.zeros(grid**2))
        self.network = mlp(2, hidden, 2 * latent_dim)

    def forward(self) -> dist.Distribution:
        loc, raw = self.network(self.points).chunk(2, dim=-1)
        return mixture(self.logits, dist.Normal(loc, softplus(raw) + MIN_SIGMA).to_event(1))


class GTMVampPrior(nn.Module):
    """p(z) = Σ_c π_c q(z|f(u_c)): a grid point u_c becomes a pseudo-input by a network f. Tomczak (2022).

    It has the parameters of one small network instead of C pseudo-inputs. f starts near the mean of `data`. The guide
    is borrowed, as in `VampPrior`.
    """

    points: Tensor

    def __init__(self, guide: nn.Module, data: Tensor, grid: int = 10, hidden: int = 100) -> None:
        super().__init__()
        self.borrowed = (_with_posterior(guide),)
        self.data_shape = tuple(data.shape[1:])
        self.register_buffer("points", _square(grid).to(data), persistent=False)
        self.logits = nn.Parameter(data.new_zeros(grid**2))
        self.network = mlp(2, hidden, math.prod(self.data_shape)).to(data)
        last: Any = self.network[-1]
        last.bias.data.copy_(data.nanmean(0).nan_to_num().flatten())

    def forward(self) -> dist.Distribution:
        (guide,) = self.borrowed
        return mixture(self.logits, guide.posterior(self.network(self.points).unflatten(-1, self.data_shape)))


class SphericalPrior(nn.Module):
    """p(z) = Γ(d/2) / (2 π^{d/2}) on the unit sphere ‖z‖ = 1 in R^d, d = `latent_dim`. Davidson et al. (2018)."""

    zero: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent_dim), persistent=False)

    def forward(self) -> dist.Distribution:
        return SphericalUniform(self.zero)


def mixture(logits: Tensor, components: dist.Distribution) -> dist.Distribution:
    """Σ_c softmax(logits)_c p_c(z) of distributions of batch shape `(C,)`, each over the whole of z."""
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), components)


def _square(grid: int) -> Tensor:
    """The points of a grid on [−1, 1]², `(grid², 2)`."""
    at_least(1, grid=grid)
    side = torch.linspace(-1, 1, grid)
    return torch.cartesian_prod(side, side)


def _with_posterior(guide: nn.Module) -> Any:
    if not callable(getattr(guide, "posterior", None)):
        raise InputError(
            f"{type(guide).__name__} has no method posterior(x), of which this prior is a mixture: "
            "give the guide one that returns q(z|x)"
        )
    return guide
