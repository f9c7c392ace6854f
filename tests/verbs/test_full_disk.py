"""A disk that is full: a sentence that names the file, and nothing half-written. By a limit on the size of files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import PAIR_ARGUMENTS, fitted, write_rows

from ppl_vae.cli import main

resource = pytest.importorskip("resource")
UNDER = """
import contextlib, io, json, resource, sys
from ppl_vae.cli import main

for limit, args in json.loads(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        code = main(args)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(json.dumps([code, told.getvalue().splitlines()[-1]]))
"""


def under(*cases: tuple[int, list[str]]) -> list[tuple[int, str]]:
    """Exit code and last line of each command, in one process, where no file may be larger than so many bytes."""
    done = subprocess.run([sys.executable, "-c", UNDER, json.dumps(cases)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_verb_that_writes(tmp_path: Path) -> None:
    run = str(fitted(tmp_path, epochs=1).folder)
    before = listed(tmp_path)
    few = ["--rows", "5", "--simulations", "0", "--calibrations", "0", "--gap-rows", "0"]
    cases = [
        (8000, ["compare", run, "--draws", "3"], "compare.nc"),
        (500, ["export", run, "--rows", "5", "--draws", "5"], "arviz.nc"),
        (500, ["encode", run], "encoding.npz"),
        (500, ["sample", run], "samples.npz"),
        (500, ["sample", run, "--out", f"{run}/s.parquet"], "s.parquet"),
        (4000, ["evaluate", run, *few], "evidence.nc"),
        (500, ["report", run, "--quick"], "report.html"),
    ]
    for (code, line), (_, args, file) in zip(under(*((limit, args) for limit, args, _ in cases)), cases, strict=True):
        assert code == 2, args
        assert line.startswith("error: /"), line
        assert line.endswith(f"{file} can't be read or written: File too large"), line
    new = {Path(name).name for name in listed(tmp_path) - before}
    assert new == {"compare.json", "evaluate.json"}, "whole files alone"


def test_a_folder_that_had_room_for_the_sources_alone(tmp_path: Path) -> None:
    write_rows(tmp_path)
    run = tmp_path / "run"
    args = ["fit", *PAIR_ARGUMENTS, "--data", str(tmp_path / "rows.npy"), "--epochs", "1", "--out", str(run)]
    ((code, line),) = under((1300, args))
    assert code == 2
    assert "File too large" in line
    assert {path.name for path in run.iterdir()} == {"sources"}
    assert main(args) == 0, "the fit takes such a folder over"
    assert (run / "config.json").is_file()


@pytest.mark.parametrize("there", ["sources/mine.py", "mine.txt", "sources/x-0123abcd.py and/mine"])
def test_a_folder_with_files_of_somebody_is_left_alone(
    tmp_path: Path, there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path)
    file = tmp_path / "run" / there
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    args = ["fit", *PAIR_ARGUMENTS, "--data", str(tmp_path / "rows.npy"), "--epochs", "1"]
    assert main([*args, "--out", str(tmp_path / "run")]) == 2
    assert "run exists: choose another --out" in capsys.readouterr().err
    assert file.read_text() == "mine"
