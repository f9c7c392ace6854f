"""Likelihoods of real numbers: a location from the network and a scale."""

import math
import warnings
from typing import Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.blocks.likelihoods.base import Likelihood, moments
from ppl_vae.core.errors import InputError
from ppl_vae.distributions import gammas

Scale = float | Literal["shared", "dimension", "datum"]


class LocationScale(Likelihood):
    """μ and σ of each dimension. σ, in units of `spread`, is `floor` plus something positive, so it never falls below.

    Where a datum is reproduced exactly, log p(x|z) has no upper bound as σ → 0: the floor is the bound. When
    the floor is more than half of a σ, a call in evaluation mode warns of it; `fit` makes one after each epoch.

    Args:
        scale: a number, fixed; `shared`, one learned σ; `dimension`, one for each; `datum`, from the network.
        floor: of σ, unless it is fixed.
        data: rows, `(N, *data_shape)`, NaN for a missing cell: their mean and standard deviation in each dimension
            (1 for a constant) become the origin and unit of μ, and the unit of σ.
    """

    center: Tensor
    spread: Tensor

    def __init__(
        self, data_shape: tuple[int, ...], scale: Scale = "shared", floor: float = 1e-3, data: Tensor | None = None
    ) -> None:
        super().__init__(data_shape, params=2 if scale == "datum" else 1)
        if isinstance(scale, str):
            if scale not in ("shared", "dimension", "datum"):
                raise InputError(f"scale is {scale!r}: it must be a number, shared, dimension or datum")
        elif not 0 < scale < math.inf:
            raise InputError(f"scale is {scale}: a fixed σ must be above 0")
        if not 0 <= floor < math.inf:
            raise InputError(f"floor is {floor}: it must be 0 or above")
        self.scale, self.floor = scale, floor
        center, spread = (torch.zeros(data_shape), torch.ones(data_shape)) if data is None else moments(data)
        self.register_buffer("center", center)
        self.register_buffer("spread", spread)
        if scale in ("shared", "dimension"):
            self.log_scale = nn.Parameter(torch.zeros(data_shape if scale == "dimension" else ()))

    def location_scale(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        loc = self.center + self.spread * raw[0]
        if isinstance(self.scale, float | int):
            return loc, self.spread * self.scale
        free = softplus(raw[1]) if self.scale == "datum" else self.log_scale.exp()
        if not self.training and _holds_numbers(free) and bool((free < self.floor).any()):
            warnings.warn(
                f"{type(self).__name__}: a σ has come down to its floor of {self.floor:g}: is a column constant, or "
                "are rows copied exactly? Leave it out, or set another floor",
                stacklevel=2,
            )
        return loc, self.spread * (self.floor + free)


def _holds_numbers(x: Tensor) -> bool:
    """Not while a program is captured or compiled: a branch on the numbers would break it."""
    return type(x) is Tensor and not torch.compiler.is_compiling()


class Gaussian(LocationScale):
    """p(x) = N(x; μ, σ²), μ = center + spread · raw. At fixed σ, −log p(x) is ‖x − μ‖²/2σ² and a constant."""

    name = "gaussian"

    def distribution(self, raw: Tensor) -> dist.Distribution:
        return dist.Normal(*self.location_scale(raw))


class Laplace(LocationScale):
    """p(x) = exp(−|x − μ|/σ)/(2σ), μ = center + spread · raw: −log p(x) is the absolute error."""

    name = "laplace"

    def distribution(self, raw: Tensor) -> dist.Distribution:
        return dist.Laplace(*self.location_scale(raw))


class StudentT(LocationScale):
    """p(x) = T_ν((x − μ)/σ)/σ, μ = center + spread · raw: heavy tails. ν > 1 is learned, shared, at first 5."""

    name = "student_t"

    def __init__(
        self, data_shape: tuple[int, ...], scale: Scale = "shared", floor: float = 1e-3, data: Tensor | None = None
    ) -> None:
        super().__init__(data_shape, scale, floor, data)
        self.log_df = nn.Parameter(torch.tensor(4.0).log())

    def distribution(self, raw: Tensor) -> dist.Distribution:
        return gammas.StudentT(1 + self.log_df.exp(), *self.location_scale(raw))


class LogNormal(LocationScale):
    """log x ~ N(μ, σ²), μ = center + spread · raw, x > 0; `center` and `spread` are those of log x."""

    name = "log_normal"

    def __init__(
        self, data_shape: tuple[int, ...], scale: Scale = "shared", floor: float = 1e-3, data: Tensor | None = None
    ) -> None:
        super().__init__(data_shape, scale, floor, None if data is None else data.clamp(min=1e-6).log())

    def distribution(self, raw: Tensor) -> dist.Distribution:
        return dist.LogNormal(*self.location_scale(raw))
