"""`fit`: check, train, keep the best, survive interruption."""

import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_vae.check import check_pair
from ppl_vae.config import FitConfig, config_from
from ppl_vae.data import Dataset
from ppl_vae.errors import InputError, NumericalError
from ppl_vae.programs import Pair, load_owned, owned, resolve_pair
from ppl_vae.programs.find import Spec
from ppl_vae.programs.resolve import parse_settings
from ppl_vae.programs.terms import Batch
from ppl_vae.training.files import write_json
from ppl_vae.training.interrupt import Interrupted, Signals
from ppl_vae.training.progress import Progress
from ppl_vae.training.run import (
    Run,
    create,
    isolated,
    make_objective,
    open_config_data,
    record_data,
    split_objective,
    to_device,
)
from ppl_vae.training.trainer import Step, Trainer, evaluate

VALIDATION_SEED = 20_131_220  # common to all epochs and runs: their validation ELBOs differ by parameters alone
EXAMPLE_ROWS = 1000


def fit(
    model: Spec | None = None,
    guide: Spec | None = None,
    data: Any = None,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    trust: bool = False,
    force: bool = False,
    progress: bool = False,
    **options: Any,
) -> Run:
    """Fit a model and a guide to data, and return the run.

    Args:
        model: p(z) p(x|z): a name, a file, `file.py:Name`, an `nn.Module` or a Pyro function.
        guide: q(z|x): likewise.
        data: what `ppl_vae.data.open_data` reads: a built-in set, files, or arrays.
        out: the folder to make; with `resume`, the run to go on with.
        trust, force: with `resume`: execute programs from `RUN/sources`; accept other hashes (see `Run.pair`).
        progress: show a progress bar on standard error.
        options: the fields of `ppl_vae.config.FitConfig`; `set` may be a dict.

    Raises:
        InputError: anything that `check` refuses, an option that does not fit, an existing folder.
        NumericalError: a loss or gradient that is not finite; the state before that step has been saved.
        Interrupted: Ctrl-C or SIGTERM, after the state has been saved.
    """
    if out is None:
        raise InputError("fit needs out, the folder of the run")
    folder = Path(out).expanduser()
    asked = _asked(model, guide, data, options)
    if resume:
        run = Run(folder)
        config = _extended(run.config, asked)
        dataset = run.data(data, force=force)
        with isolated(config.seed):
            example = None if run.checkpoints.steps else _example(dataset)
            pair = run.build({"model": model, "guide": guide}, example, trust=trust, force=force)
            job = _Job(config, pair, dataset)
            if run.checkpoints.steps:
                job.load(run)
            job.check()
            if config != run.config:
                write_json(folder / "config.json", run.record | {"fit": config.asdict()})
            return job.train(Run(folder), progress)
    for name, value in (("model", model), ("guide", guide), ("data", data)):
        if value is None:
            raise InputError(f"fit needs a {name}: --{name}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists: choose another --out, or --resume to go on with it")
    dataset = open_config_data(asked, data)
    with isolated(asked.seed):
        example = _example(dataset)
        settings, _ = split_objective(parse_settings(asked.set))
        pair = resolve_pair(model, guide, example, settings)  # type: ignore[arg-type]
        to_device(pair, asked.device)
        job = _Job(asked, pair, dataset)
        job.check()
        run = create(folder, asked, pair, dataset, example)
        return job.train(run, progress)


def _asked(model: Any, guide: Any, data: Any, options: dict[str, Any]) -> FitConfig:
    def text(spec: Any) -> str:
        return str(spec) if isinstance(spec, str | Path) else ""

    settings = options.get("set", ())
    if isinstance(settings, dict):
        settings = [f"{name}={value!r}" for name, value in settings.items()]
    options = options | {"set": (settings,) if isinstance(settings, str) else tuple(settings)}
    recorded = {"model": text(model), "guide": text(guide), "data": () if data is None else record_data(data)}
    return config_from(options | recorded)


def _extended(recorded: FitConfig, asked: FitConfig) -> FitConfig:
    """The configuration of a run with the number of epochs that is asked for, if any is."""
    config = recorded.resumed_with(replace(asked, model="", guide="", data=()))
    if config.epochs != recorded.epochs and config.schedule != "constant":
        raise InputError(f"the {config.schedule} schedule was laid out for {recorded.epochs} epochs: leave out epochs")
    if config.epochs < recorded.epochs:
        raise InputError(f"the run was started with {recorded.epochs} epochs, not {config.epochs}: leave it out")
    return config


def _example(dataset: Dataset) -> Batch:
    return tuple(x[:EXAMPLE_ROWS] for x in dataset.train)


