"""Objectives: estimators of bounds on log p(x). An objective is one class in one file of this folder.

`OBJECTIVES` finds it by the `name` in its body. A class is imported when it is first used, so that a list of the names
needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ppl_vae.core.registry import Registry

if TYPE_CHECKING:
    from ppl_vae.objectives.base import Objective as Objective
    from ppl_vae.objectives.base import Pass as Pass
    from ppl_vae.objectives.naming import Named as Named
    from ppl_vae.objectives.naming import named as named

OBJECTIVES: Registry[type["Objective"]] = Registry("ppl_vae.objectives", "objective", "file.py:Class")

_MODULES = {entry.attribute: entry.module for entry in OBJECTIVES.entries.values()} | {
    "Objective": "ppl_vae.objectives.base",
    "Pass": "ppl_vae.objectives.base",
    "Named": "ppl_vae.objectives.naming",
    "named": "ppl_vae.objectives.naming",
}

__all__ = sorted(["OBJECTIVES", "get", *_MODULES])  # noqa: PLE0605


def get(name: str) -> type["Objective"]:
    """The objective of that name.

    Raises:
        InputError: there is none.
    """
    return OBJECTIVES[name]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'ppl_vae.objectives' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
