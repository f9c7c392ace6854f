"""`rerun`: a run made again from its folder comes out the same, or where it parts is told."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.fits import DEFAULTS, ROWS, contents

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.machine import machine, versions
from ppl_vae.runs.run import Run

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def edited(run: Run, change: Callable[[dict[str, Any]], Any]) -> None:
    file = run.folder / "config.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    np.save(tmp_path / "rows.npy", ROWS)
    return tmp_path / "rows.npy"


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "drawn": {"model": "bernoulli", "binarize": "epoch", "warmup": 1, "seed": 3, "objective": "beta:beta=2"},
    "stopped": {"standardize": True, "schedule": "cosine", "patience": 1, "lr": 0.3, "epochs": 8, "clip": 1.0},
    "float64": {"precision": "float64", "track": ("tensorboard",), "threads": 1},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_comes_out_the_same(options: dict[str, Any], rows: Path, tmp_path: Path) -> None:
    if "model" in options:
        np.save(rows, 1 / (1 + np.exp(-ROWS)))
    given = {"model": "gaussian"} | DEFAULTS | options
    run = fit(guide="diagonal_normal", data=rows, out=tmp_path / "run", **given)
    before = contents(run.folder)
    found = ppl_vae.rerun(run, out=tmp_path / "again")
    assert found.same
    assert (found.differs, found.notes, found.exit_code) == ("", (), 0)
    assert found.compared == (len(run.metrics), tuple(run.checkpoints.steps))
    assert contents(run.folder) == before
    ours = contents(found.run.folder)
    files = {name for name in before if name.startswith(("checkpoints", "sources", "metrics", "best"))}
    assert {name for name in files if ours[name] != before[name]} == set()
    assert not (found.run.folder / "tensorboard").exists()


def test_compiled_steps_are_repeated_with_the_same_products(rows: Path, tmp_path: Path) -> None:
    run = fit("gaussian", "diagonal_normal", rows, tmp_path / "run", compile="on", **DEFAULTS)
    assert run.record["step"]["captured"]
    found = ppl_vae.rerun(run)
    assert found.same
    assert found.run.record["step"] == run.record["step"]


def test_a_run_that_was_resumed_or_stopped_early_is_compared_as_far_as_it_goes(rows: Path, tmp_path: Path) -> None:
    run = fit("gaussian", "diagonal_normal", rows, tmp_path / "run", **DEFAULTS)
    run = ppl_vae.resume(run, epochs=4)
    found = ppl_vae.rerun(run)
    assert found.same
    assert len(found.run.metrics) == 5
    metrics = run.folder / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:3]))
    assert ppl_vae.rerun(run).compared[0] == 3


def test_what_differs_is_told_with_its_step(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit("gaussian", "diagonal_normal", rows, tmp_path / "run", **DEFAULTS)
    before = run.metrics[0]["valid"]["elbo"]
    edited(run, lambda record: record["fit"].update(seed=1))
    found = ppl_vae.rerun(run.folder)
    elbo = found.run.metrics[0]["valid"]["elbo"]
    assert found.differs == f"from step 0 on: the validation ELBO is {elbo!r} in place of {before!r}"
    edited(run, lambda record: record["fit"].update(seed=0))
    edited(run, lambda record: record["fit"].update(lr=0.02))
    assert main(["rerun", str(run.folder), "--quiet", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["same"] is False
    assert told["differs"].startswith("from step 5 on: the validation ELBO is ")
    assert told["lines"] == 3


def test_another_machine_and_other_versions_are_told(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit("gaussian", "diagonal_normal", rows, tmp_path / "run", **DEFAULTS)
    assert run.record["machine"] == machine()
    assert run.record["versions"] == versions()
    assert machine()["cores"] == os.cpu_count()
    assert machine()["threads"] == torch.get_num_threads()
    edited(run, lambda record: record["versions"].update(torch="2.9.0"))
    edited(run, lambda record: record["machine"].update(vectors="NONE"))
    assert main(["rerun", str(run.folder), "--quiet"]) == 0
    told = capsys.readouterr().out
    assert "the same, bit for bit: 3 lines of metrics and the checkpoints of the steps 0, 10" in told
    assert f"not as it was: torch: 2.9.0, now {torch.__version__}" in told
    assert f"not as it was: vectors: NONE, now {torch.backends.cpu.get_cpu_capability()}" in told
    assert "run: " not in told, "the new run is gone"


def test_changed_options_and_threads_are_noted(rows: Path, tmp_path: Path) -> None:
    run = fit("gaussian", "diagonal_normal", rows, tmp_path / "run", **DEFAULTS)
    ppl_vae.resume(run, epochs=3, lr=0.02)
    edited(run, lambda record: record["step"].update(threads=[[0, 1], [5, 2]]))
    edited(run, lambda record: record["fit"].update(threads="auto"))
    found = ppl_vae.rerun(run.folder)
    assert not found.same
    assert found.notes[0] == "the run changed its threads at step 5; all steps were repeated with 1"
    assert found.notes[1].startswith("at step 10 the run went on with other options; it was repeated with the last: ")
    assert "lr had been 0.01" in found.notes[1]
    assert found.run.config.threads == 1


OWN = """
from ppl_vae.models.gaussian import Model as Gaussian


class Model(Gaussian):
    pass
"""


def test_code_of_the_run_is_executed_only_if_it_is_trusted(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN)
    run = fit(own, "diagonal_normal", rows, tmp_path / "run", **DEFAULTS)
    assert main(["rerun", str(run.folder), "--quiet"]) == 2
    assert "name it again" in capsys.readouterr().err
    assert main(["rerun", str(run.folder), "--quiet", "--trust"]) == 0
    assert "executing " in capsys.readouterr().err
    assert main(["rerun", str(run.folder), "--quiet", "--model", str(own)]) == 0
    assert main(["rerun", str(run.folder), "--quiet"]) == 0, "naming it once is enough"
    own.write_text(OWN + "\n")
    assert main(["rerun", str(run.folder), "--quiet", "--model", str(own)]) == 2


def test_what_can_t_be_repeated_is_refused(rows: Path, tmp_path: Path) -> None:
    run = fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", **DEFAULTS)
    with pytest.raises(InputError, match="data given from Python: give data="):
        ppl_vae.rerun(run)
    assert ppl_vae.rerun(run, data=ROWS).same
    with pytest.raises(InputError, match="--force"):
        ppl_vae.rerun(run, data=ROWS + 1, out=tmp_path / "new")
    with pytest.raises(InputError, match="exists: choose another --out"):
        ppl_vae.rerun(run, data=ROWS, out=tmp_path)
    assert not (tmp_path / "new").exists(), "what is refused leaves nothing"
    (run.folder / "manifest.json").unlink()
    shutil.rmtree(run.folder / "checkpoints")
    with pytest.raises(InputError, match="no checkpoint to compare with"):
        ppl_vae.rerun(run.folder, data=ROWS)
