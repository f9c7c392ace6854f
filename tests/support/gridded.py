"""Pairs of one or two latent dimensions, of every kind of latent, whose log p(x) is a sum over a grid."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.distributions import PowerSpherical, SphericalUniform
from ppl_vae.evidence.latents import Latents

W = torch.tensor([[1.5, -0.8, 0.4], [0.3, 1.2, -1.0]]).double()


def nonlinear_model(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(torch.tanh(z) @ W + 0.3 * z.prod(-1, keepdim=True), 0.7).to_event(1), obs=x)


def nonlinear_guide(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal(0.3 * x[..., :2], 0.8).to_event(1))


def sphere_model(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", SphericalUniform(x.new_zeros(2)))
        pyro.sample("x", dist.Normal(z @ W, 0.5).to_event(1), obs=x)


def sphere_guide(x: Tensor) -> None:
    mean = torch.nn.functional.normalize(x @ W.T, dim=-1)
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", PowerSpherical(mean, x.new_tensor(2.0)))


def positive_model(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Gamma(x.new_tensor(2.0), 1.0))
        pyro.sample("x", dist.Normal(z.unsqueeze(-1).sqrt() * W[0], 0.5).to_event(1), obs=x)


def positive_guide(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.LogNormal(0.2 + 0.1 * x[..., 0], 0.8))


def levels_model(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        top = pyro.sample("top", dist.Normal(x.new_tensor(0.0), 1.0))
        z = pyro.sample("z", dist.Normal(torch.sin(2 * top), 0.5))
        pyro.sample("x", dist.Normal(torch.stack([z, top * z, top], -1) @ W.T @ W, 1.5).to_event(1), obs=x)


def levels_guide(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(0.2 * x[..., 0], 1.0))
        pyro.sample("top", dist.Normal(0.5 * z, 1.0))


SMALL = {
    "nonlinear": (nonlinear_model, nonlinear_guide),
    "sphere": (sphere_model, sphere_guide),
    "positive": (positive_model, positive_guide),
    "two levels": (levels_model, levels_guide),
}


def by_grid(model: Any, guide: Any, x: Tensor) -> Tensor:
    """log p(x) by a sum over a grid of the coordinates; its error is far below that of the chains."""
    latents = Latents(model, guide, x)
    if latents.size == 1:
        line = torch.linspace(-14, 8, 1500).double()
        grid = line.reshape(-1, 1, 1)
    else:
        line = torch.linspace(-6, 6, 121).double()
        grid = torch.cartesian_prod(line, line).unsqueeze(1)
    with pyro.validation_enabled(False), torch.no_grad():
        found = [latents.log_joint(part.expand(-1, len(x), -1)) for part in grid.split(2000)]
    return torch.cat(found).logsumexp(0) + latents.size * (line[1] - line[0]).log()
