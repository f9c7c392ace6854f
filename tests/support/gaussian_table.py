"""Rows of a Gaussian, x = zW + noise: as numbers or as the cells of a table, with the exact conditionals."""

import math
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.blocks import MixedTable

D, SIGMA = 5, 0.7
W = torch.tensor([[1.0, 0.5, -0.8, 0.3, 0.0], [0.2, -0.9, 0.4, 0.6, 1.1]], dtype=torch.float64)
COVARIANCE = W.T @ W + SIGMA**2 * torch.eye(D, dtype=torch.float64)


def gaussian_rows(count: int) -> Tensor:
    return dist.MultivariateNormal(torch.zeros(D).double(), COVARIANCE).sample((count,))


def linear_table(width: float = 1.2, gain: float = 0.2, shift: float = 0.0) -> SimpleNamespace:
    """The model with the cells of a table, and a guide of that width that sees `gain` of x, and is `shift` off."""
    p_x = MixedTable((D,), "real", torch.zeros(3, D)).double()
    with torch.no_grad():
        p_x.parts[0].log_scale.fill_(math.log(SIGMA - p_x.parts[0].floor))

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", p_x(z @ W), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x.nan_to_num() @ W.T * gain + shift, width).to_event(1))

    return SimpleNamespace(model=model, guide=guide)


def given_the_others(x: Tensor, gone: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the cells of a row that are gone, given the others."""
    S, m, o = COVARIANCE.numpy(), gone.numpy().nonzero()[0], (~gone).numpy().nonzero()[0]
    gain = S[np.ix_(m, o)] @ np.linalg.inv(S[np.ix_(o, o)])
    return gain @ x.numpy()[o], S[np.ix_(m, m)] - gain @ S[np.ix_(o, m)]
