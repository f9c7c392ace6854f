"""The shipped pairs of models and guides beyond the first. One line of PAIRS adds a pair to every test."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from support.runs import ROWS, binary_rows
from torch import Tensor

from ppl_vae.programs import Pair, resolve_pair
from ppl_vae.training.prepare import isolated

B = 5


SMALL = {"latent_dim": 3, "hidden": 8}


CLASSES = {"classes": 3, "hidden": 8}


TWO = {"latent_dim": 3, "top_dim": 2, "hidden": 8}


def some_labels(x: Tensor) -> Tensor:
    """Every other row's label; −1 for those that are not known."""
    known = torch.arange(len(x)) % 2 == 0
    return torch.where(known, labels(x), -1)


def labels(x: Tensor) -> Tensor:
    """0 or 1, by which half of the row is on, and 2 where it is hard to tell."""
    left, right = x.chunk(2, dim=-1)
    difference = left.sum(-1) - right.sum(-1)
    return (difference > 0).long() + 2 * (difference.abs() < 3).long()


def covariates(x: Tensor) -> Tensor:
    return x[:, ::4].cumsum(-1)


def size_and_batch(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows of counts: their library size and a batch."""
    return x.sum(-1) + 1, labels(x)


class Case(NamedTuple):
    model: str
    guide: str
    set: dict[str, Any]
    y: Callable[[Tensor], Tensor | tuple[Tensor, ...]] | None = None

    def data(self, rows: int = ROWS) -> tuple[Tensor, ...]:
        x = torch.from_numpy(binary_rows(rows))
        others = () if self.y is None else self.y(x)
        return (x, *others) if isinstance(others, tuple) else (x, others)

    def pair(self) -> Pair:
        with isolated(1):
            return resolve_pair(self.model, self.guide, self.data(), self.set)


PAIRS: dict[str, Case] = {
    "full_normal": Case("bernoulli", "full_normal", SMALL),
    "iaf": Case("bernoulli", "iaf", SMALL | {"guide.flow_hidden": 8}),
    "bottom_up": Case("hierarchical", "bottom_up", TWO),
    "ladder": Case("hierarchical", "ladder", TWO),
    "power_spherical": Case("spherical", "power_spherical", SMALL),
    "categorical": Case("categorical", "categorical", CLASSES),
    "relaxed_categorical": Case("relaxed_categorical", "relaxed_categorical", CLASSES),
    "conditional on labels": Case("conditional", "conditional", SMALL | {"y_dim": 4}, labels),
    "conditional on covariates": Case("conditional", "conditional", SMALL | {"y_dim": 4}, covariates),
    "cells": Case("cells", "cells", SMALL | {"batches": 4}, size_and_batch),
    "some labels": Case("semi_supervised", "semi_supervised", SMALL | {"classes": 3}, some_labels),
    "convolutional": Case("convolutional", "convolutional", {"latent_dim": 3, "channels": 4}),
    "auto, two levels": Case("hierarchical", "auto", TWO),
    "auto, two levels inverted": Case("hierarchical", "auto", TWO | {"order": "inverted"}),
    "auto, some labels": Case("semi_supervised", "auto", SMALL | {"classes": 3}, some_labels),
    "autoregressive": Case("autoregressive", "diagonal_normal", SMALL | {"decoder_hidden": 16}),
}


every_pair = pytest.mark.parametrize("case", PAIRS.values(), ids=PAIRS.keys())
