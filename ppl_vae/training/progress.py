"""A progress bar on standard error: steps, time left, ELBO, rate and distortion."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from ppl_vae.training.loop import Loop


class Progress:
    """Show `total` steps of work on a terminal, at most ten times a second; nothing at all unless `visible`.

    It is a callback of the training loop, too.
    """

    def __init__(self, visible: bool, total: int) -> None:
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self.visible, self.console = visible, Console(stderr=True)
        self.on = visible and self.console.is_terminal
        self.bar = Bar(*columns, console=self.console, auto_refresh=False)
        self.task = self.bar.add_task("", total=total)
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
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def epoch(self, epoch: int, epochs: int, train: Mapping[str, float], valid: Mapping[str, Any]) -> None:
        """A line for an epoch, in nats per datum, where there is no terminal for a bar."""
        if not self.on:
            numbers = f"ELBO {train['elbo']:z.2f}, rate {train['rate']:z.2f}, distortion {train['distortion']:z.2f}"
            sampled = any(how != "closed form" for how in valid["rate_how"].values())
            error = f", rate {valid['rate']:z.2f} ± {valid['rate_se_data']:z.2f} (Monte Carlo)" if sampled else ""
            self.say(f"epoch {epoch}/{epochs}: {numbers}, validation ELBO {valid['elbo']:z.2f}{error}")

    def assessed(self, loop: "Loop", line: Mapping[str, Any]) -> None:
        """The line of an epoch; the evaluation before the first has none."""
        if "train" in line:
            self.epoch(line["epoch"], loop.config.epochs, line["train"], line["valid"])

    def stepped(self, loop: "Loop") -> None:
        self.show(loop.state.step, loop.means)

    def advance(self, by: float = 1) -> None:
        """So many steps more."""
        self.steps += by
        self.show(self.steps, {})

    def show(self, step: float, numbers: Mapping[str, float]) -> None:
        """The steps done, and numbers beside the bar."""
        now = time.monotonic()
        if not self.on or (now - self.shown < 0.1 and step < self.total):
            return
        self.shown = now
        text = "  ".join(f"{name} {value:z.2f}" for name, value in numbers.items())
        self.bar.update(self.task, completed=step, description=text, refresh=True)
