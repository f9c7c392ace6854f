"""A guide from a model: its latent sites, a family for each by its support, and what each has to see."""

from ppl_vae.blocks.inversion.reading import BySite, Encoder, Inputs, Known, draw, known, seen
from ppl_vae.blocks.inversion.structure import Latent, Order, Structure, inverse, structure
from ppl_vae.blocks.inversion.supports import family_for

__all__ = [
    "BySite",
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
    "seen",
    "structure",
]
