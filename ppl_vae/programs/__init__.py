"""Programs: what a model and a guide are, how they are found, and the terms that one pass through them yields."""

from ppl_vae.programs.passes import draw, joint, score, simulate, terms
from ppl_vae.programs.program import Program, load_owned, owned, parameters
from ppl_vae.programs.resolution import Pair, resolve, resolve_pair
from ppl_vae.programs.scores import Terms

__all__ = [
    "Pair",
    "Program",
    "Terms",
    "draw",
    "joint",
    "load_owned",
    "owned",
    "parameters",
    "resolve",
    "resolve_pair",
    "score",
    "simulate",
    "terms",
]
