"""What rows are read from, one kind a file: a class with `name = "…"`, found by that name.

The name is the suffix of a file, or `folder of …`. A store is made from a path, what a message calls it, and the key
behind the colon. It raises `InputError` for what the user can put right. A new kind is a new file here.
"""

from pathlib import Path
from typing import Protocol

import numpy as np

from ppl_vae.core.registry import Registry


class Store(Protocol):
    """Rows of one field, in one or several files, that are read some at a time."""

    name: str
    where: str
    """What messages call it."""
    rows: int
    shape: tuple[int, ...]
    """The shape of one row."""
    dtype: np.dtype
    columns: tuple[str, ...]
    """The names of the columns, if they have names."""
    edges: np.ndarray | None
    """Where the parts begin and end that can only be read whole, `(parts + 1,)`; None where any rows can be read."""
    files: tuple[Path, ...]
    """All that is read."""
    workers: int
    """How many threads are to read at once."""

    def __init__(self, path: Path, where: str, key: str | None = None) -> None: ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """The rows from `start` up to `stop`, `(stop - start, *shape)`. It may be called from another thread."""
        ...


STORES: Registry[type[Store]] = Registry("ppl_vae.data.streams.stores", "kind of data that is streamed")
