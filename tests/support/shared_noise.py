"""Trainings by one process and by several at the same noise for each row of the data, which must come out the same."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ppl_vae import objectives
from ppl_vae.core.randomness import draw_seed
from ppl_vae.data import open_data
from ppl_vae.data.protocol import Shard
from ppl_vae.programs import parameters, resolve_pair
from ppl_vae.training.callback import Callback
from ppl_vae.training.config import FitConfig
from ppl_vae.training.distributed import World
from ppl_vae.training.loop import VALIDATION_SEED, Loop
from ppl_vae.training.noise import SeededNoise
from ppl_vae.training.prepare import isolated
from ppl_vae.training.step import Trainer

ROWS = 47  # 37 of them are trained on, in batches of 12, the last of which has one row
STEPS = {"trace": 200, "iwae of 5 draws": 200}
SHORT = 24  # steps of the other cases
SETTINGS = {"latent_dim": 3, "hidden": 8}
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "trace": ("bernoulli", "diagonal_normal", "trace", {}),
    "trace of 5 draws": ("bernoulli", "diagonal_normal", "trace:num_particles=5", {}),
    "iwae of 5 draws": ("bernoulli", "diagonal_normal", "iwae:num_particles=5", {}),
    "dreg of 5 draws": ("gaussian", "diagonal_normal", "dreg:num_particles=5", {}),
    "sticking the landing": ("vae", "amortized", "sticking-the-landing", {"prior": "flow"}),
    "renyi": ("bernoulli", "diagonal_normal", "renyi:num_particles=5", {}),
    "score function": ("bernoulli", "diagonal_normal", "score-function:num_particles=5", {}),
    "analytic KL": ("bernoulli", "diagonal_normal", "analytic-kl", {}),
    "mean field": ("bernoulli", "diagonal_normal", "mean-field", {}),
    "beta": ("bernoulli", "diagonal_normal", "beta:beta=4", {}),
    "free bits": ("bernoulli", "diagonal_normal", "free-bits", {}),
    "VampPrior": ("vae", "amortized", "trace", {"prior": "vamp", "prior.components": 5}),
    "hierarchy": ("hierarchical", "ladder", "trace", {}),
    "enumeration": ("categorical", "auto", "trace-enum", {}),
}


of = Shard.of
last: list[Any] = [Shard(), torch.arange(0)]
"""The part that was taken last, and the rows of which it was."""


def noted(shard: Shard, rows: Tensor) -> Tensor:
    last[:] = shard, rows
    return of(shard, rows)


class Shared(World):
    """Processes whose seeds do not depend on which of them it is."""

    def seed(self, seed: int, step: int = 0) -> int:
        return seed if seed == VALIDATION_SEED else draw_seed(seed, step, 0, 0)


class OfAllRows(TorchDispatchMode):
    """Random numbers are drawn for all rows of a batch, and those of a part of it are taken out."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if torch.Tag.nondeterministic_seeded not in func.tags or name in ("randperm", "multinomial"):
            return func(*args, **(kwargs or {}))
        assert name == "normal_", name
        own, (shard, rows) = args[0], last
        part = of(shard, torch.arange(len(rows)))
        at = list(own.shape).index(len(part))
        whole = own.new_empty(*own.shape[:at], len(rows), *own.shape[at + 1 :])
        func(whole, *args[1:], **(kwargs or {}))
        return own.copy_(whole.index_select(at, part))


@dataclass
class Lines(Callback):
    """What is told of each epoch."""

    lines: list[dict[str, Any]] = field(default_factory=list)

    def assessed(self, loop: Loop, line: Mapping[str, Any]) -> None:
        self.lines.append({name: x for name, x in line.items() if name != "seconds"})


def trained(world: World, case: str) -> tuple[list[dict[str, Any]], Tensor]:
    """The lines of a training, and the parameters at its end."""
    model, guide, objective, settings = CASES[case]
    named = objectives.named(objective)
    steps = STEPS.get(case, SHORT)
    config = FitConfig(epochs=steps // 4, batch_size=12, lr=1e-3, seed=3)
    rows = (torch.arange(ROWS * 9).reshape(ROWS, 9) * 7 % 5 < 2).float()
    data, told = open_data(rows), Lines()
    with isolated(config.seed):
        pair = resolve_pair(model, guide, data.train, settings | ({} if guide in ("ladder", "auto") else SETTINGS))
        stepper = Trainer(pair, named.make({}), config.lr, None, SeededNoise(partial(world.seed, config.seed)), world)
        loop = Loop(stepper, data, config, (told,), world=world)
        assert loop.steps == steps
        with OfAllRows():
            loop.assess()
            loop.run()
        trained = parameters(pair.model, pair.guide, pair.borrower).values()
        return told.lines, torch.cat([p.detach().flatten() for p in trained])


def train(folder: Path) -> dict[str, Any]:
    """For each case, the digest of the parameters; how far they and the lines are from those of one process."""
    Shard.of = noted  # type: ignore[method-assign]
    found = {}
    for case in CASES:
        lines, weights = trained(Shared(Shard(dist.get_rank(), dist.get_world_size())), case)
        told: dict[str, Any] = {"digest": hashlib.sha256(weights.numpy().tobytes()).hexdigest()}
        if dist.get_rank() == 0:
            alone, theirs = trained(Shared(Shard()), case)
            told |= {"weights": (weights - theirs).abs().max().item(), "lines": [lines, alone]}
        found[case] = told
    return found
