"""A latent with masked elements that the likelihood reads."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from support.oracles import Body, Scenario, agree, log_normal, naive, of_objective, tensor
from torch import Tensor

from ppl_vae.objectives import (
    IWAE_ELBO,
    DReG_ELBO,
    MeanField_ELBO,
    Objective,
    ScoreFunction_ELBO,
    StickingTheLanding_ELBO,
    Trace_ELBO,
)


def unknown(*_: Any) -> Any:
    raise NotImplementedError


def mean(log_w: Tensor) -> Tensor:
    return log_w.mean(1)


def iwae(log_w: Tensor) -> Tensor:
    return log_w.logsumexp(1) - math.log(log_w.shape[1])


OBJECTIVES: dict[str, tuple[Callable[[int], Objective], Callable[[Tensor], Tensor]]] = {
    "trace": (Trace_ELBO, mean),
    "mean-field": (MeanField_ELBO, mean),
    "score-function": (ScoreFunction_ELBO, mean),
    "sticking-the-landing": (StickingTheLanding_ELBO, mean),
    "iwae": (IWAE_ELBO, iwae),
    "dreg": (DReG_ELBO, iwae),
}


def masked_model(m: Any, x: Tensor) -> None:
    counts = torch.stack([torch.ones_like(x), x > 0], -1).bool()
    z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).mask(counts).to_event(1))
    y = pyro.sample("y", dist.Normal(m.a * z[..., 0], 1.0))
    pyro.sample("x", dist.Normal(m.b * z[..., 0] + m.c * z[..., 1] + y, m.s.exp()), obs=x)


def masked_guide(g: Any, x: Tensor) -> None:
    counts = torch.stack([torch.ones_like(x), x > 0], -1).bool()
    loc = torch.stack([g.k * x, g.l * x + g.l0], -1)
    z = pyro.sample("z", dist.Normal(loc, g.u.exp()).mask(counts).to_event(1))
    pyro.sample("y", dist.Normal(g.h * z.sum(-1), g.v.exp()))


def masked_log_w(m: Any, g: Any, x: Tensor, ε: Tensor) -> Tensor:
    z0, z1 = g.k * x + g.u.exp() * ε[..., 0], g.l * x + g.l0 + g.u.exp() * ε[..., 1]
    y = g.h * (z0 + z1) + g.v.exp() * ε[..., 2]
    zero = 0 * g.u
    rate0 = log_normal(z0, g.k * x, g.u) - log_normal(z0, 0 * z0, zero)
    rate1 = log_normal(z1, g.l * x + g.l0, g.u) - log_normal(z1, 0 * z1, zero)
    rate_y = log_normal(y, g.h * (z0 + z1), g.v) - log_normal(y, m.a * z0, zero)
    return log_normal(x, m.b * z0 + m.c * z1 + y, m.s) - rate0 - torch.where(x > 0, rate1, 0) - rate_y


def masked_scenario() -> Scenario:
    return Scenario(
        Body("model", masked_model, {"a": 0.5, "b": 0.9, "c": 0.8, "s": -0.1}),
        Body("guide", masked_guide, {"k": 0.4, "l": 0.3, "l0": 0.1, "u": 0.1, "h": 0.4, "v": 0.2}),
        tensor([1.1, -0.7, 0.2]), unknown, masked_log_w, unknown, (2, 1),
    )  # fmt: skip


def path_is_whole(scenario: Scenario, name: str, K: int) -> None:
    make, reduce = OBJECTIVES[name]
    agree(of_objective(scenario, make(K), seed=2), naive(scenario, reduce, K, seed=1))
