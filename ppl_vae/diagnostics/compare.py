"""Estimators side by side: the same parameters, the same rows, the same noise."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from zlib import crc32

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.core.moments import Moments
from ppl_vae.core.randomness import draw_seed, seed_torch
from ppl_vae.core.statistics import Estimate
from ppl_vae.diagnostics.advice import advice
from ppl_vae.diagnostics.estimators import references
from ppl_vae.diagnostics.gradients import GROUPS, Gradients
from ppl_vae.diagnostics.memory import PeakMemory
from ppl_vae.diagnostics.projections import BiasTest, Projections
from ppl_vae.diagnostics.results import Difference, Estimator, SideBySide, ValueBias
from ppl_vae.graphs.calls import compilable, settle, was_compiled
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, parameters, terms
from ppl_vae.programs.scores import Batch, ProgramLike, batches

WARM_UP = 3  # steps that are not timed


@dataclass
class _Values:
    """Per row, the mean and variance over draws; per draw, the sum over rows."""

    means: list[Tensor] = field(default_factory=list)
    variances: list[Tensor] = field(default_factory=list)
    totals: dict[int, float] = field(default_factory=dict)

    def add(self, moments: Moments) -> None:
        self.means += moments.mean
        self.variances += moments.variance

    @property
    def mean(self) -> float:
        return torch.cat(self.means).mean().item()

    def se(self, draws: int) -> float:
        """Of the mean over rows and draws, the rows being independent given the data."""
        variances = torch.cat(self.variances)
        return math.sqrt(variances.sum().item() / draws) / len(variances)

    def estimate(self, draws: int) -> Estimate:
        return Estimate(self.mean, self.se(draws), "draws")


@dataclass
class _Trial:
    """One estimator under comparison, or a reference, with what is gathered of it."""

    objective: Objective
    names: list[str]
    stream: int
    """Trials of one stream get the same noise."""

    values: _Values = field(default_factory=_Values)
    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    compiled: bool = False
    how: dict[str, str] = field(default_factory=dict)
    reference: "_Trial | None" = None

    def __post_init__(self) -> None:
        self.gradients, self.bias = Gradients(self.names), BiasTest()
        self.begin()

    def begin(self) -> None:
        """Before the draws on a batch."""
        self.value, self.gradient = Moments(), Moments(increments=True)
        self.projected: list[Tensor] = []

    def end(self, whole: bool) -> None:
        """After them."""
        self.values.add(self.value)
        if whole:
            self.gradients.add(self.gradient, (self.reference or self).gradient)
            if self.reference is not None:
                self.bias.add(self.projected, self.reference.projected)


def compare_estimators(
    pair: Pair,
    objectives: Mapping[str, Objective],
    rows: Batch,
    *,
    batch_size: int,
    draws: int,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> SideBySide:
    """Value, variance, gradient, time and memory of each objective; bias and cosine against its target's reference.

    Each draw gives every objective the same random state, so that estimators which draw the guide alike share ε. A
    reference is another estimator of the same target (`diagnostics.estimators.references`), the first of them that
    takes the pair; it has as many draws, with noise of its own.

    Args:
        rows: the data, kept fixed; taken `batch_size` at a time.
        draws: R, how often each estimator is repeated on each batch; memory does not grow with it.
        advance: called after each draw, for a progress bar.

    Returns:
        See `Estimator`; `pairs` are of estimators of one target.
    """
    trained = parameters(pair.model, pair.guide, pair.borrower)
    trials = {name: _Trial(objective, list(trained), stream=0) for name, objective in objectives.items()}
    everyone = [*trials.values(), *_references(trials.values(), pair, next(batches(rows, batch_size)))]
    same = [
        pair_ for pair_ in itertools.combinations(trials, 2) if len({trials[n].objective.target for n in pair_}) == 1
    ]
    differences = {names: _Values() for names in same}
    projections = Projections(trained)
    for index, batch in enumerate(batches(rows, batch_size)):
        whole = len(batch[0]) == min(batch_size, len(rows[0]))
        passes = _Passes(pair, trained, batch, projections, seed, index)
        if index == 0:
            for trial in everyone:
                passes.measure(trial)
            settle(draws * max(1, len(rows[0]) // batch_size))
            for trial in everyone:
                passes.warm_up(trial)
            if len({trial.compiled for trial in everyone}) > 1:  # their times could not be compared
                settle(0)
                for trial in everyone:
                    passes.warm_up(trial)
        for trial in everyone:
            trial.begin()
        paired = {names: Moments() for names in differences}
        for draw in range(draws):
            value = {name: passes.draw(trial, draw) for name, trial in trials.items()}
            for trial in everyone[len(trials) :]:
                passes.draw(trial, draw)
            for a, b in differences:
                paired[a, b].add([value[a] - value[b]])
            advance()
        for trial in everyone:
            trial.end(whole)
        for names, moments in paired.items():
            differences[names].add(moments)
    estimators = {name: _estimator(trial, draws) for name, trial in trials.items()}
    pairs = tuple(Difference(a, b, values.estimate(draws)) for (a, b), values in differences.items())
    arrays = {name: _arrays(trial, draws) for name, trial in trials.items()}
    return SideBySide(estimators, pairs, advice(estimators, draws), arrays)


@dataclass
class _Passes:
    """Draws of estimators on one batch."""

    pair: Pair
    trained: dict[str, torch.nn.Parameter]
    batch: Batch
    projections: Projections
    seed: int
    index: int

    def draw(self, trial: _Trial, draw: int) -> Tensor:
        """One draw into the trial's moments; returns the value per datum, `(B,)`."""
        seed_torch(draw_seed(self.seed, self.index, draw, trial.stream))
        start = time.perf_counter()
        value, gradient = self.step(trial.objective)
        elapsed = time.perf_counter() - start
        if self.index == 0:  # a whole batch
            trial.seconds.append(elapsed)
        value = value.double()
        trial.value.add([value])
        trial.gradient.add(gradient)
        trial.projected.append(self.projections(gradient))
        trial.values.totals[draw] = trial.values.totals.get(draw, 0.0) + value.sum().item()
        return value

    def step(self, objective: Objective) -> tuple[Tensor, list[Tensor]]:
        """Value per datum `(B,)` and gradient of the mean loss: what one training step computes."""
        return value_and_gradient(self.pair.model, self.pair.guide, objective, list(self.trained.values()), self.batch)

    def measure(self, trial: _Trial) -> None:
        """What is the same for every draw."""
        with PeakMemory() as memory:
            self.step(trial.objective)
        trial.peak = memory.peak
        with torch.no_grad():
            trial.how = trial.objective.how(terms(self.pair.model, self.pair.guide, self.batch))

    def warm_up(self, trial: _Trial) -> None:
        """Take the steps that are not timed, in which it may be compiled."""
        for _ in range(WARM_UP):
            self.step(trial.objective)
        trial.compiled = was_compiled()


