"""The linear Gaussian model in float64, whose posterior is known, and guides that are wrong in a known way."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.programs import Pair, resolve_pair

D, Z = 5, 2


def linear_pair() -> tuple[Pair, Tensor]:
    """Model, exact guide and 40 rows; the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        x = torch.randn(40, D).double()
        pair = resolve_pair("linear_gaussian", "linear_gaussian", (x,), {"latent_dim": Z})
    pair.model.double()
    pair.guide.double()
    return pair, x


def wrong_guide(exact: Any, shift: float = 0.0, scale: float = 1.0) -> Callable[[Tensor], None]:
    """The posterior moved by `shift` and with a σ that is `scale` times its own."""

    def guide(x: Tensor) -> None:
        q = exact.posterior(x)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.MultivariateNormal(q.mean + shift, scale_tril=scale * q.scale_tril))

    return guide


def prior_guide(x: Tensor) -> None:
    """It ignores x."""
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal(x.new_zeros(Z), 1.0).to_event(1))
