"""`.npy`, one array, and `.npz`, several by name. Which of the two a file is, its first bytes say."""

import math
import os
import zipfile
import zlib
from typing import IO, Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.data import sizes
from ppl_vae.data.sparse import well_formed
from ppl_vae.data.table import listing

_NUMPY = b"\x93NUMPY"
SPARSE = {"data", "format", "shape"}
"""Of the arrays of an .npz that `scipy.sparse.save_npz` wrote, those that every kind of matrix has."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # how a zip begins, and an empty one


class Npy:
    """An array, as `numpy.save` writes it."""

    name = ".npy"

    @staticmethod
    def read(file: IO[bytes], path: str, key: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
        magic = file.read(6)
        file.seek(0)
        if magic[:1] == b"\x80":
            raise InputError(_pickled(path))
        if magic != _NUMPY and not (magic[:4] in _ZIP and zipfile.is_zipfile(file)):
            raise InputError(f"{path}: cannot be read: it is damaged, or no array of numpy; write it anew")
        file.seek(0)
        try:
            return _array(file, path, key) if magic == _NUMPY else _member(file, path, key), ()
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise InputError(_pickled(path)) from error
        except (EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path} is damaged ({error}): write it anew") from error


class Npz(Npy):
    """Arrays by name, as `numpy.savez` writes them."""

    name = ".npz"


def _array(file: IO[bytes], path: str, key: str | None) -> np.ndarray:
    if key is not None:
        raise InputError(f"{path} holds one array without a name: leave out :{key}")
    sizes.check_npy(file, path, os.fstat(file.fileno()).st_size)
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _member(file: IO[bytes], path: str, key: str | None) -> np.ndarray:
    loaded = np.load(file, allow_pickle=False)
    keys = list(loaded)
    if key is None and set(keys) >= SPARSE:
        return _dense(file, path, loaded)
    key = keys[0] if key is None and len(keys) == 1 else key
    if key not in keys:
        what = f"{len(keys)} arrays" if key is None else f"no array {key!r}"
        raise InputError(f"{path} has {what}; choose one, {path}:KEY, of {listing(keys)}")
    sizes.check_npz(loaded.zip, str(key), path)
    return np.asarray(loaded[key])


def _dense(file: IO[bytes], path: str, loaded: Any) -> np.ndarray:
    """A matrix that scipy wrote. The dense one must fit into memory; what does not is a stream."""
    from scipy import sparse

    for name in loaded:
        sizes.check_npz(loaded.zip, name, path)
    sizes.check_memory(path, math.prod(loaded["shape"].tolist()) * loaded["data"].dtype.itemsize, "takes when dense")
    file.seek(0)
    dense: np.ndarray = well_formed(lambda: sparse.load_npz(file), path).toarray()
    return dense


def _pickled(path: str) -> str:
    return f"{path} holds Python objects (a pickle); save it as numbers: np.save(..., array.astype('float32'))"
