"""Every family of q(z|x), small. One line of FAMILIES adds a family to every test."""

from collections.abc import Callable

from torch import nn

from ppl_vae.blocks import (
    DiagonalNormal,
    FullNormal,
    HouseholderNormal,
    InverseAutoregressiveFlow,
    LowRankNormal,
    MixtureNormal,
)

FAMILIES: dict[str, Callable[[int], nn.Module]] = {
    "diagonal": DiagonalNormal,
    "full": FullNormal,
    "low rank": lambda dim: LowRankNormal(dim, rank=2),
    "Householder": lambda dim: HouseholderNormal(dim, reflections=3),
    "mixture": lambda dim: MixtureNormal(dim, components=3),
    "IAF": lambda dim: InverseAutoregressiveFlow(dim, steps=2, hidden=8, context=2),
}
