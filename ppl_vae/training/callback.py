"""Who is told of a training as it goes on. Imports no torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ppl_vae.core.errors import NotFinite

if TYPE_CHECKING:
    from ppl_vae.programs.scores import Batch
    from ppl_vae.training.loop import Loop


class Callback:
    """What is told of the training as it goes on. It may end the training by an exception."""

    def assessed(self, loop: "Loop", line: Mapping[str, Any]) -> None:
        """After an evaluation on the validation rows; `line` is what there is to say of it and of the epoch before."""

    def stepped(self, loop: "Loop") -> None:
        """After each step, and after the evaluation where the step was the last of an epoch."""

    def refused(self, loop: "Loop", batch: "Batch", error: NotFinite) -> None:
        """A step is not taken, since a number of it is not finite; all is as before it."""
