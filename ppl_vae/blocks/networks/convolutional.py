"""Networks of convolutions, for images."""

from math import isqrt, prod

from torch import Tensor, nn

from ppl_vae.core.errors import InputError


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


class Convolutional(AnyBatch):
    """Two convolutions of stride 2 and a linear layer, or their mirror image: `(..., n_in) -> (..., n_out)`.

    Args:
        reads: of an encoder the shape of the images, each of which comes as a row of `n_in` numbers.
        writes: of a decoder the shape of the images; it puts out `n_out` numbers, as many for each pixel.
        channels: of the convolution next to the image; the other one has twice as many.

    Raises:
        InputError: what is read or written is no image.
    """

    name = "convolutional"

    def __init__(
        self,
        n_in: int,
        n_out: int,
        reads: tuple[int, ...] | None = None,
        writes: tuple[int, ...] | None = None,
        channels: int = 32,
    ) -> None:
        if reads:
            super().__init__(_encoder(_image(reads), n_out, channels), 1)
        elif writes:
            size = _image(writes)[1:]
            super().__init__(_decoder(n_in, (n_out // prod(size), *size), channels), 1)
        else:
            raise InputError("a convolutional network is for images, and here is none: choose network=mlp")


def conv_encoder(data_shape: tuple[int, ...], n_out: int, channels: int = 32) -> nn.Module:
    """Two convolutions of stride 2 and a linear layer: images `(..., *data_shape) -> (..., n_out)`.

    Args:
        data_shape: `(height, width)`, `(colours, height, width)`, or `(n²,)`, a square image written as a row.
        channels: of the first convolution; the second has twice as many.

    Raises:
        InputError: `data_shape` is no image's.
    """
    return AnyBatch(_encoder(_image(data_shape), n_out, channels), len(data_shape))


def conv_decoder(n_in: int, data_shape: tuple[int, ...], channels: int = 32) -> nn.Module:
    """The mirror image of `conv_encoder`: `(..., n_in) -> (..., *data_shape)`. Arguments and errors as there."""
    layers = _decoder(n_in, _image(data_shape), channels)
    return AnyBatch(nn.Sequential(*layers, nn.Unflatten(1, data_shape)), 1)


def _encoder(image: tuple[int, ...], n_out: int, channels: int) -> nn.Sequential:
    """Images `(N, ...)` to `(N, n_out)`; `image` is (colours, height, width)."""
    quarter = _halved(_halved(image[1:]))
    return nn.Sequential(
        nn.Flatten(),
        nn.Unflatten(1, image),
        nn.Conv2d(image[0], channels, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(2 * channels * prod(quarter), n_out),
    )


def _decoder(n_in: int, image: tuple[int, ...], channels: int) -> nn.Sequential:
    """`(N, n_in)` to images, each a row of numbers."""
    half = _halved(image[1:])
    quarter = _halved(half)
    return nn.Sequential(
        nn.Linear(n_in, 2 * channels * prod(quarter)),
        nn.Unflatten(1, (2 * channels, *quarter)),
        nn.SiLU(),
        _doubled(2 * channels, channels, half),
        nn.SiLU(),
        _doubled(channels, image[0], image[1:]),
        nn.Flatten(),
    )


def is_image(data_shape: tuple[int, ...]) -> bool:
    """Can it be `(height, width)`, `(colours, height, width)`, or `(n²,)`, a square image written as a row?"""
    return len(data_shape) in (2, 3) or (len(data_shape) == 1 and isqrt(data_shape[0]) ** 2 == data_shape[0])


def _image(data_shape: tuple[int, ...]) -> tuple[int, ...]:
    """`(colours, height, width)`."""
    if not is_image(data_shape):
        raise InputError(
            f"a datum of shape {tuple(data_shape)} is no image: a convolution needs (height, width), "
            "(colours, height, width) or (n²,)"
        )
    side = isqrt(data_shape[0])
    return (1, side, side) if len(data_shape) == 1 else (1, *data_shape)[-3:]


def _halved(size: tuple[int, ...]) -> tuple[int, ...]:
    """What a stride of 2 leaves of an image's height and width."""
    return tuple(-(-n // 2) for n in size)


def _doubled(n_in: int, n_out: int, size: tuple[int, ...]) -> nn.Module:
    """Undo a convolution of stride 2: an image of half the size, rounded up, becomes one of `size`."""
    height, width = size
    return nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=(1 - height % 2, 1 - width % 2))
