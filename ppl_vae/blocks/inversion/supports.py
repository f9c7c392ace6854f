"""A family of q(z|x) for a latent site, by the support of its distribution in the model.

Each is a module with a `width`, the number of outputs that it asks of an encoder, as those of `families`; and with
`size`, how many numbers `features` makes of a draw for the networks of the sites that depend on it.
"""

from math import prod
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor, nn
from torch.distributions import biject_to
from torch.distributions.transforms import ReshapeTransform

from ppl_vae.blocks import families
from ppl_vae.blocks.conditions import as_row
from ppl_vae.blocks.parts import Part, maker
from ppl_vae.blocks.spaces import Features, space_of
from ppl_vae.core.errors import InputError
from ppl_vae.distributions.relaxed import ExpRelaxedCategorical
from ppl_vae.distributions.wrappers import describe, support_of, with_family
from ppl_vae.distributions.wrappers import family as unwrapped

PARALLEL = {"enumerate": "parallel"}
NORMAL_IN_ONE = (
    families.FullNormal,
    families.HouseholderNormal,
    families.InverseAutoregressiveFlow,
    families.LowRankNormal,
)
"""What they are over one number; the flow has none to regress on."""
CIRCULAR = (torch.distributions.VonMises, dist.SineBivariateVonMises, dist.SineSkewed)
"""Their density repeats itself, and is one on a circle, though they state the real line as their support."""


def family_for(site: str, fn: Any, family: Part = "diagonal_normal") -> Any:
    """The family of a site: a Normal or another one of `families` for real numbers, pushed to where the site lives.

    Args:
        fn: the site's distribution in the model.
        family: for real numbers, and for what they are pushed to.

    Raises:
        InputError: a support for which there is no family here.
    """
    under, support, shape = unwrapped(fn), support_of(fn), fn.event_shape
    if isinstance(under, ExpRelaxedCategorical):
        return Placed(families.RelaxedCategorical(shape[0], _one(site, under.temperature)), shape[0])
    if isinstance(under, dist.RelaxedOneHotCategorical):
        return RelaxedOneHot(shape[0], _one(site, under.temperature))
    if support is constraints.sphere and len(shape) == 1:
        return Placed(families.PowerSpherical(shape[0]), shape[0])
    if support is None or support is constraints.sphere or isinstance(under, CIRCULAR):
        raise _refused(site, fn)
    if support.is_discrete:
        return _discrete(site, fn, support)
    if space_of(maker("family", family)) != "real":
        raise InputError(f"site {site!r} is of real numbers, or pushed from them: {family} is no family of those")
    return Pushed(site, fn, _fixed(site, support), family)


def _refused(site: str, fn: Any) -> InputError:
    return InputError(
        f"site {site!r}: the guide `auto` has no family for {describe(fn)}, whose support is {support_of(fn)}: write a "
        "guide of your own"
    )


class Placed(nn.Module):
    """A family of `families` whose space has features of its own."""

    infer: Any = None

    def __init__(self, family: Any, size: int) -> None:
        super().__init__()
        self.family, self.width, self.size = family, family.width, size
        self.features = Features(family, size)

    def forward(self, raw: Tensor) -> dist.Distribution:
        return self.family(raw)


class RelaxedOneHot(nn.Module):
    """Gumbel-softmax: a point of the simplex near a corner. Jang et al. (2017)."""

    infer: Any = None

    def __init__(self, classes: int, temperature: float) -> None:
        super().__init__()
        self.width = self.size = classes
        self.temperature = temperature

    def forward(self, raw: Tensor) -> dist.Distribution:
        return dist.RelaxedOneHotCategorical(raw.new_tensor(self.temperature), logits=raw)

    def features(self, z: Tensor) -> Tensor:
        return z


class Classes(nn.Module):
    """Categorical(softmax(raw)), independent over the numbers of an event; a lone class is summed over where one can.

    Args:
        shape: of an event; () of a lone class.
    """

    unit: Tensor

    def __init__(self, shape: torch.Size, classes: int) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes
        self.width = self.size = prod(shape) * classes
        self.infer = None if shape else PARALLEL
        self.register_buffer("unit", torch.eye(classes), persistent=False)

    def forward(self, raw: Tensor) -> dist.Distribution:
        logits = raw.reshape(*raw.shape[:-1], *self.shape, self.classes)
        return dist.Categorical(logits=logits).to_event(len(self.shape))

    def features(self, z: Tensor) -> Tensor:
        return self.unit[z.long()].flatten(-1 - len(self.shape))


