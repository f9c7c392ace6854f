"""A run, opened for use: what every verb on a run begins with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppl_vae.data import Dataset
from ppl_vae.errors import InputError
from ppl_vae.programs import Pair
from ppl_vae.programs.find import Spec
from ppl_vae.programs.terms import Batch
from ppl_vae.training.run import Run


@dataclass(frozen=True)
class Opened:
    """A run, its programs at the weights of one checkpoint, and its data."""

    run: Run
    pair: Pair
    dataset: Dataset

    def move(self, rows: Batch) -> Batch:
        return tuple(x.to(self.run.config.device) for x in rows)


def open_run(
    run: str | Path | Run,
    *,
    model: Spec | None = None,
    guide: Spec | None = None,
    data: Any = None,
    checkpoint: int | str = "best",
    trust: bool = False,
    force: bool = False,
) -> Opened:
    """Open a run for use: what every verb on a run takes.

    Args:
        model, guide: name a program again that is not a shipped one; a hash that differs needs `force`.
        data: the data again, where the run was fitted to arrays given from Python.
        checkpoint: a step, `best`, `last` or `first`.
        trust: execute the programs in `RUN/sources`.

    Raises:
        InputError: no run, no such checkpoint, programs or data that are not the run's.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    pair = run.pair(model=model, guide=guide, checkpoint=checkpoint, trust=trust, force=force)
    return Opened(run, pair, run.data(data, force=force))


def check_seed(seed: int) -> None:
    """Raise `InputError` for what torch takes no seed of."""
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}: it must be between 0 and 2**63 - 1")


def check_file(path: Path) -> None:
    """Raise `InputError`, before the work, where a file can't be written."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a file")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no folder: make it first")
