"""What model and guide files are written with."""

from ppl_vae.blocks.autoregressive import AutoregressiveBernoulli, autoregressive_network
from ppl_vae.blocks.conditions import as_features, concat
from ppl_vae.blocks.mixture import ReparameterizedMixture
from ppl_vae.blocks.networks import AnyBatch, conv_decoder, conv_encoder, gated_mlp, mlp, residual_mlp
from ppl_vae.blocks.posteriors import (
    DiagonalNormal,
    FullNormal,
    HouseholderNormal,
    InverseAutoregressiveFlow,
    LowRankNormal,
    MixtureNormal,
)
from ppl_vae.blocks.relaxed import ExpRelaxedCategorical
from ppl_vae.blocks.sphere import PowerSpherical, SphericalUniform

__all__ = [
    "AnyBatch",
    "AutoregressiveBernoulli",
    "DiagonalNormal",
    "ExpRelaxedCategorical",
    "FullNormal",
    "HouseholderNormal",
    "InverseAutoregressiveFlow",
    "LowRankNormal",
    "MixtureNormal",
    "PowerSpherical",
    "ReparameterizedMixture",
    "SphericalUniform",
    "as_features",
    "autoregressive_network",
    "concat",
    "conv_decoder",
    "conv_encoder",
    "gated_mlp",
    "mlp",
    "residual_mlp",
]
