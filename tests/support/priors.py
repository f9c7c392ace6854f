"""Every prior over real vectors or the sphere, small."""

from typing import NamedTuple

import pytest
import torch
from support.small import built, part_of, rows
from torch import Tensor, nn

from ppl_vae.blocks import space_of
from ppl_vae.core.palette import PARTS
from ppl_vae.guides.diagonal_normal import Guide

Z, X = 2, 3


def guide(dtype: torch.dtype) -> nn.Module:
    return Guide((X,), Z, 8).to(dtype)


def data(dtype: torch.dtype) -> Tensor:
    return torch.randn(20, X, dtype=dtype)


def zuko() -> None:
    pytest.importorskip("zuko", reason="the extra is not installed")


class Case(NamedTuple):
    name: str

    @property
    def space(self) -> str:
        """Where z lives; a mixture of the guide's posteriors is of this guide's space."""
        return space_of(self.prior())

    def prior(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """Away from its start, where a term that is zero there could hide."""
        prior = built("prior", self.name, latent_dim=Z, guide=guide(dtype), data=data(dtype)).to(dtype)
        with torch.no_grad():
            for p in prior.parameters():
                p.add_(0.15 * torch.randn_like(p))
        return prior


PRIORS: dict[str, Case] = {
    name: Case(name) for name in rows("prior") if space_of(PARTS["prior"][part_of(name)]) not in ("classes", "simplex")
}
FLOWS = [name for name in PRIORS if part_of(name) in ("flow", "zuko")]
