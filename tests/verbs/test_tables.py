"""A csv with texts, categories and missing cells, through the verbs: no cell is recoded by hand."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.anes import EDUCATION, PARTY, VOTE, anes

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError

SMALL = {"epochs": 2, "set": {"latent_dim": 2, "hidden": 8}}
SMALL_SETTINGS = ["--set", "latent_dim=2", "--set", "hidden=8"]
NAMES = ["popul", "TVnews", "selfLR", "age", "income", "party", "education", "vote"]
KINDS = "whole,ordinal:8,ordinal:7,whole,whole,categorical:7,categorical:7,binary"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`anes.csv`, a run fitted to it, and new rows in another order of the columns."""
    folder = tmp_path_factory.mktemp("tables")
    anes().to_csv(folder / "anes.csv", index=False)
    anes(seed=1)[NAMES[::-1]].head(5).to_csv(folder / "new_rows.csv", index=False)
    fit = ["fit", "--epochs", "2", *SMALL_SETTINGS]
    assert main([*fit, "--data", str(folder / "anes.csv"), "--out", str(folder / "RUN")]) == 0
    return folder


def cell_is(column: pd.Series, labels: tuple[str, ...]) -> bool:
    return set(column.dropna()) <= set(labels)


def test_describe(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place)
    assert main(["describe", "anes.csv"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("anes.csv: 944 rows, 9 columns; separated by commas, UTF-8")
    assert "it counts the rows from 1 to 944" in " ".join(shown.split())
    assert main(["describe", "anes.csv", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kinds"] == KINDS
    assert told["columns"][7]["labels"] == ["Clinton", "Dole"]
    assert told["columns"][3]["range"] == [19, 91]
    assert ppl_vae.describe(anes()).schema == ppl_vae.describe("anes.csv").schema


def test_describe_never_writes_over_a_file(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "columns.toml"
    ppl_vae.describe(place / "anes.csv", drop="id", out=path)
    assert ppl_vae.describe(place / "anes.csv", columns=path).schema.kinds == KINDS
    with pytest.raises(InputError, match="is there already"):
        ppl_vae.describe(place / "anes.csv", out=path)
    ppl_vae.describe(place / "anes.csv", out=path, only=["vote", "age"], overwrite=True)
    assert ppl_vae.describe(place / "anes.csv", columns=path).schema.names == ("age", "vote")


def test_the_run_knows_its_columns(place: Path) -> None:
    run = ppl_vae.Run(place / "RUN")
    assert run.schema is not None
    assert (list(run.schema.names), run.schema.kinds) == (NAMES, KINDS)
    assert run.config.missing == "nan"
    assert ppl_vae.describe(place / "anes.csv", columns=place / "RUN" / "columns.toml").schema == run.schema
    assert np.isnan(run.data().whole("train")[0].numpy()).any()


def test_samples_have_names_and_labels(place: Path) -> None:
    drawn = ppl_vae.sample(place / "RUN", 50)
    assert drawn.files[0] == place / "RUN" / "samples.csv"
    for frame in (drawn.frame, pd.read_csv(drawn.files[0]), ppl_vae.Run(place / "RUN").sample(50)):
        assert list(frame.columns) == NAMES
        assert cell_is(frame["vote"], VOTE)
        assert cell_is(frame["education"], EDUCATION)
        assert all(frame[name].dtype == np.int64 for name in NAMES[:5])
        assert frame["selfLR"].between(1, 7).all()
    assert main(["encode", str(place / "RUN"), "--data", str(drawn.files[0])]) == 0  # its own rows are rows of the run


def test_score_and_impute_speak_in_labels(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--rows", "4", "--num-samples", "200", "--out", str(place / "scores.csv")]
    assert main(["score", str(place / "RUN"), *few]) == 0
    assert re.search(r"(vote|party|education)=[A-Z a-z]+: -?\d", capsys.readouterr().out)
    assert {"surprise_vote", "surprise_se_age"} < set(pd.read_csv(place / "scores.csv"))
    given = anes().head(20)
    filled = ppl_vae.impute(place / "RUN", given, chain_rows=0, out=place / "filled.csv")
    there = given.notna()
    assert list(filled.frame) == list(given)
    assert filled.frame.notna().all(axis=None)
    for name in given:
        assert filled.frame[name][there[name]].tolist() == given[name][there[name]].tolist()
    assert cell_is(filled.frame["party"], PARTY)
    cells = pd.read_csv(place / "filled_cells.csv")
    assert len(cells) == int((~there).to_numpy().sum())
    assert cell_is(cells["guess"][cells["column"] == "education"], EDUCATION)


def test_reconstructions_have_labels(place: Path) -> None:
    frame = pd.read_csv(ppl_vae.reconstruct(place / "RUN", num=5).files[0])
    assert {"vote", "vote_mean"} < set(frame)
    assert cell_is(frame["vote_mean"], VOTE)


def test_encode_reads_new_rows_in_another_process(place: Path) -> None:
    command = [sys.executable, "-m", "ppl_vae.cli", "encode", "RUN", "--data", "new_rows.csv", "--out", "z.csv"]
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    z = pd.read_csv(place / "z.csv")
    assert list(z) == ["row", "z1", "z2", "z1_sd", "z2_sd"]
    again = ppl_vae.Run(place / "RUN").encode(anes(seed=1).head(5))  # as a DataFrame, with the column id
    np.testing.assert_allclose(z[["z1", "z2"]], again[["z1", "z2"]], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="age"), "has no column 'age'"),
        (lambda f: f.iloc[:0, :0], "the DataFrame has no rows"),
        (lambda f: f.assign(vote="Perot"), "row 0, column 'vote' holds 'Perot': known are Clinton, Dole"),
        (lambda f: f.assign(TVnews=3.5), "row 0, column 'TVnews' holds 3.5: known are 0, 1, 2, 3, 4, 5, 6, 7"),
        (lambda f: f.assign(more=1), "has a column 'more', which is not known"),
    ],
)
def test_new_rows_that_are_not_the_runs(place: Path, change, message) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        ppl_vae.encode(place / "RUN", change(anes().head(5)), out=place / "none.csv")
    assert "\n" not in str(raised.value)
    assert not (place / "none.csv").exists()


def test_a_notebook(tmp_path: Path) -> None:
    frame = anes()
    frame["day"] = pd.date_range("1996-01-01", periods=len(frame), freq="D")
    run = ppl_vae.fit(data=frame, drop=["popul"], label="vote", out=tmp_path / "run", **SMALL)
    assert run.schema.label == "vote"
    assert "popul" not in run.schema.names
    drawn = run.sample(20)
    assert drawn["day"].dt.normalize().equals(drawn["day"])
    assert run.encode(frame.head(3)).shape == (3, 4)
    filled = ppl_vae.impute(run, frame.head(9), chain_rows=0).frame
    assert filled["day"].tolist() == frame["day"].head(9).tolist()


def test_a_model_is_given_the_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = anes().dropna(subset=["party", "age"])
    frame.to_csv("my.csv", index=False)
    fit = ["fit", "--data", "my.csv", "--model", "conditional", "--epochs", "2", *SMALL_SETTINGS]
    assert main([*fit, "--label", "party", "--guide", "conditional", "--out", "RUN"]) == 0
    run = ppl_vae.Run(Path("RUN"))
    assert {"y_dim=7", "likelihood='table'"} < set(run.config.set)
    assert run.record["data"]["given"] == ["y"]
    assert main(["sample", "RUN", "--given", "party=weak Rep", "--num", "20"]) == 0
    drawn = pd.read_csv("RUN/samples.csv")
    assert list(drawn) == [*run.schema.names, "party"]
    assert set(drawn["party"]) == {"weak Rep"}
    assert cell_is(drawn["education"], EDUCATION)
    assert run.sample(2, given={"party": ["weak Rep", "ind Dem"]})["party"].tolist() == ["weak Rep", "ind Dem"]
    assert list(pd.read_csv(ppl_vae.encode(run).files[0])["party"]) == frame["party"].tolist()
    assert list(ppl_vae.impute(run, frame.head(9), chain_rows=0).frame) == list(frame)
    for given, message in {
        "Perot": "'Perot': known are ind Dem",
        "": "given party: 1 row of 1 have no 'party'",
    }.items():
        with pytest.raises(InputError, match=message):
            ppl_vae.sample(run, 20, given={"party": given})
    with pytest.raises(InputError, match="the model of RUN is given party: say what, as in --given party=ind Dem"):
        ppl_vae.sample(run, 20)
    with pytest.raises(InputError, match=r"39 rows of 944 have no 'party', .* the first is row 1: leave such rows out"):
        ppl_vae.encode(run, anes())


def test_a_model_is_given_a_number(tmp_path: Path) -> None:
    frame = anes().dropna(subset=["age"])
    run = ppl_vae.fit("conditional", data=frame, label="age", drop="id", out=tmp_path / "run", **SMALL)
    assert run.model.y_scale.center == pytest.approx(frame["age"].head(1000).mean(), rel=0.02)
    assert ppl_vae.sample(run, 2, given={"age": [33, 44]}).frame["age"].tolist() == [33, 44]
    with pytest.raises(InputError, match="'id' can't be the label that a model is given: it counts the rows"):
        ppl_vae.fit("conditional", data=anes(), label="id", out=tmp_path / "none", **SMALL)


def test_a_label_decides_what_is_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kind = rng.choice(["low", "high"], 600)
    frame = pd.DataFrame({"kind": kind, "x": np.where(kind == "low", -3.0, 3.0) + rng.normal(size=600)})
    how = {"epochs": 60, "lr": 0.01, "set": SMALL["set"]}
    run = ppl_vae.fit("conditional", data=frame.round(3), label="kind", out=tmp_path / "run", **how)
    for given, mean in {"low": -3.0, "high": 3.0}.items():
        x = run.sample(2000, given={"kind": given})["x"]
        assert x.mean() == pytest.approx(mean, abs=0.3)  # the standard error of 300 rows is 0.06


def test_a_label_that_is_kept_aside_stands_beside_the_codes(tmp_path: Path) -> None:
    frame = anes().set_axis(range(100, 1044))
    run = ppl_vae.fit(data=frame, label="vote", out=tmp_path / "run", **SMALL)
    codes = ppl_vae.encode(run, frame.head(20))
    assert list(codes.frame) == ["z1", "z2", "z1_sd", "z2_sd", "vote"]
    assert codes.frame["vote"].dropna().to_dict() == frame["vote"].head(20).dropna().to_dict()
    assert [file.name for file in codes.files] == ["encoding.csv", "encoding.png"]
    assert list(ppl_vae.encode(run, frame.drop(columns="vote")).frame) == ["z1", "z2", "z1_sd", "z2_sd"]


def test_a_table_in_a_dozen_lines_of_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = anes().drop(columns="id").set_index(pd.Index([f"person {i}" for i in range(944)], name="who"))
    new = anes(seed=1).drop(columns="id").set_axis([f"new {i}" for i in range(944)]).head(12)
    # ---- the notebook
    print(ppl_vae.describe(frame))
    run = ppl_vae.fit(data=frame, epochs=2, set={"latent_dim": 2, "hidden": 8})
    print(run, run.history[["epoch", "valid_elbo"]])
    scores = ppl_vae.score(run, new, num_samples=100).frame
    worst = new.loc[scores["log_px"].nsmallest(3).index]
    filled = ppl_vae.impute(run, new, chain_rows=0).frame
    drawn = run.sample(12)
    codes = run.encode(new)
    beside = new.join(codes).join(scores["log_px"])
    # ---- what it holds
    assert [*worst.index] == [*scores.sort_values("log_px").index[:3]]
    for each in (scores, filled, codes, beside):
        assert each.index.equals(new.index)
    assert list(filled) == list(drawn) == list(frame)
    assert filled.notna().all(axis=None)
    assert filled["vote"].where(new["vote"].notna()).equals(new["vote"].where(new["vote"].notna()))
    assert list(beside) == [*frame, "z1", "z2", "z1_sd", "z2_sd", "log_px"]
    assert beside.notna()[["z1", "log_px"]].all(axis=None)
    assert not list(tmp_path.iterdir()), "all is in the temporary folder of the run"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "gaussian", "guide": "diagonal_normal", "drop": "id"}, "--drop is for the model table"),
        ({"set": {"kinds": "real"}, "label": "vote"}, "--label and the kinds of --set do not go together"),
        ({"drop": "x"}, "the DataFrame has no column 'x'"),
        ({"scale": 2.0}, "a scale is for numbers of one kind"),
        ({"columns": "none.toml"}, "none.toml can't be read"),
        ({"label": "vote", "seeds": 2}, "--columns, --drop, --only and --label are for one run"),
    ],
)
def test_options_that_do_not_go_together(options, message) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        ppl_vae.fit(**{"data": anes(), **options})


def test_numbers_for_a_named_model_are_read_as_before(tmp_path: Path) -> None:
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list("abc"))
    rows.to_csv(tmp_path / "a.csv", index=False)
    run = ppl_vae.fit("gaussian", "diagonal_normal", tmp_path / "a.csv", tmp_path / "run", epochs=1)
    assert run.schema is None
    assert not (tmp_path / "run" / "columns.toml").exists()
    with pytest.raises(InputError, match="--only is for one csv, parquet file or DataFrame"):
        ppl_vae.fit(data=rows.to_numpy(), only="a")


def test_a_run_goes_on(place: Path, tmp_path: Path) -> None:
    run = ppl_vae.fit(data=anes().head(100), out=tmp_path / "run", **SMALL)
    ppl_vae.resume(run, epochs=3, data=anes().head(100))
    assert run.metrics[-1]["epoch"] == 3
