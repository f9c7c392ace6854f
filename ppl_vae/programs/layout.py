"""Which batch dimensions of a site are the K samples and the B rows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

import pyro
import torch
from pyro import poutine
from pyro.distributions import Distribution
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.programs.room import check_room
from ppl_vae.programs.state import buffers_kept

DATA = "data"
SAMPLES = "num_samples"


@dataclass(frozen=True)
class Layout:
    """How K samples of B rows are arranged, in one of three ways.

    With K = 1 the program runs as it is written. With K > 1 a plate of size K is added left of the program's own
    `nesting` plate dimensions. With `repeat`, for a program that says `vectorized = False` (a convolution takes no
    leading dimension), each batch holds its rows K times, `(K·B, ...)`.

    Args:
        batch_rows: B, or None if the batch does not say it.
        site: the name of the site, in a layout that `at` has made.
        plates: name, dimension and size of each plate of that site.
    """

    num_samples: int
    repeat: bool
    nesting: int
    batch_rows: int | None = None
    site: str = ""
    plates: tuple[tuple[str, int, int], ...] = ()

    def trace(self, program: Callable[..., Any], batch: tuple[Tensor, ...]) -> poutine.Trace:
        batch = self.repeated(batch)
        if not self.vectorized:
            return poutine.trace(program).get_trace(*batch)
        with pyro.plate(SAMPLES, self.num_samples, dim=-self.nesting - 1):
            return poutine.trace(program).get_trace(*batch)

    def repeated(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The batch as the programs get it: with `repeat`, each row K times."""
        if not self.repeat:
            return batch
        return tuple(x.repeat(self.num_samples, *[1] * (x.dim() - 1)) for x in batch)

    def at(self, site: dict) -> "Layout":
        """This layout with the plates of one site of a trace.

        Raises:
            InputError: a plate subsamples the numbers of one datum, or the rows of the batch.
        """
        self._refuse_subsamples(site)
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
        """The site's batch shape, to which a tensor of shape `batch_shape` is broadcast.

        Raises:
            InputError: a dimension has no plate.
        """
        self._data()
        shape = self._shape()
        sizes = torch.Size([1] * (len(batch_shape) - len(shape)) + shape)
        for n, expected in zip(reversed(batch_shape), reversed(sizes), strict=False):
            if n not in (1, expected):
                raise InputError(
                    f"site {self.site!r}: the log-probability, of shape {tuple(batch_shape)}, has a dimension of size "
                    f"{n} that no plate explains: add .to_event(n) for the dimensions of one datum"
                )
        return sizes

    def covers(self, batch_shape: torch.Size) -> bool:
        """Does a value of this batch shape have an entry for each element of the site's plates?"""
        return all(-dim <= len(batch_shape) and batch_shape[dim] == size for _, dim, size in self.plates)

    def lower(self, value: Tensor, fn: Distribution) -> Tensor:
        """A site's value with the samples first: `(K, *the site's own plates, *event)`."""
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

    def rows_first(self, value: Tensor, fn: Distribution) -> Tensor:
        """A value `(K, *plates, *event)` as `(K, B, ...)`, since a plate can be left of the plate `data`."""
        data, _ = self._data()
        return value.movedim(value.dim() - fn.event_dim + data, 1)

    def rows_back(self, value: Tensor, fn: Distribution) -> Tensor:
        """The inverse of `rows_first`."""
        data, _ = self._data()
        return value.movedim(1, value.dim() - fn.event_dim + data)

    def spread(self, weights: Tensor, fn: Distribution) -> Tensor:
        """The weights, `(K, B)`, in a shape that multiplies a value of the site in its program."""
        data, size = self._data()
        shape = [1] * (self.nesting + 1 if self.vectorized else -data)
        shape[data] = size
        if self.vectorized:
            shape[0] = self.num_samples
        return weights.reshape(shape + [1] * fn.event_dim)

    @property
    def vectorized(self) -> bool:
        """Do the K samples have a dimension of their own in the programs?"""
        return self.num_samples > 1 and not self.repeat

    def _refuse_subsamples(self, site: dict) -> None:
        """Refuse a plate that leaves out a part of a datum, for log p(x) would lack this part.

        The plate's scale does not replace it: the logarithm of a mean of weights is no bound if the log-likelihoods in
        them are estimates. Nor may a plate subsample the batch, which is itself a sample of the rows.
        """
        rows = self.batch_rows if self.batch_rows is None or not self.repeat else self.num_samples * self.batch_rows
        for frame in site["cond_indep_stack"]:
            whole = frame.full_size is None or frame.size == frame.full_size
            if not whole and (frame.name != DATA or (rows is not None and frame.size != rows)):
                inside = "of the batch" if frame.name == DATA else "inside one datum"
                raise InputError(
                    f"site {site['name']!r}: the plate {frame.name!r} subsamples {frame.size} of {frame.full_size} "
                    f"{inside}, so that the rest is missing from log p(x): leave subsample_size out, and pass smaller "
                    "batches"
                )

    def _shape(self) -> list[int]:
        """The site's batch shape: the sizes of its plates, and K if the samples have a dimension."""
        sizes = {dim: size for _, dim, size in self.plates}
        if self.vectorized:
            sizes[-self.nesting - 1] = self.num_samples
        return [sizes.get(dim, 1) for dim in range(min(sizes), 0)]

    def _data(self) -> tuple[int, int]:
        """The dimension and the size of the plate `data`."""
        for plate, dim, size in self.plates:
            if plate == DATA:
                return dim, size
        raise InputError(
            f"site {self.site!r} stands outside the plate {DATA!r}: put it under "
            f'`with pyro.plate("{DATA}", x.shape[0]):`'
        )


