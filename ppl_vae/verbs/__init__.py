"""What a user asks for, one verb a file: `NAME.py` holds a function NAME, whose signature is the verb's options.

The command line, `import ppl_vae` and `--help` are derived from the files, so that a new verb is a new file.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def names() -> tuple[str, ...]:
    """The verbs, in the order of the alphabet. Nothing is imported."""
    return tuple(sorted(file.stem for folder in __path__ for file in Path(folder).glob("[!_]*.py")))


def get(name: str) -> Callable[..., Any]:
    """The function of a verb."""
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)
