"""Networks that model and guide files are written with."""

from itertools import pairwise

from torch import nn


def mlp(*sizes: int, activation: type[nn.Module] = nn.Softplus) -> nn.Sequential:
    """Linear layers `(..., sizes[0]) -> (..., sizes[-1])` with `activation` between them, none after the last."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes[:-1]):
        layers += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))
