"""Single-cell data as they lie in an .h5ad file or an AnnData: matrices of cells and genes, and columns of the cells.

A file is read and written by h5py in the format that anndata documents ("on-disk format"), so that anndata need not be
installed: on Python 3.11 it asks for pandas below 3.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from scipy import sparse

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import write_bytes
from ppl_vae.core.registry import did_you_mean
from ppl_vae.data import sizes
from ppl_vae.data.sparse import well_formed
from ppl_vae.data.table import listing

X, LAYERS, OBS = "X", "layers/", "obs/"
SUFFIX = ".h5ad"


@dataclass(frozen=True)
class Annotated:
    """N cells and their G genes.

    Args:
        where: what an error calls it.
        cells, genes: their names.
        layers, columns: the names of the layers, and of the columns of `obs`.
        matrix: X, or the layer of a name, `(N, G)`, dense or sparse.
        column: one column of `obs`, `(N,)`; None where a cell is missing.
    """

    where: str
    cells: Sequence[str]
    genes: tuple[str, ...]
    layers: tuple[str, ...]
    columns: tuple[str, ...]
    matrix: Callable[[str], Any]
    column: Callable[[str], np.ndarray]

    def values(self, key: str = X, genes: Sequence[str] | None = None) -> np.ndarray:
        """A dense matrix, `(N, G)` float32.

        Args:
            key: `X` or `layers/NAME`.
            genes: these, in this order, by their names; others are left out.

        Raises:
            InputError: no such layer or gene, two genes of one name, or more than there is memory for.
        """
        if key != X and key.removeprefix(LAYERS) not in self.layers:
            raise InputError(f"{self.where} has no layer {key.removeprefix(LAYERS)!r}; {self.told_layers}")
        if twice := len(self.genes) - len(set(self.genes)):
            raise InputError(f"{self.where}: {twice} genes have the name of another one: .var_names_make_unique()")
        order = self._order(genes)
        sizes.check_memory(self.where, 4 * len(self.cells) * len(genes or self.genes), "takes as a dense matrix")
        found = self.matrix(key)
        if found is None:
            raise InputError(f"{self.where} has no X; {self.told_layers}")
        found = found if order is None else found[:, order]
        dense = found.toarray() if sparse.issparse(found) else np.asarray(found)
        return dense.astype(np.float32, copy=False)

    def named(self, column: str) -> np.ndarray:
        """A column of `obs`. Raises `InputError` where there is none of that name."""
        if column not in self.columns:
            hint = did_you_mean(column, self.columns)
            known = f"its columns are {listing(self.columns)}" if self.columns else "it has no columns"
            raise InputError(f"{self.where} has no column {column!r} in obs{hint}; {known}")
        return self.column(column)

    def cell(self, row: int) -> str:
        return f"row {row} ({self.cells[row]!r})"

    @property
    def told_layers(self) -> str:
        return f"its layers are {listing(self.layers)}" if self.layers else "it has no layers"

    def _order(self, genes: Sequence[str] | None) -> list[int] | None:
        if genes is None or tuple(genes) == self.genes:
            return None
        places = {gene: i for i, gene in enumerate(self.genes)}
        missing = [gene for gene in genes if gene not in places]
        if missing:
            more = f" (and {len(missing) - 1} more of the run's {len(genes)})" if len(missing) > 1 else ""
            raise InputError(
                f"{self.where} has no gene {missing[0]!r}{more}: the run needs all genes that it was fitted to"
            )
        return [places[gene] for gene in genes]


def is_annotated(source: Any) -> bool:
    """Is it an AnnData? It is told by what it has, so that anndata is not imported."""
    return all(hasattr(source, name) for name in ("X", "layers", "obs", "obs_names", "var_names"))


@contextlib.contextmanager
def opened(file: IO[bytes] | str | os.PathLike[str], where: str) -> Iterator[Annotated]:
    """What an .h5ad file holds, as long as it is open.

    Raises:
        InputError: it is no such file, or one of a format that anndata left in 2020.
    """
    import h5py

    try:
        store = h5py.File(file, "r")
    except OSError as error:
        raise InputError(f"{where} can't be read as .h5ad: {str(error).splitlines()[0]}") from error
    with store:
        tables = [store.get("obs"), store.get("var")]
        if not all(isinstance(table, h5py.Group) and "_index" in table.attrs for table in tables):
            raise InputError(f"{where} is no .h5ad of anndata 0.7 or newer: read it by anndata, and write it again")
        obs, var = tables
        yield Annotated(
            where,
            _texts(obs[obs.attrs["_index"]]).tolist(),
            names_of(var),
            tuple(store.get("layers", ())),
            tuple(map(str, obs.attrs["column-order"])),
            lambda key: _matrix(store[key], where) if key in store else None,
            lambda name: _column(obs[name], store),
        )


def of_object(data: Any) -> Annotated:
    """The same of an AnnData."""

    def matrix(key: str) -> Any:
        found = data.X if key == X else data.layers[key.removeprefix(LAYERS)]
        return found.to_memory() if hasattr(found, "to_memory") else found

    def column(name: str) -> np.ndarray:
        found = data.obs[name]
        return found.astype(object).where(found.notna(), None).to_numpy()

    cells, genes = ([str(name) for name in names] for names in (data.obs_names, data.var_names))
    layers, columns = (tuple(map(str, names)) for names in (data.layers, data.obs.columns))
    return Annotated("the AnnData", cells, tuple(genes), layers, columns, matrix, column)


def write_obsm(source: Any, arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a copy of an .h5ad or an AnnData with more arrays `(N, D)` in `obsm`, whole or not at all."""
    import h5py

    if is_annotated(source):
        made = source.copy()
        made.obsm.update(arrays)
        with tempfile.TemporaryDirectory() as scratch:  # HDF5 locks what it writes, as `core.files` does
            made.write_h5ad(file := Path(scratch) / path.name)
            write_bytes(path, file.read_bytes())
        return
    place = Path(source).expanduser()
    size = place.stat().st_size + sum(x.nbytes for x in arrays.values())
    sizes.check_memory(str(path), size, "takes")
    buffer = io.BytesIO(place.read_bytes())  # HDF5 ends the process where a disk is full
    with h5py.File(buffer, "r+") as store:
        obsm = store.require_group("obsm")
        obsm.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        for name, x in arrays.items():
            if name in obsm:
                del obsm[name]
            obsm.create_dataset(name, data=x).attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    write_bytes(path, buffer.getvalue())


