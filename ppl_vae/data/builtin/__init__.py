"""Built-in data sets, one a file: a class with `name = "…"`, found by that name. A new set is a new file here."""

from typing import Protocol

import numpy as np

from ppl_vae.core.registry import Registry


class BuiltIn(Protocol):
    """Pixels that come with an installed package."""

    name: str
    largest: float
    """The largest pixel; all are divided by it."""
    image: tuple[int, ...]
    """The shape of the picture that a row is."""
    binarize: str
    """How it is binarized where the user does not say."""

    @staticmethod
    def read() -> np.ndarray:
        """Unscaled pixels `(rows, pixels)`, whole numbers from 0 to `largest`."""
        ...

    @staticmethod
    def labels() -> np.ndarray:
        """The class of each row, `(rows,)`."""
        ...


BUILTIN: Registry[type[BuiltIn]] = Registry("ppl_vae.data.builtin", "data set")
