"""A configuration, a pair and data, trained: epochs, the best state, checkpoints, interruption."""

import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from ppl_vae.checks.pair import check_pair
from ppl_vae.core.errors import InputError, NumericalError
from ppl_vae.core.files import write_json
from ppl_vae.core.randomness import random_state, restore_random_state
from ppl_vae.data import Data
from ppl_vae.objectives import Named
from ppl_vae.programs import Pair, load_owned, owned, terms
from ppl_vae.programs.scores import Batch
from ppl_vae.programs.state import evaluating
from ppl_vae.runs.run import Run
from ppl_vae.training.config import FitConfig
from ppl_vae.training.interrupt import Interrupted, Signals
from ppl_vae.training.progress import Progress
from ppl_vae.training.setup import make_objective
from ppl_vae.training.step import Step, Trainer, evaluate, evaluate_afresh

COLLAPSED = 0.05  # nats per datum: a rate below it says next to nothing, be it through one dimension or many
VALIDATION_SEED = 20_131_220  # common to all epochs and runs: their validation ELBOs differ by parameters alone
FRESH_SEED, FRESH_DRAWS = VALIDATION_SEED + 1, 5  # what the best state was not selected by


@dataclass
class State:
    """Where training stands; with the tensors of a checkpoint, all that the next step depends on."""

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

    def add(self, seen: Step, rows: int) -> None:
        self.step, self.batch, self.rows = self.step + 1, self.batch + 1, self.rows + rows
        self.value += seen.value
        self.elbo += seen.elbo
        self.rate += seen.rate
        self.distortion += seen.distortion
        self.gradient_norm += seen.gradient_norm

    def means(self) -> dict[str, float]:
        """Nats per datum over the epoch so far, while the parameters moved."""
        totals = {"objective": self.value, "elbo": self.elbo, "rate": self.rate, "distortion": self.distortion}
        return {name: total / self.rows for name, total in totals.items()}

    def next_epoch(self) -> None:
        self.epoch, self.batch, self.rows = self.epoch + 1, 0, 0
        self.value = self.elbo = self.rate = self.distortion = self.gradient_norm = 0.0


