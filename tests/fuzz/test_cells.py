"""An .h5ad whose bytes are damaged, encoded by a run of cells."""

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import strategies as st
from support.fuzzing import called, few_or, for_all
from support.h5ad import SMALL, simulated

import ppl_vae

GENES = [f"gene{i}" for i in range(5)]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, fitted to `cells.h5ad`."""
    folder = tmp_path_factory.mktemp("cells")
    simulated().write_h5ad(folder / "cells.h5ad")
    ppl_vae.fit(data=folder / "cells.h5ad", out=folder / "run", layer="counts", epochs=1, set=SMALL)
    return folder


def dense(path: Path) -> np.ndarray:
    """The counts as h5py has them, by the rows that `indptr` says."""
    with h5py.File(path) as store:
        layer = store["layers/counts"]
        data, indices, indptr = (layer[name][()] for name in ("data", "indices", "indptr"))
        found = np.zeros(layer.attrs["shape"])
        assert len(indptr) == len(found) + 1
        assert indptr[0] == 0
        assert indptr[-1] == len(data)
        for row, (start, end) in enumerate(itertools.pairwise(indptr)):
            assert 0 <= start <= end <= len(data)
            assert ((indices[start:end] >= 0) & (indices[start:end] < found.shape[1])).all()
            np.add.at(found[row], indices[start:end], data[start:end])
        names = store["var"][store["var"].attrs["_index"]].asstr()[()].tolist()
    return found[:, [names.index(gene) for gene in GENES]]


@st.composite
def hit(draw: st.DrawFn, content: bytes, parts: list[tuple[int, int]]) -> bytes:
    """Bytes of one of some parts changed, or the file cut off.

    Elsewhere stands what HDF5 alone reads, which may crash or loop on it (docs/reliability.md).
    """
    if draw(st.integers(0, 5)) == 0:
        return content[: draw(st.integers(0, len(content) - 1))]
    made, (start, size) = bytearray(content), draw(st.sampled_from(parts))
    for _ in range(draw(st.integers(1, 3))):
        made[start + draw(st.integers(0, size - 1))] = draw(st.integers(0, 255))
    return bytes(made)


@few_or(400, few=12)
def test_h5ad_that_is_damaged(cells: Path, count: int) -> None:
    """What is accepted has a latent for each cell of counts, as h5py reads them: whole numbers, and each of a gene.

    HDF5 keeps no checksum of numbers as anndata writes them, so that a count can't be told from another one.
    """
    content, out = (cells / "cells.h5ad").read_bytes(), cells / "z.npz"
    with h5py.File(cells / "cells.h5ad") as store:
        layer = store["layers/counts"]
        found = [layer[name].id for name in ("data", "indices", "indptr")]
        parts = [(each.get_offset(), each.get_storage_size()) for each in found]

    def holds(damaged: bytes) -> None:
        file = cells / "damaged.h5ad"
        file.write_bytes(damaged)
        out.unlink(missing_ok=True)
        if called("encode", cells / "run", "--data", file, "--out", out, names=("damaged.h5ad",)).code == 2:
            assert not out.exists()
            return
        counts = dense(file)
        assert (counts >= 0).all()
        assert (counts == counts.round()).all()
        with np.load(out) as arrays:
            latents = dict(arrays)
        assert {len(x) for x in latents.values()} == {len(counts)}

    for_all(st.one_of(hit(content, parts), hit(content, parts), st.binary(max_size=60)), holds, count)