def samples(trace: poutine.Trace) -> Iterable[tuple[str, dict]]:
    """The sample statements of a trace, without those that Pyro adds for plates and `deterministic`."""
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and not site_is_subsample(site) and "_deterministic" not in site["infer"]:
            yield name, site


_nestings: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def layout_of(
    programs: list[Callable[..., Any]],
    batch: tuple[Any, ...],
    num_samples: int,
    *,
    repeat: bool = False,
    max_nesting: float = inf,
    keywords: Mapping[str, Any] | None = None,
) -> Layout:
    """How K samples are arranged when these programs run on the batch.

    Args:
        num_samples: K.
        repeat: repeat the rows, even if the programs take a dimension of samples.
        max_nesting: how many dimensions the programs' own plates take at most. If it is not finite, the programs are
            run once to find it.
        keywords: keyword arguments that the programs are called with.

    Raises:
        InputError: K is below 1, or there is no memory for K draws of each row.
    """
    at_least(1, num_samples=num_samples)
    repeat = num_samples > 1 and (repeat or not all(takes_samples(p) for p in programs))
    nesting = 0
    if num_samples > 1 and not repeat:
        nesting = int(max_nesting) if max_nesting < inf else max(_nesting(p, batch, keywords or {}) for p in programs)
    rows = batch[0].shape[0] if batch and isinstance(batch[0], Tensor) and batch[0].dim() else None
    if num_samples > 1 and type(rows) is int and rows:  # in a graph for any number of rows it is a symbol
        row = [x[:1] for x in batch if isinstance(x, Tensor) and x.dim()]
        check_room(map(owner, programs), row, num_samples * rows, f"{num_samples} draws for each of {rows} rows")
    return Layout(num_samples, repeat, nesting, rows)


def takes_samples(program: Callable[..., Any]) -> bool:
    """Can the program run with a leading dimension of samples? Yes, unless its class says `vectorized = False`."""
    return getattr(program, "vectorized", getattr(owner(program), "vectorized", True))


def owner(program: Callable[..., Any]) -> Any:
    """The object whose method the program is, or the program itself. A `functools.partial` counts as its function."""
    return owner(program.func) if isinstance(program, partial) else getattr(program, "__self__", program)


def _nesting(program: Callable[..., Any], batch: tuple[Any, ...], keywords: Mapping[str, Any]) -> int:
    """How many dimensions the program's own plates take. It is run once to find this, without a lasting effect."""
    if program not in _nestings:
        with torch.random.fork_rng(), torch.enable_grad(), poutine.block(), buffers_kept(owner(program)):
            trace = poutine.trace(program).get_trace(*batch, **keywords)
        plain = [(Layout(1, False, 0).at(site), site["fn"]) for _, site in samples(trace)]
        for layout, fn in plain:  # here no dimension can be mistaken for that of the samples
            if any(name == DATA for name, *_ in layout.plates):
                layout.check(fn.batch_shape)
        _nestings[program] = max((-dim for layout, _ in plain for _, dim, _ in layout.plates), default=1)
    return _nestings[program]
