"""Terms at every value of the guide's discrete sites; the other sites are drawn."""

import torch
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.wrappers import describe, is_point
from ppl_vae.programs.handlers import Substitute
from ppl_vae.programs.layout import Layout, layout_of, owner, samples
from ppl_vae.programs.passes import collect
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, Values
from ppl_vae.programs.state import buffers_kept

MOST_VALUES = 10_000


def enumerated_terms(model: ProgramLike, guide: ProgramLike, batch: Batch, num_particles: int = 1) -> Terms:
    """One pass whose K samples of a row are all S combinations of the values of its discrete sites, M times: K = M · S.

    A site without `rsample` is discrete, and takes each of its values. A reparameterized site is drawn once for each
    combination of the discrete values before it: samples that differ only in later sites share the draw, so that the
    weights Π q of one particle sum to 1. `score_function` holds log q of every site, without its mask.

    Args:
        num_particles: M, how often each reparameterized site is drawn for one combination.

    Raises:
        InputError: a site has neither `rsample` nor a list of its values; a discrete site stands in an inner plate; no
            site is discrete; there are too many combinations; and as `score`.
    """
    values, strides = _every_value(guide, batch)
    S = len(next(iter(values.values()))) if values else 1
    repeated = {site: x.repeat(num_particles, *[1] * (x.dim() - 1)) for site, x in values.items()}
    layout = layout_of([model, guide], batch, num_particles * S)
    with _Enumerate(repeated, strides, S, layout):
        guide_trace = layout.trace(guide, batch)
    return collect(model, guide, guide_trace, batch, layout, detached=True)


@torch.no_grad()
def _every_value(guide: ProgramLike, batch: Batch) -> tuple[Values, dict[str, tuple[int, int]]]:
    """All combinations of the values of the discrete sites.

    Returns:
        The values of each site in the S combinations, `(S, B, *event)`; and each site's stride and number of values.
        The combinations are numbered as digits are: the last site changes first.
    """
    layout = layout_of([guide], batch, 1)
    with torch.random.fork_rng(), buffers_kept(owner(guide)):
        trace = layout.trace(guide, batch)
    drawn = dict(samples(trace))
    summed = {name: site for name, site in drawn.items() if not site["fn"].has_rsample}
    for name, site in drawn.items() if not summed else ():
        raise InputError(
            f"trace-enum: the guide's site {name!r} ({describe(site['fn'])}) has no list of its values, and no other "
            "site has one: use trace"
        )
    supports = {name: _support(site, layout) for name, site in summed.items()}
    strides, S = {}, 1
    for name in reversed(supports):
        strides[name] = S, len(supports[name])
        S *= len(supports[name])
    if S > MOST_VALUES:
        raise InputError(
            f"trace-enum: the discrete sites of the guide have {S} combinations of values, and at most {MOST_VALUES} "
            "can be summed: use trace"
        )
    every = torch.arange(S)
    values = {}
    for name, support in supports.items():
        stride, size = strides[name]
        shape = layout.at(summed[name]).lower(summed[name]["value"], summed[name]["fn"]).shape[1:]
        values[name] = support[every // stride % size].expand(S, *shape)
    return values, strides


def _support(site: dict, layout: Layout) -> Tensor:
    """All values of one site, `(values, 1, ..., *event)`, with one more dimension than the site's value."""
    name, fn = site["name"], site["fn"]
    if len(layout.at(site).plates) > 1:
        raise InputError(f"trace-enum: the guide's site {name!r} stands in an inner plate: use trace")
    try:
        support = fn.enumerate_support(expand=False)
    except NotImplementedError as error:
        raise InputError(
            f"trace-enum: the guide's site {name!r} ({describe(fn)}) has no list of its values: use trace"
        ) from error
    return support.reshape(-1, *[1] * (site["value"].dim() - fn.event_dim), *fn.event_shape)


class _Enumerate(Substitute):
    """Give discrete sites their values, and share a draw among the combinations that agree in the values before it."""

    def __init__(self, values: Values, strides: dict[str, tuple[int, int]], S: int, layout: Layout) -> None:
        super().__init__(values, layout)
        self.strides, self.S = strides, S
        self.before: list[str] = []

    def _pyro_sample(self, msg: dict) -> None:
        if msg["name"] in self.values:
            super()._pyro_sample(msg)
            self.before.append(msg["name"])

    def _pyro_post_sample(self, msg: dict) -> None:
        if msg["is_observed"] or site_is_subsample(msg) or msg["name"] in self.values or is_point(msg["fn"]):
            return
        layout = self.layout.at(msg)
        k = torch.arange(layout.num_samples)
        first = k // self.S * self.S
        for stride, size in map(self.strides.__getitem__, self.before):
            first = first + k // stride % size * stride
        value = layout.lower(msg["value"], msg["fn"])
        msg["value"] = layout.lift(value[first.to(value.device)], msg["fn"])
