"""Networks that models and guides are written with. Each takes any leading dimensions.

A new network is one class in a file of this folder, with a line `name = "…"`, whose constructor names `n_in` and
`n_out`, and what else it asks for of `hidden`, `reads` and `writes`, see `encoder` and `decoder`.
"""

from math import prod
from typing import Any

from ppl_vae.blocks import parts
from ppl_vae.blocks.networks.convolutional import AnyBatch, Convolutional, conv_decoder, conv_encoder, is_image
from ppl_vae.blocks.networks.dense import MLP, Gated, ResidualNetwork, gated_mlp, mlp, residual_mlp


def build(network: parts.Part, n_in: int, n_out: int, hidden: int, **given: Any) -> Any:
    """The network that is chosen, `(..., n_in) -> (..., n_out)`. Raises as `parts.build`.

    Args:
        given: `reads` or `writes`, the shape of the data, where the one end of the network is a datum.
    """
    return parts.build("network", network, {"n_in": n_in, "n_out": n_out, "hidden": hidden, **given})


def encoder(network: parts.Part, data_shape: tuple[int, ...], n_out: int, hidden: int) -> Any:
    """The network that is chosen, from a datum written as a row to `n_out` numbers. Raises as `parts.build`."""
    return build(network, prod(data_shape), n_out, hidden, reads=data_shape)


def decoder(network: parts.Part, n_in: int, likelihood: Any, hidden: int) -> Any:
    """The network that is chosen, from `n_in` numbers to what a likelihood asks for. Raises as `parts.build`.

    It writes an image where the likelihood asks for as many numbers for each dimension of the data.
    """
    writes = likelihood.data_shape if hasattr(likelihood, "params") else None
    return build(network, n_in, likelihood.size, hidden, writes=writes)


__all__ = [
    "MLP",
    "AnyBatch",
    "Convolutional",
    "Gated",
    "ResidualNetwork",
    "build",
    "conv_decoder",
    "conv_encoder",
    "decoder",
    "encoder",
    "gated_mlp",
    "is_image",
    "mlp",
    "residual_mlp",
]
