"""Distributions that torch and Pyro do not have, functions for wrapped distributions, and closed-form KLs."""

from ppl_vae.distributions.bounded import (
    Beta,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Grid,
    Mixture,
    OpenUnitInterval,
)
from ppl_vae.distributions.gammas import (
    Binomial,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroInflatedNegativeBinomial,
)
from ppl_vae.distributions.mixture import ReparameterizedMixture
from ppl_vae.distributions.normals import LowRank
from ppl_vae.distributions.relaxed import ExpRelaxedCategorical
from ppl_vae.distributions.shaped import SAME, Shaped
from ppl_vae.distributions.sphere import PowerSpherical, SphericalUniform

__all__ = [
    "SAME",
    "Beta",
    "Binomial",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "ExpRelaxedCategorical",
    "Grid",
    "LowRank",
    "Mixture",
    "NegativeBinomial",
    "OpenUnitInterval",
    "Poisson",
    "PowerSpherical",
    "ReparameterizedMixture",
    "Shaped",
    "SphericalUniform",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
]
