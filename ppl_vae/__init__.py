"""Variational autoencoders as Pyro programs, with numbers that can be trusted.

Names are imported when they are first used, so that `import ppl_vae` is cheap.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppl_vae.core.errors import InputError as InputError
    from ppl_vae.core.errors import NumericalError as NumericalError
    from ppl_vae.objectives import AnalyticKL_ELBO as AnalyticKL_ELBO
    from ppl_vae.objectives import Trace_ELBO as Trace_ELBO
    from ppl_vae.programs import draw as draw
    from ppl_vae.programs import resolve as resolve
    from ppl_vae.programs import score as score
    from ppl_vae.programs import simulate as simulate
    from ppl_vae.programs import terms as terms
    from ppl_vae.runs.run import Run as Run
    from ppl_vae.verbs.functions import check as check
    from ppl_vae.verbs.functions import compare as compare
    from ppl_vae.verbs.functions import encode as encode
    from ppl_vae.verbs.functions import export as export
    from ppl_vae.verbs.functions import fit as fit
    from ppl_vae.verbs.functions import new as new
    from ppl_vae.verbs.functions import open_run as open_run
    from ppl_vae.verbs.functions import reconstruct as reconstruct
    from ppl_vae.verbs.functions import sample as sample
    from ppl_vae.verbs.showcase import demo as demo

__version__ = "0.1.0"

_HOME = {
    "ppl_vae.verbs.functions": "check compare encode export fit new open_run reconstruct sample",
    "ppl_vae.verbs.showcase": "demo",
    "ppl_vae.core.errors": "InputError NumericalError",
    "ppl_vae.objectives": "AnalyticKL_ELBO Trace_ELBO",
    "ppl_vae.programs": "draw resolve score simulate terms",
    "ppl_vae.runs.run": "Run",
}
_WHERE = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = sorted(_WHERE)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'ppl_vae' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
