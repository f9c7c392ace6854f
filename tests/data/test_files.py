"""Files: what a user names, what it holds, and every way in which it can be broken, with the place in the message."""

import contextlib
import io
import os
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.rows import fails, grid, original, rows_of

from ppl_vae.core import memory
from ppl_vae.core.errors import InputError
from ppl_vae.data.dataset import open_data
from ppl_vae.data.source import absolute

pytestmark = pytest.mark.usefixtures("untouched")


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
    for source in ("a\0b.npy", "q" * 5000):
        fails(source, "no such file")
    for source in ("", "x=", ":"):
        fails(source, "names no data: give a built-in set, a file or a folder")
    fails("\ud800.npy", "no such file")


def test_wrong_kinds_of_files(here: Path) -> None:
    Path("folder.npy").mkdir()
    Path("a.txt").write_text("1")
    os.mkfifo("pipe.npy")
    fails("folder.npy", "folder.npy is a folder without .parquet files and without pictures")
    fails("pipe.npy", "pipe.npy is not a regular file")
    fails("a.txt", "a.txt: unknown kind of file '.txt'", ".csv, .h5ad, .npy, .npz, .parquet")


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
    monkeypatch.setattr(memory, "available_memory", lambda: 500_000)
    fails(path, f"{path} says that it holds 0.640 MB, and this machine has 0.500 MB of memory available")


def test_the_copies_of_a_split_have_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.zeros((1000, 10), "float32")
    monkeypatch.setattr(memory, "available_memory", lambda: 100_000)
    open_data(x)
    fails(x, "is copied where it is split, which takes 0.120 MB, and this machine has 0.100 MB", binarize="once")


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
    Path("twice.csv").write_text("a,b,a\n" + "1,2,3\n" * 9)
    Path("wide.csv").write_text("a,b\n1,2,3\n4,5,6\n7,8,9\n")
    Path("short.csv").write_text("a,b\n1,2\n3\n4,5\n")
    pd.DataFrame(grid(), columns=["a", "b", "c"]).to_csv("index.csv")
    fails("empty.csv", "empty.csv is empty")
    fails("header.csv", "header.csv has no rows")
    fails("ragged.csv", "ragged.csv: cannot be read as .csv", "line 2")
    fails("wide.csv", "wide.csv: row 0 has 3 cells, but there are 2 column names")
    twice = "twice.csv has two columns that are called 'a': give each its own name"
    fails("twice.csv", twice)
    fails("twice.csv:b,a", twice)
    assert open_data("twice.csv:b").data_shape == (1,)
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
