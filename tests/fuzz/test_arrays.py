"""Arrays of every dtype, shape and value, and bytes that are none, as rows for a run on 16 columns of 0 and 1."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from support.fuzzing import called, damages, few_or, for_all
from support.runs import D

DTYPES = [
    "f4", "f8", "f2", "g", ">f4", ">f8", "i1", "i2", "i4", "i8", ">i4", "u1", "u2", "u4", "u8", "?",
    "c8", "S3", "U3", "M8[s]", "m8[s]", "O", "i4,f4", "V4",
]  # fmt: skip
NUMBERS = [0, 1, 0, 1, 0, 1, 0.5, -1, 2, np.nan, np.inf, -np.inf, 1e300, 2**53, 1e-300, -0.0]


def valid(x: np.ndarray) -> bool:
    """Rows that the run takes: numbers, 16 to a row, each 0 or 1."""
    if x.dtype.kind not in "biuf" or x.ndim != 2 or x.shape[1] != D or not len(x):
        return False
    with np.errstate(all="ignore"):
        x = x.astype("f4")  # as the run reads them: 1e-300 is 0 there
    return bool(((x == 0) | (x == 1)).all())


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    shape = draw(
        st.one_of(
            st.tuples(st.integers(0, 5), st.just(D)),
            st.tuples(st.integers(0, 5), st.integers(0, 20)),
            st.lists(st.integers(0, 4), max_size=4).map(tuple),
        )
    )
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    values = np.array(draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=6)))
    sound = draw(st.booleans())
    x = np.resize(np.array([0.0, 1.0]) if sound else values, shape)
    with np.errstate(all="ignore"):
        try:
            return np.asarray(x.astype(dtype), order=draw(st.sampled_from("CF")))
        except (TypeError, ValueError):
            return np.zeros(shape, dtype)


def encode(place: Path, file: Path, key: str = "") -> int:
    out = place / "codes.npz"
    args = ["encode", place / "run", "--data", f"{file}{key}", "--out", out, "--compile", "off"]
    return called(*args, names=(file.name, "of the data")).code


@few_or(1800, few=60)
def test_arrays_of_every_kind(place: Path, count: int) -> None:
    def holds(case: tuple[np.ndarray, str]) -> None:
        x, ending = case
        file = place / f"array.{ending}"
        if ending == "npy":
            np.save(file, x, allow_pickle=True)
        else:
            np.savez(file, x=x, allow_pickle=True)
        assert (encode(place, file, "" if ending == "npy" else ":x") == 0) == valid(x), x

    for_all(st.tuples(arrays(), st.sampled_from(["npy", "npz"])), holds, count)


def content(kind: str) -> bytes:
    rows = (np.arange(5 * D).reshape(5, D) % 3 == 0).astype("f4")
    buffer = io.BytesIO()
    {"npy": np.save, "npz": np.savez, "deflated": np.savez_compressed}[kind](buffer, rows)
    return buffer.getvalue()


def read_by_numpy(file: Path) -> Any:
    """What numpy makes of a file of one array that holds nothing else; None where it refuses."""
    try:
        with file.open("rb") as opened:
            x = np.load(opened, allow_pickle=False)
            if isinstance(x, np.ndarray):
                return x if not opened.read(1) else None
            with x:
                (only,) = (x[name] for name in x)
                return only
    except Exception:
        return None


@few_or(1500, few=60)
def test_bytes_that_are_damaged(place: Path, count: int) -> None:
    def holds(case: tuple[str, bytes]) -> None:
        kind, damaged = case
        file = place / f"damaged.{kind if kind == 'npy' else 'npz'}"
        file.write_bytes(damaged)
        if encode(place, file) == 0:
            x = read_by_numpy(file)
            assert x is not None
            assert valid(x)

    kinds = st.sampled_from(["npy", "npz", "deflated"])
    cases = kinds.flatmap(lambda kind: st.tuples(st.just(kind), st.one_of(damages(content(kind)), st.binary())))
    for_all(cases, holds, count)


@few_or(200, few=10)
def test_headers_that_claim_anything(place: Path, count: int) -> None:
    """Shapes of terabytes, negative ones, and members of a zip that say another size than they have."""

    def holds(case: tuple[list[int], str, bool]) -> None:
        shape, dtype, zipped = case
        header = str({"descr": dtype, "fortran_order": False, "shape": tuple(shape)}).encode()
        header += b" " * (-(len(header) + 11) % 64) + b"\n"
        told = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
        file = place / f"claims.{'npz' if zipped else 'npy'}"
        if zipped:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("x.npy", told)
        else:
            file.write_bytes(told)
        sound = len(shape) == 2 and shape[1] == D and shape[0] > 0 and np.dtype(dtype).kind in "fi"
        fits = sound and shape[0] * D * np.dtype(dtype).itemsize == 64
        assert (encode(place, file) == 0) == fits

    sizes = st.one_of(st.integers(-(2**65), 2**65), st.sampled_from([1, 2, 16, 10**12]))
    shapes = st.one_of(st.lists(sizes, max_size=4), st.tuples(st.integers(-1, 5), st.just(D)).map(list))
    for_all(st.tuples(shapes, st.sampled_from(["<f4", "<i2", "|O", "<U9", "<f8"]), st.booleans()), holds, count)
