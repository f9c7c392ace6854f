"""`digits`: 1797 handwritten digits of 8 × 8 pixels."""

import functools

import numpy as np


class Digits:
    """Handwritten digits, 8 × 8 pixels from 0 to 16, as scikit-learn holds them.

    Source: Alpaydin & Kaynak 1998, UCI Machine Learning Repository.
    """

    name = "digits"
    largest = 16.0
    image = (8, 8)
    binarize = "none"

    @staticmethod
    @functools.cache
    def read() -> np.ndarray:
        return _loaded().data.astype(np.uint8)

    @staticmethod
    def labels() -> np.ndarray:
        return _loaded().target


def _loaded():  # type: ignore[no-untyped-def]
    from sklearn.datasets import load_digits

    return load_digits()
