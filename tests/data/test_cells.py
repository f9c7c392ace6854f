"""Single-cell data: what is read of a file and of an AnnData, by the rules of a run, or refused in words."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from support.h5ad import SMALL, AnnData, changed, simulated, written_by_anndata

import ppl_vae
from ppl_vae.core import memory
from ppl_vae.core.errors import InputError
from ppl_vae.data import open_data
from ppl_vae.data.annotated import opened
from ppl_vae.data.cells import CellFields, cell_fields
from ppl_vae.data.newrows import rows_in_order

FIT: dict[str, Any] = {"layer": "counts", "batch": "donor", "epochs": 1, "set": SMALL}


@pytest.fixture(scope="module")
def made() -> AnnData:
    return simulated()


@pytest.fixture(scope="module")
def path(made: AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    made.write_h5ad(file)
    return file


@pytest.fixture(scope="module")
def run(path: Path) -> ppl_vae.Run:
    return ppl_vae.fit(data=path, out=path.parent / "run", **FIT)


def write(made: AnnData, folder: Path) -> Path:
    made.write_h5ad(folder / "new.h5ad")
    return folder / "new.h5ad"


def reordered(made: AnnData, order: list[int]) -> AnnData:
    """Other genes, by their places."""
    layers = {"counts": made.layers["counts"][:, order]}
    return AnnData(made.X[:, order], made.obs, made.var.iloc[order], layers)


# ---- a file


def test_what_anndata_has_written(tmp_path: Path) -> None:
    expected = np.arange(24).reshape(6, 4) % 5 + np.eye(6, 4)
    with opened(written_by_anndata(tmp_path), "it") as data:
        for layer in ("counts", "dense", "csc"):
            np.testing.assert_array_equal(data.values(f"layers/{layer}"), expected)
            np.testing.assert_array_equal(data.values(f"layers/{layer}", ["g2", "g0"]), expected[:, [2, 0]])
        np.testing.assert_allclose(data.values(), np.log1p(expected), rtol=1e-6)
        assert (data.genes, data.cells[5]) == (("g0", "g1", "g2", "g3"), "cell5")
        assert data.columns == ("donor", "lane", "size", "flag", "kit", "gone", "free")
        found = {name: data.named(name).tolist() for name in data.columns}
    assert found["donor"] == ["b", "a"] * 3
    assert found["gone"] == ["b", None, "b", "a", "b", "a"]
    assert found["flag"] == [True, None, True, False, True, True]
    assert found["lane"] == [2, 10] * 3
    assert found["free"] == list("pqrstu")


def test_categories_as_they_were_kept_before(tmp_path: Path, made: AnnData) -> None:
    file = write(made, tmp_path)
    with h5py.File(file, "r+") as store:
        del store["obs/donor"]
        codes = store.create_dataset("obs/donor", data=np.array([0, 1, -1] * 20, dtype=np.int8))
        codes.attrs["categories"] = store.create_dataset("obs/__categories/donor", data=["p", "q"]).ref
    with opened(file, "it") as data:
        assert data.named("donor").tolist()[:3] == ["p", "q", None]


def test_one_field_by_its_key(path: Path, made: AnnData) -> None:
    one = open_data([f"x={path}:layers/dense", f"size={path}:obs/size"])
    x, size = rows_in_order(one).batch
    np.testing.assert_array_equal(x, made.layers["dense"])
    np.testing.assert_allclose(size, made.obs["size"], rtol=1e-6)
    assert one.columns["x"] == tuple(made.var.index)
    np.testing.assert_allclose(rows_in_order(open_data(path)).batch[0], made.X, rtol=1e-6)
    with pytest.raises(InputError, match=r"row 0 \('cell0'\), column 'donor' of obs holds 'd[12]', no number"):
        open_data([f"x={path}", f"y={path}:obs/donor"])
    with pytest.raises(InputError, match=r"has no var/x: give .*:X, .*:layers/NAME or .*:obs/NAME"):
        open_data(f"{path}:var/x")


# ---- the fields


def test_the_fields_of_a_file_and_of_an_anndata_are_the_same(path: Path, made: AnnData) -> None:
    for layer in ("counts", "dense"):
        fields = cell_fields(path, layer, batch="donor")
        data = [open_data(source, schema=fields) for source in (path, made, [str(path)])]
        assert len({each.sha256 for each in data}) == 1
    x, library, batch = rows_in_order(data[0]).batch
    np.testing.assert_array_equal(x, made.layers["dense"])
    np.testing.assert_array_equal(library, made.layers["dense"].sum(1))
    assert [fields.labels[code] for code in batch] == made.obs["donor"].tolist()
    assert fields.labels == ("d1", "d2")
    assert cell_fields(changed(made, donor=[10, 9.0, 2] * 20), "counts", batch="donor").labels == ("2", "9", "10")


def test_a_size_factor_is_brought_to_counts(made: AnnData) -> None:
    fields = cell_fields(made, "counts", library="size")
    _, library = rows_in_order(open_data(made, schema=fields)).batch
    assert library.sum().item() == pytest.approx(made.layers["dense"].sum(), rel=1e-5)
    np.testing.assert_allclose(library / library.mean(), made.obs["size"] / made.obs["size"].mean(), rtol=1e-5)


EMPTY = np.ones((60, 5))
EMPTY[[7, 9]] = 0
ODD = np.ones((60, 5))
ODD[3, 2] = 0.5


@pytest.mark.parametrize(
    ("change", "asked", "words"),
    [
        ({}, {"layer": "raw"}, "has no layer 'raw'; its layers are counts, dense"),
        (
            {},
            {"layer": "counts", "batch": "doner"},
            r"no column 'doner' in obs.*'donor'.*; its columns are donor, size",
        ),
        ({}, {}, r"X, row 0 \('cell0'\), gene 'gene0' holds .*no count: give the layer of raw counts by --layer; its"),
        ({"x": ODD}, {"layer": "counts"}, r"layers/counts, row 3 \('cell3'\), gene 'gene2' holds 0.5"),
        ({"x": -EMPTY}, {"layer": "counts"}, "holds -1, which is no count"),
        ({"x": EMPTY}, {"layer": "counts"}, r"row 7 \('cell7'\) \(and 1 more\) has no count .*leave out empty cells"),
        ({"size": 0.0}, {"layer": "counts", "library": "size"}, "column 'size' of obs holds 0.0: a size is above 0"),
        ({"donor": None}, {"layer": "counts", "batch": "donor"}, r"row 0 \('cell0'\) has no donor"),
    ],
)
def test_what_can_be_no_field_is_refused(
    made: AnnData, tmp_path: Path, change: dict[str, Any], asked: dict[str, Any], words: str
) -> None:
    source = changed(made, **change)
    with pytest.raises(InputError, match=words) as error:
        cell_fields(source, **asked).fields(source)
    assert "\n" not in str(error.value)


def test_what_is_no_such_file_is_refused(made: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.h5ad").write_text("no")
    with pytest.raises(InputError, match=r"text.h5ad can't be read as .h5ad"):
        cell_fields(tmp_path / "text.h5ad")
    with pytest.raises(InputError, match="no such file"):
        cell_fields(tmp_path / "none.h5ad")
    file = write(made, tmp_path)
    with pytest.raises(InputError, match="both say where the counts are"):
        cell_fields(f"{file}:layers/dense", "counts")
    monkeypatch.setattr(memory, "available_memory", lambda: 1000.0)
    with pytest.raises(InputError, match=r"takes as a dense matrix 0\.001 MB, and this machine has"):
        cell_fields(file, "counts", library="size")
    monkeypatch.undo()
    with h5py.File(file, "r+") as store:
        del store["obs"]
        store.create_dataset("obs", data=np.zeros(3, dtype=[("index", "i4")]))
    with pytest.raises(InputError, match=r"no \.h5ad of anndata 0.7 or newer"):
        cell_fields(file)
    twice = AnnData(made.X, made.obs, pd.DataFrame(index=["g", "g", "h", "i", "j"]), made.layers)
    with pytest.raises(InputError, match="1 genes have the name of another one"):
        CellFields(tuple(twice.var_names)).fields(twice)
    with pytest.raises(InputError, match="has no X; its layers are counts"):
        CellFields(tuple(made.var_names)).fields(AnnData(None, made.obs, made.var, made.layers))


# ---- a run, and new cells


def test_a_run_keeps_what_its_fields_are(run: ppl_vae.Run, made: AnnData) -> None:
    assert run.config.model == run.config.guide == "cells"
    assert run.record["cells"] == {
        "layer": "counts", "library": None, "unit": 1.0, "batch": "donor", "labels": ["d1", "d2"],
    }  # fmt: skip
    assert "batches=2" in run.config.set
    assert ppl_vae.Run(run.folder).data().fields == ("x", "library", "batch")
    assert ppl_vae.Run(run.folder).rules.schema == cell_fields(made, "counts", batch="donor")


def test_genes_go_by_their_names(run: ppl_vae.Run, made: AnnData, tmp_path: Path) -> None:
    own = ppl_vae.encode(run)["z_mean"]
    other = write(reordered(made, [4, 2, 0, 1, 3]), tmp_path)
    np.testing.assert_array_equal(ppl_vae.encode(run, other)["z_mean"], own)
    more = reordered(made, [0, 1, 2, 3, 4, 4])
    more.var.index = [*made.var.index, "another"]
    np.testing.assert_array_equal(ppl_vae.encode(run, more)["z_mean"], own)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: reordered(made, [0, 1, 3]), r"has no gene 'gene2' \(and 1 more of the run's 5\)"),
        (lambda made: changed(made, donor="d3"), r"\('cell0'\) is of the donor 'd3', .*not know: known are d1, d2"),
        (lambda made: AnnData(made.X, made.obs, made.var), "has no layer 'counts'; it has no layers"),
        (lambda made: changed(made, EMPTY, donor="d1"), "has no count in any gene"),
    ],
)
def test_other_cells_are_refused(run: ppl_vae.Run, made: AnnData, tmp_path: Path, change: Any, words: str) -> None:
    for data in (change(made), write(change(made), tmp_path)):
        with pytest.raises(InputError, match=words) as error:
            ppl_vae.encode(run, data)
        assert "\n" not in str(error.value)


def test_options_of_cells_are_for_cells(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--layer is for one .h5ad file or an AnnData"):
        ppl_vae.fit("vae", "amortized", "digits", tmp_path / "r", layer="counts")
    with pytest.raises(InputError, match="--batch is for one"):
        ppl_vae.check("vae", "amortized", "digits", batch="donor")


def test_an_anndata_from_python(run: ppl_vae.Run, made: AnnData) -> None:
    found = ppl_vae.encode(run, made)
    assert list(found.frame.index[:2]) == ["cell0", "cell1"]
    again = ppl_vae.fit(data=made, **FIT)
    np.testing.assert_array_equal(again.encode(made)["z_mean"], found["z_mean"])


def test_means_beside_the_cells(run: ppl_vae.Run, made: AnnData, tmp_path: Path) -> None:
    codes = ppl_vae.encode(run)
    file = written_by_anndata(tmp_path)
    own = ppl_vae.fit(data=file, **FIT)
    for data, of in ((None, own), (file, own), (made, run)):
        result = ppl_vae.encode(of, data, out=tmp_path / "out.h5ad")
        assert result.files == (tmp_path / "out.h5ad",)
        with h5py.File(tmp_path / "out.h5ad") as store:
            np.testing.assert_array_equal(store["obsm/X_ppl_vae"], result["z_mean"])
            np.testing.assert_array_equal(store["obsm/X_ppl_vae_sd"], result["z_sd"])
            assert data is made or store["uns/note"].asstr()[()] == "kept"
            assert data is made or store["obsm/X_pca"].shape == (6, 2)
    np.testing.assert_array_equal(result["z_mean"], codes["z_mean"])
    before = file.read_bytes()
    ppl_vae.encode(own, out=tmp_path / "out.h5ad")
    assert file.read_bytes() == before
    with pytest.raises(InputError, match=r"ends in .csv, .parquet, .npz or .npy,"):
        ppl_vae.encode(run, tuple(rows_in_order(run.data()).batch), out=tmp_path / "out.h5ad")


def test_samples_name_the_genes(run: ppl_vae.Run, made: AnnData, tmp_path: Path) -> None:
    drawn = ppl_vae.sample(run, 500, given={"library": 1000, "batch": 1})
    assert list(drawn.frame.columns) == [*made.var.index, "library", "batch"]
    assert drawn["x"].sum(1).mean() == pytest.approx(1000, rel=0.2)
    assert (ppl_vae.sample(run, 3, given={"library": 0, "batch": 1})["x"] == 0).all()
    assert ppl_vae.sample(run, 1, like=made)["x"].shape == (60, 5)


def test_check_and_sweep_take_the_same_options(path: Path, tmp_path: Path) -> None:
    assert ppl_vae.check("cells", "cells", path, layer="counts", batch="donor", set=SMALL).passed
    swept = ppl_vae.fit(data=path, out=tmp_path / "s", sweep={"latent_dim": [1, 2]}, **FIT | {"set": {"hidden": 8}})
    assert swept.best.record["cells"]["labels"] == ["d1", "d2"]
    gone_on = ppl_vae.resume(ppl_vae.fit(data=path, out=tmp_path / "r", **FIT), epochs=2)
    assert len(gone_on.history) == 3


def test_a_model_of_x_alone_reads_a_layer(path: Path) -> None:
    run = ppl_vae.fit("vae", "amortized", f"{path}:layers/dense", set=SMALL | {"likelihood": "poisson"}, epochs=1)
    assert run.data().fields == ("x",)


def test_anndata_itself(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    made = simulated()
    real = anndata.AnnData(sparse.csr_matrix(made.X), made.obs, made.var, layers=made.layers)
    fields = cell_fields(real, "counts", batch="donor")
    assert fields == cell_fields(made, "counts", batch="donor")
    real.write_h5ad(tmp_path / "real.h5ad")
    data = [open_data(source, schema=fields) for source in (real, made, tmp_path / "real.h5ad")]
    assert len({each.sha256 for each in data}) == 1
    run = ppl_vae.fit(data=real, **FIT)
    found = ppl_vae.encode(run, real, out=tmp_path / "out.h5ad")
    ppl_vae.encode(run, tmp_path / "real.h5ad", out=tmp_path / "copy.h5ad")
    for name in ("out.h5ad", "copy.h5ad"):
        read = anndata.read_h5ad(tmp_path / name)
        np.testing.assert_array_equal(read.obsm["X_ppl_vae"], found["z_mean"])
        assert list(read.obs["donor"]) == list(made.obs["donor"])
