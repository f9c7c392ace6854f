"""`impute`: filled tables in files, what is kept, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.evidence.imputation import conditional

KINDS = "real,positive,categorical:3,count"


def rows(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(count)
    z = rng.normal(size=count)
    data = pd.DataFrame({"height": 170 + 9 * z, "weight": np.exp(4 + 0.2 * z), "group": (z > 0) + 1.0 * (z > 1)})
    data["visits"] = rng.poisson(np.exp(1 + z)).astype(float)
    data[["height", "weight"]] += rng.normal(size=(count, 2)) * [1, 0.5]
    return data


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("impute")
    data = rows(200)
    data.mask(np.random.default_rng(0).random(data.shape) < 0.15).to_csv(folder / "rows.csv", index=False)
    options = {"missing": "nan", "set": {"latent_dim": 2, "hidden": 8, "kinds": KINDS}, "epochs": 150, "lr": 1e-2}
    ppl_vae.fit("table", "table", folder / "rows.csv", folder / "run", **options)
    new = rows(40)[["group", "visits", "weight", "height"]]
    new.to_csv(folder / "whole.csv", index=False)
    new.mask(np.random.default_rng(1).random(new.shape) < 0.2).to_csv(folder / "new.csv", index=False)
    return folder


def test_the_file_is_the_table_with_its_holes_filled(place: Path) -> None:
    found = ppl_vae.impute(place / "run", place / "new.csv", out=place / "filled.csv")
    given, filled = pd.read_csv(place / "new.csv"), pd.read_csv(place / "filled.csv")
    assert list(filled) == list(given), "the columns as they stood"
    assert not filled.isna().any().any()
    there = given.notna().to_numpy()
    np.testing.assert_array_equal(filled.to_numpy()[there], given.to_numpy()[there])
    assert set(filled["group"]) <= {0, 1, 2}
    assert (filled["visits"] == filled["visits"].round()).all()
    cells = pd.read_csv(place / "filled_cells.csv")
    assert len(cells) == (~there).sum() == found["missing_cells"]
    assert list(cells) == ["row", "column", "guess", "sd", "probability", "method", "reliable"]
    assert cells["sd"].isna().equals(cells["column"] == "group")
    for _, cell in cells.iterrows():
        assert filled.loc[cell["row"], cell["column"]] == cell["guess"]
    assert found.files == (str(place / "filled.csv"), str(place / "filled_cells.csv"))
    assert "cells filled, in" in str(found)
    ppl_vae.encode(place / "run", place / "filled.csv", out=place / "z.csv")


def test_the_numbers_are_those_of_conditional(place: Path) -> None:
    found = ppl_vae.impute(place / "run", place / "new.csv", out=place / "a.npz", num_samples=4000)
    run = ppl_vae.Run(place / "run")
    seen = torch.tensor(pd.read_csv(place / "new.csv")[["height", "weight", "group", "visits"]].to_numpy()).float()
    other = conditional(run.model, run.guide, seen, torch.full_like(seen, torch.nan), 4000)
    gone = seen.isnan()
    mean, sd = (torch.as_tensor(found.arrays[name]).nan_to_num(nan=0.5) for name in ("mean", "sd"))
    off = (mean - other.mean)[gone] / sd[gone]
    assert off.abs().max() < 5 * 2**0.5 / min(other.ess.min().item(), 4000) ** 0.5
    with np.load(place / "a.npz") as file:
        assert set(file) == {"x", "mean", "sd", "probability", "method", "reliable", "khat", "ess", "rhat"}
        assert set(file["method"]) <= {"nothing missing", "importance", "fitted"}


def test_the_guess_is_better_than_the_columns_mean(place: Path) -> None:
    filled = ppl_vae.impute(place / "run", place / "new.csv", out=place / "filled.csv").frame
    given, truth = pd.read_csv(place / "new.csv"), pd.read_csv(place / "whole.csv")
    for column in ("height", "weight"):
        gone = given[column].isna()
        error = ((filled - truth)[column][gone] ** 2).mean()
        assert error < 0.6 * ((truth[column].mean() - truth[column][gone]) ** 2).mean()


def test_several_tables_stand_one_below_the_other(place: Path) -> None:
    found = ppl_vae.impute(place / "run", place / "new.csv", draws=5, out=place / "many.parquet")
    many, given = pd.read_parquet(place / "many.parquet"), pd.read_csv(place / "new.csv")
    assert list(many) == ["draw", *given]
    assert many["draw"].tolist() == [draw for draw in range(1, 6) for _ in range(40)]
    gone = given.isna().to_numpy()
    tables = many[list(given)].to_numpy().reshape(5, 40, 4)
    # pandas before 3.1 reads a csv up to its last bit
    np.testing.assert_allclose(tables[0, ~gone], given.to_numpy()[~gone], rtol=1e-15)
    assert (tables[:, ~gone] == tables[0, ~gone]).all()
    assert (tables[:, gone].std(0) > 0).mean() > 0.5
    assert "5 completed tables" in str(found)
    arrays = ppl_vae.impute(place / "run", place / "new.csv", draws=5, out=place / "many.npz").arrays["x"]
    np.testing.assert_array_equal(arrays, tables[..., [3, 2, 0, 1]], "by the run's columns")


def test_from_the_command_line_the_runs_own_rows(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["impute", str(place / "run"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == 200
    assert told["files"] == [str(place / "run" / f"imputed{end}.csv") for end in ("", "_cells")]
    assert sum(told["methods"].values()) == 200
    assert main(["impute", str(place / "run"), "--data", str(place / "whole.csv"), "--out", str(place / "w.csv")]) == 0
    assert "0 of 160 cells filled" in capsys.readouterr().out
    for arguments, words in (
        (["--draws", "-1"], "draws is -1"),
        (["--out", "x.npy"], "ends in .csv, .parquet or .npz"),
    ):
        assert main(["impute", str(place / "run"), *arguments]) == 2
        assert words in capsys.readouterr().err


def test_units_and_types_are_those_of_the_data(tmp_path: Path) -> None:
    x = rows(60)[["height", "weight"]].to_numpy(np.float64)
    x[np.random.default_rng(0).random(x.shape) < 0.2] = np.nan
    np.save(tmp_path / "x.npy", x)
    settings = {"latent_dim": 1, "hidden": 4, "kinds": "real"}
    run = ppl_vae.fit("table", "table", tmp_path / "x.npy", tmp_path / "run", missing="nan", scale=100.0, epochs=1,
                      set=settings)  # fmt: skip
    filled = ppl_vae.impute(run, out=tmp_path / "f.npz")
    guess, there = filled.arrays["x"], ~np.isnan(x)
    assert guess.dtype == np.float64
    assert (guess[there].view(np.int64) == x[there].view(np.int64)).all(), "to the last bit"
    assert (np.abs(guess[~there] - np.nanmean(x)) < 300).all()
    assert filled.frame.columns.tolist() == ["x_1", "x_2"]
    assert 1 < np.nanmedian(filled.arrays["sd"]) < 200


def test_a_run_without_missing_cells_is_refused(tmp_path: Path) -> None:
    x = rows(40)[["height", "weight"]].to_numpy(np.float32)
    run = ppl_vae.fit("gaussian", "diagonal_normal", x, tmp_path / "run", epochs=1, set={"hidden": 4})
    with pytest.raises(InputError, match="was fitted without missing cells, so that it can't fill any"):
        ppl_vae.impute(run, x)
    assert not list(run.folder.glob("imputed*"))


# ---- tables of people


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A csv with an identifier, texts, dates and missing cells, and a run on it."""
    folder, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    z = rng.normal(size=150)
    born = pd.Timestamp("1980-01-01") + pd.to_timedelta((z * 1000).round(), unit="D")
    data = pd.DataFrame(
        {
            "id": [f"P{i}" for i in range(150)],
            "height": (170 + 9 * z + rng.normal(size=150)).round(1),
            "group": np.array(["low", "mid", "high"])[(z > 0).astype(int) + (z > 1)],
            "smoker": np.where(rng.random(150) < 1 / (1 + np.exp(-z)), "yes", "no"),
            "born": born.strftime("%d.%m.%Y"),
        }
    ).astype(object)
    gone = rng.random(data.shape) < 0.15
    gone[:, 0] = False
    data[gone] = np.nan
    data.to_csv(folder / "people.csv", index=False, sep=";", na_rep="NA")
    ppl_vae.fit(data=folder / "people.csv", out=folder / "run", epochs=20, set={"latent_dim": 2, "hidden": 8})
    return folder


