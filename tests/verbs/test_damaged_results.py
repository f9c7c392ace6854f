"""A damaged `evaluate.json` or `compare.json` is told where its section stands, and the report is made."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.runs import fitted

import ppl_vae


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = fitted(tmp_path_factory.mktemp("damaged"), epochs=1)
    ppl_vae.evaluate(run, rows=5, simulations=0, calibrations=20, gap_rows=2, annealed_rows=0, num_samples=50)
    ppl_vae.compare(run, draws=3)
    return run.folder


def set_to(*keys: str, to: Any) -> Callable[[dict[str, Any]], Any]:
    def edit(value: dict[str, Any]) -> None:
        for key in keys[:-1]:
            value = value[key]
        value[keys[-1]] = to

    return edit


def page(run: Path) -> str:
    file = ppl_vae.report(run, quick=True).file
    return Path(file).read_text()


@pytest.mark.parametrize(
    ("file", "edit", "words"),
    [
        ("evaluate.json", lambda value: value.pop("methods"), "missing required key"),
        ("evaluate.json", set_to("methods", to={"guessed": 5}), "methods"),
        ("evaluate.json", set_to("elbo", to="high"), "elbo"),
        ("evaluate.json", set_to("elbo_se_mc", to=[]), "elbo_se_mc"),
        ("evaluate.json", set_to("active_units", to={"rate": 3}), "active_units"),
        ("evaluate.json", set_to("active_units", to={"covariance": {"active": 1}}), "active_units"),
        ("evaluate.json", set_to("calibration", "quantities", to={"z[0]": {"looks": "too wide"}}), "quantities"),
        ("evaluate.json", set_to("dimensions", to=5), "dimensions"),
        ("compare.json", set_to("estimators", "trace", to=None), "trace"),
        ("compare.json", set_to("estimators", "trace", "value", to="high"), "value"),
        ("compare.json", set_to("estimators", "trace", "seconds_per_step", to=None), "seconds_per_step"),
        ("compare.json", lambda value: value.pop("left_out"), "missing required key"),
    ],
)
def test_what_is_wrong_stands_on_the_page(
    run: Path, file: str, edit: Callable[[dict[str, Any]], Any], words: str
) -> None:
    content = (run / file).read_text()
    value = json.loads(content)
    edit(value)
    (run / file).write_text(json.dumps(value))
    told = page(run)
    (run / file).write_text(content)
    assert f"{file} is damaged: " in told
    assert words in told
    assert f"ppl-vae {file.partition('.')[0]} " in told


@pytest.mark.parametrize("file", ["evaluate.json", "compare.json"])
def test_a_file_that_is_torn(run: Path, file: str) -> None:
    content = (run / file).read_bytes()
    (run / file).write_bytes(content[: len(content) // 2])
    told = page(run)
    (run / file).write_bytes(content)
    assert f"{file} can&#39;t be read" in told


def test_whole_files_are_shown(run: Path) -> None:
    assert "is damaged" not in page(run)
