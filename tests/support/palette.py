"""The palette by name: priors, likelihoods, guides and networks, and programs that any of them make.

One line adds a row: to `PRIORS` of priors.py, `LIKELIHOODS` of exact.py, `FAMILIES` of
families.py, which are taken from there, or to a registry below.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from support import families, priors
from support import likelihoods as exact
from support.priors import Z
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from ppl_vae.blocks import (
    AutoregressiveBernoulli,
    ExpRelaxedCategorical,
    MixedTable,
    PowerSpherical,
    TableFeatures,
    autoregressive_network,
    conv_decoder,
    conv_encoder,
    gated_mlp,
    likelihoods,
    mlp,
    residual_mlp,
)
from ppl_vae.guides import bottom_up, ladder
from ppl_vae.models import hierarchical

D, CLASSES, HIDDEN = 9, 3, 8  # a datum is a row of 9 numbers, or a square image
KINDS = "count,real,categorical:3,positive,binary,real,ordinal:4,count,binary"

# ---- what z is, and what a decoder sees of it: the number of features, and the features ----

SPACES: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "real": (Z, lambda z: z),
    "sphere": (Z, lambda z: z * Z**0.5),
    "classes": (CLASSES, lambda z: torch.eye(CLASSES)[z]),
    "simplex": (CLASSES, lambda log_z: log_z.exp()),
}

# ---- priors ----


class CategoricalPrior(nn.Module):
    """That of `models/categorical.py`."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(CLASSES))

    def forward(self) -> dist.Distribution:
        return dist.Categorical(logits=self.logits)


class RelaxedCategoricalPrior(CategoricalPrior):
    """That of `models/relaxed_categorical.py`."""

    def forward(self) -> dist.Distribution:
        return ExpRelaxedCategorical(torch.tensor(0.5), logits=self.logits)


PRIORS: dict[str, priors.Case] = {
    name: case for name, case in priors.PRIORS.items() if name != "zuko" or find_spec("zuko")
} | {
    "categorical": priors.Case(lambda *_: CategoricalPrior(), "classes"),
    "relaxed categorical": priors.Case(lambda *_: RelaxedCategoricalPrior(), "simplex"),
}

# ---- likelihoods ----


@torch.no_grad()
def draws(likelihood: Any, n: int) -> Tensor:
    """Rows in two clusters: draws of the likelihood at one or the other vector of parameters."""
    clusters = 1.5 * torch.randn(2, likelihood.size).sign()
    return likelihood(clusters[torch.arange(n) % 2]).sample().float()


class AutoregressiveLikelihood(nn.Module):
    """Its context is D numbers of a decoder."""

    size = D

    def __init__(self) -> None:
        super().__init__()
        self.network = autoregressive_network((D,), D, D)

    def forward(self, context: Tensor) -> dist.Distribution:
        return AutoregressiveBernoulli(self.network, context, (D,))


def table(n: int) -> Tensor:
    """A tenth of the cells is missing."""
    x = draws(MixedTable((D,), KINDS, torch.ones(2, D)), n)
    return torch.where(torch.rand_like(x) < 0.1, torch.nan, x)


class Likelihood(NamedTuple):
    make: Callable[[Tensor], nn.Module]
    """From the data."""
    rows: Callable[[int], Tensor]
    """So many rows in its support."""


def own(case: exact.Case) -> Likelihood:
    return Likelihood(lambda _: case.make((D,)), lambda n: draws(case.make((D,)), n))


LIKELIHOODS: dict[str, Likelihood] = {name: own(case) for name, case in exact.LIKELIHOODS.items()} | {
    "autoregressive": Likelihood(lambda _: AutoregressiveLikelihood(), lambda n: draws(likelihoods.Bernoulli((D,)), n)),
    "table": Likelihood(lambda data: MixedTable((D,), KINDS, data), table),
}

# ---- guides ----


class PowerSphericalFamily(nn.Module):
    """That of `guides/power_spherical.py`; the next ones are also those of the guides of their names."""

    width = Z + 1

    def forward(self, raw: Tensor) -> dist.Distribution:
        return PowerSpherical(normalize(raw[..., 1:], dim=-1), Z * softplus(raw[..., 0]) + 1e-6)


class CategoricalFamily(nn.Module):
    width = CLASSES

    def forward(self, raw: Tensor) -> dist.Distribution:
        return dist.Categorical(logits=raw)


class RelaxedCategoricalFamily(CategoricalFamily):
    def forward(self, raw: Tensor) -> dist.Distribution:
        return ExpRelaxedCategorical(torch.tensor(0.5), logits=raw)


class Family(NamedTuple):
    make: Callable[[], Any]
    space: str = "real"


