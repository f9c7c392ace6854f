"""The rows that an estimator is given, as data that `fit` takes: no rows are kept for a test."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data.arrays import Dataset
from ppl_vae.data.dataset import finite
from ppl_vae.data.randomness import generator
from ppl_vae.data.raw import as_raw


def rows_for_fit(
    X: np.ndarray, names: Sequence[str], validation_fraction: float | None, seed: int, *, missing: bool
) -> Dataset:
    """All rows of `X`, `(N, D)`: validation rows drawn by `seed`, and the others to train on, one of each at least.

    A data set has test rows too. A fit does not look at them, so that the validation rows stand there again.

    Args:
        names: of the columns; empty where they have none.
        validation_fraction: the part of the rows that chooses the best epoch; None lets the training rows do it.
        missing: are cells allowed to be NaN?

    Raises:
        InputError: a fraction that is not between 0 and 1, or a number that float32 does not hold.
    """
    x = finite(as_raw("X", X), torch.tensor(X, dtype=torch.get_default_dtype()), None, first=True, missing=missing)
    train, valid = _split(len(X), validation_fraction, seed)
    places = {"train": train, "valid": valid, "test": valid}
    digest = hashlib.sha256(f"rows of an estimator {X.shape} {validation_fraction} {seed}\n".encode())
    digest.update(x.numpy().tobytes())
    return Dataset(
        "X", ("x",), (x[train],), (x[valid],), (x[valid],), "none", seed, digest.hexdigest(), places,  # type: ignore[arg-type]
        {"x": tuple(names)} if len(names) else {},
    )  # fmt: skip


def _split(rows: int, fraction: float | None, seed: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(rows, generator=generator("split of an estimator", seed), device="cpu")
    if fraction is None:
        return order, order
    if not 0 < fraction < 1:
        raise InputError(f"validation_fraction is {fraction}: it must be between 0 and 1, or None to hold out no rows")
    held_out = min(max(round(rows * fraction), 1), rows - 1)
    return order[held_out:], order[:held_out]
