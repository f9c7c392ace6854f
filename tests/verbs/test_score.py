"""`score`: rows and their columns, in a table by their names, in words and in JSON."""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.evidence.log_px import log_px

SMALL = {"latent_dim": 2, "hidden": 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `table` on a csv with missing cells, and one new row that is odd in one column."""
    folder = tmp_path_factory.mktemp("score")
    rng = np.random.default_rng(0)
    z = rng.normal(size=200)
    data = pd.DataFrame({"height": 170 + 9 * z, "weight": np.exp(4 + 0.2 * z), "group": (z > 0) + 1.0 * (z > 1)})
    data += rng.normal(size=data.shape) * [1, 0.5, 0]
    data.mask(rng.random(data.shape) < 0.1).to_csv(folder / "rows.csv", index=False)
    odd = pd.DataFrame({"group": [2.0, 1.0, np.nan], "weight": [70.0, 55.0, 50.0], "height": [180.0, 300.0, 168.0]})
    odd.to_csv(folder / "new.csv", index=False)
    options = {"missing": "nan", "set": SMALL | {"kinds": "real,positive,categorical:3"}, "epochs": 60}
    ppl_vae.fit("table", "table", folder / "rows.csv", folder / "run", **options)
    return folder


def test_the_table_has_a_row_for_each_row_and_its_columns(place: Path) -> None:
    found = ppl_vae.score(place / "run", num_samples=200)
    table = pd.read_csv(place / "run" / "scores.csv", index_col="row")
    names = ["log_px", "log_px_se", "elbo", "rate", "distortion", "khat", "reliable"]
    parts = [f"{part}_{name}" for part in ("surprise", "surprise_se") for name in ("height", "weight", "group")]
    assert list(table) == names + parts
    assert list(table.index) == list(range(200))
    np.testing.assert_allclose(table["elbo"], -table["rate"] - table["distortion"], atol=1e-9)
    assert (table["elbo"] < table["log_px"] + 0.2).all()
    missing = pd.read_csv(place / "rows.csv").isna()
    np.testing.assert_array_equal(table["surprise_weight"].isna(), missing["weight"])
    assert found.asdict()["rows"] == 200
    assert found["least_likely"][0]["row"] == table["log_px"].idxmin()


def test_the_odd_column_of_the_odd_row_is_named(place: Path) -> None:
    found = ppl_vae.score(place / "run", place / "new.csv", out=place / "new.parquet")
    first = found["least_likely"][0]
    assert first["row"] == 1
    assert next(iter(first["surprising"])) == "height"
    text = str(found)
    assert "3 rows of" in text
    assert "row 1: log p(x) -" in text
    assert "the number of a column is −log p(x_j | the other columns)" in text
    frame = pd.read_parquet(place / "new.parquet")
    assert frame["surprise_height"].idxmax() == 1
    assert math.isnan(frame["surprise_group"][2])
    odd = pd.read_csv(place / "new.csv")
    odd[:1].to_csv(place / "one.csv", index=False)
    one = ppl_vae.score(place / "run", place / "one.csv", out=place / "one.npz", num_samples=100)
    assert "in brackets" not in str(one)
    with np.load(place / "one.npz") as file:
        assert set(file) == {"log_px", "log_px_se", "elbo", "rate", "distortion", "khat", "reliable", "surprise",
                             "surprise_se"}  # fmt: skip


def test_a_row_that_no_draw_can_explain_is_marked_and_no_failure(place: Path) -> None:
    odd = pd.DataFrame({"height": [170.0, 1e30], "weight": [60.0, 1e-30], "group": [1.0, 0.0]})
    odd.to_csv(place / "odd.csv", index=False)
    for method in (None, "importance"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ppl_vae.score(place / "run", place / "odd.csv", method=method, out=place / "odd_scores.csv")
        assert not found.arrays["reliable"][1]
        assert not found.arrays["log_px"][1] > -1e6
        assert np.isfinite(found.arrays["log_px"][0])
        assert found["least_likely"][0]["row"] == 1


def test_from_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(place / "run")
    assert main(["score", run, "--rows", "3", "--rows-only", "--num-samples", "50", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == 3
    assert "surprising" not in told["least_likely"][0]
    assert list(pd.read_csv(place / "run" / "scores.csv"))[-1] == "reliable"
    for arguments, words in (
        (["--out", "scores.npy"], "ends in .csv, .parquet or .npz"),
        (["--num-samples", "1"], "num_samples is 1"),
        (["--rows", "0"], "rows is 0"),
        (["--method", "exact"], "log_px"),
    ):
        assert main(["score", run, *arguments]) == 2
        assert words in capsys.readouterr().err


def test_scaled_data_are_scored_as_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(80, 3)) * 20).astype("float32")
    np.save(tmp_path / "x.npy", x)
    run = ppl_vae.fit("gaussian", "diagonal_normal", tmp_path / "x.npy", tmp_path / "run", scale=20.0, epochs=1,
                      set=SMALL)  # fmt: skip
    found = ppl_vae.score(run, num_samples=2000)
    inside = log_px(run.model, run.guide, torch.as_tensor(x / 20), num_samples=2000)
    np.testing.assert_allclose(found.arrays["log_px"], inside.value - 3 * math.log(20), atol=0.01)
    assert "before they were divided by 20" in str(found)
    plain = ppl_vae.fit("gaussian", "diagonal_normal", torch.as_tensor(x / 20), tmp_path / "p", epochs=1, set=SMALL)
    at_one = ppl_vae.score(plain, torch.as_tensor(x / 20), num_samples=2000).arrays
    np.testing.assert_allclose(found.arrays["surprise"], at_one["surprise"] + math.log(20), atol=0.1)
    np.testing.assert_allclose(found.arrays["elbo"], at_one["elbo"] - 3 * math.log(20), atol=0.1)


def test_a_likelihood_without_columns_is_scored_by_rows(tmp_path: Path) -> None:
    x = (np.random.default_rng(0).random((100, 6)) < 0.4).astype("float32")
    run = ppl_vae.fit("autoregressive", "diagonal_normal", x, tmp_path / "run", epochs=1, set={"latent_dim": 2})
    found = ppl_vae.score(run, x[:9], num_samples=100)
    assert "says nothing of a single number" in found["refused"]["log p of each column"]
    assert "log p of each column can't be had" in str(found)
    assert list(found.frame)[-1] == "reliable"
    bits = ppl_vae.fit("bernoulli", "diagonal_normal", x, tmp_path / "bits", epochs=1, set=SMALL)
    assert "surprise_x_6" in ppl_vae.score(bits, x[:9], num_samples=100).frame
    with pytest.raises(InputError, match="given from Python"):
        ppl_vae.score(bits)
