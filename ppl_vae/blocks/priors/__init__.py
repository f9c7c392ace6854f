"""Priors p(z): each is a module that returns a Pyro distribution over one z when it is called without arguments.

A model keeps one as `self.p_z`, and p(z) is `self.p_z()`. A new prior is one class in a file of this folder, with a
line `name = "…"`, and `space = "…"` where z is no vector of real numbers.
"""

from typing import Any

from ppl_vae.blocks import parts
from ppl_vae.blocks.priors.borrowed import GTMVamp, Vamp
from ppl_vae.blocks.priors.discrete import Categorical, RelaxedCategorical
from ppl_vae.blocks.priors.flows import Flow, Zuko
from ppl_vae.blocks.priors.mixtures import GTM, Mixture
from ppl_vae.blocks.priors.normals import DiagonalNormal, StandardNormal
from ppl_vae.blocks.priors.sphere import Spherical


def build(prior: parts.Part, latent_dim: int, **given: Any) -> Any:
    """The prior that is chosen, over `latent_dim` numbers or classes. Raises as `parts.build`.

    Args:
        given: what a prior may ask for beside, by name: `data`, `guide`.
    """
    return parts.build("prior", prior, {"latent_dim": latent_dim, **given})


__all__ = [
    "GTM",
    "Categorical",
    "DiagonalNormal",
    "Flow",
    "GTMVamp",
    "Mixture",
    "RelaxedCategorical",
    "Spherical",
    "StandardNormal",
    "Vamp",
    "Zuko",
    "build",
]
