"""Progress on standard error: a bar with epochs, steps, rows per second and time left, and the numbers below it."""

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from ppl_vae.training.callback import Callback

if TYPE_CHECKING:
    from ppl_vae.training.loop import Loop

INTERVAL = 0.1
"""Seconds between two updates, at least."""
ROOMY = 60
"""Columns of a terminal from which on rows per second have a place."""


class Progress(Callback):
    """Show `total` steps of work on a terminal, at most ten times a second; nothing at all unless `visible`.

    It is a callback of the training loop, too. Where standard error is no terminal, or one that can't move its cursor
    (`TERM=dumb`), there is no bar but a line for each epoch.
    """

    def __init__(self, visible: bool, total: int) -> None:
        self.visible, self.console = visible, Console(stderr=True)
        moves = self.console.is_terminal and self.console.file.isatty() and not self.console.is_dumb_terminal
        self.on = visible and moves  # FORCE_COLOR calls a file a terminal
        self.bar = _Bar(self.console)
        self.task = self.bar.add_task("", total=total, rows=0.0)
        self.total, self.steps, self.shown = total, 0.0, 0.0

    def __enter__(self) -> Self:
        if self.on:
            self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.on:
            self.bar.refresh()
            self.bar.stop()

    def say(self, line: str) -> None:
        """A line above the bar, also where standard error is no terminal."""
        if self.visible:
            self.console.print(line, highlight=False, markup=False, soft_wrap=not self.on)

    def assessed(self, loop: "Loop", line: Mapping[str, Any]) -> None:
        """A line for an epoch, where there is no bar; the evaluation before the first epoch has none."""
        if "train" in line and not self.on:
            self.say(told(line, loop.config.epochs))

    def stepped(self, loop: "Loop") -> None:
        if self.on:
            self.show(loop.state.step, lambda: _of_training(loop))

    def advance(self, by: float = 1) -> None:
        """So many steps more."""
        self.steps += by
        if self.on:
            self.show(self.steps, dict)

    def show(self, step: float, about: Callable[[], Mapping[str, Any]]) -> None:
        """The steps done, and what `about` tells of them, which is asked only if it is time to."""
        now = time.monotonic()
        if now - self.shown < INTERVAL and step < self.total:
            return
        self.shown = now
        self.bar.update(self.task, completed=step, refresh=True, **about())


def told(line: Mapping[str, Any], epochs: int) -> str:
    """A line of the metrics for a person, in nats per datum."""
    train, valid = line["train"], line["valid"]
    numbers = f"ELBO {train['elbo']:z.2f}, rate {train['rate']:z.2f}, distortion {train['distortion']:z.2f}"
    sampled = any(how != "closed form" for how in valid["rate_how"].values())
    error = f", rate {valid['rate']:z.2f} ± {valid['rate_se_data']:z.2f} (Monte Carlo)" if sampled else ""
    weight = f", β {line['rate_weight']:.2g}" if line.get("rate_weight", 1) < 1 else ""
    skipped = f", {line['skipped']} steps skipped" if line.get("skipped") else ""
    about = f"epoch {line['epoch']}/{epochs}: {numbers}{weight}{skipped}, validation ELBO {valid['elbo']:z.2f}{error}"
    return f"{about}, {line['seconds']:z.1f} s"


def _of_training(loop: "Loop") -> dict[str, Any]:
    """Where the training stands, and the numbers of its epoch so far, in nats per datum."""
    epoch = -(-loop.state.step // loop.steps_per_epoch)
    means = loop.means
    numbers = {"ELBO": means["elbo"], "rate": means["rate"], "distortion": means["distortion"]}
    if loop.state.step <= loop.rate_weight.steps:
        numbers["β"] = loop.stepper.rate_weight
    if "objective" in means:
        numbers["objective"] = means["objective"]
    return {
        "description": f"epoch {epoch}/{loop.config.epochs}",
        "rows": loop.data.lengths["train"] / loop.steps_per_epoch,
        "numbers": [f"{name} {x:z.2f}" for name, x in numbers.items()],
    }


class _Bar(Bar):
    """A line with the bar, and a line below it with the numbers of the task, as many as have a place there."""

    def __init__(self, console: Console) -> None:
        width = console.width
        columns = [
            TextColumn("{task.description}"),
            BarColumn(bar_width=max(4, min(40, width - 50))),
            MofNCompleteColumn(),
            *([_RowsPerSecond()] if width >= ROOMY else []),
            TimeRemainingColumn(compact=width < ROOMY),
        ]
        super().__init__(*columns, console=console, auto_refresh=False)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        for task in self.tasks:
            ends = accumulate(len(number) + 2 for number in task.fields.get("numbers", ()))
            fitting = sum(end - 2 <= self.console.width for end in ends)
            if fitting:
                yield Text("  ".join(task.fields["numbers"][:fitting]), no_wrap=True)


class _RowsPerSecond(ProgressColumn):
    """Rows of a batch times steps per second, over the last half a minute."""

    def render(self, task: Task) -> Text:
        rows = (task.speed or 0.0) * task.fields["rows"]
        return Text(f"{rows:,.0f} rows/s" if rows else "", no_wrap=True)
