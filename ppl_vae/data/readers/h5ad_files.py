"""`.h5ad`: single-cell data, as anndata writes them."""

from typing import IO

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.data.annotated import LAYERS, OBS, X, opened
from ppl_vae.data.columns.cells import as_number, plain


class H5ad:
    """X, or by the key `layers/NAME` a layer: a row for each cell; by `obs/NAME` a column of numbers."""

    name = ".h5ad"

    @staticmethod
    def read(file: IO[bytes], path: str, key: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
        with opened(file, path) as data:
            if key is None or key == X or key.startswith(LAYERS):
                return data.values(key or X), data.genes
            if not key.startswith(OBS):
                raise InputError(f"{path} has no {key}: give {path}:{X}, {path}:{LAYERS}NAME or {path}:{OBS}NAME")
            column = key.removeprefix(OBS)
            values = [as_number(plain(each)) for each in data.named(column).tolist()]
            if None in values:
                row = values.index(None)
                shown = data.named(column)[row]
                raise InputError(f"{path}: {data.cell(row)}, column {column!r} of obs holds {shown!r}, no number")
            return np.array(values, dtype=np.float64)[:, None], (column,)
