"""What streams are read from, beside arrays and Parquet: sparse matrices, cells, pictures, converted csv."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from scipy import sparse
from support.h5ad import SMALL, AnnData, simulated
from support.streamed import same_rows, small_blocks, streamed, table

import ppl_vae
from ppl_vae.core import memory
from ppl_vae.core.errors import InputError
from ppl_vae.data import as_data, open_data
from ppl_vae.data.cells import cell_fields
from ppl_vae.data.columns import read_table
from ppl_vae.data.newrows import rows_in_order
from ppl_vae.data.streams import Stream
from ppl_vae.data.streams.stores.h5ad import H5ad

OPTIONS: dict[str, Any] = {"epochs": 1, "batch_size": 16, "set": {"hidden": 8, "latent_dim": 2}}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_waiting_for_the_disk: None) -> None:
    small_blocks(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# ---- sparse


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
def test_a_sparse_matrix_stays_sparse_until_it_is_asked_for(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = sparse.random(300, 12, 0.2, random_state=0, dtype="float32", format=kind)
    sparse.save_npz(path := tmp_path / "x.npz", x)
    data = streamed(path)
    assert sparse.issparse(data.sources[0].store.matrix)  # type: ignore[attr-defined]
    assert same_rows(data, open_data(path))
    np.testing.assert_array_equal(data.by_number(torch.arange(300))[0], x.toarray())
    monkeypatch.setattr("ppl_vae.data.streams.choice.SHARE", 0.0)
    assert isinstance(as_data(str(path)), Stream)


@pytest.mark.parametrize("kind", ["csr", "csc"])
@pytest.mark.parametrize("stream", ["on", "off"])
def test_a_sparse_matrix_whose_indices_are_damaged_is_refused(tmp_path: Path, kind: str, stream: str) -> None:
    x = sparse.random(300, 12, 0.2, random_state=0, dtype="float32", format=kind)
    x.indices[7] = 10_000_000
    sparse.save_npz(path := tmp_path / "x.npz", x)
    with pytest.raises(InputError, match=r"x\.npz.* is damaged"):
        as_data(str(path), stream=stream)


def test_another_npz_is_not_streamed(tmp_path: Path) -> None:
    np.savez(path := tmp_path / "x.npz", a=table())
    with pytest.raises(InputError, match=r"x\.npz can't be streamed: give .* \(an \.npz that scipy wrote\)"):
        as_data(str(path), stream="on")
    assert not isinstance(as_data(str(path)), Stream)


# ---- cells


@pytest.fixture
def made() -> AnnData:
    return simulated()


@pytest.mark.parametrize("dense", [False, True])
def test_cells_have_the_fields_that_they_have_in_memory(made: AnnData, tmp_path: Path, dense: bool) -> None:
    if dense:
        made.layers["counts"] = np.asarray(made.layers["counts"].todense())
    made.write_h5ad(path := tmp_path / "cells.h5ad")
    cells = cell_fields(path, layer="counts", batch="donor")
    data = as_data(path, cells, stream="on")
    assert isinstance(data, Stream)
    assert same_rows(data, open_data(path, schema=cells))
    alone = streamed(f"{path}:layers/counts")
    assert same_rows(alone, open_data(f"{path}:layers/counts"))
    run = ppl_vae.fit(data=path, out=tmp_path / "run", layer="counts", batch="donor", epochs=1, set=SMALL, stream="on")
    assert run.record["data"]["columns"]["x"] == list(made.var_names)
    assert len(ppl_vae.encode(run)["z_mean"]) == len(made.obs)
    assert [line["epoch"] for line in ppl_vae.resume(run, epochs=2).metrics] == [0, 1, 2]


def test_cells_that_can_not_be_read_by_rows_are_refused(made: AnnData, tmp_path: Path) -> None:
    counts = made.layers["counts"]
    made.layers["csc"] = sparse.csc_matrix(counts)
    empty = counts.tolil()
    empty[7] = 0
    made.layers["empty"] = empty.tocsr()
    made.write_h5ad(path := tmp_path / "cells.h5ad")
    with pytest.raises(InputError, match=r"stored by columns \(csc\).* write it as csr"):
        streamed(f"{path}:layers/csc")
    with pytest.raises(InputError, match=r"cells\.h5ad has no layers/none"):
        streamed(f"{path}:layers/none")
    with pytest.raises(InputError, match="row 7 has no count in any gene"):
        as_data(path, cell_fields(path, layer="empty"), stream="on")
    with pytest.raises(InputError, match="other genes than the run, or in another order"):
        as_data(path, cell_fields(path, layer="counts").__class__(("a", "b"), "counts"), stream="on")
    with pytest.raises(InputError, match="is not streamed: give"):
        streamed(f"{path}:obs/donor")


def test_of_a_sparse_file_only_the_rows_that_are_asked_for_are_read(
    made: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.write_h5ad(path := tmp_path / "cells.h5ad")
    store, sizes = H5ad(path, "it", "layers/counts"), []
    read = h5py.Dataset.__getitem__

    def counted(of: h5py.Dataset, key: Any) -> Any:
        found = read(of, key)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    np.testing.assert_array_equal(store.read(10, 13), made.layers["counts"][10:13].toarray())
    assert max(sizes) <= max(4, 3 * store.shape[0])


def test_cells_whose_indices_are_damaged_are_refused(made: AnnData, tmp_path: Path) -> None:
    made.write_h5ad(path := tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        file["layers/counts/indices"][7] = 10_000_000
    store = H5ad(path, "it", "layers/counts")
    with pytest.raises(InputError, match="it: /layers/counts is damaged"):
        store.read(0, 50)


# ---- pictures


def pictures(folder: Path, shape: tuple[int, ...], count: int = 40) -> np.ndarray:
    x = np.random.default_rng(0).integers(0, 256, size=(count, *shape), dtype=np.uint8)
    (folder / "a").mkdir(parents=True)
    for i in range(count):
        Image.fromarray(x[i]).save(folder / ("a" if i < 20 else "") / f"{'z' * (i >= 20)}{i:03d}.png")
    return x


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 4)])
def test_a_folder_of_pictures(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = pictures(tmp_path / "pictures", shape)
    expected = x if len(shape) == 2 else x.transpose(0, 3, 1, 2)
    data = as_data(tmp_path / "pictures", scale=255.0)
    assert isinstance(data, Stream)
    assert data.image == expected.shape[1:]
    assert data.by_number(torch.arange(40))[0].equal(torch.from_numpy(expected.copy()) / 255.0)
    assert same_rows(data, open_data(expected.copy(), scale=255.0))


def test_a_run_on_pictures_is_resumed(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures", (5, 4))
    given = {"data": str(tmp_path / "pictures"), "scale": 255.0, "binarize": "epoch"}
    run = ppl_vae.fit("bernoulli", "diagonal_normal", out=tmp_path / "run", **given, **OPTIONS)
    assert run.record["data"]["stream"]["files"] == 40
    assert [line["epoch"] for line in ppl_vae.resume(run, epochs=2).metrics] == [0, 1, 2]
    assert ppl_vae.sample(run, 3)["x"].shape == (3, 5, 4)


def test_pictures_that_differ_or_are_none_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    pictures(folder, (5, 4))
    Image.fromarray(np.zeros((5, 6), dtype=np.uint8)).save(folder / "zz.png")
    with pytest.raises(InputError, match=r"zz\.png is 6 × 5 pixels in L, but .*a/000\.png is 4 × 5 pixels in L"):
        as_data(folder)
    Image.fromarray(np.zeros((5, 4, 3), dtype=np.uint8)).save(folder / "zz.png")
    with pytest.raises(InputError, match=r"zz\.png is 4 × 5 pixels in RGB"):
        as_data(folder)
    Image.fromarray(np.zeros((5, 4), dtype=np.float32)).save(folder / "zz.tif")
    (folder / "zz.png").unlink()
    with pytest.raises(InputError, match=r"zz\.tif has pixels of the kind F: save it in grey or RGB"):
        as_data(folder)
    (folder / "zz.tif").unlink()
    (folder / "zz.png").write_bytes((folder / "z030.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"zz\.png can't be read as a picture"):
        as_data(folder)
    with pytest.raises(InputError, match=r"zz\.png can't be read as a picture"):
        as_data(folder, stream="off")
    (folder / "zz.png").unlink()
    whole, stream = (rows_in_order(as_data(folder, stream=how, scale=255)).batch[0] for how in ("off", "on"))
    assert torch.equal(whole, stream)


# ---- csv


def test_a_csv_is_converted_once_and_it_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    x = table(200).astype("float64")
    np.savetxt(path := tmp_path / "rows.csv", x, delimiter=",", header="a,b,c,d,e", comments="", fmt="%.17g")
    data = streamed(f"{path}:b,a")
    assert "rows.csv:b,a" not in (told := capfd.readouterr().err)
    assert f"{path} is converted once to Parquet, {tmp_path / 'cache'}" in told
    assert data.columns == {"x": ("b", "a")}
    assert same_rows(data, open_data(f"{path}:b,a"))
    assert len(data.blocks) > 3
    assert streamed(f"{path}:b,a").sha256 == data.sha256
    assert not capfd.readouterr().err
    run = ppl_vae.fit("gaussian", "diagonal_normal", f"{path}:b,a", tmp_path / "run", stream="on", **OPTIONS)
    (converted,) = run.record["data"]["stream"]["converted"]
    Path(converted).unlink()
    assert run.data().checked, "it is converted again"
    path.write_text(path.read_text().replace("e\n", "e\n1,2,3,4,5\n"))
    with pytest.raises(InputError, match="has other rows than"):
        run.data()


def test_a_converted_csv_that_is_damaged_is_refused_wherever_it_is_read(tmp_path: Path) -> None:
    np.savetxt(path := tmp_path / "rows.csv", table(200), delimiter=",")
    data = streamed(path)
    (converted,) = (tmp_path / "cache" / "ppl_vae" / "tables").iterdir()
    content = converted.read_bytes()
    place = content.index(rows_in_order(data).batch[0][100, 2].double().numpy().tobytes())
    converted.write_bytes(content[:place] + bytes(8) + content[place + 8 :])
    for read in (lambda: rows_in_order(data).batch, lambda: streamed(path)):
        with pytest.raises(
            InputError, match=r"rows-.*\.parquet is damaged .*delete it, and .*rows\.csv is converted anew"
        ):
            read()


def test_a_csv_or_parquet_that_is_not_well_formed_is_refused_as_when_it_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("a,a\n" + "1,2\n" * 20)
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3,4,5\n6,7\n")
    parquet.write_table(pyarrow.table([[1.0, 2.0]] * 2, names=["a", "a"]), tmp_path / "twice.parquet")
    for name, words in (
        ("twice.csv", "twice.csv has two columns that are called 'a': give each its own name"),
        ("twice.parquet", "twice.parquet has two columns that are called 'a': give each its own name"),
        ("ragged.csv", "ragged.csv: cannot be read as .csv; write it anew"),
    ):
        for read in (open_data, streamed):
            with pytest.raises(InputError, match=words):
                read(str(tmp_path / name))


def test_a_csv_without_names_and_one_with_texts(tmp_path: Path) -> None:
    np.savetxt(path := tmp_path / "rows.csv", table(50), delimiter=",")
    assert same_rows(streamed(path), open_data(path))
    path.write_text("a,b\n" + "1,2\n" * 30 + "3,word\n")
    with pytest.raises(InputError, match=r"rows\.csv: .*'word'.*only numbers are streamed, so choose columns"):
        streamed(path)
    with pytest.raises(InputError, match="has no column 'c'; its columns are a, b"):
        streamed(f"{path}:a,c")
    assert streamed(f"{path}:a").lengths["train"] == 25
    assert not list((tmp_path / "cache" / "ppl_vae" / "tables").glob("*.part"))


def test_a_large_table_of_all_kinds_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "rows.csv").write_text("a,b\n" + "1,word\n" * 100)
    monkeypatch.setattr(memory, "available_memory", lambda: 200.0)
    with pytest.raises(InputError, match=r"has to fit into it\. Give a part of the rows; or choose columns of numbers"):
        read_table(path)
    with pytest.raises(InputError, match="a table of columns of several kinds can't be streamed"):
        ppl_vae.fit(data=table_file(tmp_path, monkeypatch), out=tmp_path / "run", stream="on", **OPTIONS)


def table_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.undo()
    (path := folder / "few.csv").write_text("a,b\n" + "".join(f"{i % 7}.5,{'uv'[i % 2]}\n" for i in range(100)))
    return path
