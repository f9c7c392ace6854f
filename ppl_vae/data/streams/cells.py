"""Single-cell data as a stream: counts by row, their library sizes, and the batch of each cell."""

from pathlib import Path

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.data.cells import CellFields, annotated, batch_codes
from ppl_vae.data.source import Spec
from ppl_vae.data.streams.stores import Store
from ppl_vae.data.streams.stores.h5ad import H5ad


def stores_of(spec: Spec, cells: CellFields) -> dict[str, Store]:
    """The stores of the fields x, library and batch.

    Raises:
        InputError: other genes than the run's, an unknown batch.
    """
    path = Path(spec.path).expanduser()
    counts = H5ad(path, spec.path, spec.key or cells.key)
    if twice := len(counts.columns) - len(set(counts.columns)):
        raise InputError(f"{spec.path}: {twice} genes have the name of another one: .var_names_make_unique()")
    if counts.columns != cells.genes:
        raise InputError(f"{spec.path} has other genes than the run, or in another order: a stream needs the same")
    found: dict[str, Store] = {"x": counts, "library": Library(counts)}
    if cells.batch is not None:
        with annotated(spec.path) as (data, _):
            codes = batch_codes(data, cells)
        found["batch"] = Codes(path, spec.path, codes.astype(np.min_scalar_type(len(cells.labels))))
    return found


class Library(Store):
    """Σ_g x_g of each cell."""

    name, workers, columns, edges, shape = "library", 1, (), None, ()
    dtype = np.dtype(np.float32)

    def __init__(self, counts: H5ad) -> None:
        self.counts, self.where, self.rows, self.files = counts, counts.where, counts.rows, counts.files

    def read(self, start: int, stop: int) -> np.ndarray:
        sums: np.ndarray = np.asarray(self.counts.matrix(start, stop).sum(1, dtype=np.float64)).reshape(-1)
        if (sums == 0).any():
            row = start + int((sums == 0).argmax())
            raise InputError(f"{self.where}: row {row} has no count in any gene: leave out empty cells")
        return sums.astype(np.float32)


class Codes(Store):
    """The code of the batch of each cell, a byte or two in memory."""

    name, workers, columns, edges, shape = "batch", 1, (), None, ()

    def __init__(self, path: Path, where: str, codes: np.ndarray) -> None:
        self.where, self.files, self.codes = where, (path,), codes
        self.rows, self.dtype = len(codes), np.dtype(np.int64)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.codes[start:stop].astype(self.dtype)
