"""The learning rate and the weight of the rate as functions of the step, so that a resumed run keeps nothing them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda step, steps: 1.0,
    "cosine": lambda step, steps: 0.5 * (1 + math.cos(math.pi * step / steps)),
}
"""By name: what the learning rate is multiplied by at a step, from 0 to `steps` − 1."""


def schedule(name: str, lr: float, steps: int) -> Callable[[int], float]:
    """The learning rate at each step: `constant` keeps `lr`, `cosine` lowers it to 0 over all `steps`."""
    factor = SCHEDULES[name]
    return lambda step: lr * factor(step, steps)


@dataclass(frozen=True)
class Warmup:
    """The weight of the rate at each step: it rises from 0 to 1, once or several times.

    In each of `cycles` cycles the weight rises linearly over `rise` steps, and stays at 1 for as many. After the last
    rise it stays at 1 to the end. With one cycle this is the linear warm-up. It depends on the step alone, so that a
    run that is gone on with needs no memory of it.

    Args:
        rise: steps of one rise; 0 is no warm-up.
        cycles: how often the weight rises.

    Source: Bowman et al. 2016; Sønderby et al. 2016. Several cycles: Fu et al. 2019, with half of each cycle at 1.
    """

    rise: int
    cycles: int = 1

    @property
    def steps(self) -> int:
        """How many steps there are before the weight stays at 1."""
        return (2 * self.cycles - 1) * self.rise

    def __call__(self, step: int) -> float:
        """The weight at a step, counted from 0."""
        return 1.0 if step >= self.steps else min(1.0, step % (2 * self.rise) / self.rise)
