"""A run, opened for use: what every verb on a run begins with."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ppl_vae.checks.support import offence
from ppl_vae.core.errors import InputError, NumericalError
from ppl_vae.data import Dataset
from ppl_vae.data.newrows import Rows, read_rows
from ppl_vae.data.readers import there
from ppl_vae.programs import Pair
from ppl_vae.programs.find import Spec, blame
from ppl_vae.programs.scores import Batch, batches
from ppl_vae.runs.run import Run
from ppl_vae.training.setup import open_config_data

CHUNK = 1000


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
    set: Mapping[str, Any] | None = None,
    trust: bool = False,
    force: bool = False,
) -> Opened:
    """Open a run for use: what every verb on a run takes.

    Args:
        model, guide: name a program again that is not a shipped one; a hash that differs needs `force`.
        data: the data again, where the run was fitted to arrays given from Python.
        checkpoint: a step, `best`, `last` or `first`.
        set: settings again that were given as objects from Python.
        trust: execute the programs in `RUN/sources`.

    Raises:
        InputError: no run, no such checkpoint, programs or data that are not the run's.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    pair = run.pair(model=model, guide=guide, checkpoint=checkpoint, set=set, trust=trust, force=force)
    return Opened(run, pair, _data(run, data, force))


def rows_of(run: Run, pair: Pair, data: Any, scale: float | None, *, test: bool, force: bool) -> Rows:
    """The rows of `data`, in the order given and by the rules of the run; without `data`, the run's own.

    Args:
        scale: divides the first field of `data`, in place of the run's scale.
        test: of the run's own, the test rows alone; else all, in the order of the data.

    Raises:
        InputError: rows that the run can't take, or its own data are not there.
    """
    if data is None:
        if scale is not None:
            raise InputError("a scale goes with data of its own: give --data, or leave out --scale")
        return _own(run, test, force)
    rows = read_rows(data, run.rules, scale)
    columns = [rows.columns.get(name, ()) for name in run.rules.fields]
    for numbers, batch in zip(rows.numbers.split(CHUNK), batches(rows.batch, CHUNK), strict=True):
        with running(f"the model of {run.folder}"):
            found = offence(pair.model, tuple(x.to(run.config.device) for x in batch), numbers, columns)
        if found:
            raise InputError(found)
    return rows


def _data(run: Run, data: Any, force: bool) -> Dataset:
    """The run's data set; where its files are gone, the error says how to name them again."""
    try:
        return run.data(data, force=force)
    except InputError as error:
        gone = None if data is not None else next((spec for spec in run.config.data if not there(spec)), None)
        if gone is None:
            raise
        raise InputError(f"the data of {run.folder} is not there any more ({gone}): give --data FILE") from error


def _own(run: Run, test: bool, force: bool) -> Rows:
    dataset = _data(run, None, force)
    if test:
        return Rows(dataset.test, dataset.rows["test"], dataset.columns)
    if dataset.binarize == "epoch":  # each row by the one draw of `once`
        dataset = open_config_data(replace(run.config, binarize="once"))
    return Rows(in_order(dataset), torch.arange(sum(map(len, dataset.rows.values()))), dataset.columns)


def in_order(dataset: Dataset) -> Batch:
    """All rows of a data set, in the order in which they were read."""
    numbers = torch.cat(list(dataset.rows.values()))
    fields = zip(dataset.train, dataset.valid, dataset.test, strict=True)
    return tuple(torch.cat(parts)[numbers.argsort()] for parts in fields)


@contextlib.contextmanager
def running(what: str) -> Iterator[None]:
    """An exception of a program is an `InputError`, in one line."""
    try:
        yield
    except (InputError, NumericalError, OSError):
        raise
    except Exception as error:
        raise InputError(f"{what} fails: {blame(error, None)}") from error


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
