"""A run told to TensorBoard, W&B or MLflow while it is trained, beside `metrics.jsonl`, which is its record."""

import contextlib
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

from ppl_vae.runs import history
from ppl_vae.runs.record import note_tracked
from ppl_vae.runs.run import Run
from ppl_vae.runs.trackers import TRACKERS, Tracked, Tracker
from ppl_vae.training.callback import Callback
from ppl_vae.training.loop import Loop


class Tracking(Callback):
    """A callback of the training loop, and a context in which it trains. A tracker that fails is left out, once warned.

    Make it before the metrics of steps that will be taken again are forgotten.
    """

    def __init__(self, run: Run, loop: Loop, *, quiet: bool) -> None:
        self.run, self.trackers = run, dict[str, Tracker]()
        seen = max((line["step"] for line in history.read_metrics(run.folder)), default=-1)
        self.start = loop.state.step if run.checkpoints.steps else -1
        self.had = history.read_fresh(run.folder, loop.state.best_step) if self.start >= 0 else None
        ids = run.record.get("tracked", {})
        for name in dict.fromkeys(loop.config.track):
            about = Tracked(run.folder, loop.config.asdict(), ids.get(name), self.start, seen, quiet)
            self._guarded(name, partial(self._begin, name, about))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._tell(lambda tracker: tracker.close(kind is not None))

    def assessed(self, loop: Loop, line: Mapping[str, Any]) -> None:
        numbers = dict(history.flat(line, "/"))
        step = numbers.pop("step")
        self._tell(lambda tracker: tracker.log(step, numbers) if step > tracker.seen else None)

    def end(self, loop: Loop) -> None:
        """Tell of the best step, unless that was told before and nothing has been trained since."""
        best = history.read_fresh(self.run.folder, loop.state.best_step) or {}
        if self.had is None or loop.state.step > self.start:
            numbers = {"best/step": loop.state.best_step, **dict(history.flat({"best": best}, "/"))}
            self._tell(lambda tracker: tracker.best(loop.state.step, numbers))

    def _begin(self, name: str, about: Tracked) -> None:
        tracker = self.trackers[name] = TRACKERS[name](about)
        if tracker.id != about.id:
            note_tracked(self.run.folder, name, tracker.id)

    def _tell(self, what: Callable[[Tracker], Any]) -> None:
        for name, tracker in list(self.trackers.items()):
            self._guarded(name, partial(what, tracker))

    def _guarded(self, name: str, do: Callable[[], Any]) -> None:
        try:
            with warnings.catch_warnings():  # what these packages deprecate in each other is no matter of the user's
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.simplefilter("ignore", FutureWarning)
                do()
        except Exception as error:  # whatever it is, the training is worth more
            tracker = self.trackers.pop(name, None)
            with contextlib.suppress(Exception):
                if tracker is not None:
                    tracker.close(True)
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            warnings.warn(
                f"{name} has failed, and is told nothing more: {said}. {self.run.folder / history.METRICS} holds all "
                "numbers",
                stacklevel=2,
            )
