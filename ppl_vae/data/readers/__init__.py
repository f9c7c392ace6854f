"""Kinds of files, one a file: a class with `name = ".suffix"`, found by that suffix. A new kind is a new file here.

A reader is a class with one method, `read(file, path, key) -> (values, columns)`: the array `(rows, *shape)` that the
file holds under `key` (for a table, the columns of that list), and the names of its columns, if it has names. `file` is
open for reading bytes. It raises `InputError` for what the user can put right; any other exception means that the file
can't be read.
"""

from typing import IO, Protocol

import numpy as np

from ppl_vae.core.registry import Registry


class Reader(Protocol):
    """How one kind of file is read."""

    name: str

    @staticmethod
    def read(file: IO[bytes], path: str, key: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
        """Values and names of columns."""
        ...


READERS: Registry[type[Reader]] = Registry("ppl_vae.data.readers", "kind of file")
