"""What docs/answers.md says can be done, is done; and what it says of numbers holds."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.pages import Page, run_command

import ppl_vae

PAGE = Page("answers.md")


@pytest.fixture
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PAGE.write(tmp_path)
    run_command("python make_data.py")


def run_those_with(words: str) -> None:
    """Run the commands that have these words in them, with one seed of each sweep."""
    for line in PAGE.commands:
        if words in line:
            run_command(line.replace("--seeds 3", "--seeds 1"))


def section(head: str) -> str:
    return PAGE.text.partition(f"## {head}")[2].partition("\n## ")[0]


@pytest.mark.usefixtures("_in_its_folder")
def test_its_sweeps_run(capsys: pytest.CaptureFixture[str]) -> None:
    run_those_with("runs/latents")
    assert "best is latent_dim=" in capsys.readouterr().out
    run_those_with("runs/sigma")
    printed = capsys.readouterr().out
    for sigma, *_ in PAGE.table("σ"):
        assert re.search(rf"^{sigma.split(',')[0]}", printed, re.M)


@pytest.mark.usefixtures("_in_its_folder")
@pytest.mark.filterwarnings("ignore:the latent has collapsed")
def test_the_unit_of_the_data_decides_over_the_sign(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PAGE.files["negative.py"], "negative.py", "exec"), {})
    printed = capsys.readouterr().out
    metres, millimetres = (float(x) for x in re.findall(r"loss (\S+)", printed))
    assert metres < 0 < millimetres
    found, expected = re.search(r"difference (\S+), 4 log 1000 = (\S+)", printed).groups()  # type: ignore[union-attr]
    assert float(found) == pytest.approx(float(expected), abs=0.02)
    shown = next(block.text for block in PAGE.blocks if block.language == "text")
    numbers = [[float(x) for x in re.findall(r"-?\d+\.\d+", text)] for text in (shown, printed)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.05)


def test_the_squared_error_is_a_sigma_of_the_root_of_a_half() -> None:
    x, f = np.random.default_rng(0).normal(size=(2, 5))
    for sigma, of in ((0.5**0.5, np.sum), (2.5**0.5, np.mean)):
        assert np.sum((x - f) ** 2) / (2 * sigma**2) == pytest.approx(of((x - f) ** 2))
    assert round(2.5**0.5, 2) == 1.58
    PAGE.says("their mean would be σ = 1.58")


@pytest.mark.usefixtures("_in_its_folder")
def test_rows_given_a_label() -> None:
    run_those_with("runs/conditional")
    with np.load("threes.npz") as drawn:
        assert drawn["x"].shape == (16, 64)
        assert (drawn["y"] == 3).all()
    frame = pd.DataFrame({"group": list("abc") * 20, "x": np.arange(60) % 7 / 3})
    frame.to_csv("my.csv", index=False)
    run_those_with("by-group")
    assert set(pd.read_csv("b.csv")["group"]) == {"b"}


@pytest.mark.usefixtures("_in_its_folder")
def test_rows_given_some_of_their_cells() -> None:
    run_those_with("runs/holes")
    holes, filled = pd.read_csv("holes.csv"), pd.read_csv("filled.csv")
    assert holes.isna().any(axis=None)
    assert not filled.isna().any(axis=None)
    assert len(pd.read_csv("completed.csv")) == 20 * len(holes)
    given = pd.read_csv("given_alcohol.csv")
    assert given["alcohol"].nunique() == 1
    assert given["proline"].nunique() == 20
    assert len(pd.read_csv("filled_cells.csv")) == holes.isna().sum().sum()


def test_what_it_names_is_there() -> None:
    for name in re.findall(r"`(discretized_logistic|poisson|negative_binomial|bernoulli)`", PAGE.prose):
        assert name in ppl_vae.resolve("vae", data_shape=(2,), likelihood=name).p_x.name
    for question in ("Which number of latents?", "Why is my loss negative?"):
        assert section(question)