def test_texts_dates_and_columns_that_are_left_out_stay(people: Path) -> None:
    found = ppl_vae.impute(people / "run", out=people / "filled.csv")
    given = pd.read_csv(people / "people.csv", sep=";", dtype=str, keep_default_na=False)
    filled = pd.read_csv(people / "filled.csv", dtype=str, keep_default_na=False)
    assert list(filled) == list(given)
    there = (given != "NA").to_numpy()
    np.testing.assert_array_equal(filled.to_numpy()[there], given.to_numpy()[there])
    assert set(filled["group"]) == {"low", "mid", "high"}
    assert pd.to_datetime(filled["born"], format="%d.%m.%Y").notna().all()
    assert found["missing_cells"] == (~there).sum()
    ppl_vae.encode(people / "run", people / "filled.csv", out=people / "z.csv")
    ppl_vae.impute(people / "run", draws=2, out=people / "many.parquet")
    assert set(pd.read_parquet(people / "many_cells.parquet")["method"]) <= {"importance", "fitted"}


def test_a_data_frame_comes_back_with_its_index(people: Path) -> None:
    data = pd.read_csv(people / "people.csv", sep=";", index_col="id")
    data["born"] = pd.to_datetime(data["born"], format="%d.%m.%Y")
    data["group"] = data["group"].astype("category")
    run = ppl_vae.fit(data=data, out=people / "from_frame", epochs=2, set={"latent_dim": 2, "hidden": 8})
    found = ppl_vae.impute(run, data[:50], out=people / "frame.parquet").frame
    assert found.index.equals(data.index[:50])
    assert found.dtypes.equals(data.dtypes)
    for name in data:
        there = data[name][:50].notna()
        assert found[name][there].equals(data[name][:50][there])
        assert found[name].notna().all()
    assert pd.read_parquet(people / "frame.parquet").index.name == "id"
    codes = run.encode(data[:50])
    assert isinstance(codes, pd.DataFrame)
    assert codes.index.equals(data.index[:50])
    scores = ppl_vae.score(run, data[:50], num_samples=100, out=people / "scores.csv")
    assert scores.frame.index.equals(data.index[:50])
    assert scores["least_likely"][0]["row"] in set(data.index)
    assert next(iter(pd.read_csv(people / "scores.csv"))) == "id"


def test_samples_of_such_a_table_can_be_read_as_data(people: Path) -> None:
    ppl_vae.sample(people / "run", 40, copies=True, out=people / "drawn.csv")
    drawn = pd.read_csv(people / "drawn.csv")
    assert set(drawn["smoker"]) <= {"yes", "no"}
    assert drawn["born"].str.fullmatch(r"\d\d\.\d\d\.\d{4}").all()
    scores = ppl_vae.score(people / "run", people / "drawn.csv", num_samples=100, out=people / "s.parquet")
    assert "surprise_born" in scores.frame
    beside = ppl_vae.reconstruct(people / "run", num=3, out=people / "r.csv").frame
    assert set(beside["group_mean"]) <= {"low", "mid", "high"}
