"""Families of q(z|x): each turns the raw output of an encoder, `(..., width)`, into a distribution over z.

A family is a module with a `width`, the number of outputs that it asks of the encoder:

    self.family = families.FullNormal(latent_dim)
    self.encoder = mlp(prod(data_shape), hidden, self.family.width)
    ...
    return self.family(self.encoder(x))

Every draw but that of a class is reparameterized, and the density at any value is exact and differentiable, be the
value a fresh draw of the same object or not. A new family is one class in a file of this folder, with a line
`name = "…"`, and `space = "…"` where z is no vector of real numbers.
"""

from typing import Any

from ppl_vae.blocks import parts
from ppl_vae.blocks.families.base import MIN_SIGMA
from ppl_vae.blocks.families.committed import BatchNormNormal, DeltaNormal
from ppl_vae.blocks.families.discrete import Categorical, RelaxedCategorical
from ppl_vae.blocks.families.flows import InverseAutoregressiveFlow
from ppl_vae.blocks.families.normals import (
    DiagonalNormal,
    FullNormal,
    HouseholderNormal,
    LowRankNormal,
    MixtureNormal,
)
from ppl_vae.blocks.families.sphere import PowerSpherical


def build(family: parts.Part, dim: int, **given: Any) -> Any:
    """The family that is chosen, for a z of `dim` numbers or classes. Raises as `parts.build`."""
    return parts.build("family", family, {"dim": dim, **given})


__all__ = [
    "MIN_SIGMA",
    "BatchNormNormal",
    "Categorical",
    "DeltaNormal",
    "DiagonalNormal",
    "FullNormal",
    "HouseholderNormal",
    "InverseAutoregressiveFlow",
    "LowRankNormal",
    "MixtureNormal",
    "PowerSpherical",
    "RelaxedCategorical",
    "build",
]
