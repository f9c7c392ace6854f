"""What of single-cell data the fields of a run are: the counts x, the library size and the batch of each cell."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.data.annotated import LAYERS, SUFFIX, Annotated, X, is_annotated, of_object, opened
from ppl_vae.data.columns.cells import as_number, as_text, plain
from ppl_vae.data.protocol import CHUNK
from ppl_vae.data.raw import Raw, as_raw
from ppl_vae.data.source import no_file, parse
from ppl_vae.data.table import listing


@dataclass(frozen=True)
class CellFields:
    """The fields x `(G,)`, library `()` and, with a batch, batch `()`, of each cell.

    Args:
        genes: the columns of x.
        layer: where the counts are; without it, in X.
        library: the column of `obs` that is proportional to the library size; without it, it is Σ_g x_g.
        unit: the counts for 1 of that column: the run's Σ x over its Σ library.
        batch: a column of `obs`.
        labels: the batches, whose codes are 0, 1, …
    """

    genes: tuple[str, ...]
    layer: str | None = None
    library: str | None = None
    unit: float = 1.0
    batch: str | None = None
    labels: tuple[str, ...] = ()

    def fields(self, source: Any) -> tuple[str, tuple[str, ...], list[Raw]]:
        """Name of the set, names of the fields, and the fields.

        Genes go by their names, in any order; those that the run does not know are left out, also of the library size.

        Raises:
            InputError: no such layer, gene or column, a number that is no count, an empty cell, an unknown batch.
        """
        with annotated(source) as (data, key):
            x = counts(data, key or self.key, self.genes)
            library = self.unit * _library(data, x, self.library)
            found = {"x": (x, self.genes), "library": (library.astype(np.float32), ())}
            if self.batch is not None:
                found["batch"] = (batch_codes(data, self), ())
        raws = [as_raw(f"field {name} ({data.where})", values, names) for name, (values, names) in found.items()]
        return os.path.basename(data.where), tuple(found), raws

    @property
    def key(self) -> str:
        return X if self.layer in (None, X) else f"{LAYERS}{self.layer}"

    def asdict(self) -> dict[str, Any]:
        """What the record of a run says; the genes are there as the columns of x."""
        names = ("layer", "library", "unit", "batch")
        return {name: getattr(self, name) for name in names} | {"labels": list(self.labels)}


def batch_codes(data: Annotated, cells: CellFields) -> np.ndarray:
    """The code of the batch of each cell, `(N,)`. Raises `InputError` for a batch that the run does not know."""
    assert cells.batch is not None
    codes = {label: i for i, label in enumerate(cells.labels)}
    labels = _labels(data, cells.batch)
    unknown = next((row for row, label in enumerate(labels) if label not in codes), None)
    if unknown is not None:
        raise InputError(
            f"{data.where}: {data.cell(unknown)} is of the {cells.batch} {labels[unknown]!r}, which the run does "
            f"not know: known are {listing(cells.labels)}"
        )
    return np.array([codes[label] for label in labels])


def cell_fields(
    source: Any, layer: str | None = None, library: str | None = None, batch: str | None = None
) -> CellFields:
    """What the fields of a new run are. Raises as `CellFields.fields`."""
    with annotated(source) as (data, key):
        if key is not None and layer is not None:
            raise InputError(f"{data.where}: {key} and --layer {layer} both say where the counts are: leave out one")
        layer = layer if key is None else key.removeprefix(LAYERS)
        labels = () if batch is None else tuple(sorted(set(_labels(data, batch)), key=_in_order))
        made = CellFields(data.genes, layer, library, 1.0, batch, labels)
        if library is None:
            return made
        x = counts(data, made.key, data.genes)
        unit = x.sum(dtype=np.float64) / _library(data, x, library).sum()
        return CellFields(data.genes, layer, library, float(unit), batch, labels)


def is_cells(source: Any) -> bool:
    """Is it an AnnData, or the name of one .h5ad file, with the key of a matrix or without?"""
    source = _single(source)
    if is_annotated(source):
        return True
    if not isinstance(source, str | os.PathLike):
        return False
    name, path, key = parse(os.fspath(source))
    matrix = key is None or key == X or key.startswith(LAYERS)
    return name is None and Path(path).suffix.lower() == SUFFIX and matrix


def source_of(source: Any) -> Any:
    """The AnnData, or the path of the file, of what `is_cells`."""
    source = _single(source)
    return source if is_annotated(source) else parse(os.fspath(source)).path


@contextlib.contextmanager
def annotated(source: Any) -> Iterator[tuple[Annotated, str | None]]:
    """What is in an AnnData or a file, as long as that is open; and the key of a matrix, if one was given."""
    source = _single(source)
    if is_annotated(source):
        yield of_object(source), None
        return
    _, where, key = parse(os.fspath(source))
    path = Path(where).expanduser()
    if not path.is_file():
        raise InputError(no_file(where))
    with opened(path, where) as data:
        yield data, key


def counts(data: Annotated, key: str, genes: tuple[str, ...]) -> np.ndarray:
    """The counts, `(N, G)` float32. Raises `InputError` for a number that is none."""
    x = data.values(key, genes)
    if not x.size:
        raise InputError(f"{data.where} is empty: it has {x.shape[0]} cells and {x.shape[1]} genes")
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK]
        bad = ~((part >= 0) & (part == np.round(part)) & np.isfinite(part))
        if bad.any():
            row, gene = np.argwhere(bad)[0]
            raise InputError(
                f"{data.where}: {key}, {data.cell(start + row)}, gene {genes[gene]!r} holds {part[row, gene]:g}, which "
                f"is no count: give the layer of raw counts by --layer; {data.told_layers}"
            )
    return x


def _library(data: Annotated, x: np.ndarray, column: str | None) -> np.ndarray:
    """The library sizes, `(N,)` float64."""
    total = x.sum(1, dtype=np.float64)
    if (total == 0).any():
        more = f" (and {int((total == 0).sum()) - 1} more)" if (total == 0).sum() > 1 else ""
        raise InputError(
            f"{data.where}: {data.cell(int(total.argmin()))}{more} has no count in any gene: leave out empty cells"
        )
    if column is None:
        return total
    given = [as_number(plain(each)) for each in data.named(column).tolist()]
    bad = next((row for row, each in enumerate(given) if each is None or each <= 0), None)
    if bad is not None:
        shown = data.named(column)[bad]
        raise InputError(f"{data.where}: {data.cell(bad)}, column {column!r} of obs holds {shown}: a size is above 0")
    return np.array(given, dtype=np.float64)


def _labels(data: Annotated, column: str) -> list[str]:
    """The batch of each cell, as a text."""
    cells = [plain(each) for each in data.named(column).tolist()]
    if None in cells:
        raise InputError(
            f"{data.where}: {data.cell(cells.index(None))} has no {column}: fill it, or leave such cells out"
        )
    return [as_text(cell) for cell in cells]


def _in_order(label: str) -> tuple[bool, float, str]:
    """Numbers by their size, before texts."""
    number = as_number(label)
    return number is None, number or 0.0, label


def _single(source: Any) -> Any:
    return source[0] if isinstance(source, list | tuple) and len(source) == 1 else source
