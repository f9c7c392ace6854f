"""Estimators of bounds on log p(x), one a file. `objectives.get(name)` finds one by its command-line name."""

from difflib import get_close_matches

from ppl_vae.errors import InputError
from ppl_vae.objectives.analytic_kl import AnalyticKL_ELBO
from ppl_vae.objectives.base import Estimate, Objective
from ppl_vae.objectives.trace import Trace_ELBO

OBJECTIVES: dict[str, type[Objective]] = {"trace": Trace_ELBO, "analytic-kl": AnalyticKL_ELBO}


def get(name: str) -> type[Objective]:
    """The objective of that name.

    Raises:
        InputError: there is none.
    """
    if name not in OBJECTIVES:
        close = get_close_matches(name, OBJECTIVES, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"no objective is called {name!r}: there are {', '.join(OBJECTIVES)}{hint}")
    return OBJECTIVES[name]


__all__ = ["OBJECTIVES", "AnalyticKL_ELBO", "Estimate", "Objective", "Trace_ELBO", "get"]