class Bits(nn.Module):
    """Bernoulli(sigmoid(raw)), independent over the numbers of an event."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape = shape
        self.width = self.size = prod(shape)
        self.infer = None if shape else PARALLEL

    def forward(self, raw: Tensor) -> dist.Distribution:
        return dist.Bernoulli(logits=raw.reshape(*raw.shape[:-1], *self.shape)).to_event(len(self.shape))

    def features(self, z: Tensor) -> Tensor:
        return as_row(z, len(self.shape))


class OneHot(nn.Module):
    """OneHotCategorical(softmax(raw))."""

    infer = PARALLEL

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.width = self.size = classes

    def forward(self, raw: Tensor) -> dist.Distribution:
        return dist.OneHotCategorical(logits=raw)

    def features(self, z: Tensor) -> Tensor:
        return z


def _discrete(site: str, fn: Any, support: Any) -> Any:
    under, shape = unwrapped(fn), fn.event_shape
    if isinstance(under, torch.distributions.Categorical):
        return Classes(shape, under.probs.shape[-1])
    if support is constraints.boolean:
        return Bits(shape)
    if isinstance(under, torch.distributions.OneHotCategorical) and len(shape) == 1:
        return OneHot(shape[0])
    raise _refused(site, fn)


class Pushed(nn.Module):
    """z = b(u), where u is a vector of real numbers of some family, and b torch's bijection from them onto a support.

    log q(z) = log q_u(b⁻¹(z)) − log |det ∂b/∂u|. For real numbers b is the identity, and z has the family itself.
    """

    infer: Any = None

    def __init__(self, site: str, fn: Any, support: Any, family: Part) -> None:
        super().__init__()
        self.support = support
        self.positive = getattr(support, "lower_bound", None) == 0 and not hasattr(support, "upper_bound")
        try:
            self.bijection = biject_to(support)
            self.shape = self.bijection.inverse_shape(fn.event_shape)
            u = torch.zeros(self.shape)
            self.bijection.log_abs_det_jacobian(u, self.bijection(u))
        except NotImplementedError:
            raise _refused(site, fn) from None
        self.size = prod(self.shape)
        if self.size == 1 and maker("family", family) in NORMAL_IN_ONE:
            family = "diagonal_normal"
        self.base = families.build(family, self.size)
        self.width = self.base.width

    def forward(self, raw: Tensor) -> dist.Distribution:
        u = shaped(self.base(raw), self.shape)
        if self.support is constraints.real:
            return u
        if self.positive and type(unwrapped(u)) is dist.Normal:  # its mean and its KLs have a closed form
            return with_family(u, lambda normal: dist.LogNormal(normal.loc, normal.scale))
        return dist.TransformedDistribution(u, [self.bijection])

    def features(self, z: Tensor) -> Tensor:
        """u, from z."""
        return as_row(z if self.support is constraints.real else self.bijection.inv(z), len(self.shape))


def shaped(q: Any, shape: torch.Size) -> Any:
    """A distribution over vectors as one over tensors of a shape; a Normal stays one, for its KLs."""
    if len(shape) == 1:
        return q
    under = unwrapped(q)
    if type(under) is dist.Normal:
        loc, scale = (x.reshape(*x.shape[:-1], *shape) for x in (under.loc, under.scale))
        return dist.Normal(loc, scale).to_event(len(shape))
    return dist.TransformedDistribution(q, [ReshapeTransform(q.event_shape, shape)])


def _fixed(site: str, support: Any) -> Any:
    """The support with its bounds as numbers.

    Raises:
        InputError: they differ, or move with a parameter.
    """
    bounds = {name: getattr(support, name) for name in ("lower_bound", "upper_bound") if hasattr(support, name)}
    return type(support)(*(_one(site, bound) for bound in bounds.values())) if bounds else support


def _one(site: str, value: Any) -> float:
    numbers = torch.as_tensor(value).flatten()
    if not bool((numbers == numbers[0]).all()) or numbers.requires_grad:
        raise InputError(
            f"site {site!r}: its bounds or its temperature are not one constant ({value}), to which a guide could be "
            "fitted: write a guide of your own"
        )
    return float(numbers[0])
