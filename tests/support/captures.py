"""Pairs, objectives and batches of which the captured pass is compared with the programs' own."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from support.palette import data_for
from torch import Tensor

from ppl_vae import objectives
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, resolve_pair

ROWS = 12
ANY = ("trace", "iwae", "dreg", "sticking-the-landing", "beta", "renyi")
"""Objectives that take any reparameterized guide."""


class Captured(NamedTuple):
    """A pair by its names, its settings, and an objective."""

    model: str
    guide: str
    objective: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        told = [f"{name}={value}" for name, value in self.settings.items() if name not in ("latent_dim", "hidden")]
        return "-".join([self.model, self.guide, self.objective, *told])[:90]

    def batch(self) -> tuple[Tensor, ...]:
        if "network" in self.settings:
            return (torch.rand(ROWS, 1, 8, 8).round(),)
        x = data_for("bernoulli", ROWS).contiguous()
        return (x, torch.arange(ROWS) % 10) if self.model == "conditional" else (x,)

    def pair(self, batch: tuple[Tensor, ...]) -> tuple[Pair, Objective]:
        """The same at each call."""
        torch.manual_seed(0)
        return resolve_pair(self.model, self.guide, batch, self.settings), objectives.get(self.objective)()


def captures() -> Iterator[Captured]:
    """Every structure with two objectives, and some more objectives: the parts are in `support.cells`."""
    base = {"latent_dim": 3, "hidden": 8}
    structures = [
        ("bernoulli", "diagonal_normal"), ("hierarchical", "ladder"), ("hierarchical", "bottom_up"),
        ("linear_gaussian", "linear_gaussian"), ("relaxed_categorical", "relaxed_categorical"), ("bernoulli", "auto"),
        ("hierarchical", "auto"), ("conditional", "conditional"), ("autoregressive", "diagonal_normal"),
    ]  # fmt: skip
    for i, (model, guide) in enumerate(structures):
        yield Captured(model, guide, ANY[i % len(ANY)], {})
        yield Captured(model, guide, ANY[(i + 2) % len(ANY)], {})
    for objective in ("analytic-kl", "mean-field", "free-bits", "score-function"):
        yield Captured("bernoulli", "diagonal_normal", objective, base)
        yield Captured("hierarchical", "ladder", objective, {})
    yield Captured("categorical", "auto", "score-function", {})
