"""Likelihoods p(x|z): what the numbers that a network puts out become. Each is a module of one shape.

A likelihood says how many numbers it asks for, `size`; called with them, `(..., size)`, it returns a distribution of
event shape `data_shape`. What all data share, such as σ, it owns:

    self.p_x = likelihoods.Gaussian(data_shape)
    self.decoder = mlp(latent_dim, hidden, self.p_x.size)
    ...
    return self.p_x(self.decoder(z))
"""

from ppl_vae.blocks.likelihoods.base import Likelihood
from ppl_vae.blocks.likelihoods.counts import Binomial, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from ppl_vae.blocks.likelihoods.discrete import Bernoulli, Beta, Categorical, ContinuousBernoulli, Ordinal
from ppl_vae.blocks.likelihoods.pixels import DiscretizedLogistic, DiscretizedLogisticMixture
from ppl_vae.blocks.likelihoods.real import Gaussian, Laplace, LogNormal, StudentT

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "LogNormal",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
]
