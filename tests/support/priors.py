"""Every prior, small. One line of PRIORS adds a prior to every test."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from ppl_vae import blocks
from ppl_vae.guides.diagonal_normal import Guide

Z, X = 2, 3


GUIDES_OWN = "the guide's own"


def guide(dtype: torch.dtype) -> nn.Module:
    return Guide((X,), Z, 8).to(dtype)


def data(dtype: torch.dtype) -> Tensor:
    return torch.randn(20, X, dtype=dtype)


def zuko() -> None:
    pytest.importorskip("zuko", reason="the extra is not installed")


class Case(NamedTuple):
    make: Callable[[nn.Module, Tensor], nn.Module]
    """From a guide and data."""

    space: str = "real"
    """Where z lives."""

    normal: bool = False
    needs: Callable[[], None] = lambda: None

    def prior(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """Away from its start, where a term that is zero there could hide."""
        self.needs()
        prior = self.make(guide(dtype), data(dtype)).to(dtype)
        with torch.no_grad():
            for p in prior.parameters():
                p.add_(0.15 * torch.randn_like(p))
        return prior


PRIORS: dict[str, Case] = {
    "standard": Case(lambda *_: blocks.StandardNormalPrior(Z), normal=True),
    "diagonal": Case(lambda *_: blocks.DiagonalNormalPrior(Z), normal=True),
    "mixture": Case(lambda *_: blocks.MixturePrior(Z, 4)),
    "vamp": Case(lambda q, rows: blocks.VampPrior(q, rows, 5), GUIDES_OWN),
    "gtm": Case(lambda *_: blocks.GTMPrior(Z, 3, 8)),
    "gtm vamp": Case(lambda q, rows: blocks.GTMVampPrior(q, rows, 3, 8), GUIDES_OWN),
    "coupling": Case(lambda *_: blocks.FlowPrior(Z, "coupling", 3, 16)),
    "autoregressive": Case(lambda *_: blocks.FlowPrior(Z, "autoregressive", 2, 16)),
    "zuko": Case(lambda *_: blocks.ZukoPrior(Z, "NSF", transforms=2, hidden_features=(16,)), needs=zuko),
    "sphere": Case(lambda *_: blocks.SphericalPrior(Z), "sphere"),
}


FLOWS = ["coupling", "autoregressive", "zuko"]
