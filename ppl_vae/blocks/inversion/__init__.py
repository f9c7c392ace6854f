"""A guide from a model: its latent sites, a family for each by its support, and what each has to see."""

from ppl_vae.blocks.inversion.reading import Encoder, Inputs, Known, draw, known
from ppl_vae.blocks.inversion.structure import Latent, Order, Structure, inverse, structure
from ppl_vae.blocks.inversion.supports import family_for

__all__ = [
    "Encoder",
    "Inputs",
    "Known",
    "Latent",
    "Order",
    "Structure",
    "draw",
    "family_for",
    "inverse",
    "known",
    "structure",
]
