"""What the processes do that write nothing: the first one writes the run."""

from typing import TYPE_CHECKING

from ppl_vae.training.callback import Callback
from ppl_vae.training.interrupt import Interrupted

if TYPE_CHECKING:
    from ppl_vae.training.loop import Loop


class Following(Callback):
    """What a process that writes nothing does along the way: it stops with the others."""

    def stepped(self, loop: "Loop") -> None:
        if (caught := loop.world.caught()) is not None:
            raise Interrupted(caught, f"stopped at step {loop.state.step}")


def follow(loop: "Loop", fresh: bool) -> None:
    """Train beside the first process, to the end. Raises as `Loop.run`.

    Args:
        fresh: the training is at its very start, which the first process assesses.
    """
    loop.callbacks = (Following(),)
    with loop.world.signals:
        if fresh:
            loop.assess()
        loop.run()
        if (caught := loop.world.ended()) is not None:
            raise Interrupted(caught, f"stopped at step {loop.state.step}")
