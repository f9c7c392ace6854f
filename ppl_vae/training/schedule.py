"""The learning rate as a function of the step, so that a resumed run has nothing of it to keep."""

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda step, steps: 1.0,
    "cosine": lambda step, steps: 0.5 * (1 + math.cos(math.pi * step / steps)),
}
"""By name: what the learning rate is multiplied by at a step, from 0 to `steps` − 1."""


def schedule(name: str, lr: float, steps: int) -> Callable[[int], float]:
    """The learning rate at each step: `constant` keeps `lr`, `cosine` lowers it to 0 over all `steps`."""
    factor = SCHEDULES[name]
    return lambda step: lr * factor(step, steps)
