"""Single-cell data for tests: a file that anndata wrote, one that h5py writes, and what an AnnData has."""

import gzip
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from ppl_vae.data.annotated import opened

WRITTEN = Path(__file__).with_name("anndata_0.12.h5ad.gz")
"""Written by anndata 0.12.19: six cells, four genes."""
SMALL = {"hidden": 8, "latent_dim": 2}


def written_by_anndata(folder: Path) -> Path:
    path = folder / "written.h5ad"
    path.write_bytes(gzip.decompress(WRITTEN.read_bytes()))
    return path


class AnnData:
    """As much of anndata's as is asked for, so that tests need no anndata."""

    def __init__(self, X: Any, obs: pd.DataFrame, var: pd.DataFrame, layers: dict[str, Any] | None = None) -> None:
        self.X, self.obs, self.var, self.layers, self.obsm = X, obs, var, dict(layers or {}), dict[str, Any]()

    @property
    def obs_names(self) -> pd.Index:
        return self.obs.index

    @property
    def var_names(self) -> pd.Index:
        return self.var.index

    def copy(self) -> "AnnData":
        return AnnData(self.X, self.obs, self.var, self.layers)

    def write_h5ad(self, path: Any) -> None:
        with h5py.File(path, "w") as store:
            for name, frame in (("obs", self.obs), ("var", self.var)):
                group = store.create_group(name)
                group.attrs.update(
                    {"_index": "_index", "column-order": np.array(frame.columns, dtype=h5py.string_dtype())}
                )
                for column, cells in (("_index", frame.index.to_series()), *frame.items()):
                    text = cells.dtype.kind not in "biuf"
                    group.create_dataset(column, data=cells.to_numpy(dtype=object if text else None))
            for name, x in (("X", self.X), *((f"layers/{layer}", x) for layer, x in self.layers.items())):
                if sparse.issparse(x):
                    group = store.create_group(name)
                    group.attrs.update({"encoding-type": f"{x.format}_matrix", "shape": x.shape})
                    for part in ("data", "indices", "indptr"):
                        group.create_dataset(part, data=getattr(x, part))
                elif x is not None:
                    store.create_dataset(name, data=x)
            for name, x in self.obsm.items():
                store.create_dataset(f"obsm/{name}", data=x)


def simulated(cells: int = 60, genes: int = 5) -> AnnData:
    """Counts in a sparse layer, their logarithm as X, two donors and a size factor."""
    rng = np.random.default_rng(0)
    donor, size = rng.integers(0, 2, cells), rng.lognormal(0, 0.3, cells)
    share = np.exp(rng.normal(size=(2, genes)))[donor]
    x = rng.negative_binomial(3, 3 / (3 + 4 * size[:, None] * share)).astype(np.float32)
    x[:, 0] += 1
    index = [f"cell{i}" for i in range(cells)]
    obs = pd.DataFrame({"donor": np.array(["d2", "d1"])[donor], "size": size}, index=index)
    var = pd.DataFrame(index=[f"gene{i}" for i in range(genes)])
    return AnnData(np.log1p(x), obs, var, {"counts": sparse.csr_matrix(x), "dense": x})


def changed(made: AnnData, x: np.ndarray | None = None, **obs: Any) -> AnnData:
    """The same with other counts or columns of `obs`."""
    layers = made.layers if x is None else {"counts": x}
    return AnnData(made.X, made.obs.assign(**obs), made.var, layers)


def read_h5ad(path: Any) -> AnnData:
    """What `AnnData.write_h5ad` has written, with its layers dense."""
    with opened(path, str(path)) as data:
        obs = pd.DataFrame({name: data.named(name) for name in data.columns}, index=data.cells)
        layers = {name: data.values(f"layers/{name}") for name in data.layers}
        return AnnData(data.values(), obs, pd.DataFrame(index=list(data.genes)), layers)
