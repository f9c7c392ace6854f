"""What model and guide files are written with."""

from ppl_vae.blocks.networks import mlp

__all__ = ["mlp"]
