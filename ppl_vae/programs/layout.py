"""Where the K samples and the B rows stand among the batch dimensions of a site."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Distribution
from torch import Tensor

from ppl_vae.errors import InputError

DATA = "data"
SAMPLES = "num_samples"


@dataclass(frozen=True)
class Layout:
    """K samples of B rows, in one of three ways.

    K = 1: the program runs as written. K > 1: a plate of size K stands left of the program's own `nesting`
    plate dimensions. `repeat`: for a program that says `vectorized = False` (a convolution takes no leading
    dimension), each batch holds its rows K times, `(K·B, ...)`.

    Args:
        site: the name of the site that this layout is `at`.
        plates: name, dimension and size of each plate of that site.
    """

    num_samples: int
    repeat: bool
    nesting: int
    site: str = ""
    plates: tuple[tuple[str, int, int], ...] = ()

    def trace(self, program: Callable[..., Any], batch: tuple[Tensor, ...]) -> poutine.Trace:
        batch = self.repeated(batch)
        if not self.vectorized:
            return poutine.trace(program).get_trace(*batch)
        with pyro.plate(SAMPLES, self.num_samples, dim=-self.nesting - 1):
            return poutine.trace(program).get_trace(*batch)

    def repeated(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The batch as the programs get it: with its rows K times under `repeat`."""
        if not self.repeat:
            return batch
        return tuple(x.repeat(self.num_samples, *[1] * (x.dim() - 1)) for x in batch)

    def at(self, site: dict) -> "Layout":
        """This layout with the plates of one site of a trace."""
        frames = (f for f in site["cond_indep_stack"] if f.vectorized and f.name != SAMPLES)
        return replace(self, site=site["name"], plates=tuple((f.name, f.dim, f.size) for f in frames))

    def rows(self, x: Tensor) -> Tensor:
        """Sum `x`, which broadcasts to the site's batch shape, over inner plates: `(K, B)`."""
        data, _ = self._data()
        x = x.expand(self.check(x.shape))
        if inner := tuple(dim for _, dim, _ in self.plates if dim != data):
            x = x.sum(inner)
        return x.reshape(self.num_samples, -1)

    def check(self, batch_shape: torch.Size) -> torch.Size:
        """The whole shape of a tensor that broadcasts to the site's batch shape, if each dimension has a plate."""
        self._data()
        shape = self._shape()
        sizes = torch.Size([1] * (len(batch_shape) - len(shape)) + shape)
        for n, expected in zip(reversed(batch_shape), reversed(sizes), strict=False):
            if n not in (1, expected):
                raise InputError(
                    f"site {self.site!r}: log-probability of shape {tuple(batch_shape)} has a dimension of size {n} "
                    "that no plate explains: add .to_event(n) for the dimensions of one datum"
                )
        return sizes

    def covers(self, batch_shape: torch.Size) -> bool:
        """Does a value of this batch shape hold an entry of its own for each element of the site's plates?"""
        return all(-dim <= len(batch_shape) and batch_shape[dim] == size for _, dim, size in self.plates)

    def lower(self, value: Tensor, fn: Distribution) -> Tensor:
        """A site's value with K first: `(K, *the site's own plates, *event)`."""
        data, size = self._data()
        event = value.dim() - fn.event_dim
        if self.num_samples == 1:
            return value.unsqueeze(0)
        if self.repeat:
            at = event + data
            return value.unflatten(at, (self.num_samples, size // self.num_samples)).movedim(at, 0)
        own = -min(dim for _, dim, _ in self.plates)
        return value.reshape(self.num_samples, *value.shape[event - own :])

    def lift(self, value: Tensor, fn: Distribution) -> Tensor:
        """The inverse of `lower`."""
        data, _ = self._data()
        if self.num_samples == 1:
            return value.squeeze(0)
        if self.repeat:
            at = value.dim() - fn.event_dim + data
            return value.movedim(0, at - 1).flatten(at - 1, at)
        own = value.dim() - fn.event_dim - 1
        return value.reshape(self.num_samples, *[1] * (self.nesting - own), *value.shape[1:])

    @property
    def vectorized(self) -> bool:
        """Do the K samples have a dimension of their own while the programs run?"""
        return self.num_samples > 1 and not self.repeat

    def _shape(self) -> list[int]:
        """The site's batch shape: its plates, and K where it has a dimension."""
        sizes = {dim: size for _, dim, size in self.plates}
        if self.vectorized:
            sizes[-self.nesting - 1] = self.num_samples
        return [sizes.get(dim, 1) for dim in range(min(sizes), 0)]

    def _data(self) -> tuple[int, int]:
        """Dimension and size of the plate `data`."""
        for plate, dim, size in self.plates:
            if plate == DATA:
                return dim, size
        raise InputError(
            f"site {self.site!r} stands outside the plate {DATA!r}: put it under "
            f'`with pyro.plate("{DATA}", x.shape[0]):`'
        )
