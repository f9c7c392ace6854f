"""What docs/evidence.md says can be done, is done."""

import re
from pathlib import Path

import pytest
from support.pages import Page

from ppl_vae import cli
from ppl_vae.core.palette import PARTS
from ppl_vae.evidence.log_px import METHODS
from ppl_vae.objectives import named

PAGE = Page("evidence.md")
ROOT = Path(__file__).parents[2]


def test_its_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    PAGE.write(tmp_path)
    source = PAGE.files["evaluated.py"]
    quick = source.replace("epochs=5", "epochs=1").replace("rows=50", "rows=20, temperatures=20, calibrations=50")
    exec(compile(quick, "evaluated.py", "exec"), {})
    printed = capsys.readouterr().out
    assert "20 test rows of digits" in printed
    figures = ("evaluate.png", "khat.png", "latent_use.png", "calibration.png", "predictive.png")
    for name in ("evaluate.json", "evidence.nc", *figures):
        assert (tmp_path / "runs/digits" / name).is_file()


def test_every_method_is_described_in_the_order_of_choice() -> None:
    assert [row[0].strip("`") for row in PAGE.table("Method")] == list(METHODS)


def test_every_option_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    known = ""
    for verb in ("evaluate", "fit", "export"):
        with pytest.raises(SystemExit):
            cli.main([verb, "--help"])
        known += capsys.readouterr().out
    options = set(re.findall(r"--[a-z][a-z-]+", PAGE.prose)) - {"--"}
    assert len(options) > 10
    assert {option for option in options if option not in known} == set()


def test_the_cures_are_named_as_they_are_said() -> None:
    said = dict(PAGE.table("Cure"))
    objective = next(words for cure, words in said.items() if cure.startswith("free bits"))
    named(objective.strip("`").removeprefix("--objective ")).make({})
    families = {part for words in said.values() for part in re.findall(r"family=(\w+)", words)}
    assert families
    assert families <= set(PARTS["family"])


def test_every_file_that_is_named_exists() -> None:
    named_files = set(re.findall(r"\b(?:ppl_vae|tests|examples)/[\w/]*(?:\.py)?", PAGE.text))
    assert {path for path in named_files if not (ROOT / path).exists()} == set()
