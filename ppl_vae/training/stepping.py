"""Which stepper trains a pair: the programs as they are, or their captured and compiled pass."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ppl_vae.graphs.worth import saved
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, parameters
from ppl_vae.programs.scores import Batch
from ppl_vae.training.config import FitConfig
from ppl_vae.training.distributed import World
from ppl_vae.training.step import Trainer

AHEAD = {"cuda": 50}
"""Steps that may have begun before their numbers are read, by the kind of device; on others each ends in its call."""
WORTH = 60.0
"""Seconds that a compiled step has to save over a training, for `auto`: some three times what compiling takes."""


def saving(pair: Pair, objective: Objective, config: FitConfig, steps: int) -> float:
    """Seconds that compiled steps are expected to save over a training."""
    numbers = sum(p.numel() for p in parameters(pair.model, pair.guide, pair.borrower).values())
    operations = 6 * numbers * config.batch_size * objective.num_particles
    return saved(steps, operations)


def stepper(
    pair: Pair,
    objective: Objective,
    config: FitConfig,
    batch: Batch,
    steps: int,
    recorded: Mapping[str, Any] | None = None,
    world: World | None = None,
) -> Trainer:
    """The stepper that `config.compile` asks for. What can't be captured or compiled is trained as it is.

    Several processes that train together follow the first one, and none compiles where one of them can't.

    Args:
        batch: one as they will come.
        steps: how many there will be.
        recorded: how the run was trained so far, as `record` said it; that counts, whatever `config` asks for.
        world: the processes that train together.
    """
    together = World() if world is None else world

    def make(recorded: Mapping[str, Any] | None) -> Trainer:
        noise = together.noise(config.device, config.seed)
        eager = Trainer(pair, objective, config.lr, config.clip, noise, together)
        return compiled(eager, config, batch, steps, recorded)

    made = together.as_first(make, record, recorded)
    captured = together.gathered(record(made)["captured"])
    if all(captured) or not any(captured):
        return made
    return replace(make({"captured": False}), how="not compiled: one of the processes can't")


def compiled(
    eager: Trainer, config: FitConfig, batch: Batch, steps: int, recorded: Mapping[str, Any] | None
) -> Trainer:
    """The same stepper with a compiled pass, if `config` asks for it and it can be had. Arguments as for `stepper`."""
    pair, objective = eager.pair, eager.objective
    asked = config.compile if recorded is None else "on" if recorded["captured"] else "off"
    if asked == "auto":
        expected = saving(pair, objective, config, steps)
        if expected < WORTH:
            eager.how = f"not compiled: that would save about {expected:z.0f} s in {steps} steps, and take some 20 s"
            return eager
    if asked == "off":
        return eager
    if objective.of_batch and not eager.world.alone:
        eager.how = f"not compiled: in the midst of a step, {objective.name} asks all processes"
        return eager
    from ppl_vae.graphs.captured import Captured  # here, so that a fit that is not compiled starts quicker
    from ppl_vae.graphs.compiled import NotCompiled
    from ppl_vae.graphs.graph import NotCaptured
    from ppl_vae.training.captured import CapturedTrainer

    captured = Captured(pair, objective, config.warmup is not None, products=(recorded or {}).get("products"))
    try:
        captured.graph_for(batch)
    except (NotCaptured, NotCompiled) as error:
        eager.how = f"not compiled: {error}"
        return eager
    ahead = AHEAD.get(torch.device(config.device).type, 1) if eager.world.alone else 1
    how = "compiled; matrix products by " + {"mm": "torch", "onednn": "oneDNN"}[captured.products or "mm"]
    if captured.graphs[0][0].rows is not None:
        how += "; one graph for each size of a batch, since the programs make a Python number of it"
    return CapturedTrainer(
        pair, objective, config.lr, config.clip, eager.noise, eager.world, how=how, captured=captured,
        falls_back=config.compile == "auto", ahead=ahead, eager_from=(recorded or {}).get("eager_from"),
    )  # fmt: skip


def record(stepper: Trainer) -> dict[str, Any]:
    """How a run is trained, for its record."""
    captured = getattr(stepper, "captured", None)
    how = {"captured": False} if captured is None else {"captured": True, "products": captured.products}
    if (eager_from := getattr(stepper, "eager_from", None)) is not None:
        how["eager_from"] = eager_from
    return how if stepper.world.alone else how | {"processes": stepper.world.shard.size}
