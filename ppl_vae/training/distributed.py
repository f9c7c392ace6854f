"""Several processes that train one pair, as torchrun starts them: all that depends on which of them this is.

Each of them runs the same training on its part of each batch. What they compute is added up by `torch.distributed` in
one exchange a step, which every process gets the same bits of, so that all take the same step. The first one writes the
run; the others write nothing.
"""

import contextlib
import hashlib
import io
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ppl_vae.core.errors import InputError, NumericalError, ProcessLost
from ppl_vae.core.randomness import draw_seed, seed_torch
from ppl_vae.data.protocol import Shard
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, owned
from ppl_vae.training.callback import Callback
from ppl_vae.training.interrupt import Interrupted, Signals
from ppl_vae.training.noise import Noise, TorchNoise

if TYPE_CHECKING:
    from ppl_vae.training.loop import Loop

T = TypeVar("T")
TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others."""
TOGETHER = ("fit", "resume", "evaluate", "encode", "score")
"""What several processes do together."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class World:
    """What this process knows of the others that train with it; by default it is alone, and nothing is exchanged.

    Args:
        shard: which part of each batch is its own.
        signals: what it has caught, which all act upon after the same step.
        begun: has the training begun?
    """

    shard: Shard = field(default_factory=Shard)
    signals: Signals = field(default_factory=Signals)
    begun: bool = False
    told: int | None = None

    @property
    def alone(self) -> bool:
        return self.shard.size == 1

    @property
    def first(self) -> bool:
        return self.shard.rank == 0

    # ---- who does what

    def once(self, function: Callable[..., T], *args: Any) -> T | None:
        """Call a function in the first process, and do nothing in the others."""
        return function(*args) if self.first else None

    def context(self, made: Callable[..., contextlib.AbstractContextManager[Any]], *args: Any) -> Any:
        """A context manager in the first process, and one that does nothing in the others."""
        return made(*args) if self.first else contextlib.nullcontext()

    def lead(self, first: Callable[[], None], others: Callable[[], None]) -> None:
        """Call one function in the first process, and another one in the others.

        On the command line these end with it, since the first one does alone what is left.
        """
        if self.first:
            first()
            return
        others()
        if self in _joined:
            raise SystemExit(0)

    # ---- what they tell each other

    def gathered(self, mine: T | Exception) -> list[T]:
        """What each process says, in their order.

        Raises:
            InputError, NumericalError: a process says an error, which is raised in all of them.
            ProcessLost: one of them has ended, or does not answer.
        """
        found: list[Any] = [mine] * self.shard.size
        if not self.alone:
            with answering():
                dist.all_gather_object(found, mine)
        for rank, said in enumerate(found):
            if isinstance(said, Exception):
                if isinstance(said, NumericalError):  # whose rows are those of its part
                    said.rows = [rank + self.shard.size * row for row in said.rows]
                said.common = True  # type: ignore[attr-defined]
                raise said
        return found

    def wait(self) -> None:
        """Wait until all processes are here. Raises as `gathered`."""
        self.gathered(None)

    def begin(self, pair: Pair) -> None:
        """Begin the training, in all processes at once and from the same weights. Raises as `check_equal`."""
        self.check_equal(pair)
        self.wait()
        self.begun = True

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """What one process raises in here, all raise: an `InputError` or a `NumericalError`."""
        error: Exception | None = None
        try:
            yield
        except (InputError, NumericalError) as found:
            if self.alone:
                raise
            error = found
        self.gathered(error)

    def as_first(self, make: Callable[[Any], T], record: Callable[[T], Any], recorded: Any) -> T:
        """What `make(recorded)` makes in the first process; the others make theirs by the record of it."""
        made = self.once(make, recorded)
        said = self.gathered(None if made is None else record(made))[0]
        return make(said) if made is None else made

    def divided(self, rows: int, work: Callable[[slice], T], *, last: bool) -> T:
        """What `work` finds of all rows, of which each process does a range.

        Args:
            work: finds tensors and arrays of so many rows, in tuples, dicts and dataclasses, for a range of the rows.
            last: the first process goes on alone with what was found, and the others end here.

        Raises:
            InputError, NumericalError: of any process, in all of them.
        """
        rank, size = self.shard
        mine = slice(rows * rank // size, rows * (rank + 1) // size)
        with self.agreed():
            found = work(mine) if mine.start < mine.stop or self.alone else None
        parts = [part for part in self.gathered(found) if part is not None]
        if last and not self.first:
            raise SystemExit(0)
        return concatenated(parts)

    # ---- what they add up

    def reduce(self, numbers: Tensor, gradients: Sequence[Tensor], buffers: Sequence[Tensor], share: float) -> None:
        """Put in their place what they are for the whole batch, of which this process has the rows of a `share`.

        Args:
            numbers: sums over rows, and at last the norm of the gradient: `(n + 1,)`.
            gradients: of a mean over rows.
            buffers: such as the running mean of a BatchNorm: a mean over rows, too.

        Raises:
            ProcessLost: a process has ended, or does not answer.
        """
        means = [*gradients, *buffers]
        caught = numbers.new_tensor([float(self.signals.caught == each) for each in SIGNALS])
        parts = [*(x.flatten() * share for x in means), numbers[:-1] * (share > 0), caught]
        flat = torch.cat(parts)
        with answering():
            dist.all_reduce(flat)
        sums = flat.split([part.numel() for part in parts])
        for x, total in zip(means, sums, strict=False):
            x.copy_(total.view_as(x))
        numbers[:-1], numbers[-1] = sums[-2], nn.utils.get_total_norm(gradients)
        told = [each for each, count in zip(SIGNALS, sums[-1].tolist(), strict=True) if count > 0]
        self.told = int(told[0]) if told else None

    @contextlib.contextmanager
    def means_of_batches(self, objective: Objective, share: float) -> Iterator[None]:
        """In here, what an objective asks of all rows of a batch is asked of those of all processes."""

        def together(mean: Tensor) -> Tensor:
            mean = mean * share
            with answering():
                dist.all_reduce(mean)
            return mean

        objective.together = together
        try:
            yield
        finally:
            objective.together = None

    def caught(self) -> int | None:
        """The signal after which all of them stop: one that any had caught when the last step was added up."""
        return self.signals.caught if self.alone else self.told

    def ended(self) -> int | None:
        """The signal that any of them has caught by the end of the training. Raises as `gathered`."""
        return next((each for each in self.gathered(self.signals.caught) if each is not None), None)

    def any_of(self, mine: Sequence[bool]) -> list[bool]:
        """For each place, does any process say so? Raises as `gathered`."""
        return [any(said) for said in zip(*self.gathered(list(mine)), strict=True)]

    def check_equal(self, pair: Pair) -> None:
        """
        Raises:
            NumericalError: parameters and buffers are not bit for bit the same in all processes.
        """
        if self.alone:
            return
        digest = hashlib.sha256()
        for _, x in owned(pair.model, pair.guide, pair.borrower):
            digest.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        if len(set(self.gathered(digest.hexdigest()))) > 1:
            raise NumericalError(
                "the processes have no longer the same parameters: does a program or a callback change them on its "
                "own? Train with one process"
            )

    # ---- noise

    def seed(self, seed: int, step: int = 0) -> int:
        """A seed of this process and a step, from one that all of them have; the same seed, where it is alone."""
        return seed if self.alone else draw_seed(seed, step, 0, stream=self.shard.rank)

    def noise(self, device: str, seed: int) -> Noise:
        """Where the random numbers of the steps come from: torch's generators, or a seed for each step and process."""
        return TorchNoise(device) if self.alone else SeededNoise(self, seed)


@dataclass
class SeededNoise:
    """Noise that depends on the seed, the process and the number of the step, so that all processes share its state."""

    world: World
    base: int
    step: int = 0

    def begin(self) -> None:
        seed_torch(self.world.seed(self.base, self.step))
        self.step += 1

    def state(self) -> dict[str, Tensor]:
        return {"noise.step": torch.tensor(self.step)}

    def restore(self, state: Any) -> None:
        """Put back what `state` returned; from a training by one process, go on at the number of steps taken."""
        taken = [int(x) for name, x in state.items() if name == "noise.step" or name.startswith("optimizer.step.")]
        self.step = int(state["noise.step"]) if "noise.step" in state else max(taken, default=0)
        if self.step:
            seed_torch(self.world.seed(self.base, self.step - 1))  # as it was when that step began


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


def concatenated(parts: Sequence[Any]) -> Any:
    """The parts of a result, each of some rows, as one; of what is not of the rows, the first, and all remarks."""
    one = parts[0]
    if len(parts) == 1:
        return one
    if isinstance(one, Tensor):
        return torch.cat(list(parts))
    if isinstance(one, np.ndarray):
        return np.concatenate(parts)
    if isinstance(one, dict):
        return {name: concatenated([part[name] for part in parts]) for name in one}
    if isinstance(one, tuple) and all(isinstance(text, str) for part in parts for text in part):
        return tuple(dict.fromkeys(text for part in parts for text in part))
    if isinstance(one, tuple):
        each = map(concatenated, zip(*parts, strict=True))
        return type(one)(*each) if hasattr(one, "_fields") else tuple(each)
    if is_dataclass(one) and not isinstance(one, type):
        return replace(one, **{x.name: concatenated([getattr(part, x.name) for part in parts]) for x in fields(one)})
    return one


_joined: list[World] = []


def world() -> World:
    """Those that this process trains with: by `joined`, or since the user has begun `torch.distributed`."""
    if _joined:
        return _joined[-1]
    if not dist.is_available() or not dist.is_initialized():
        return World()
    return World(Shard(dist.get_rank(), dist.get_world_size()))


def helpers() -> World:
    """Those that share the work of a verb other than a training: of the command line under torchrun alone."""
    return _joined[-1] if _joined else World()


def restarted() -> bool:
    """Has torchrun started this process again, after one of them had ended?"""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextlib.contextmanager
def joined(verb: str) -> Iterator[World]:
    """Be one of the processes that a launcher has started, and leave them at the end.

    Those that are not the first print nothing. An error before the training begins is told to all of them, so that it
    is printed once, and nobody waits.

    Raises:
        InputError: the verb is none that several processes do together.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    with answering():
        dist.init_process_group(backend, timeout=TIMEOUT)
    here = World(Shard(dist.get_rank(), dist.get_world_size()))
    _joined.append(here)
    try:
        with contextlib.nullcontext() if here.first else _silent():
            try:
                if verb not in TOGETHER:
                    raise InputError(
                        f"{verb} is done by one process: start it without torchrun, which is for {', '.join(TOGETHER)}"
                    )
                yield here
            except (InputError, NumericalError) as error:
                if not here.begun and not hasattr(error, "common"):
                    here.gathered(error)
                raise
    except (InputError, NumericalError, Interrupted) as error:
        alike = hasattr(error, "common") or (here.begun and not isinstance(error, InputError))
        if alike:
            with contextlib.suppress(ProcessLost):
                here.wait()  # for the first, which may be writing: a launcher ends all when one of them has failed
        if here.first or not alike:
            raise
        raise SystemExit(error.exit_code) from None  # the first process tells it
    finally:
        _joined.remove(here)
        dist.destroy_process_group()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """
    Raises:
        ProcessLost: in place of what torch says where another process does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(
            "another process of this training has ended, or does not answer: so this one ends, too. What the run "
            f"holds is whole; ppl-vae resume goes on with it\n{str(error).splitlines()[0]}"
        ) from error
