"""`--standardize`: a pair that works on u = (x − center)/spread, whose log p(x) is that of the data as given.

The programs are built for u and see u alone. At the site that observes it, the density p_u becomes
p(x) = p_u((x − center)/spread) / Π_d spread_d, so that every bound is one on log p(x) in the units of the data, and
draws and means of x come out in these units too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyro.distributions as dist
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import AffineTransform

from ppl_vae.blocks import Standardized
from ppl_vae.core.errors import InputError
from ppl_vae.distributions.wrappers import describe, support_of, with_family
from ppl_vae.programs.find import Spec
from ppl_vae.programs.layout import takes_samples
from ppl_vae.programs.resolution import Pair, resolve_pair
from ppl_vae.programs.scores import Batch


def resolve_standardized(
    model: Spec,
    guide: Spec,
    batch: Batch,
    settings: Mapping[str, Any] | None = None,
    rows: Tensor | None = None,
    others: Sequence[str] = (),
) -> Pair:
    """`resolve_pair` for standardized data, as programs of the data as given.

    Args:
        rows: of the first field, of which the mean and standard deviation of each column are taken; by default
            `batch`'s.
        others: as for `resolve_pair`.
    """
    x, *rest = batch
    scale = Standardized(tuple(x.shape[1:]), x if rows is None else rows, always=True)
    pair = resolve_pair(model, guide, (scale(x), *rest), settings, others)
    return replace(pair, model=StandardizedModel(pair.model, scale), guide=StandardizedGuide(pair.guide, scale))


def check_standardizable(binarize: str | None, missing: str) -> None:
    """
    Raises:
        InputError: bits, or missing cells.
    """
    if binarize not in (None, "none"):
        raise InputError(f"standardize is for numbers, not for bits: leave it out, or --binarize none, not {binarize}")
    if missing == "nan":
        raise InputError(
            "standardize takes no missing cells: leave it out, for the programs that take them, such as table, "
            "standardize each column themselves"
        )


class StandardizedProgram(nn.Module):
    """A program of u as a program of x. The pair shares one `scale`, so that it is moved and saved once."""

    def __init__(self, program: nn.Module, scale: Standardized) -> None:
        super().__init__()
        self.program, self.scale = program, scale
        self.vectorized = takes_samples(program)

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        return self.program(self.scale(x), *others)


class StandardizedGuide(StandardizedProgram):
    """q(z|x), a guide of u."""

    def posterior(self, x: Tensor, *others: Tensor) -> dist.Distribution:
        """q(z|x), of a guide that has the method."""
        return self.program.posterior(self.scale(x), *others)  # type: ignore[operator]


class StandardizedModel(StandardizedProgram):
    """p(z) p(x|z), a model of u with the change of variables at the site that observes it."""

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        """
        Raises:
            InputError: not exactly one site observes all of u, or its likelihood is not a density on the real numbers.
        """
        u = self.scale(x)
        with _InUnitsOfData(x, u, self.scale) as units:
            result = self.program(u, *others)
        if units.sites != 1:
            raise InputError(
                "standardize needs one site of the model that observes the first field as it is, with obs=x; there "
                f"are {units.sites}: write it so, or leave standardize out"
            )
        return result

    def log_px(self, x: Tensor) -> Tensor:
        """The exact log p(x) of each row in units of the data, `(B,)`, of a model that has the method."""
        return self.program.log_px(self.scale(x)) - self.scale.spread.log().sum()  # type: ignore[operator]


class _InUnitsOfData(poutine.messenger.Messenger):
    """Where u is observed, x is, under the distribution of x."""

    def __init__(self, x: Tensor, u: Tensor, scale: Standardized) -> None:
        super().__init__()
        self.x, self.u, self.scale, self.sites = x, u, scale, 0

    def _pyro_sample(self, msg: dict) -> None:
        if msg["is_observed"] and msg["value"] is self.u:
            self.sites += 1
            _check_real(msg["name"], msg["fn"])
            msg["fn"], msg["value"] = rescaled(msg["fn"], self.scale.center, self.scale.spread), self.x


def _check_real(site: str, fn: Any) -> None:
    if support_of(fn) is not constraints.real:
        raise InputError(
            f"site {site!r}: standardized data are any real numbers, which {describe(fn)} is no density on: swap the "
            "likelihood, or leave standardize out"
        )


def rescaled(fn: Any, center: Tensor, spread: Tensor) -> Any:
    """The distribution of center + spread · u, u ~ `fn`. What masks leave out, they leave out with its log spread."""
    return with_family(fn, lambda family: Rescaled(family, [AffineTransform(center, spread)]))


class Rescaled(dist.TransformedDistribution):
    """An affine transform of a distribution, with the moments that it has."""

    @property
    def mean(self) -> Tensor:
        (affine,) = self.transforms
        return affine.loc + affine.scale * self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        (affine,) = self.transforms
        return affine.scale.square() * self.base_dist.variance