@dataclass
class _State:
    """Where training stands; with the tensors of a checkpoint, all that the next step depends on."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    rows: int = 0
    elbo: float = 0.0
    distortion: float = 0.0
    gradient_norm: float = 0.0
    best_step: int = 0
    best_elbo: float = -math.inf
    waited: int = 0

    def add(self, seen: Step, rows: int) -> None:
        self.step, self.batch, self.rows = self.step + 1, self.batch + 1, self.rows + rows
        self.elbo += seen.elbo
        self.distortion += seen.distortion
        self.gradient_norm += seen.gradient_norm

    def means(self) -> dict[str, float]:
        """Nats per datum over the epoch so far, while the parameters moved."""
        elbo, distortion = self.elbo / self.rows, self.distortion / self.rows
        return {"elbo": elbo, "rate": -elbo - distortion, "distortion": distortion}

    def next_epoch(self) -> None:
        self.epoch, self.batch, self.rows = self.epoch + 1, 0, 0
        self.elbo = self.distortion = self.gradient_norm = 0.0


@dataclass
class _Job:
    """A configuration, a pair and data, ready to train."""

    config: FitConfig
    pair: Pair
    dataset: Dataset
    state: _State = field(default_factory=_State)
    best: tuple[int, dict[str, Tensor], dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        self.objective = make_objective(self.config)
        self.trainer = Trainer(self.pair, self.objective, self.config.lr, self.config.clip)

    def check(self) -> None:
        report = check_pair(self.pair, self.dataset, self.objective)
        if report.errors:
            raise InputError(str(report.errors[0]))

    def train(self, run: Run, progress: bool) -> Run:
        """Go on from where the state stands, which is the start or the run's last checkpoint."""
        steps = self.dataset.steps_per_epoch(self.config.batch_size)
        run.forget_metrics_after(self.state.step if run.checkpoints.steps else -1)
        if not run.checkpoints.steps:
            self.assess(run, {})
            self.save(run)
        self.clock = time.perf_counter()
        with Signals() as signals, Progress(progress, steps * self.config.epochs) as bar:
            while not self.done():
                batches = self.dataset.epoch(
                    self.state.epoch, self.config.batch_size, self.config.seed, start=self.state.batch
                )
                for batch in batches:
                    self.step(run, batch)
                    bar.show(self.state.step, self.state.means())
                    if self.state.batch == steps:
                        self.finish_epoch(run)
                    caught = signals.caught  # once: a signal may come at any moment
                    if caught or self.state.step % self.config.checkpoint_every == 0:
                        self.save(run)
                    if caught:
                        raise Interrupted(caught, f"stopped at step {self.state.step}, saved")
        self.save(run)
        return run

    def done(self) -> bool:
        patience = self.config.patience
        return self.state.epoch >= self.config.epochs or (patience is not None and self.state.waited >= patience)

    def step(self, run: Run, batch: Batch) -> None:
        self.trainer.learning_rate = self.learning_rate()
        noise = torch.get_rng_state()
        try:
            seen = self.trainer.step(self.move(batch))
        except NumericalError as error:
            torch.set_rng_state(noise)
            self.save(run)
            raise NumericalError(
                f"step {self.state.step + 1} (epoch {self.state.epoch + 1}, batch {self.state.batch + 1}): {error}; "
                f"the step was not taken, {run.folder} holds the state before it. "
                "A lower --lr, --clip or a floor on a scale may help"
            ) from error
        self.state.add(seen, len(batch[0]))

    def learning_rate(self) -> float:
        total = self.config.epochs * self.dataset.steps_per_epoch(self.config.batch_size)
        cosine = 0.5 * (1 + math.cos(math.pi * self.state.step / total))
        return self.config.lr * (cosine if self.config.schedule == "cosine" else 1.0)

    def finish_epoch(self, run: Run) -> None:
        now = time.perf_counter()
        line = {
            "train": self.state.means(),
            "gradient_norm": self.state.gradient_norm / self.state.batch,
            "lr": self.trainer.learning_rate,
            "seconds": now - self.clock,
        }
        self.clock = now
        self.state.next_epoch()
        self.assess(run, line)

    def assess(self, run: Run, line: dict[str, Any]) -> None:
        """Evaluate on the validation rows, note the best, and write a line of metrics."""
        rows = self.move(self.dataset.valid)
        valid = evaluate(self.pair, self.objective, rows, self.config.batch_size, VALIDATION_SEED).summary()
        elbo = -math.inf if math.isnan(valid["elbo"]) else valid["elbo"]
        better = elbo > self.state.best_elbo or self.state.step == 0
        self.state.waited = 0 if better else self.state.waited + 1
        if better:
            self.state.best_step, self.state.best_elbo = self.state.step, elbo
            tensors = {name: t.detach().clone() for name, t in self.tensors().items()}
            self.best = self.state.step, tensors, asdict(self.state)
        run.add_metrics({"step": self.state.step, "epoch": self.state.epoch, "valid": valid} | line)

    def tensors(self) -> dict[str, Tensor]:
        weights = dict(owned(self.pair.model, self.pair.guide, self.pair.borrower))
        return weights | self.trainer.optimizer_state() | {"rng": torch.get_rng_state()}

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
        load_owned(self.pair.model, self.pair.guide, tensors, self.pair.borrower)
        self.trainer.load_optimizer_state(tensors)
        torch.set_rng_state(tensors["rng"])
        self.state = _State(**info)
        if self.state.best_elbo is None:  # JSON has no −inf
            self.state.best_elbo = -math.inf

    def move(self, batch: Batch) -> Batch:
        return tuple(x.to(self.config.device) for x in batch)
