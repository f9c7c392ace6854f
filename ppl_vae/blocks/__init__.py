"""What model and guide files are written with: networks, priors, likelihoods, families of q(z|x)."""

from ppl_vae import distributions
from ppl_vae.blocks import likelihoods
from ppl_vae.blocks.autoregressive import AutoregressiveBernoulli, autoregressive_network
from ppl_vae.blocks.conditions import as_features, concat
from ppl_vae.blocks.flows import FlowPrior, ZukoPrior
from ppl_vae.blocks.networks import AnyBatch, conv_decoder, conv_encoder, gated_mlp, mlp, residual_mlp
from ppl_vae.blocks.posteriors import (
    MIN_SIGMA,
    DiagonalNormal,
    FullNormal,
    HouseholderNormal,
    InverseAutoregressiveFlow,
    LowRankNormal,
    MixtureNormal,
)
from ppl_vae.blocks.priors import (
    DiagonalNormalPrior,
    GTMPrior,
    GTMVampPrior,
    MixturePrior,
    SphericalPrior,
    StandardNormalPrior,
    VampPrior,
)
from ppl_vae.blocks.standardized import Standardized
from ppl_vae.blocks.table import MixedTable, TableFeatures
from ppl_vae.distributions.mixture import ReparameterizedMixture
from ppl_vae.distributions.relaxed import ExpRelaxedCategorical
from ppl_vae.distributions.sphere import PowerSpherical, SphericalUniform

__all__ = [
    "MIN_SIGMA",
    "AnyBatch",
    "AutoregressiveBernoulli",
    "DiagonalNormal",
    "DiagonalNormalPrior",
    "ExpRelaxedCategorical",
    "FlowPrior",
    "FullNormal",
    "GTMPrior",
    "GTMVampPrior",
    "HouseholderNormal",
    "InverseAutoregressiveFlow",
    "LowRankNormal",
    "MixedTable",
    "MixtureNormal",
    "MixturePrior",
    "PowerSpherical",
    "ReparameterizedMixture",
    "SphericalPrior",
    "SphericalUniform",
    "StandardNormalPrior",
    "Standardized",
    "TableFeatures",
    "VampPrior",
    "ZukoPrior",
    "as_features",
    "autoregressive_network",
    "concat",
    "conv_decoder",
    "conv_encoder",
    "distributions",
    "gated_mlp",
    "likelihoods",
    "mlp",
    "residual_mlp",
]
