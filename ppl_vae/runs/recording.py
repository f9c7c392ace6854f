"""What a run writes while it is trained: metrics, checkpoints, the best state. And what it reads to go on."""

import contextlib
import errno
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ppl_vae.core.errors import InputError, NotFinite
from ppl_vae.core.frames import write_arrays
from ppl_vae.core.randomness import of_numpy_and_python, restore_numpy_and_python
from ppl_vae.programs import load_owned, owned
from ppl_vae.programs.scores import Batch
from ppl_vae.runs import history
from ppl_vae.runs.record import FILE, altered, note_eager
from ppl_vae.runs.run import Run
from ppl_vae.training.callback import Callback
from ppl_vae.training.evaluation import summarized
from ppl_vae.training.interrupt import Interrupted
from ppl_vae.training.loop import VALIDATION_SEED, Loop
from ppl_vae.training.state import State

COLLAPSED = 0.05  # nats per datum: a rate below it says next to nothing, be it through one dimension or many
NOT_FINITE = "not_finite.npz"
FRESH_SEED, FRESH_DRAWS = VALIDATION_SEED + 1, 5  # what the best state was not selected by
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


@dataclass
class Recording(Callback):
    """A callback of the training loop, which keeps the run's folder up to date.

    After Ctrl-C or SIGTERM the state is saved before they end the training.

    Args:
        best: step, tensors and state of the best so far, where they are not on disk yet.
        eager_from: after how many steps a compiled run is no longer compiled, as far as it is noted.
    """

    run: Run
    best: tuple[int, dict[str, Tensor], dict[str, Any]] | None = None
    eager_from: int | None = None

    def begin(self, loop: Loop) -> None:
        """Forget the metrics of steps that will be taken again; without a checkpoint, record where training starts."""
        steps = self.run.checkpoints.steps
        self.run.checkpoints.tidy()
        history.forget_metrics_after(self.run.folder, loop.state.step if steps else -1)
        if not steps:
            loop.assess()
            self.save(loop)

    def assessed(self, loop: Loop, line: Mapping[str, Any]) -> None:
        if loop.state.best_step == loop.state.step:
            tensors = {name: t.detach().clone() for name, t in _tensors(loop).items()}
            self.best = loop.state.step, tensors, asdict(loop.state)
        history.add_metrics(self.run.folder, line)

    def stepped(self, loop: Loop) -> None:
        eager_from: int | None = getattr(loop.stepper, "eager_from", None)
        if eager_from is not None and eager_from != self.eager_from:
            note_eager(self.run.folder, eager_from)
            self.eager_from = eager_from
        caught = loop.world.caught()  # once: a signal may come at any moment
        if caught or loop.state.step % loop.config.checkpoint_every == 0:
            self.save(loop)
        if caught:
            raise self.stopped(caught, loop)

    def stopped(self, caught: int, loop: Loop) -> Interrupted:
        """The end of a training that a signal has stopped, when its state is saved."""
        again = f"go on with ppl-vae resume {self.run.folder}"
        return Interrupted(caught, f"stopped at step {loop.state.step}, saved: {again}")

    def refused(self, loop: Loop, batch: Batch, error: NotFinite) -> None:
        """Keep the batch, by the names of its fields, with the numbers of its rows and what is wrong."""
        arrays = dict(zip(loop.data.fields, (x.numpy(force=True) for x in batch), strict=True))
        arrays |= {"row_of_the_data": loop.row_numbers().numpy(), "what": np.array(str(error))}
        write_arrays(arrays, self.run.folder / NOT_FINITE)

    def save(self, loop: Loop) -> None:
        """Write the best state and the present one, unless they are there: a step has only one state.

        Raises:
            Undone: a step that was begun could not be taken; nothing is written.
        """
        loop.settle()
        checkpoints, state = self.run.checkpoints, loop.state
        history.sync_metrics(self.run.folder)
        if self.best is not None and self.best[0] not in checkpoints.steps:
            checkpoints.save(*self.best, best=state.best_step)
        self.best = None
        if state.step not in checkpoints.steps:
            checkpoints.save(state.step, _tensors(loop), asdict(state), best=state.best_step)

    def measure_best(self, loop: Loop) -> None:
        """Write `best.json`: the best state's validation numbers at fresh noise. Warn where its latent has collapsed.

        The best of many epochs at one fixed noise is selected for that noise too, which makes its value optimistic.
        """
        step, pair = loop.state.best_step, loop.stepper.pair
        kept = {name: t.detach().clone() for name, t in owned(pair.model, pair.guide, pair.borrower)}
        load_owned(pair.model, pair.guide, self.run.checkpoints.load(step)[0], pair.borrower)
        try:
            seeds = range(FRESH_SEED, FRESH_SEED + FRESH_DRAWS)
            valid = summarized(pair, loop.stepper.objective, loop.rows("valid"), seeds)
        finally:
            load_owned(pair.model, pair.guide, kept, pair.borrower)
        history.write_fresh(self.run.folder, step, FRESH_SEED, FRESH_DRAWS, loop.reported(valid))
        if valid["rate"] < COLLAPSED:
            warnings.warn(
                f"the latent has collapsed: at the best step, {step}, the rate is {valid['rate']:z.3f} nats per datum, "
                f"below {COLLAPSED}, so that q(z|x) is nearly p(z) and z says nothing of x. Try --standardize for "
                "columns of different scales, --objective free-bits, more --epochs, or a decoder that can do less "
                "without z",
                stacklevel=4,
            )


