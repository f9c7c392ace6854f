"""Priors that are mixtures."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.blocks.families.base import MIN_SIGMA
from ppl_vae.blocks.networks import mlp
from ppl_vae.core.errors import at_least


class Mixture(nn.Module):
    """p(z) = Σ_c π_c N(z; μ_c, diag σ_c²): each component is a Normal over all of z, π, μ and σ learned.

    The means start as draws of N(0, I), so that components differ; σ_c = 1 and π_c = 1/C.
    """

    name = "mixture"

    def __init__(self, latent_dim: int, components: int = 10) -> None:
        super().__init__()
        at_least(1, components=components)
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(components, latent_dim))

    def forward(self) -> dist.Distribution:
        return mixture(self.logits, dist.Normal(self.loc, self.log_scale.exp()).to_event(1))


class GTM(nn.Module):
    """p(z) = Σ_c π_c N(z; μ(u_c), diag σ(u_c)²), u_c fixed points of a square grid, μ and σ from a small network.

    Bishop, Svensén & Williams (1998), the generative topographic mapping; as a prior: Tomczak (2022).

    Args:
        grid: points along a side; the mixture has grid² components.
    """

    name = "gtm"

    points: Tensor

    def __init__(self, latent_dim: int, grid: int = 10, hidden: int = 100) -> None:
        super().__init__()
        self.register_buffer("points", square(grid), persistent=False)
        self.logits = nn.Parameter(torch.zeros(grid**2))
        self.network = mlp(2, hidden, 2 * latent_dim)

    def forward(self) -> dist.Distribution:
        loc, raw = self.network(self.points).chunk(2, dim=-1)
        return mixture(self.logits, dist.Normal(loc, softplus(raw) + MIN_SIGMA).to_event(1))


def mixture(logits: Tensor, components: dist.Distribution) -> dist.Distribution:
    """Σ_c softmax(logits)_c p_c(z) of distributions of batch shape `(C,)`, each over the whole of z."""
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), components)


def square(grid: int) -> Tensor:
    """The points of a grid on [−1, 1]², `(grid², 2)`."""
    at_least(1, grid=grid)
    side = torch.linspace(-1, 1, grid)
    return torch.cartesian_prod(side, side)