FAMILIES: dict[str, Family] = {name: Family(lambda make=make: make(Z)) for name, make in families.FAMILIES.items()} | {
    "power spherical": Family(PowerSphericalFamily, "sphere"),
    "categorical": Family(CategoricalFamily, "classes"),
    "relaxed categorical": Family(RelaxedCategoricalFamily, "simplex"),
}
CLOSED_FORM = {"diagonal", "full", "low rank", "Householder", "ladder"}
"""Guides whose KL from a normal prior has one."""

# ---- networks: of an encoder and of a decoder, from n_in to n_out numbers ----


class Network(NamedTuple):
    encoder: Callable[[int, int], nn.Module]
    decoder: Callable[[int, int], nn.Module]


def both(make: Callable[[int, int], nn.Module]) -> Network:
    return Network(make, make)


def images(n_in: int, n_out: int) -> nn.Module:
    return nn.Sequential(conv_decoder(n_in, (n_out // D, 3, 3), 2), nn.Flatten(-3))


NETWORKS: dict[str, Network] = {
    "mlp": both(lambda n_in, n_out: mlp(n_in, HIDDEN, n_out)),
    "gated": both(lambda n_in, n_out: gated_mlp(n_in, HIDDEN, n_out)),
    "residual": both(lambda n_in, n_out: residual_mlp(n_in, HIDDEN, n_out, 1)),
    "convolutional": Network(lambda n_in, n_out: conv_encoder((n_in,), n_out, 2), images),
}

# ---- programs, as a user's files would write them ----


class Model(nn.Module):
    """p(z) p(x|z)."""

    def __init__(
        self, data_shape: tuple[int, ...], data: Tensor, guide: Any, prior: str, likelihood: str, network: str
    ) -> None:
        super().__init__()
        self.p_z, self.p_x = PRIORS[prior].make(guide, data), LIKELIHOODS[likelihood].make(data)
        width, self.features = SPACES[guide.space]
        self.decoder = NETWORKS[network].decoder(width, self.p_x.size)

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.p_z())
            pyro.sample("x", self.p_x(self.decoder(self.features(z))), obs=x)


class TwoLevels(hierarchical.Model):
    """p(z2) p(z1|z2) p(x|z1, z2), where p(z2) is the prior."""

    def __init__(self, data_shape: tuple[int, ...], data: Tensor, prior: str, likelihood: str, network: str) -> None:
        super().__init__(data_shape, Z, Z, HIDDEN)
        self.p_z, self.p_x = PRIORS[prior].make(self, data), LIKELIHOODS[likelihood].make(data)
        self.decoder = NETWORKS[network].decoder(2 * Z, self.p_x.size)

    def prior(self, x: Tensor) -> dist.Distribution:
        return self.p_z()

    def likelihood(self, z1: Tensor, z2: Tensor) -> dist.Distribution:
        return self.p_x(self.decoder(torch.cat([z1, z2], dim=-1)))


class Squash(nn.Module):
    """asinh x: large counts and heavy tails as numbers of size 1."""

    size = D

    def forward(self, x: Tensor) -> Tensor:
        return x.asinh()


class Encoder(nn.Sequential):
    """What a guide makes of x: `n_out` numbers."""

    def __init__(self, data: Tensor, likelihood: str, network: str, n_out: int) -> None:
        features = TableFeatures((D,), KINDS, data) if likelihood == "table" else Squash()
        super().__init__(features, NETWORKS[network].encoder(features.size, n_out))


class Guide(nn.Module):
    """q(z|x)."""

    def __init__(self, data_shape: tuple[int, ...], data: Tensor, family: str, likelihood: str, network: str) -> None:
        super().__init__()
        self.space, self.family = FAMILIES[family].space, FAMILIES[family].make()
        self.encoder = Encoder(data, likelihood, network, self.family.width)

    def posterior(self, x: Tensor) -> dist.Distribution:
        return self.family(self.encoder(x))

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x))


class BottomUp(bottom_up.Guide):
    """q(z1|x) q(z2|z1)."""

    def __init__(self, data_shape: tuple[int, ...], data: Tensor, likelihood: str, network: str) -> None:
        super().__init__(data_shape, Z, Z, HIDDEN)
        self.encoder = Encoder(data, likelihood, network, self.family.width)


class Ladder(ladder.Guide):
    """q(z2|x) q(z1|x, z2)."""

    def __init__(self, data_shape: tuple[int, ...], data: Tensor, model: Any, likelihood: str, network: str) -> None:
        super().__init__(data_shape, model, Z, Z, HIDDEN)
        self.trunk = nn.Sequential(Encoder(data, likelihood, network, HIDDEN), nn.Softplus())


HIERARCHIES: dict[str, type[nn.Module]] = {"bottom-up": BottomUp, "ladder": Ladder}
