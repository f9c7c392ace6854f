"""What a process knows of the others that train with it, and how they add up and agree."""

import contextlib
import hashlib
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ppl_vae.core.errors import InputError, NumericalError, ProcessLost, Told
from ppl_vae.core.parts import concatenated
from ppl_vae.core.randomness import draw_seed
from ppl_vae.data.protocol import Shard
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, owned
from ppl_vae.training.interrupt import Signals
from ppl_vae.training.noise import Noise, SeededNoise, TorchNoise

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class World:
    """What this process knows of the others that train with it; by default it is alone, and nothing is exchanged.

    Args:
        shard: which part of each batch is its own.
        signals: what it has caught, which all act upon after the same step.
        begun: has the work begun, so that the others no longer wait to be told of an error?
        launched: did a launcher start them, so that those that are not the first may end when they are done?
        launchers: names of those that started them, one on each machine; a run keeps them, by which it knows processes
            that were started again.
    """

    shard: Shard = field(default_factory=Shard)
    signals: Signals = field(default_factory=Signals)
    begun: bool = False
    launched: bool = False
    launchers: list[str] = field(default_factory=list)
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
        if self.launched:
            raise SystemExit(0)

    # ---- what they tell each other

    def gathered(self, mine: T | Told) -> list[T]:
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
            if isinstance(said, Told):
                if isinstance(said, NumericalError):  # whose rows are those of its part
                    said.rows = [rank + self.shard.size * row for row in said.rows]
                said.common = True
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
        error: Told | None = None
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
        self.begun = self.begun or last
        if last and not self.first:
            raise SystemExit(0)
        return concatenated(parts)

    # ---- what they add up

    def reduce(
        self, numbers: Tensor, gradients: Sequence[Tensor], buffers: Sequence[Tensor], share: float
    ) -> tuple[Tensor, list[Tensor]]:
        """Numbers and gradients of the whole batch, of which this process has the rows of a `share`.

        All of it is one piece of memory, which is added up at once.

        Args:
            numbers: sums over rows, and at last the norm of the gradient: `(n + 1,)`.
            gradients: of a mean over rows.
            buffers: means over rows, too, such as the running mean of a BatchNorm; those of the whole batch are put in
                their place.

        Raises:
            ProcessLost: a process has ended, or does not answer.
        """
        means = [*gradients, *buffers]
        caught = numbers.new_tensor([float(self.signals.caught == each) for each in SIGNALS])
        flat = torch.cat([*(x.flatten() for x in means), numbers[:-1], caught])
        summed = flat[: flat.numel() - numbers.numel() + 1 - caught.numel()]
        if share:
            summed *= share
        else:  # the row that stands in for none counts nothing, be it finite or not
            flat[: -caught.numel()] = 0
        with answering():
            dist.all_reduce(flat)
        *sums, told, signals = flat.split([*(x.numel() for x in means), numbers.numel() - 1, caught.numel()])
        found = [total.view_as(x).to(x.dtype) for x, total in zip(means, sums, strict=True)]
        for x, total in zip(buffers, found[len(gradients) :], strict=True):
            x.copy_(total)
        found = found[: len(gradients)]
        counts = signals.tolist()
        self.told = next((int(each) for each, count in zip(SIGNALS, counts, strict=True) if count > 0), None)
        return torch.cat([told, nn.utils.get_total_norm(found).reshape(1)]), found

    @contextlib.contextmanager
    def means_of_batches(self, objective: Objective, share: float) -> Iterator[None]:
        """In here, what an objective asks of all rows of a batch is asked of those of all processes."""

        def together(mean: Tensor) -> Tensor:
            mean = mean * share if share else torch.zeros_like(mean)
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

    def check_same(self, mine: object, what: str) -> None:
        """
        Raises:
            InputError: the processes say different things of what has to be the same.
        """
        if any(said != mine for said in self.gathered(mine)):
            raise InputError(f"{what} is not the same for all processes: give each of them the same")

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
        return TorchNoise(device) if self.alone else SeededNoise(partial(self.seed, seed))


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """
    Raises:
        ProcessLost: in place of what torch says where another process does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        told = re.sub(r"^\[\S*\] ", "", str(error).splitlines()[0]).partition(". ")[0]
        raise ProcessLost(
            "another process of this job has ended, or does not answer, so that this one ends, too. What a run holds "
            f"is whole, and ppl-vae resume goes on with it\n{told}"
        ) from error
