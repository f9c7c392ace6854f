"""Where the K samples and the B rows stand among the batch dimensions of a site."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyro
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
        plates: name, dimension and size of each plate of the site that this layout is `at`.
    """

    num_samples: int
    repeat: bool
    nesting: int
    plates: tuple[tuple[str, int, int], ...] = ()

    def trace(self, program: Callable[..., Any], batch: tuple[Tensor, ...]) -> poutine.Trace:
        if self.num_samples == 1:
            return poutine.trace(program).get_trace(*batch)
        if self.repeat:
            return poutine.trace(program).get_trace(*(x.repeat(self.num_samples, *[1] * (x.dim() - 1)) for x in batch))
        with pyro.plate(SAMPLES, self.num_samples, dim=-self.nesting - 1):
            return poutine.trace(program).get_trace(*batch)

    def at(self, site: dict) -> "Layout":
        """This layout with the plates of one site of a trace."""
        frames = (f for f in site["cond_indep_stack"] if f.vectorized and f.name != SAMPLES)
        return replace(self, plates=tuple((f.name, f.dim, f.size) for f in frames))

    def rows(self, name: str, x: Tensor) -> Tensor:
        """Sum `x`, of a site's batch shape, over inner plates: `(K, B)`."""
        data, _ = self._data(name)
        dims = {dim for _, dim, _ in self.plates}
        for dim in range(-1, -1 - x.dim(), -1):
            sampled = self._vectorized and dim == -self.nesting - 1
            if dim not in dims and not sampled and x.shape[dim] != 1:
                raise InputError(
                    f"site {name!r}: log-probability of shape {tuple(x.shape)} has a dimension of size "
                    f"{x.shape[dim]} that no plate explains: add .to_event(n) for the dimensions of one datum"
                )
        if inner := tuple(dim for dim in dims if dim != data and -dim <= x.dim()):
            x = x.sum(inner)
        return x.reshape(self.num_samples, -1)

    def lower(self, value: Tensor, fn: Distribution) -> Tensor:
        """A site's value with K first: `(K, *the site's own plates, *event)`."""
        event = value.dim() - fn.event_dim
        if self.num_samples == 1:
            return value.unsqueeze(0)
        if self.repeat:
            dim, size = self._data()
            at = event + dim
            return value.unflatten(at, (self.num_samples, size // self.num_samples)).movedim(at, 0)
        own = -min(dim for _, dim, _ in self.plates)
        return value.reshape(self.num_samples, *value.shape[event - own :])

    def lift(self, value: Tensor, fn: Distribution) -> Tensor:
        """The inverse of `lower`."""
        if self.num_samples == 1:
            return value.squeeze(0)
        if self.repeat:
            at = value.dim() - fn.event_dim + self._data()[0]
            return value.movedim(0, at - 1).flatten(at - 1, at)
        own = value.dim() - fn.event_dim - 1
        return value.reshape(self.num_samples, *[1] * (self.nesting - own), *value.shape[1:])

    @property
    def _vectorized(self) -> bool:
        return self.num_samples > 1 and not self.repeat

    def _data(self, name: str = "") -> tuple[int, int]:
        """Dimension and size of the plate `data`."""
        for plate, dim, size in self.plates:
            if plate == DATA:
                return dim, size
        raise InputError(
            f'site {name!r} stands outside the plate {DATA!r}: put it under `with pyro.plate("{DATA}", x.shape[0]):`'
        )
