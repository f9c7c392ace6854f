"""Where training stands: what of it is numbers, and what a step adds to them."""

import math
from dataclasses import dataclass

from ppl_vae.training.step import Step, Undone

SUMS = ("value", "elbo", "rate", "distortion", "gradient_norm")


@dataclass
class State:
    """Where training stands; with the tensors of the stepper, all that the next step depends on."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    rows: int = 0
    value: float = 0.0
    elbo: float = 0.0
    rate: float = 0.0
    distortion: float = 0.0
    gradient_norm: float = 0.0
    best_step: int = 0
    best_value: float = -math.inf
    waited: int = 0
    skipped: int = 0

    def add(self, seen: Step, rows: int) -> None:
        self.step, self.batch, self.rows = self.step + 1, self.batch + 1, self.rows + rows
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(seen, name))

    def skip(self) -> None:
        """Leave out the step that could not be taken."""
        self.step, self.batch, self.skipped = self.step + 1, self.batch + 1, self.skipped + 1

    def undo(self, undone: Undone) -> None:
        """Forget steps that were begun; they have added nothing to the sums."""
        self.step, self.batch, self.rows = self.step - undone.steps, self.batch - undone.steps, self.rows - undone.rows

    def settle(self) -> None:
        """Read the sums, which are on the device where steps are begun ahead."""
        for name in SUMS:
            setattr(self, name, float(getattr(self, name)))

    def means(self) -> dict[str, float]:
        """Nats per datum over the epoch so far, while the parameters moved."""
        totals = {"objective": self.value, "elbo": self.elbo, "rate": self.rate, "distortion": self.distortion}
        return {name: float(total) / self.rows for name, total in totals.items()}

    def next_epoch(self) -> None:
        self.epoch, self.batch, self.rows, self.skipped = self.epoch + 1, 0, 0, 0
        self.value = self.elbo = self.rate = self.distortion = self.gradient_norm = 0.0
