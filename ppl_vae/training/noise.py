"""Where the random numbers of training steps come from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ppl_vae.core.randomness import random_state, restore_random_state, seed_torch


class Noise(Protocol):
    """Where the random numbers of the steps come from."""

    def begin(self) -> None:
        """Called before each step: a source that is not torch's own sets here what the step will draw."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All that the draws to come depend on, by name."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned; other tensors are ignored."""
        ...


@dataclass(frozen=True)
class TorchNoise:
    """Torch's own generators: the one of the CPU and the one of `device`."""

    device: str = "cpu"

    def begin(self) -> None:
        """Nothing: a generator goes on where it stands."""

    def state(self) -> dict[str, Tensor]:
        return random_state(self.device)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned; after a training by several processes, begin with noise of its own."""
        if "noise.step" in state:
            seed_torch(int(state["noise.step"]))
        else:
            restore_random_state(dict(state), self.device)


@dataclass
class SeededNoise:
    """Noise of a seed for each step. Where the seed is also that of a process, all processes share one state.

    Args:
        seed: of a step, by its number from 0.
        step: how many steps have begun.
    """

    seed: Callable[[int], int]
    step: int = 0

    def begin(self) -> None:
        seed_torch(self.seed(self.step))
        self.step += 1

    def state(self) -> dict[str, Tensor]:
        return {"noise.step": torch.tensor(self.step)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned; from a training by one process, go on at the number of steps taken."""
        taken = [int(x) for name, x in state.items() if name == "noise.step" or name.startswith("optimizer.step.")]
        self.step = int(state["noise.step"]) if "noise.step" in state else max(taken, default=0)
        if self.step:
            seed_torch(self.seed(self.step - 1))  # as it was when that step began
