"""Data in the support of every likelihood, and programs of two levels that any parts make."""

from typing import Any

import pyro.distributions as dist
import torch
from support.priors import Z
from support.small import KINDS, built
from torch import Tensor, nn

from ppl_vae.blocks import Part, TableFeatures, likelihoods, networks, priors, space_of
from ppl_vae.guides import bottom_up, ladder
from ppl_vae.models import hierarchical

D, CLASSES, HIDDEN = 9, 3, 8  # a datum is a row of 9 numbers, or a square image

# ---- data ----


@torch.no_grad()
def draws(likelihood: Any, n: int) -> Tensor:
    """Rows in two clusters: draws of the likelihood at one or the other vector of parameters.

    Scales are small, so that the clusters are apart and the tails of a log-normal no longer than networks can bear.
    """
    clusters = 2 * torch.randn(2, likelihood.size).sign()
    if getattr(likelihood, "scale", None) == "datum":
        clusters[:, likelihood.size // 2 :] = -1.0
    return likelihood(clusters[torch.arange(n) % 2]).sample().float()


def data_for(likelihood: str, n: int) -> Tensor:
    """So many rows in its support; of a table a tenth of the cells is missing."""
    if likelihood == "autoregressive":
        return draws(likelihoods.Bernoulli((D,)), n)
    if likelihood == "table":
        x = draws(built("likelihood", likelihood, data_shape=(D,), data=torch.ones(2, D)), n)
        return torch.where(torch.rand_like(x) < 0.1, torch.nan, x)
    return draws(built("likelihood", likelihood, data_shape=(D,)), n)


# ---- programs of two levels, as a user's files would write them ----


class TwoLevels(hierarchical.Model):
    """p(z2) p(z1|z2) p(x|z1, z2), where p(z2) is the prior."""

    def __init__(self, data_shape: tuple[int, ...], data: Tensor, prior: Part, likelihood: Part, network: Part) -> None:
        super().__init__(data_shape, Z, Z, HIDDEN)
        self.p_z = priors.build(prior, Z, data=data, guide=self)
        self.p_x = likelihoods.build(likelihood, data_shape, data=data)
        self.decoder = networks.decoder(network, 2 * Z, self.p_x, HIDDEN)
        self.space = space_of(self.p_z)

    def prior(self, x: Tensor) -> dist.Distribution:
        return self.p_z()

    def likelihood(self, z1: Tensor, z2: Tensor) -> dist.Distribution:
        return self.p_x(self.decoder(torch.cat([z1, z2], dim=-1)))


class Squash(nn.Module):
    """asinh x: large counts and heavy tails as numbers of size 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.asinh()


def encoder(data: Tensor, table: bool, network: Part, n_out: int) -> nn.Module:
    """What a guide makes of x: `n_out` numbers."""
    if table:
        features = TableFeatures((D,), KINDS, data)
        return nn.Sequential(features, networks.build(network, features.size, n_out, HIDDEN))
    return nn.Sequential(Squash(), networks.encoder(network, (D,), n_out, HIDDEN))


class BottomUp(bottom_up.Guide):
    """q(z1|x) q(z2|z1)."""

    space = "real"

    def __init__(self, data_shape: tuple[int, ...], data: Tensor, table: bool, network: Part) -> None:
        super().__init__(data_shape, Z, Z, HIDDEN)
        self.encoder = encoder(data, table, network, self.family.width)


class Ladder(ladder.Guide):
    """q(z2|x) q(z1|x, z2)."""

    space = "real"

    def __init__(self, data_shape: tuple[int, ...], data: Tensor, model: Any, table: bool, network: Part) -> None:
        super().__init__(data_shape, model, Z, Z, HIDDEN)
        self.trunk = nn.Sequential(encoder(data, table, network, HIDDEN), nn.Softplus())


HIERARCHIES: dict[str, type[nn.Module]] = {"bottom-up": BottomUp, "ladder": Ladder}
