"""What a conditional model p(x|z, y) or guide q(z|x, y) makes of y, the second field of a batch."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ppl_vae.core.errors import InputError


def as_features(y: Tensor, width: int, like: Tensor, *, name: str = "y", setting: str = "y_dim") -> Tensor:
    """Labels `(B,)`, integers from 0 to width − 1, as one-hot rows; covariates `(B, width)` or `(B,)` as they are.

    Returns `(B, width)`, of the dtype of `like`.

    Args:
        name, setting: what an error calls y, and the setting that says `width`.

    Raises:
        InputError: a label outside that range, or another number of covariates.
    """
    if y.is_floating_point():
        y = y.unsqueeze(-1) if y.dim() == 1 else y
        if y.shape[1:] != (width,):
            shape = tuple(y.shape[1:])
            raise InputError(
                f"{name} holds covariates of shape {shape}, not ({width},): set {setting} to their number; "
                f"labels are integers from 0 to {width - 1}"
            )
        return y.to(like.dtype)
    if y.dim() != 1:
        shape = tuple(y.shape[1:])
        raise InputError(f"{name} holds integers of shape {shape} per row: one label, or floats, are expected")
    try:
        return one_hot(y, width).to(like.dtype)
    except RuntimeError as error:
        found = f"labels from {int(y.min())} to {int(y.max())}"
        raise InputError(
            f"{name} holds {found}, outside 0 to {width - 1}: set {setting} to the number of classes, counted from 0"
        ) from error


def concat(*parts: Tensor) -> Tensor:
    """`(..., a), (..., b), … -> (..., a + b + …)`, leading dimensions broadcast: those of z, say, against y's."""
    lead = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*lead, -1) for part in parts], dim=-1)


def as_row(x: Tensor, event_dim: int) -> Tensor:
    """`(..., *event) -> (..., numbers of an event)`: the last `event_dim` dimensions as one, a new one if it is 0."""
    return x.flatten(x.dim() - event_dim) if event_dim else x.unsqueeze(-1)