@dataclass
class Job:
    """A configuration, a pair and data, ready to train."""

    config: FitConfig
    pair: Pair
    dataset: Data
    state: State = field(default_factory=State)
    best: tuple[int, dict[str, Tensor], dict[str, Any]] | None = None
    named: Named | None = None
    """What the configuration calls its objective, where that is a class of the user's own."""

    def __post_init__(self) -> None:
        self.objective = make_objective(self.config, self.named)
        self.trainer = Trainer(self.pair, self.objective, self.config.lr, self.config.clip)

    def check(self) -> None:
        """Warn of what `check` doubts.

        Raises:
            InputError: the first thing that it refuses.
        """
        for finding in check_pair(self.pair, self.dataset, self.objective).findings:
            if finding.level == "error":
                raise InputError(str(finding))
            warnings.warn(str(finding), stacklevel=4)

    def train(self, run: Run, progress: bool) -> Run:
        """Go on from where the state stands, which is the start or the run's last checkpoint."""
        steps = self.dataset.steps_per_epoch(self.config.batch_size)
        run.forget_metrics_after(self.state.step if run.checkpoints.steps else -1)
        if not run.checkpoints.steps:
            self.assess(run, {})
            self.save(run)
        self.clock = time.perf_counter()
        with Signals() as signals, Progress(progress, steps * self.config.epochs) as bar:
            for line in self.about():
                bar.say(line)
            while not self.done():
                position = {"epoch": self.state.epoch, "seed": self.config.seed, "start": self.state.batch}
                batches = self.dataset.batches("train", self.config.batch_size, **position)
                for batch in batches:
                    self.step(run, batch)
                    bar.show(self.state.step, self.reported(self.state.means()))
                    if self.state.batch == steps:
                        seen = self.finish_epoch(run)
                        bar.epoch(self.state.epoch, self.config.epochs, seen["train"], seen["valid"])
                    caught = signals.caught  # once: a signal may come at any moment
                    if caught or self.state.step % self.config.checkpoint_every == 0:
                        self.save(run)
                    if caught:
                        raise Interrupted(
                            caught,
                            f"stopped at step {self.state.step}, saved: go on with fit --out {run.folder} --resume",
                        )
        self.save(run)
        self.measure_best(run)
        return run

    def measure_best(self, run: Run) -> None:
        """Write `best.json`: the best state's validation numbers at fresh noise. Warn where its latent has collapsed.

        The best of many epochs at one fixed noise is selected for that noise too, which makes its value optimistic.
        """
        step, (model, guide, borrower) = self.state.best_step, (self.pair.model, self.pair.guide, self.pair.borrower)
        kept = {name: t.detach().clone() for name, t in owned(model, guide, borrower)}
        load_owned(model, guide, run.checkpoints.load(step)[0], borrower)
        try:
            rows, size = self.move(self.dataset.whole("valid")), self.config.batch_size
            valid = evaluate_afresh(self.pair, self.objective, rows, size, FRESH_SEED, FRESH_DRAWS)
        finally:
            load_owned(model, guide, kept, borrower)
        found = {"format": 1, "step": step, "seed": FRESH_SEED, "draws": FRESH_DRAWS, "valid": self.reported(valid)}
        write_json(run.folder / "best.json", found)
        if valid["rate"] < COLLAPSED:
            warnings.warn(
                f"the latent has collapsed: at the best step, {step}, the rate is {valid['rate']:.3f} nats per datum, "
                f"below {COLLAPSED}, so that q(z|x) is nearly p(z) and z says nothing of x. Try --standardize for "
                "columns of different scales, --objective free-bits, more --epochs, or a decoder that can do less "
                "without z",
                stacklevel=4,
            )

    def done(self) -> bool:
        patience = self.config.patience
        return self.state.epoch >= self.config.epochs or (patience is not None and self.state.waited >= patience)

    def step(self, run: Run, batch: Batch) -> None:
        self.trainer.learning_rate = self.learning_rate()
        noise = random_state(self.config.device)
        try:
            seen = self.trainer.step(self.move(batch))
        except NumericalError as error:
            restore_random_state(noise, self.config.device)
            self.save(run)
            raise NumericalError(
                f"step {self.state.step + 1} (epoch {self.state.epoch + 1}, batch {self.state.batch + 1}): "
                f"{error}{self.rows_of_data(error.rows)}; the step was not taken, {run.folder} holds the state before "
                "it. Fit anew with a lower --lr, with --clip, or with a floor on a scale",
                error.rows,
            ) from error
        self.state.add(seen, len(batch[0]))

    def rows_of_data(self, rows: list[int]) -> str:
        """Rows of the present batch, by their numbers in the data."""
        config, state = self.config, self.state
        parts = self.dataset.parts("train", config.batch_size, epoch=state.epoch, seed=config.seed)
        indices = parts[state.batch]
        numbers = self.dataset.numbers("train")[indices[rows]].tolist()
        more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
        return f" in rows {', '.join(map(str, numbers[:5]))}{more} of the data" if rows else ""

    def learning_rate(self) -> float:
        total = self.config.epochs * self.dataset.steps_per_epoch(self.config.batch_size)
        cosine = 0.5 * (1 + math.cos(math.pi * self.state.step / total))
        return self.config.lr * (cosine if self.config.schedule == "cosine" else 1.0)

    def finish_epoch(self, run: Run) -> dict[str, Any]:
        now = time.perf_counter()
        line = {
            "train": self.reported(self.state.means()),
            "gradient_norm": self.state.gradient_norm / self.state.batch,
            "lr": self.trainer.learning_rate,
            "seconds": now - self.clock,
        }
        self.clock = now
        self.state.next_epoch()
        return self.assess(run, line)

    def assess(self, run: Run, line: dict[str, Any]) -> dict[str, Any]:
        """Evaluate on the validation rows, note the best by the objective's value, and write a line of metrics."""
        rows = self.move(self.dataset.whole("valid"))
        valid = evaluate(self.pair, self.objective, rows, self.config.batch_size, VALIDATION_SEED).summary()
        value = -math.inf if math.isnan(valid["objective"]) else valid["objective"]
        better = value > self.state.best_value or self.state.step == 0
        self.state.waited = 0 if better else self.state.waited + 1
        if better:
            self.state.best_step, self.state.best_value = self.state.step, value
            tensors = {name: t.detach().clone() for name, t in self.tensors().items()}
            self.best = self.state.step, tensors, asdict(self.state)
        line = {"step": self.state.step, "epoch": self.state.epoch, "valid": self.reported(valid)} | line
        run.add_metrics(line)
        return line

    def reported(self, numbers: dict[str, Any]) -> dict[str, Any]:
        """The numbers, without the objective's own value where that is the ELBO."""
        own = "objective" if self.objective.target == "ELBO" else ()
        return {name: x for name, x in numbers.items() if not name.startswith(own)}

    def about(self) -> Iterator[str]:
        """What is trained, on what, and by which estimator."""
        yield from (f"{kind}: {source}" for kind, source in self.pair.sources.items())
        yield f"data: {self.dataset.describe()}"
        if self.config.standardize:
            yield "    standardized by column for the programs; log p(x) is that of the data as given"
        yield f"objective: {self.objective.name}, an estimate of {self.objective.target}"
        probe = self.move(self.dataset.first(1))
        with torch.no_grad(), torch.random.fork_rng(), evaluating(self.pair.model, self.pair.guide):
            how = self.objective.how(terms(self.pair.model, self.pair.guide, probe))
        yield from (f"    rate of site {site!r}: {which}" for site, which in how.items())

    def tensors(self) -> dict[str, Tensor]:
        weights = dict(owned(self.pair.model, self.pair.guide, self.pair.borrower))
        return weights | self.trainer.optimizer_state() | random_state(self.config.device)

    def save(self, run: Run) -> None:
        """Write the best state and the present one, unless they are there: a step has only one state."""
        checkpoints = run.checkpoints
        if self.best is not None and self.best[0] not in checkpoints.steps:
            checkpoints.save(*self.best, best=self.state.best_step)
        self.best = None
        if self.state.step not in checkpoints.steps:
            checkpoints.save(self.state.step, self.tensors(), asdict(self.state), best=self.state.best_step)

    def load(self, run: Run) -> None:
        tensors, info = run.checkpoints.load(run.checkpoints.steps[-1])
        if set(info) != {field.name for field in fields(State)}:
            raise InputError(f"{run.folder} was written by another version, which kept another state: fit anew")
        load_owned(self.pair.model, self.pair.guide, tensors, self.pair.borrower)
        self.trainer.load_optimizer_state(tensors)
        restore_random_state(tensors, self.config.device)
        self.state = State(**info)
        if self.state.best_value is None:  # JSON has no −inf
            self.state.best_value = -math.inf

    def move(self, batch: Batch) -> Batch:
        return tuple(x.to(self.config.device) for x in batch)
