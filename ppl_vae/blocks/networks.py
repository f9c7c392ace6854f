"""Networks that model and guide files are written with. Each takes any leading dimensions."""

from itertools import pairwise
from math import isqrt, prod

from torch import Tensor, nn

from ppl_vae.core.errors import InputError


def mlp(*sizes: int, activation: type[nn.Module] = nn.Softplus) -> nn.Sequential:
    """Linear layers `(..., sizes[0]) -> (..., sizes[-1])` with `activation` between them, none after the last."""
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
    """Gated layers `(..., sizes[0]) -> (..., sizes[-1])`, the last one linear."""
    return nn.Sequential(*(GatedLinear(*pair) for pair in pairwise(sizes[:-1])), nn.Linear(sizes[-2], sizes[-1]))


class Residual(nn.Module):
    """h(x) = x + f(x). Source: He et al. 2016."""

    def __init__(self, f: nn.Module) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


def residual_mlp(n_in: int, hidden: int, n_out: int, blocks: int = 2) -> nn.Sequential:
    """Linear, `blocks` residual blocks of two layers of `hidden` units each, linear: `(..., n_in) -> (..., n_out)`."""
    middle = [
        Residual(nn.Sequential(nn.Softplus(), nn.Linear(hidden, hidden), nn.Softplus(), nn.Linear(hidden, hidden)))
        for _ in range(blocks)
    ]
    return nn.Sequential(nn.Linear(n_in, hidden), *middle, nn.Softplus(), nn.Linear(hidden, n_out))


class AnyBatch(nn.Module):
    """A network that takes `(N, *event)` alone, such as a convolution, over any leading dimensions.

    Args:
        event_dim: how many dimensions one input of `network` has.
    """

    def __init__(self, network: nn.Module, event_dim: int) -> None:
        super().__init__()
        self.network, self.event_dim = network, event_dim

    def forward(self, x: Tensor) -> Tensor:
        split = x.dim() - self.event_dim
        y = self.network(x.reshape(-1, *x.shape[split:]))
        return y.reshape(*x.shape[:split], *y.shape[1:])


def conv_encoder(data_shape: tuple[int, ...], n_out: int, channels: int = 32) -> nn.Module:
    """Two convolutions of stride 2 and a linear layer: images `(..., *data_shape) -> (..., n_out)`.

    Args:
        data_shape: `(height, width)`, `(colours, height, width)`, or `(n²,)`, a square image written as a row.
        channels: of the first convolution; the second has twice as many.

    Raises:
        InputError: `data_shape` is no image's.
    """
    full = _image(data_shape)
    quarter = _halved(_halved(full[1:]))
    layers = [
        nn.Flatten(),
        nn.Unflatten(1, full),
        nn.Conv2d(full[0], channels, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(2 * channels * prod(quarter), n_out),
    ]
    return AnyBatch(nn.Sequential(*layers), len(data_shape))


def conv_decoder(n_in: int, data_shape: tuple[int, ...], channels: int = 32) -> nn.Module:
    """The mirror image of `conv_encoder`: `(..., n_in) -> (..., *data_shape)`. Arguments and errors as there."""
    full = _image(data_shape)
    half = _halved(full[1:])
    quarter = _halved(half)
    layers = [
        nn.Linear(n_in, 2 * channels * prod(quarter)),
        nn.Unflatten(1, (2 * channels, *quarter)),
        nn.SiLU(),
        _doubled(2 * channels, channels, half),
        nn.SiLU(),
        _doubled(channels, full[0], full[1:]),
        nn.Flatten(),
        nn.Unflatten(1, data_shape),
    ]
    return AnyBatch(nn.Sequential(*layers), 1)


def _image(data_shape: tuple[int, ...]) -> tuple[int, ...]:
    """`(colours, height, width)`."""
    if len(data_shape) == 1 and isqrt(data_shape[0]) ** 2 == data_shape[0]:
        return (1, isqrt(data_shape[0]), isqrt(data_shape[0]))
    if len(data_shape) not in (2, 3):
        raise InputError(
            f"a datum of shape {tuple(data_shape)} is no image: a convolution needs (height, width), "
            "(colours, height, width) or (n²,)"
        )
    return (1, *data_shape)[-3:]


def _halved(size: tuple[int, ...]) -> tuple[int, ...]:
    """What a stride of 2 leaves of an image's height and width."""
    return tuple(-(-n // 2) for n in size)


def _doubled(n_in: int, n_out: int, size: tuple[int, ...]) -> nn.Module:
    """Undo a convolution of stride 2: an image of half the size, rounded up, becomes one of `size`."""
    height, width = size
    return nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=(1 - height % 2, 1 - width % 2))
