"""`.h5ad`: counts of cells, read from the file row by row; a sparse matrix is never dense as a whole."""

from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.data.annotated import LAYERS, X, kind_of_matrix, names_of
from ppl_vae.data.sparse import well_formed
from ppl_vae.data.streams.stores import Store


class H5ad(Store):
    """X, or by the key `layers/NAME` a layer, as csr or dense. One of csc can't be read by rows."""

    name = ".h5ad"
    workers = 1

    def __init__(self, path: Path, where: str, key: str | None = None) -> None:
        import h5py
        from scipy import sparse

        if key is not None and key != X and not key.startswith(LAYERS):
            raise InputError(f"{where}: {key} is not streamed: give {where}:{X} or {where}:{LAYERS}NAME")
        self.file = h5py.File(path, "r")  # as long as the store is there
        self.stored: Any = self.file.get(key or X)
        if self.stored is None:
            raise InputError(f"{where} has no {key or X}")
        self.kind = kind_of_matrix(self.stored, where)
        if self.kind == "csc":
            raise InputError(
                f"{where}: {self.stored.name} is stored by columns (csc), so that its rows can't be read one after "
                "another: write it as csr, in anndata by adata.X = adata.X.tocsr()"
            )
        self.where, self.files, self.edges = where, (path,), None
        self.sparse, self.dtype = sparse, np.dtype(np.float32)
        shape = self.stored.shape if self.kind == "dense" else _shape(self.stored)
        self.rows, self.shape = int(shape[0]), (int(shape[1]),)
        self.columns = names_of(self.file["var"])

    def matrix(self, start: int, stop: int) -> Any:
        """Rows, dense or sparse as they are stored."""
        if self.kind == "dense":
            return self.stored[start:stop]
        ends = self.stored["indptr"][start : stop + 1].astype(np.int64)
        data, indices = (self.stored[name][ends[0] : ends[-1]] for name in ("data", "indices"))
        parts, shape = (data, indices, ends - ends[0]), (stop - start, *self.shape)
        return well_formed(lambda: self.sparse.csr_matrix(parts, shape=shape), f"{self.where}: {self.stored.name}")

    def read(self, start: int, stop: int) -> np.ndarray:
        found = self.matrix(start, stop)
        dense: np.ndarray = found if self.kind == "dense" else found.toarray()
        return dense.astype(np.float32, copy=False)


def _shape(stored: Any) -> tuple[int, ...]:
    return tuple(stored.attrs.get("shape", stored.attrs.get("h5sparse_shape")))
