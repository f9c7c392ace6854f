"""Threads that are chosen again and again while a run is trained, as other work on the machine comes and goes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ppl_vae.core.threads import fastest
from ppl_vae.runs.record import note_threads
from ppl_vae.training.callback import Callback
from ppl_vae.training.loop import Loop

EVERY = 20.0
"""Seconds between two measurements, which take a hundredth of it."""


@dataclass
class ChosenThreads(Callback):
    """A callback of the training loop that measures how many threads are fastest, and notes each change in the record.

    The bits of a run depend on its threads, so that they are noted with the step from which on they hold.

    Args:
        folder: the run's.
        most: as many at most.
        say: told of each change.
    """

    folder: Path
    most: int
    say: Callable[[str], None]
    last: float = field(default_factory=time.monotonic)

    def begin(self, loop: Loop) -> None:
        """Note what the training begins with."""
        self.chosen(loop, torch.get_num_threads())

    def stepped(self, loop: Loop) -> None:
        if time.monotonic() - self.last < EVERY:
            return
        number = fastest(self.most)
        if number != torch.get_num_threads():
            torch.set_num_threads(number)
            self.chosen(loop, number)
        self.last = time.monotonic()

    def chosen(self, loop: Loop, number: int) -> None:
        note_threads(self.folder, loop.state.step, number)
        self.say(f"threads: {number} from step {loop.state.step + 1} on, the fastest now")
