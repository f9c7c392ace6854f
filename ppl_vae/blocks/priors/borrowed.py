"""Priors that are mixtures of the guide's own posteriors."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.blocks.networks import mlp
from ppl_vae.blocks.priors.mixtures import mixture, square
from ppl_vae.blocks.spaces import space_of
from ppl_vae.core.errors import InputError, at_least


class Vamp(nn.Module):
    """p(z) = (1/C) Σ_c q(z|u_c), q the guide's own posterior, pseudo-inputs u_c learned. Tomczak & Welling (2018).

    The guide is borrowed: its tensors stay its own. Pseudo-inputs start as rows of `data`, with a little noise so that
    no two are the same, and are unconstrained, as in Tomczak's book (2022). The paper's code clips them to [0, 1], but
    a clip has no gradient at its ends, which is where all of a binary row would start. Of a table, missing cells stay
    missing, and codes get no gradient.

    Args:
        guide: has a method `posterior(x)`, `(C, *data_shape)` to a distribution of batch shape `(C,)`.
        data: rows, `(N, *data_shape)`.
    """

    name = "vamp"

    def __init__(self, guide: nn.Module, data: Tensor, components: int = 100) -> None:
        super().__init__()
        at_least(1, components=components)
        self.borrowed = (_with_posterior(guide),)  # in a tuple: a module stored as an attribute would be owned
        rows = data[torch.arange(components, device=data.device) % len(data)]
        self.pseudo_inputs = nn.Parameter(rows + 0.01 * torch.randn_like(rows))

    def forward(self) -> dist.Distribution:
        (guide,) = self.borrowed
        return mixture(self.pseudo_inputs.new_zeros(len(self.pseudo_inputs)), guide.posterior(self.pseudo_inputs))

    @property
    def space(self) -> str:
        """That of the guide, whose posteriors are the components."""
        return space_of(self.borrowed[0])


class GTMVamp(nn.Module):
    """p(z) = Σ_c π_c q(z|f(u_c)): a grid point u_c becomes a pseudo-input by a network f. Tomczak (2022).

    It has the parameters of one small network instead of C pseudo-inputs. f starts near the mean of `data`. The guide
    is borrowed, as in `Vamp`.
    """

    name = "gtm_vamp"

    points: Tensor

    def __init__(self, guide: nn.Module, data: Tensor, grid: int = 10, hidden: int = 100) -> None:
        super().__init__()
        self.borrowed = (_with_posterior(guide),)
        self.data_shape = tuple(data.shape[1:])
        self.register_buffer("points", square(grid).to(data), persistent=False)
        self.logits = nn.Parameter(data.new_zeros(grid**2))
        self.network = mlp(2, hidden, math.prod(self.data_shape)).to(data)
        last: Any = self.network[-1]
        last.bias.data.copy_(data.nanmean(0).nan_to_num().flatten())

    def forward(self) -> dist.Distribution:
        (guide,) = self.borrowed
        return mixture(self.logits, guide.posterior(self.network(self.points).unflatten(-1, self.data_shape)))

    @property
    def space(self) -> str:
        """That of the guide, whose posteriors are the components."""
        return space_of(self.borrowed[0])


def _with_posterior(guide: nn.Module) -> Any:
    if not callable(getattr(guide, "posterior", None)):
        raise InputError(
            f"{type(guide).__name__} has no method posterior(x), of which this prior is a mixture: "
            "give the guide one that returns q(z|x)"
        )
    return guide
