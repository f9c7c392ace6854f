"""Where the random numbers of training steps come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

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
