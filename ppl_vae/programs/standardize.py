"""`--standardize`: a pair that works on u = (x − center)/spread, and gives log p(x) in the units of the data.

The programs are built for u and see only u. At the site that observes u, the density p_u is replaced by p(x) = p_u((x −
center)/spread) / Π_d spread_d. So every bound is a bound on log p(x) in the units of the data, and draws and means of x
are in these units too.
"""

from collections.abc import Callable, Mapping, Sequence
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
    moments: tuple[Tensor, Tensor] | None = None,
    others: Sequence[str] = (),
) -> Pair:
    """Do what `resolve_pair` does, for standardized data. The programs that it returns take the data as they are.

    Args:
        moments: each column's mean and standard deviation, of the first field; by default those of `batch`.
        others: as for `resolve_pair`.
    """
    x, *rest = batch
    scale = Standardized(tuple(x.shape[1:]), x if moments is None else None, always=True)
    if moments is not None:
        scale.center, scale.spread = (part.to(x) for part in moments)
    pair = resolve_pair(model, guide, (scale(x), *rest), settings, others)
    return replace(pair, model=StandardizedModel(pair.model, scale), guide=StandardizedGuide(pair.guide, scale))


def check_standardizable(binarize: str | None, missing: str) -> None:
    """Check that the data can be standardized.

    Raises:
        InputError: the data are binarized, or have missing cells.
    """
    if binarize not in (None, "none"):
        raise InputError(
            f"standardize is for real numbers, and --binarize {binarize} makes bits: leave it out, or give "
            "--binarize none"
        )
    if missing == "nan":
        raise InputError(
            "standardize does not take missing cells: leave it out. Programs that take missing cells, such as table, "
            "standardize each column themselves"
        )


class StandardizedProgram(nn.Module):
    """A program of u as a program of x. Both programs of a pair share one `scale`, so that it is saved once."""

    def __init__(self, program: nn.Module, scale: Standardized) -> None:
        super().__init__()
        self.program, self.scale = program, scale
        self.vectorized = takes_samples(program)

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        return self.program(self.scale(x), *others)


class StandardizedGuide(StandardizedProgram):
    """q(z|x), from a guide of u."""

    def posterior(self, x: Tensor, *others: Tensor) -> dist.Distribution:
        """q(z|x), if the guide of u has this method."""
        return self.program.posterior(self.scale(x), *others)  # type: ignore[operator]


class StandardizedModel(StandardizedProgram):
    """p(z) p(x|z), from a model of u with a change of variables at the site that observes u."""

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        """Run the model of u, and observe x in place of u.

        Raises:
            InputError: not exactly one site observes all of u, or its likelihood is not a density on the real numbers.
        """
        u = self.scale(x)
        with _InUnitsOfData(x, u, self.scale) as units:
            result = self.program(u, *others)
        if units.sites != 1:
            raise InputError(
                "standardize needs exactly one site of the model that observes the first field as it is, with obs=x; "
                f"there are {units.sites}: write the model so, or leave standardize out"
            )
        return result

    @property
    def log_px(self) -> Callable[[Tensor], Tensor]:
        """The exact log p(x) of each row in units of the data, `(B,)`; missing where the model of u has no `log_px`."""
        of_u: Any = self.program.log_px
        return lambda x: of_u(self.scale(x)) - self.scale.spread.log().sum()


class _InUnitsOfData(poutine.messenger.Messenger):
    """Let the site that observes u observe x, under the distribution of x."""

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
            f"site {site!r}: standardized data can be any real numbers, and {describe(fn)} is not a density on all of "
            "them: swap the likelihood, or leave standardize out"
        )


def rescaled(fn: Any, center: Tensor, spread: Tensor) -> Any:
    """The distribution of center + spread · u, u ~ `fn`. If a mask leaves a number out, its log spread is left out."""
    return with_family(fn, lambda family: Rescaled(family, [AffineTransform(center, spread)]))


class Rescaled(dist.TransformedDistribution):
    """An affine transform of a distribution, with its mean and variance."""

    @property
    def mean(self) -> Tensor:
        (affine,) = self.transforms
        return affine.loc + affine.scale * self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        (affine,) = self.transforms
        return affine.scale.square() * self.base_dist.variance
