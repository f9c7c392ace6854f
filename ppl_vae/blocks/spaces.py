"""What a latent z is, and what a decoder sees of it.

A prior and a family of q(z|x) state their space in a line `space = "…"`; two of different spaces do not go together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ppl_vae.core.errors import InputError
from ppl_vae.core.palette import PARTS


class Space(NamedTuple):
    """What z is in words, and its features, `latent_dim` numbers, by z and the unit matrix."""

    words: str
    features: Callable[[Tensor, Tensor], Tensor]


SPACES = {
    "real": Space("a vector of real numbers", lambda z, _: z),
    "sphere": Space("a point of the unit sphere", lambda z, unit: z * len(unit) ** 0.5),
    "classes": Space("a class", lambda z, unit: unit[z]),
    "simplex": Space("the logarithm of a point of the simplex", lambda log_z, _: log_z.exp()),
}
"""Features: z itself; z·√d, whose coordinates are of size 1; a 1 in the place of the class; z of log z."""


def space_of(part: Any) -> str:
    """The space that a prior, a family or a program states; `real` where it states none."""
    return getattr(part, "space", "real")


class Features(nn.Module):
    """What a decoder sees of z: `latent_dim` numbers, see `SPACES`.

    Args:
        prior: it says what z is.
    """

    unit: Tensor

    def __init__(self, prior: Any, latent_dim: int) -> None:
        super().__init__()
        self.space = space_of(prior)
        self.register_buffer("unit", torch.eye(latent_dim), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        return SPACES[self.space].features(z, self.unit)


def check_spaces(model: Any, guide: Any) -> None:
    """
    Raises:
        InputError: both programs say what z is, and do not agree.
    """
    here, there = (getattr(program, "space", None) for program in (model, guide))
    if here in SPACES and there in SPACES and here != there:
        raise InputError(
            f"the model's z is {SPACES[here].words}, and the guide's is {SPACES[there].words}. Choose another family "
            f"({_of('family', here)}) or another prior ({_of('prior', there)})"
        )


def _of(kind: str, space: str) -> str:
    """How to choose a part of a space."""
    return f"--set {kind}=" + " or ".join(name for name, part in PARTS[kind].items() if space_of(part) == space)
