"""`.npz` of a sparse matrix, which stays sparse in memory: rows become dense when they are asked for."""

from pathlib import Path

import numpy as np

from ppl_vae.core import memory
from ppl_vae.core.errors import InputError
from ppl_vae.data.readers.numpy_files import SPARSE
from ppl_vae.data.sparse import well_formed
from ppl_vae.data.streams.stores import Store


class Sparse(Store):
    """A matrix, as `scipy.sparse.save_npz` writes it: csr, or another kind, which is turned into csr."""

    name = ".npz"
    workers = 1

    def __init__(self, path: Path, where: str, key: str | None = None) -> None:
        from scipy import sparse

        if key is not None or not is_sparse(path):
            raise InputError(
                f"{where} is no sparse matrix of scipy, and other .npz files are not streamed: give a .npy"
            )
        memory.check_memory(2 * _size(path), f"{where} takes as a sparse matrix", "give it as .h5ad, or a part of it")
        self.matrix = well_formed(lambda: sparse.load_npz(path), where).tocsr()
        self.where, self.files = where, (path,)
        self.rows, self.shape = self.matrix.shape[0], self.matrix.shape[1:]
        self.dtype, self.edges = self.matrix.dtype, None
        self.columns = ()

    def read(self, start: int, stop: int) -> np.ndarray:
        dense: np.ndarray = self.matrix[start:stop].toarray()
        return dense


def is_sparse(path: Path) -> bool:
    """Is it what `scipy.sparse.save_npz` writes? Asked of its names alone."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()} >= SPARSE
    except (OSError, zipfile.BadZipFile):
        return False


def shape_of(path: Path) -> tuple[int, ...]:
    """Its shape, of which alone is read."""
    with np.load(path) as arrays:
        return tuple(arrays["shape"].tolist())


def _size(path: Path) -> int:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        return sum(each.file_size for each in archive.infolist())
