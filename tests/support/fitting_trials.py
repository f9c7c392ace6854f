"""A small fit as commands, and what must hold of its run after anything that was done to it."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from support.fits import ROWS, outcome
from support.trials import Ended, Trial, Trials

from ppl_vae.runs.run import Run

SMALL = ["--set", "hidden=8", "--set", "latent_dim=2", "--batch-size", "10", "--lr", "0.01", "--epochs", "4"]
OFTEN = ["--checkpoint-every", "3", "--quiet"]


@dataclass
class Fit:
    """`ppl-vae fit` with certain options, and the run of it that nothing has disturbed.

    Args:
        options: of the command line, beside model, guide, data and out.
        pair: model and guide.
    """

    trials: Trials
    options: list[str]
    pair: tuple[str, str] = ("gaussian", "diagonal_normal")
    data: str = "rows.npy"
    whole: tuple[Any, ...] = ()
    seconds: float = 0.0
    counted: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        np.save(self.trials.folder / "rows.npy", ROWS)
        np.save(self.trials.folder / "rows64.npy", ROWS.astype("float64"))
        np.save(self.trials.folder / "grey.npy", 1 / (1 + np.exp(-ROWS)))
        for _ in range(2):  # the first one fills caches
            run = self.folder("whole")
            (ended,) = self.trials(self.fit(run))
            assert ended.code == 0, ended.told
        self.whole, self.seconds = outcome(Run(run)), ended.seconds

    def folder(self, name: str) -> Path:
        """A folder that is not there."""
        path = self.trials.folder / name
        shutil.rmtree(path, ignore_errors=True)
        return path

    def fit(self, run: Path, **trial: Any) -> Trial:
        model, guide = self.pair
        named = ["--model", model, "--guide", guide, "--data", str(self.trials.folder / self.data)]
        return Trial(["fit", *named, *self.options, "--out", str(run)], str(run), **trial)

    def resume(self, run: Path, **trial: Any) -> Trial:
        return Trial(["resume", str(run), "--quiet"], str(run), **trial)

    def go(self, run: Path, **trial: Any) -> Ended:
        """One process more on the run: it begins, or goes on."""
        which = self.resume if (run / "config.json").is_file() else self.fit
        if which == self.fit:
            shutil.rmtree(run, ignore_errors=True)
        (ended,) = self.trials(which(run, **trial))
        self.counted[str(ended.code)] = self.counted.get(str(ended.code), 0) + 1
        return ended

    def assert_sound(self, run: Path) -> None:
        """What is there opens, and each checkpoint that is listed is whole."""
        if not (run / "config.json").is_file():
            return
        found = Run(run)
        for step in found.checkpoints.steps:
            found.checkpoints.load(step)
        if found.checkpoints.steps:
            found.checkpoints.load(found.step("best"))
            assert found.best.step in found.checkpoints.steps
        _ = found.metrics

    def assert_ends_exactly(self, run: Path) -> None:
        """Undisturbed from here on, it ends with the bits of the run that nothing has disturbed."""
        ended = self.go(run)
        assert ended.code == 0, ended.told
        assert outcome(Run(run)) == self.whole
        epochs = [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert epochs == list(range(len(epochs)))
        left = [path.name for path in run.rglob("*") if path.name.endswith(".part") or path.name == ".lock"]
        assert not left
        listed = set(Run(run).checkpoints.manifest["checkpoints"])
        assert {path.name for path in (run / "checkpoints").iterdir()} == listed
        assert len(listed) <= 5
