"""Networks of linear layers."""

from itertools import pairwise

from torch import Tensor, nn

from ppl_vae.core.errors import at_least


def mlp(*sizes: int, activation: type[nn.Module] = nn.Softplus) -> nn.Sequential:
    """Linear layers `(..., sizes[0]) -> (..., sizes[-1])` with `activation` between them, none after the last.

    Raises:
        InputError: a layer between without units.
    """
    _check_hidden(*sizes[1:-1])
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes[:-1]):
        layers += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class GatedLinear(nn.Module):
    """h(x) = (Wx + b) ⊙ sigmoid(Vx + c). Source: Dauphin et al. 2017; for VAEs Tomczak & Welling 2018."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear, self.gate = nn.Linear(n_in, n_out), nn.Linear(n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.gate(x).sigmoid()


def gated_mlp(*sizes: int) -> nn.Sequential:
    """Gated layers `(..., sizes[0]) -> (..., sizes[-1])`, the last one linear. Errors as of `mlp`."""
    _check_hidden(*sizes[1:-1])
    return nn.Sequential(*(GatedLinear(*pair) for pair in pairwise(sizes[:-1])), nn.Linear(sizes[-2], sizes[-1]))


class Residual(nn.Module):
    """h(x) = x + f(x). Source: He et al. 2016."""

    def __init__(self, f: nn.Module) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


def residual_mlp(n_in: int, hidden: int, n_out: int, blocks: int = 2) -> nn.Sequential:
    """Linear, `blocks` residual blocks of two layers of `hidden` units each, linear: `(..., n_in) -> (..., n_out)`.

    Raises:
        InputError: no hidden unit, or a number of blocks below 0.
    """
    _check_hidden(hidden)
    at_least(0, blocks=blocks)
    middle = [
        Residual(nn.Sequential(nn.Softplus(), nn.Linear(hidden, hidden), nn.Softplus(), nn.Linear(hidden, hidden)))
        for _ in range(blocks)
    ]
    return nn.Sequential(nn.Linear(n_in, hidden), *middle, nn.Softplus(), nn.Linear(hidden, n_out))


def _check_hidden(*sizes: int) -> None:
    for size in sizes:
        at_least(1, hidden=size)


class MLP(nn.Sequential):
    """Linear, softplus, linear: `(..., n_in) -> (..., n_out)`, with `hidden` units between."""

    name = "mlp"

    def __init__(self, n_in: int, n_out: int, hidden: int = 400) -> None:
        super().__init__(*mlp(n_in, hidden, n_out))


class Gated(nn.Sequential):
    """One layer of gated units, then a linear one. Dauphin et al. (2017); for VAEs Tomczak & Welling (2018)."""

    name = "gated"

    def __init__(self, n_in: int, n_out: int, hidden: int = 400) -> None:
        super().__init__(*gated_mlp(n_in, hidden, n_out))


class ResidualNetwork(nn.Sequential):
    """Linear, `blocks` residual blocks of two layers of `hidden` units each, linear. He et al. (2016)."""

    name = "residual"

    def __init__(self, n_in: int, n_out: int, hidden: int = 400, blocks: int = 2) -> None:
        super().__init__(*residual_mlp(n_in, hidden, n_out, blocks))