def _tensors(loop: Loop) -> dict[str, Tensor]:
    """All that the next step depends on, by name; programs and data may also draw from numpy and from Python."""
    return loop.stepper.tensors() | of_numpy_and_python()


@contextlib.contextmanager
def disk_told(folder: Path) -> Iterator[None]:
    """A disk that is full, or can't be written for another reason, is an error in words.

    Raises:
        InputError: in its place.
    """
    try:
        yield
    except OSError as error:
        of_run = error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(folder)
        if error.errno not in DISK or not of_run or not (folder / FILE).is_file():
            raise
        raise InputError(
            f"{folder} can't be written ({error.strerror}). What it holds is whole: when that is mended, go on with "
            f"ppl-vae resume {folder}"
        ) from error


def whole_step(run: Run) -> int:
    """The step to go on from, the last whose checkpoint is whole; where a later one is damaged, this is warned of.

    Raises:
        InputError: there is none, or the options were changed since.
    """
    step, wrong = run.checkpoints.last_whole()
    if wrong:
        what = wrong[0].partition(": use another")[0]
        if any(change["step"] > step for change in altered(run.record)):
            raise InputError(f"{what}, and after step {step}, the last whole one, options were changed: fit anew")
        warnings.warn(f"{what}: the run goes on from step {step}, the last that is whole", stacklevel=4)
    return step


def load(loop: Loop, run: Run, step: int | None = None) -> None:
    """Put the loop where a checkpoint of the run was, by default the last one; later ones are forgotten.

    Raises:
        InputError: the checkpoint is of a version that kept another state, or of other programs; the metrics before it
            are damaged.
    """
    tensors, info = run.checkpoints.load("last" if step is None else step)
    known = {field.name for field in fields(State)}
    if not known - {"skipped"} <= set(info) <= known:
        raise InputError(f"{run.folder} was written by another version, which kept another state: fit anew")
    history.check_lines(run.folder, info["step"], info["epoch"])
    if info["step"] < run.step("last"):
        loop.world.once(run.checkpoints.go_back, info["step"], info["best_step"])
    loop.stepper.load(tensors)
    restore_numpy_and_python(tensors)
    loop.state = State(**info)
    if loop.state.best_value is None:  # JSON has no −inf
        loop.state.best_value = -math.inf
