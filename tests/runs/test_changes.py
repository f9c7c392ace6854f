"""What a run may go on with, and what it may not; what is given counts, also at its default."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.fits import DEFAULTS, ROWS, STEPS, contents, outcome, small

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.run import Run
from ppl_vae.training.config import FitConfig

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    np.save(tmp_path / "rows.npy", ROWS)
    return tmp_path / "rows.npy"


def from_file(rows: Path, out: Path, **options: object) -> Run:
    return fit("gaussian", "diagonal_normal", rows, out, **DEFAULTS | options)


def test_more_epochs_on_resume(tmp_path):
    whole = small(tmp_path / "whole", epochs=4)
    run = small(tmp_path / "run", epochs=2)
    run = fit(data=ROWS, out=run.folder, resume=True, epochs=4)
    assert run.config.epochs == 4
    assert outcome(run) == outcome(whole)
    with pytest.raises(InputError, match="4 epochs, not 3"):
        fit(data=ROWS, out=run.folder, resume=True, epochs=3)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"warmup": 3}, "warmup None, not 3"),
        ({"seed": 5}, "seed 0, not 5"),
        ({"clip": 1.0}, "clip None"),
        ({"set": {"hidden": 9}}, "set .*hidden=8"),
        ({"batch_size": 100}, "batch_size 10, not 100.* batch_size with force"),  # its default
        ({"objective": "iwae:K=5"}, "objective 'trace', not 'iwae:K=5'"),
        ({"epochs": 7}, "cosine schedule was laid out for 2 epochs"),
    ],
)
def test_other_options_are_refused_on_resume(tmp_path, asked, words):
    run = small(tmp_path / "run", schedule="cosine")
    before = contents(run.folder)
    with pytest.raises(InputError, match=words):
        fit(data=ROWS, out=run.folder, resume=True, **asked)
    assert contents(run.folder) == before


def test_what_is_given_at_its_default_is_given(tmp_path, rows, capsys):
    """20 epochs, a learning rate of 0.001 and batches of 100 are the defaults of fit, and not the run's."""
    whole = from_file(rows, tmp_path / "whole", epochs=FitConfig.epochs)
    run = from_file(rows, tmp_path / "run")
    before = contents(run.folder)
    with pytest.raises(InputError, match="batch_size 10, not 100"):
        ppl_vae.fit(out=run.folder, resume=True, batch_size=100)
    assert main(["fit", "--resume", "--out", str(run.folder), "--batch-size=100"]) == 2
    assert "batch_size 10, not 100" in capsys.readouterr().err
    assert contents(run.folder) == before
    assert main(["resume", str(run.folder), "--epochs", "20", "--quiet"]) == 0
    assert outcome(Run(run.folder)) == outcome(whole)
    ppl_vae.fit(out=run.folder, resume=True)  # nothing is given
    assert Run(run.folder).config.lr == 1e-2
    assert main(["fit", "--resume", "--out", str(run.folder), "--epochs", "21", "--lr", "0.001", "--quiet"]) == 0
    assert (Run(run.folder).config.lr, Run(run.folder).config.epochs) == (1e-3, 21)
    record = json.loads((run.folder / "config.json").read_text())
    assert record["changed"] == [
        {"step": 2 * STEPS, "before": {"epochs": 2}},
        {"step": 20 * STEPS, "before": {"epochs": 20, "lr": 1e-2}},
    ]
    assert [line["lr"] for line in Run(run.folder).metrics[1:]] == [1e-2] * 20 + [1e-3]


def test_patience_given_taken_away_and_lengthened(tmp_path):
    options = {"epochs": 9, "lr": 0.3}
    whole = small(tmp_path / "whole", **options)
    run = small(tmp_path / "run", **options, patience=1)
    assert len(run.metrics) < len(whole.metrics), "it stopped early"
    with pytest.warns(UserWarning, match="has ended: 1 epochs without a better value; a larger patience"):
        fit(data=ROWS, out=run.folder, resume=True, epochs=10)
    run = fit(data=ROWS, out=run.folder, resume=True, patience=None, epochs=10)
    assert run.config.patience is None
    assert outcome(run)[-1].startswith(outcome(whole)[-1])
    cut = small(tmp_path / "cut", **options, patience=1)
    assert outcome(fit(data=ROWS, out=cut.folder, resume=True, patience=9)) == outcome(whole)


def test_another_batch_size_only_by_force_and_between_epochs(tmp_path):
    run = small(tmp_path / "run", checkpoint_every=3)
    with pytest.raises(InputError, match="batch_size with force"):
        fit(data=ROWS, out=run.folder, resume=True, batch_size=16, epochs=4)
    run = fit(data=ROWS, out=run.folder, resume=True, batch_size=16, epochs=4, force=True)
    assert [line["step"] for line in run.metrics] == [0, 5, 10, 13, 16]
    within = small(tmp_path / "within", epochs=1, checkpoint_every=3)
    manifest = json.loads((within.folder / "manifest.json").read_text())
    del manifest["checkpoints"]["step-5"]
    manifest["best"] = 0
    (within.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="step 3, stands within an epoch"):
        fit(data=ROWS, out=within.folder, resume=True, batch_size=16, force=True)
    for name, value in (("schedule", "cosine"), ("warmup", 1)):
        other = small(tmp_path / name, **{name: value})
        with pytest.raises(InputError, match="count steps of 10 rows"):
            fit(data=ROWS, out=other.folder, resume=True, batch_size=16, force=True)
