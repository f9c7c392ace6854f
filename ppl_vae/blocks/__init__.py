"""What model and guide files are written with."""

from ppl_vae.blocks.mixture import ReparameterizedMixture
from ppl_vae.blocks.networks import mlp
from ppl_vae.blocks.posteriors import (
    DiagonalNormal,
    FullNormal,
    HouseholderNormal,
    InverseAutoregressiveFlow,
    LowRankNormal,
    MixtureNormal,
)

__all__ = [
    "DiagonalNormal",
    "FullNormal",
    "HouseholderNormal",
    "InverseAutoregressiveFlow",
    "LowRankNormal",
    "MixtureNormal",
    "ReparameterizedMixture",
    "mlp",
]
