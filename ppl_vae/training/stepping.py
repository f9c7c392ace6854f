"""Which stepper trains a pair: the programs as they are, or their captured and compiled pass."""

from collections.abc import Mapping
from typing import Any

import torch

from ppl_vae.graphs.worth import saved
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, parameters
from ppl_vae.programs.scores import Batch
from ppl_vae.training.config import FitConfig
from ppl_vae.training.step import TorchNoise, Trainer

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
) -> Trainer:
    """The stepper that `config.compile` asks for. What can't be captured or compiled is trained as it is.

    Args:
        batch: one as they will come.
        steps: how many there will be.
        recorded: how the run was trained so far, as `record` said it; that counts, whatever `config` asks for.
    """
    eager = Trainer(pair, objective, config.lr, config.clip, TorchNoise(config.device))
    asked = config.compile if recorded is None else "on" if recorded["captured"] else "off"
    if asked == "auto":
        expected = saving(pair, objective, config, steps)
        if expected < WORTH:
            eager.how = f"not compiled: that would save about {expected:z.0f} s in {steps} steps, and take some 20 s"
            return eager
    if asked == "off":
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
    ahead = AHEAD.get(torch.device(config.device).type, 1)
    how = "compiled; matrix products by " + {"mm": "torch", "onednn": "oneDNN"}[captured.products or "mm"]
    if captured.graphs[0][0].rows is not None:
        how += "; one graph for each size of a batch, since the programs make a Python number of it"
    return CapturedTrainer(
        pair, objective, config.lr, config.clip, TorchNoise(config.device), how=how, captured=captured,
        falls_back=config.compile == "auto", ahead=ahead, eager_from=(recorded or {}).get("eager_from"),
    )  # fmt: skip


def record(stepper: Trainer) -> dict[str, Any]:
    """How a run is trained, for its record."""
    captured = getattr(stepper, "captured", None)
    return {"captured": False} if captured is None else {"captured": True, "products": captured.products}