@compilable
def value_and_gradient(
    model: ProgramLike, guide: ProgramLike, objective: Objective, trained: list[torch.nn.Parameter], batch: Batch
) -> tuple[Tensor, list[Tensor]]:
    """Value per datum `(B,)` of one draw, and the gradient of the mean loss by the trained parameters."""
    estimate = objective.passed(model, guide, batch)
    gradient = torch.autograd.grad(estimate.loss, trained, allow_unused=True, materialize_grads=True)
    return estimate.value.detach(), list(gradient)


def _references(trials: Iterable[_Trial], pair: Pair, batch: Batch) -> list[_Trial]:
    """Give each trial its reference, the first that takes the pair; each is trial once, whoever refers to it."""
    made: dict[tuple[str, str], _Trial | None] = {}
    for trial in trials:
        for objective in references(trial.objective):
            key = objective.name, objective.target
            if key not in made:
                stream = 1 + crc32(repr(key).encode()) % 1000  # whatever company it has
                made[key] = None if refusal(objective, pair, batch) else _Trial(objective, trial.names, stream)
            if made[key] is not None:
                trial.reference = made[key]
                break
    return [reference for reference in made.values() if reference is not None]


@torch.no_grad()
def refusal(objective: Objective, pair: Pair, batch: Batch) -> str:
    """Why an objective does not take a pair; empty if it does."""
    try:
        objective.estimate(pair.model, pair.guide, batch)
    except InputError as error:
        return str(error)
    return ""


def _estimator(trial: _Trial, draws: int) -> Estimator:
    values, gradients, reference = trial.values, trial.gradients, trial.reference
    means = torch.cat(values.means)
    se_data = means.std().item() / math.sqrt(len(means)) if len(means) > 1 else math.nan
    variances, errors = gradients.variance(), gradients.variance_se()
    return Estimator(
        target=trial.objective.target,
        value=values.estimate(draws),
        over_data=Estimate(values.mean, se_data, "data"),
        bias=None if reference is None else _bias(trial, reference, draws),
        variance=torch.cat(values.variances).mean().item(),
        gradient_bias=None if reference is None else trial.bias.result(reference.objective.name),
        gradient_variance={group: Estimate(v, errors[group], "draws") for group, v in variances.items()},
        gradient_snr=gradients.snr(),
        gradient_cosine=dict.fromkeys(GROUPS, math.nan) if reference is None else gradients.cosine(reference.gradients),
        gradient_variance_by_tensor=gradients.variance_by_tensor(),
        gradient_snr_by_tensor=gradients.snr_by_tensor(),
        num_samples=trial.objective.num_particles,
        seconds_per_step=median(trial.seconds),
        compiled=trial.compiled,
        peak_bytes_per_step=trial.peak,
        sites=trial.how,
    )


def _bias(trial: _Trial, reference: _Trial, draws: int) -> ValueBias:
    se = math.hypot(trial.values.se(draws), reference.values.se(draws))
    return ValueBias(reference.objective.name, Estimate(trial.values.mean - reference.values.mean, se, "draws"))


def _arrays(trial: _Trial, draws: int) -> dict[str, Tensor]:
    means = torch.cat(trial.values.means)
    totals = torch.tensor([trial.values.totals[draw] for draw in range(draws)], dtype=torch.float64)
    return {"row_mean": means, "row_variance": torch.cat(trial.values.variances), "draw_mean": totals / len(means)}
