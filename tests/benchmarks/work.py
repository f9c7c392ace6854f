"""What the benchmarks have in common: pairs of several sizes, our steps, peers in other processes, rounds in turn."""

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor

from ppl_vae import objectives
from ppl_vae.graphs.captured import Captured
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import Pair, resolve_pair
from ppl_vae.training.captured import CapturedTrainer
from ppl_vae.training.step import Trainer

Step = Callable[[Tensor], object]
Timed = Callable[[], float]
"""It does some steps, and gives the seconds of one."""
ROWS = 4000
"""Of the random data that steps are taken on."""
PAUSE = 0.3
"""Seconds before each candidate's turn: the threads of another process go on spinning after its own."""


@dataclass(frozen=True)
class Work:
    """What is trained: programs, their settings, rows of a batch, draws; `plain` if peers write it by hand too."""

    batch: int
    settings: dict[str, Any]
    model: str = "bernoulli"
    guide: str = "diagonal_normal"
    particles: int = 1
    shape: tuple[int, ...] = (784,)
    plain: bool = True

    def rows(self) -> Tensor:
        return (torch.rand(ROWS, *self.shape) < 0.2).float()

    def pair(self, x: Tensor) -> Pair:
        torch.manual_seed(0)
        return resolve_pair(self.model, self.guide, (x[:1000],), self.settings)

    def objective(self) -> objectives.Objective:
        return Trace_ELBO(self.particles)


LARGE, SMALL = {"hidden": 400, "latent_dim": 50}, {"hidden": 200, "latent_dim": 20}
GATED = {"hidden": 300, "latent_dim": 40, "network": "gated"}
WORK = {
    "large": Work(256, LARGE),
    "small": Work(100, SMALL),
    "small, K=5": Work(100, SMALL, particles=5),
    "small, K=50": Work(100, SMALL, particles=50),
    "gated, VampPrior 500": Work(
        100, GATED | {"prior": "vamp", "prior.components": 500}, "vae", "amortized", plain=False
    ),
    "convolutional": Work(
        100, {"latent_dim": 20, "network": "convolutional"}, "vae", "amortized", shape=(1, 28, 28), plain=False
    ),
}
"""784-400-50 at 256 rows, 784-200-20 at 100; 784-300-300-40 gated with 500 pseudo-inputs; a convolutional pair."""


def trainer(work: Work, x: Tensor, compiled: bool) -> Trainer:
    """What takes the steps of `fit`."""
    pair, objective = work.pair(x), work.objective()
    if not compiled:
        return Trainer(pair, objective)
    captured = Captured(pair, objective)
    with pyro.validation_enabled(False):
        captured.graph_for((x[: work.batch],))
    return CapturedTrainer(pair, objective, captured=captured)


def ours(work: Work, x: Tensor, compiled: bool) -> Step:
    """The step of `fit`."""
    steps = trainer(work, x, compiled)

    def step(batch: Tensor) -> object:
        with pyro.validation_enabled(False):
            return steps.step((batch,))

    return step


def timed(step: Step, x: Tensor, batch: int, steps: int) -> Timed:
    """So many steps on random batches, which are drawn before the clock starts."""

    def seconds() -> float:
        batches = [x[torch.randperm(len(x))[:batch]] for _ in range(steps)]
        start = time.perf_counter()
        for each in batches:
            step(each)
        return (time.perf_counter() - start) / steps

    return seconds


class Peer:
    """A process that takes somebody else's steps when it is asked to: `PYTHON -P SCRIPT *numbers`."""

    def __init__(self, python: str, script: str, *numbers: int) -> None:
        command = [python, "-P", str(Path(__file__).with_name(script)), *map(str, numbers)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __call__(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def in_turn(candidates: Mapping[str, Timed], rounds: int) -> dict[str, list[float]]:
    """The seconds of a step of each candidate, by round. A round before them, which compiles, is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for i in range(rounds + 1):
        for name, seconds in candidates.items():
            time.sleep(PAUSE)
            took = seconds()
            taken[name] += [took] if i else []
    return taken
