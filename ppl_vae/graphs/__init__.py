"""Graphs: a training step's pass as one graph of tensor operations, compiled, with no Pyro left in it."""

from ppl_vae.graphs.captured import Captured, Seen, capture
from ppl_vae.graphs.compiled import NotCompiled
from ppl_vae.graphs.graph import NotCaptured

__all__ = ["Captured", "NotCaptured", "NotCompiled", "Seen", "capture"]
