"""What model and guide files are written with: priors, likelihoods, families of q(z|x), networks."""

from ppl_vae import distributions
from ppl_vae.blocks import families, inversion, likelihoods, networks, priors
from ppl_vae.blocks.conditions import as_features, concat
from ppl_vae.blocks.families import (
    MIN_SIGMA,
    DiagonalNormal,
    FullNormal,
    HouseholderNormal,
    InverseAutoregressiveFlow,
    LowRankNormal,
    MixtureNormal,
)
from ppl_vae.blocks.likelihoods.autoregressive import AutoregressiveBernoulli, autoregressive_network
from ppl_vae.blocks.likelihoods.table import MixedTable, TableFeatures
from ppl_vae.blocks.networks import AnyBatch, conv_decoder, conv_encoder, gated_mlp, mlp, residual_mlp
from ppl_vae.blocks.parts import Choice, Part
from ppl_vae.blocks.priors import GTM as GTMPrior
from ppl_vae.blocks.priors import DiagonalNormal as DiagonalNormalPrior
from ppl_vae.blocks.priors import Flow as FlowPrior
from ppl_vae.blocks.priors import GTMVamp as GTMVampPrior
from ppl_vae.blocks.priors import Mixture as MixturePrior
from ppl_vae.blocks.priors import Spherical as SphericalPrior
from ppl_vae.blocks.priors import StandardNormal as StandardNormalPrior
from ppl_vae.blocks.priors import Vamp as VampPrior
from ppl_vae.blocks.priors import Zuko as ZukoPrior
from ppl_vae.blocks.spaces import Features, space_of
from ppl_vae.blocks.standardized import Standardized
from ppl_vae.distributions.mixture import ReparameterizedMixture
from ppl_vae.distributions.relaxed import ExpRelaxedCategorical
from ppl_vae.distributions.sphere import PowerSpherical, SphericalUniform

__all__ = [
    "MIN_SIGMA",
    "AnyBatch",
    "AutoregressiveBernoulli",
    "Choice",
    "DiagonalNormal",
    "DiagonalNormalPrior",
    "ExpRelaxedCategorical",
    "Features",
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
    "Part",
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
    "families",
    "gated_mlp",
    "inversion",
    "likelihoods",
    "mlp",
    "networks",
    "priors",
    "residual_mlp",
    "space_of",
]