def _texts(stored: Any) -> np.ndarray:
    import h5py

    text = h5py.check_string_dtype(stored.dtype) is not None
    return stored.asstr()[()] if text else stored[()].astype(str)


def names_of(table: Any) -> tuple[str, ...]:
    """The names of the rows of `obs` or `var` in a file."""
    return tuple(_texts(table[table.attrs["_index"]]).tolist())


def kind_of_matrix(stored: Any, where: str) -> str:
    """`dense`, `csr` or `csc`. Raises `InputError` for what is no matrix."""
    import h5py

    if isinstance(stored, h5py.Dataset):
        return "dense"
    kind = str(stored.attrs.get("encoding-type", stored.attrs.get("h5sparse_format", "")))[:3]
    if kind not in ("csr", "csc"):
        raise InputError(f"{where}: {stored.name} is neither a matrix nor a sparse one (csr, csc)")
    return kind


def _matrix(stored: Any, where: str) -> Any:
    kind = kind_of_matrix(stored, where)
    if kind == "dense":
        return stored[()]
    sizes.check_memory(where, sum(stored[name].nbytes for name in ("data", "indices", "indptr")))
    shape = tuple(stored.attrs.get("shape", stored.attrs.get("h5sparse_shape")))
    make = sparse.csr_matrix if kind == "csr" else sparse.csc_matrix
    return well_formed(
        lambda: make(tuple(stored[name][()] for name in ("data", "indices", "indptr")), shape=shape),
        f"{where}: {stored.name}",
    )


def _column(stored: Any, store: Any) -> np.ndarray:
    """A column of numbers, of texts, of categories (also as they were kept before 2022), or with missing cells."""
    import h5py

    if isinstance(stored, h5py.Dataset):
        if "categories" in stored.attrs:
            return _of_codes(stored[()], _texts(store[stored.attrs["categories"]]))
        return _texts(stored) if h5py.check_string_dtype(stored.dtype) else stored[()]
    if "codes" in stored:
        return _of_codes(stored["codes"][()], _column(stored["categories"], store))
    values = _column(stored["values"], store).astype(object)
    return _without(stored["mask"][()], values)


def _of_codes(codes: np.ndarray, categories: np.ndarray) -> np.ndarray:
    return _without(codes < 0, categories.astype(object)[np.maximum(codes, 0)])


def _without(missing: np.ndarray, values: np.ndarray) -> np.ndarray:
    values[missing] = None
    return values
