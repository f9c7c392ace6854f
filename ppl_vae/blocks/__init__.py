"""What model and guide files are written with."""

from ppl_vae.blocks import likelihoods
from ppl_vae.blocks.flows import FlowPrior, ZukoPrior
from ppl_vae.blocks.networks import mlp
from ppl_vae.blocks.priors import (
    DiagonalNormal,
    GTMPrior,
    GTMVampPrior,
    MixturePrior,
    SphereUniform,
    StandardNormal,
    VampPrior,
)
from ppl_vae.blocks.table import MixedTable, TableFeatures

__all__ = [
    "DiagonalNormal",
    "FlowPrior",
    "GTMPrior",
    "GTMVampPrior",
    "MixedTable",
    "MixturePrior",
    "SphereUniform",
    "StandardNormal",
    "TableFeatures",
    "VampPrior",
    "ZukoPrior",
    "likelihoods",
    "mlp",
]
