"""Likelihoods p(x|z): what the numbers that a network puts out become. Each is a module of one shape.

A likelihood says how many numbers it asks for, `size`; called with them, `(..., size)`, it returns a distribution of
event shape `data_shape`. What all data share, such as σ, it owns:

    self.p_x = likelihoods.Gaussian(data_shape)
    self.decoder = mlp(latent_dim, hidden, self.p_x.size)
    ...
    return self.p_x(self.decoder(z))

A new likelihood is one class in a file of this folder, with a line `name = "…"`.
"""

from typing import Any

from ppl_vae.blocks import parts
from ppl_vae.blocks.likelihoods.autoregressive import Autoregressive
from ppl_vae.blocks.likelihoods.base import Likelihood
from ppl_vae.blocks.likelihoods.counts import Binomial, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from ppl_vae.blocks.likelihoods.discrete import Bernoulli, Beta, Categorical, ContinuousBernoulli, Ordinal
from ppl_vae.blocks.likelihoods.pixels import DiscretizedLogistic, DiscretizedLogisticMixture
from ppl_vae.blocks.likelihoods.real import Gaussian, Laplace, LogNormal, StudentT
from ppl_vae.blocks.likelihoods.shaped import Shaped
from ppl_vae.blocks.likelihoods.table import MixedTable


def build(likelihood: parts.Part, data_shape: tuple[int, ...], **given: Any) -> Any:
    """The likelihood that is chosen, of data of a shape. Raises as `parts.build`.

    Args:
        given: what a likelihood may ask for beside, by name: `data`.
    """
    return parts.build("likelihood", likelihood, {"data_shape": data_shape, **given})


__all__ = [
    "Autoregressive",
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
    "MixedTable",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "Shaped",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
    "build",
]
