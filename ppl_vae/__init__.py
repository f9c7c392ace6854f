"""Variational autoencoders as Pyro programs, with numbers that can be trusted.

The verbs of the command line, and the pieces below. Names are imported when they are first used, so that `import
ppl_vae` is cheap.
"""

import importlib
from typing import Any

from ppl_vae import verbs

__version__ = "0.1.0"

PIECES = {
    "InputError": "core.errors",
    "NumericalError": "core.errors",
    "AnalyticKL_ELBO": "objectives",
    "Trace_ELBO": "objectives",
    "capture": "graphs.captured",
    "draw": "programs",
    "resolve": "programs",
    "simulate": "programs",
    "terms": "programs",
    "Run": "runs.run",
    "open_run": "runs.opening",
}
"""What is no verb, and the module that it is in."""

__all__ = sorted([*PIECES, *verbs.names()])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in PIECES:
        return getattr(importlib.import_module(f"ppl_vae.{PIECES[name]}"), name)
    if name in verbs.names():
        return verbs.get(name)
    raise AttributeError(f"module 'ppl_vae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *PIECES, *verbs.names()})
