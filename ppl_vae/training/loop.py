"""Epochs over data: steps, an evaluation after each epoch, the best so far, patience. It knows no folder and no file.

What is done along the way, such as writing checkpoints or showing progress, is done by callbacks.
"""

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.errors import NotFinite, NumericalError
from ppl_vae.data import Data
from ppl_vae.data.protocol import WHOLE, Shard, Split
from ppl_vae.programs import parameters, terms
from ppl_vae.programs.scores import Batch
from ppl_vae.programs.state import evaluating
from ppl_vae.training.callback import Callback
from ppl_vae.training.config import FitConfig
from ppl_vae.training.distributed import World
from ppl_vae.training.evaluation import summarized
from ppl_vae.training.schedule import Warmup, schedule
from ppl_vae.training.state import State
from ppl_vae.training.step import Stepper, Undone

OWN_VALUE = ("objective", "objective_se_data")
MOST_SKIPPED = 10  # steps of one epoch
VALIDATION_SEED = 20_131_220  # common to all epochs and runs: their validation ELBOs differ by parameters alone


@dataclass
class Loop:
    """Training from where `state` stands to the end.

    Args:
        config: its epochs, batch size, seed, learning rate, schedule, patience and device.
        callbacks: told of each step and evaluation, in this order.
        world: the processes that train together, each on its part of each batch.
    """

    stepper: Stepper
    data: Data
    config: FitConfig
    callbacks: Sequence[Callback] = ()
    state: State = field(default_factory=State)
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        self.steps_per_epoch = self.data.steps_per_epoch(self.config.batch_size)
        self.steps = self.steps_per_epoch * self.config.epochs
        self.learning_rate = schedule(self.config.schedule, self.config.lr, self.steps)
        self.rate_weight = Warmup(self.steps_per_epoch * (self.config.warmup or 0), self.config.warmup_cycles)
        self.finished: dict[str, float] = {}

    def run(self) -> None:
        """Train to the end.

        Raises:
            NumericalError: a loss or gradient that is not finite; the step was not taken.
        """
        self.clock = time.perf_counter()
        while not self.done():
            try:
                for batch in self.batches():
                    self.step(batch)
                    self.stepped()
            except NumericalError as error:
                self.refuse(error)
                self.stepped()
            except Undone as undone:
                self.state.undo(undone)
                if undone.error is not None:
                    self.refuse(undone.error)
                    self.stepped()

    def batches(self, shard: Shard | None = None) -> Iterator[Batch]:
        """The batches of the present epoch that are still to come: of each the part of this process, or `shard`."""
        epoch, size, seed = self.state.epoch, self.config.batch_size, self.config.seed
        shard = self.world.shard if shard is None else shard
        return self.data.batches("train", size, epoch=epoch, seed=seed, start=self.state.batch, shard=shard)

    def stepped(self) -> None:
        """Finish the epoch with its last step, and tell of the step."""
        if self.state.batch == self.steps_per_epoch:
            self.finish_epoch()
        for callback in self.callbacks:
            callback.stepped(self)

    def done(self) -> bool:
        patience = self.config.patience
        return self.state.epoch >= self.config.epochs or (patience is not None and self.state.waited >= patience)

    def step(self, batch: Batch) -> None:
        self.stepper.learning_rate = self.learning_rate(self.state.step)
        self.stepper.rate_weight = self.rate_weight(self.state.step)
        rows, here = self.rows_of_batch("train", self.state.batch), self.move(batch)
        share = self.world.shard.count(rows) / rows
        self.state.add(self.stepper.step(here) if self.world.alone else self.stepper.step(here, share), rows)

    @property
    def rows_of_part(self) -> int:
        """How many rows of a full batch this process has."""
        return max(1, self.world.shard.count(self.config.batch_size))

    def rows_of_batch(self, split: Split, number: int) -> int:
        """How many rows a batch has, in all processes together."""
        size = self.config.batch_size
        return min(size, self.data.lengths[split] - number * size)

    def refuse(self, error: NumericalError) -> None:
        """Tell of the step that can't be taken, and skip it, if that is wished for.

        Raises:
            NumericalError: it is not, or the epoch has too many of them.
        """
        state, most = self.state, min(MOST_SKIPPED, self.steps_per_epoch - 1)
        where = f"step {state.step + 1} (epoch {state.epoch + 1}, batch {state.batch + 1})"
        if not isinstance(error, NotFinite):
            raise NumericalError(f"{where}: {error}; the step was not taken", error.rows) from error
        told = NotFinite(
            f"{where}: {error}{self.rows_of_data(error.rows)}; {self.largest()}; the step was not taken", error.rows
        )
        for callback in self.callbacks:
            callback.refused(self, next(self.batches(WHOLE)), told)
        if self.config.on_nan == "stop":
            raise told from error
        if state.skipped >= most:
            raise NotFinite(f"{told}; of this epoch {state.skipped} were skipped, the most that may be", error.rows)
        warnings.warn(f"{told} but skipped", stacklevel=2)
        state.skip()

    def largest(self) -> str:
        """The parameter with the largest number, which is often the one that has run away."""
        trained = parameters(self.stepper.pair.model, self.stepper.pair.guide, self.stepper.pair.borrower)
        sizes = {name: p.detach().abs().max().item() for name, p in trained.items() if p.numel()}
        name = max(sizes, key=sizes.__getitem__)
        return f"the largest parameter is {name}, up to {sizes[name]:.3g}"

    @property
    def means(self) -> dict[str, float]:
        """Nats per datum over the epoch of the last step, while the parameters moved."""
        if not self.state.rows:
            return self.finished
        means = self.state.means()
        return means if self.config.warmup else self.reported(means)

    def row_numbers(self) -> Tensor:
        """Where each row of the present batch stands in the data as read."""
        config, state = self.config, self.state
        part = self.data.part("train", config.batch_size, state.batch, epoch=state.epoch, seed=config.seed)
        return self.data.numbers("train", part)

    def rows_of_data(self, rows: list[int]) -> str:
        """Rows of the present batch, by their numbers in the data."""
        numbers = self.row_numbers()[rows].tolist()
        more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
        return f" in rows {', '.join(map(str, numbers[:5]))}{more} of the data" if rows else ""

    def settle(self) -> None:
        """Wait for all steps that were begun. Raises `Undone`, where one of them could not be taken."""
        self.stepper.settle()
        self.state.settle()

    def finish_epoch(self) -> None:
        self.settle()
        now = time.perf_counter()
        self.finished = self.means
        line = {
            "train": self.finished,
            "gradient_norm": self.state.gradient_norm / (self.state.batch - self.state.skipped),
            "lr": self.stepper.learning_rate,
            **({"skipped": self.state.skipped} if self.config.on_nan == "skip" else {}),
            **({"rate_weight": self.stepper.rate_weight} if self.config.warmup else {}),
            "seconds": now - self.clock,
        }
        self.clock = now
        self.state.next_epoch()
        self.assess(line)

    def assess(self, about: Mapping[str, Any] | None = None) -> None:
        """Evaluate on the validation rows, note whether this is the best by the objective's value, and tell of it.

        The value has the rate at weight 1, also during a warm-up.

        Args:
            about: what else to tell.
        """
        pair, world = self.stepper.pair, self.world
        world.check_equal(pair)
        objective = self.stepper.objective
        if objective.of_batch or world.alone:  # a part of a batch would have another value
            seen = world.gathered(summarized(pair, objective, self.rows("valid"), [VALIDATION_SEED]))[0]
        else:
            rows = self.rows("valid", world.shard)
            seen = summarized(pair, objective, rows, [world.seed(VALIDATION_SEED)], world)
        value = -math.inf if math.isnan(seen["objective"]) else seen["objective"]
        better = value > self.state.best_value or self.state.step == 0
        self.state.waited = 0 if better or self.state.step <= self.rate_weight.steps else self.state.waited + 1
        if better:
            self.state.best_step, self.state.best_value = self.state.step, value
        line = {"step": self.state.step, "epoch": self.state.epoch, "valid": self.reported(seen)} | dict(about or {})
        for callback in self.callbacks:
            callback.assessed(self, line)

    def about(self) -> Iterator[str]:
        """What is trained, on what, and by which estimator."""
        pair, objective = self.stepper.pair, self.stepper.objective
        yield from (f"{kind}: {source}" for kind, source in pair.sources.items())
        yield f"data: {self.data.describe()}"
        if self.config.standardize:
            yield "    standardized by column for the programs; log p(x) is that of the data as given"
        yield f"objective: {objective.name}, an estimate of {objective.target}"
        probe = self.move(self.data.first(1))
        with torch.no_grad(), torch.random.fork_rng(), evaluating(pair.model, pair.guide):
            how = objective.how(terms(pair.model, pair.guide, probe))
        yield from (f"    rate of site {site!r}: {which}" for site, which in how.items())
        if self.stepper.how:
            yield f"steps: {self.stepper.how}"

    def check_warmup(self) -> None:
        """
        Raises:
            InputError: there is a warm-up, and the objective has no rate to weight, or not for this pair.
        """
        pair, objective = self.stepper.pair, self.stepper.objective
        if self.config.warmup:
            with torch.no_grad(), torch.random.fork_rng(), evaluating(pair.model, pair.guide):
                estimate = objective.estimate(pair.model, pair.guide, self.move(self.data.first(1)))
                objective.weighted(estimate, 0.0)

    def warn_of_warmup(self) -> None:
        """Warn where training has ended before the weight of the rate stayed at 1."""
        if self.state.step < self.rate_weight.steps:
            needed = self.rate_weight.steps // self.steps_per_epoch
            warnings.warn(
                f"the warm-up had not ended after {self.state.epoch} epochs: it takes {needed}, and at the last step "
                f"the rate had the weight {self.rate_weight(self.state.step - 1):.3g}, so that another objective than "
                f"{self.stepper.objective.target} was trained. Give more --epochs or a shorter --warmup",
                stacklevel=5,
            )

    def reported(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """The numbers, without the objective's own value where that is the ELBO."""
        left_out = OWN_VALUE if self.stepper.objective.target == "ELBO" else ()
        return {name: x for name, x in numbers.items() if name not in left_out}

    def rows(self, split: Split, shard: Shard = WHOLE) -> Iterator[Batch]:
        """The rows of a split in their order, in batches, on the device; of each batch a part, which may be empty."""
        for number, batch in enumerate(self.data.batches(split, self.config.batch_size, shard=shard)):
            if shard.count(self.rows_of_batch(split, number)):
                yield self.move(batch)

    def move(self, batch: Batch) -> Batch:
        return tuple(x.to(self.config.device) for x in batch)
