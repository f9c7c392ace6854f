"""How large an array is that a file claims to hold, told by its header, before any of it is read."""

import math
import zipfile
from typing import IO

import numpy as np

from ppl_vae.core import memory
from ppl_vae.core.errors import InputError


def check_npy(file: IO[bytes], path: str, size: int) -> None:
    """Of an npy file, or one in a zip, of `size` bytes: does it hold what its header says, and is there memory for it?

    `file` stands at the start, and is read as far as the header.

    Raises:
        InputError: a damaged file, or one too large.
        ValueError: what numpy says of a header that is none.
    """
    shape, _, dtype = _header(file)
    if dtype.hasobject:
        return  # of no fixed size; it is refused when it is read
    check_memory(path, math.prod(shape) * dtype.itemsize)
    _check_claim(shape, dtype, path, size - file.tell())


def npy_header(file: IO[bytes], path: str, size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran order, and dtype of an npy file of `size` bytes, which is read up to the numbers.

    Raises:
        InputError: a damaged file.
        ValueError: what numpy says of a header that is none.
    """
    shape, fortran, dtype = _header(file)
    if not dtype.hasobject:
        _check_claim(shape, dtype, path, size - file.tell())
    return shape, fortran, dtype


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def _check_claim(shape: tuple[int, ...], dtype: np.dtype, path: str, size: int) -> None:
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0:
        raise InputError(f"{path} is damaged: it says that it holds {shape} of {dtype}; write it anew")
    if claimed != size:
        other = "shorter" if claimed > size else "longer"
        raise InputError(f"{path} is damaged: it says that it holds {shape} of {dtype}, but is {other}; write it anew")


def check_npz(archive: zipfile.ZipFile, key: str, path: str) -> None:
    """As `check_npy`, of one array of an npz file."""
    name = key if key in archive.namelist() else f"{key}.npy"
    size = archive.getinfo(name).file_size
    check_memory(path, size)
    with archive.open(name) as member:
        check_npy(member, path, size)


def check_memory(path: str, size: int, holds: str = "says that it holds") -> None:
    """
    Raises:
        InputError: there is no memory for `size` bytes.
    """
    memory.check_memory(size, f"{path} {holds}", "give a part of it")
