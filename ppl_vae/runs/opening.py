"""A run, opened for use: what every verb on a run begins with."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ppl_vae.checks.support import offence
from ppl_vae.core.errors import InputError, NumericalError
from ppl_vae.data import Data
from ppl_vae.data.newrows import Rows, held_out, read_rows, rows_in_order
from ppl_vae.data.protocol import CHUNK, Split
from ppl_vae.programs import Pair
from ppl_vae.programs.find import Spec, blame
from ppl_vae.programs.scores import Batch
from ppl_vae.runs.run import Run


@dataclass(frozen=True)
class Opened:
    """A run, its programs at the weights of one checkpoint, and its data."""

    run: Run
    pair: Pair
    dataset: Data

    def move(self, rows: Batch) -> Batch:
        return moved(self.run, rows)

    def rows(self, split: Split) -> Batch:
        """All rows of a split, on the device of the run."""
        return self.move(self.dataset.whole(split))


def open_run(
    run: str | os.PathLike[str],
    *,
    model: Spec | None = None,
    guide: Spec | None = None,
    data: Any = None,
    set: Mapping[str, Any] | None = None,
    checkpoint: int | str = "best",
    trust: bool = False,
    force: bool = False,
) -> Opened:
    """Open a run for use: what every verb on a run takes.

    Args:
        model: name the model again if it is not a shipped one; a hash that differs needs `force`.
        guide: the same of the guide.
        data: the data again, where the run was fitted to arrays given from Python.
        set: the settings again that were given from Python and have no text, such as a class.
        checkpoint: a step, `best`, `last`, `first` or `middle`.
        trust: execute the programs in `RUN/sources`.

    Raises:
        InputError: no run, no such checkpoint, programs or data that are not the run's.
    """
    run = Run.of(run)
    pair = run.pair(model=model, guide=guide, set=set, checkpoint=checkpoint, trust=trust, force=force)
    return Opened(run, pair, run.data(data, force=force))


def rows_of(run: Run, pair: Pair, data: Any, scale: float | None, *, test: bool, force: bool) -> Rows:
    """The rows of `data`, in the order given and by the rules of the run; without `data`, the run's own.

    Args:
        scale: divides the first field of `data`, in place of the run's scale.
        test: of the run's own, the test rows alone; else all, in the order of the data.

    Raises:
        InputError: rows that the run can't take, or its own data are not there.
    """
    if data is None or isinstance(data, Data):
        if scale is not None:
            raise InputError("a scale goes with data of its own: give --data, or leave out --scale")
        dataset = run.data(data, force=force)
        return held_out(dataset) if test else rows_in_order(dataset.fixed())
    rows = read_rows(data, run.rules, scale)
    columns = [run.rules.columns.get(name, ()) for name in run.rules.fields]
    for numbers, batch in zip(rows.numbers.split(CHUNK), rows.batches(CHUNK), strict=True):
        with running(f"the model of {run.folder}"):
            found = offence(pair.model, tuple(x.to(run.config.device) for x in batch), numbers, columns)
        if found:
            raise InputError(found)
    return rows


def moved(run: Run, rows: Batch) -> Batch:
    """The rows on the device of the run."""
    return tuple(x.to(run.config.device) for x in rows)


@contextlib.contextmanager
def running(what: str) -> Iterator[None]:
    """An exception of a program is an `InputError`, in one line."""
    try:
        yield
    except (InputError, NumericalError, OSError):
        raise
    except Exception as error:
        raise InputError(f"{what} fails: {blame(error, None)}") from error
