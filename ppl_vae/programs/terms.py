"""From programs to numbers: draw, score, simulate. Everything else is a short function of what they return.

A *program* is a callable `program(*batch)` made of Pyro statements. Its rows stand in `pyro.plate("data", ...)`;
K samples per row stand left of all its plates, so every log-probability comes out as `(K, B)`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from pyro import poutine
from pyro.distributions import Distribution, Unit
from pyro.distributions.score_parts import ScoreParts
from pyro.distributions.util import is_identically_zero, scale_and_mask
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.programs.layout import Layout

ProgramLike: TypeAlias = Callable[..., Any]
Batch: TypeAlias = tuple[Tensor, ...]
Values: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class Terms:
    """What one pass through guide and model yields, per site and example, unscaled.

    Args:
        log_prior: log p(z_site | ...) of each latent site, `(K, B)`, in the model's order.
        log_lik: log p(x_site | z) of each observed site (and `pyro.factor`), `(K, B)`.
        log_q: log q(z_site | x) of each guide site, `(K, B)`, in the guide's order.
        p: the model's distributions, of latent and observed sites; masked where the program masks them.
        q: the guide's distributions.
        values: the draws, `(K, B, *event)` for a site in the plate `data` alone.
        observed: the data at each observed site, as the model gave it.
        scale: the one scale of all sites (data plate's size over its subsample, `poutine.scale`).
        layouts: for each site, how its batch dimensions map to `(K, B)`; used by `rows`.
        score_function: for each guide site whose draw is not (wholly) reparameterized, `(K, B)`: what times the
            log-ratio gives the rest of the gradient. No mask applies to it, for a masked site is drawn all the same.
    """

    log_prior: Values
    log_lik: Values
    log_q: Values
    p: dict[str, Distribution]
    q: dict[str, Distribution]
    values: Values
    observed: Values
    scale: float
    layouts: dict[str, Layout]
    score_function: Values = field(default_factory=dict)

    def rows(self, site: str, x: Tensor) -> Tensor:
        """Sum `x`, of the site's batch shape, over inner plates: `(K, B)`."""
        return self.layouts[site].rows(x)


def sum_sites(log_probs: Values) -> Tensor:
    """Σ over sites, `(K, B)`; a scalar 0 where there is none."""
    return reduce(torch.add, log_probs.values()) if log_probs else torch.zeros(())


def as_batch(batch: Tensor | Iterable[Tensor]) -> Batch:
    """A batch as a tuple of tensors; a lone tensor is a batch of one field."""
    return (batch,) if isinstance(batch, Tensor) else tuple(batch)


def batches(rows: Batch, batch_size: int) -> Iterator[Batch]:
    """The rows in order, `batch_size` at a time."""
    yield from zip(*(field.split(batch_size) for field in rows), strict=True)


def draw(guide: ProgramLike, batch: Tensor | Batch, num_samples: int = 1) -> Values:
    """z_k ~ q(z|x), k = 1..K, for every latent site: a dict of tensors `(K, B, *event)`."""
    batch = as_batch(batch)
    layout = layout_of([guide], batch, num_samples)
    trace = layout.trace(guide, batch)
    return {name: layout.at(site).lower(site["value"], site["fn"]) for name, site in _latent(trace)}


def score(model: ProgramLike, guide: ProgramLike, batch: Tensor | Batch, values: Mapping[str, Tensor]) -> Terms:
    """log p(x, z) and log q(z|x), term by term, at the given values `(K, B, *event)`.

    Raises:
        InputError: a latent site has no value, sites of model and guide do not match, a latent stands
            outside the plate `data`, or a log-probability has a shape that no plate explains.
    """
    batch = as_batch(batch)
    sizes = {v.shape[0] for v in values.values()}
    if len(sizes) != 1:
        raise InputError(f"values have different numbers of samples: {sorted(sizes)}" if sizes else "no values given")
    layout = layout_of([model, guide], batch, sizes.pop())
    with _Substitute(values, layout) as substitute:
        guide_trace = layout.trace(guide, batch)
    if substitute.missing:
        raise InputError(f"no value is given for the latent site {_names(substitute.missing)}")
    return _collect(model, guide_trace, batch, layout)


def terms(model: ProgramLike, guide: ProgramLike, batch: Tensor | Batch, num_samples: int = 1) -> Terms:
    """`score` of a fresh `draw`, in one pass through each program. Errors as `score`."""
    batch = as_batch(batch)
    layout = layout_of([model, guide], batch, num_samples)
    return _collect(model, layout.trace(guide, batch), batch, layout)


@torch.no_grad()
def simulate(model: ProgramLike, batch_like: Tensor | Batch, *, means: bool = False) -> Values:
    """z ~ p(z), x ~ p(x|z): one prior draw per row of `batch_like`, which only gives the sizes.

    Returns every site's value, `(B, *event)`; with `means`, E[x|z] in place of the draw of each observed site.

    Raises:
        InputError: `means` of a distribution that has none (Categorical, Cauchy).
    """
    trace = poutine.trace(poutine.uncondition(model)).get_trace(*as_batch(batch_like))
    return {
        name: mean_of(name, site["fn"]) if means and site["infer"].get("was_observed") else site["value"]
        for name, site in _samples(trace)
        if not isinstance(site["fn"], Unit)  # pyro.factor
    }


def mean_of(site: str, fn: Distribution) -> Tensor:
    """The mean of a site's distribution.

    Raises:
        InputError: it has none (Categorical, Cauchy), or none in closed form (a flow).
    """
    try:
        mean = fn.mean
    except NotImplementedError:
        mean = None
    if mean is None or mean.isnan().any():
        raise InputError(f"site {site!r}: {type(fn).__name__} has no mean: ask for draws")
    return mean


def _samples(trace: poutine.Trace) -> Iterable[tuple[str, dict]]:
    """The sample statements of a trace, without those that Pyro adds for plates and `deterministic`."""
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and not site_is_subsample(site) and "_deterministic" not in site["infer"]:
            yield name, site


def _latent(trace: poutine.Trace) -> Iterable[tuple[str, dict]]:
    return ((name, site) for name, site in _samples(trace) if not site["is_observed"])


def _collect(model: ProgramLike, guide_trace: poutine.Trace, batch: Batch, layout: Layout) -> Terms:
    q_sites = dict(_samples(guide_trace))
    if observed := {name for name, site in q_sites.items() if site["is_observed"]}:
        raise InputError(f"the guide observes {_names(observed)}: a guide only draws")
    log_q, score_function = {}, {}
    for name, site in q_sites.items():
        parts = _score_parts(site, layout)
        log_q[name] = layout.at(site).rows(parts.log_prob)
        if not is_identically_zero(parts.score_function):
            score_function[name] = layout.at(site).rows(parts.score_function)
    p_sites = dict(_samples(layout.trace(poutine.replay(model, trace=guide_trace), batch)))
    _match(p_sites, q_sites)
    log_p = {name: _log_prob(site, layout) for name, site in p_sites.items()}
    return Terms(
        log_prior={name: log_p[name] for name, site in p_sites.items() if not site["is_observed"]},
        log_lik={name: log_p[name] for name, site in p_sites.items() if site["is_observed"]},
        log_q=log_q,
        p={name: _masked(site) for name, site in p_sites.items()},
        q={name: _masked(site) for name, site in q_sites.items()},
        values={
            name: layout.at(site).lower(site["value"], site["fn"])
            for name, site in (p_sites | q_sites).items()
            if not site["is_observed"]
        },
        observed={name: site["value"] for name, site in p_sites.items() if site["is_observed"]},
        scale=_common_scale(p_sites | {f"{name} (guide)": site for name, site in q_sites.items()}),
        layouts={name: layout.at(site) for name, site in (p_sites | q_sites).items()},
        score_function=score_function,
    )


def _match(p_sites: dict[str, dict], q_sites: dict[str, dict]) -> None:
    latents = {name for name, site in p_sites.items() if not site["is_observed"]}
    auxiliary = {name for name, site in q_sites.items() if site["infer"].get("is_auxiliary")}
    if missing := latents - set(q_sites):
        raise InputError(
            f"the model draws {_names(missing)}, which the guide does not: sample it in the guide, "
            "or give it obs= in the model"
        )
    if extra := set(q_sites) - latents - auxiliary:
        raise InputError(f"the guide draws {_names(extra)}, which is no latent site of the model")


def _names(sites: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(sites))


def _log_prob(site: dict, layout: Layout) -> Tensor:
    _check_shapes(site, layout)
    log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    if site["mask"] is not None:
        log_prob = scale_and_mask(log_prob, mask=site["mask"])
    return layout.at(site).rows(log_prob)


def _score_parts(site: dict, layout: Layout) -> ScoreParts:
    _check_shapes(site, layout)
    return site["fn"].score_parts(site["value"], *site["args"], **site["kwargs"]).scale_and_mask(mask=site["mask"])


def _check_shapes(site: dict, layout: Layout) -> None:
    name, fn, value = site["name"], site["fn"], site["value"]
    batch, event = value.shape[: value.dim() - fn.event_dim], value.shape[value.dim() - fn.event_dim :]
    if event != fn.event_shape:
        raise InputError(
            f"site {name!r}: the distribution is over {tuple(fn.event_shape)}, the value is {tuple(event)}; "
            "they would broadcast silently: give them one shape"
        )
    if event.numel() and not layout.at(site).covers(batch):
        raise InputError(
            f"site {name!r}: a value of shape {tuple(value.shape)} has not one entry per element of the site's plates; "
            "it would broadcast silently: expand it"
        )


def _masked(site: dict) -> Distribution:
    return site["fn"] if site["mask"] is None else site["fn"].mask(site["mask"])


def _common_scale(sites: dict[str, dict]) -> float:
    scales = {name: float(site["scale"]) for name, site in sites.items()}
    if len(set(scales.values())) > 1:
        listed = ", ".join(f"{name} {scale:g}" for name, scale in scales.items())
        raise InputError(f"sites are scaled differently ({listed}): the sum is no bound on log p(x)")
    return next(iter(scales.values()), 1.0)


class _Substitute(poutine.messenger.Messenger):
    """Answer latent sites from given values."""

    def __init__(self, values: Mapping[str, Tensor], layout: Layout) -> None:
        super().__init__()
        self.values, self.layout = values, layout
        self.missing: list[str] = []

    def _pyro_sample(self, msg: dict) -> None:
        if msg["is_observed"] or site_is_subsample(msg):
            return
        if msg["name"] not in self.values:
            self.missing.append(msg["name"])
            return
        msg["value"] = self.layout.at(msg).lift(self.values[msg["name"]], msg["fn"])
        msg["done"] = True


_nestings: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def layout_of(programs: list[ProgramLike], batch: Batch, num_samples: int) -> Layout:
    """Where K samples stand when these programs run on the batch."""
    if num_samples < 1:
        raise InputError(f"num_samples is {num_samples}: it must be at least 1")
    repeat = num_samples > 1 and not all(takes_samples(p) for p in programs)
    nesting = max(_nesting(p, batch) for p in programs) if num_samples > 1 and not repeat else 0
    return Layout(num_samples, repeat, nesting)


def takes_samples(program: ProgramLike) -> bool:
    """Can it run with a leading sample dimension? Yes, unless it or the object it is a method of says not."""
    return getattr(program, "vectorized", getattr(_owner(program), "vectorized", True))


def _owner(program: ProgramLike) -> Any:
    return getattr(program, "__self__", program)


def _nesting(program: ProgramLike, batch: Batch) -> int:
    """How many dimensions the program's own plates take; found once, by running it without a lasting effect."""
    if program not in _nestings:
        owner = _owner(program)
        buffers = [(b, b.clone()) for b in owner.buffers()] if isinstance(owner, nn.Module) else []
        with torch.random.fork_rng(), torch.no_grad(), poutine.block():
            trace = poutine.trace(program).get_trace(*batch)
            for buffer, before in buffers:  # the running statistics of a BatchNorm
                buffer.copy_(before)
        plain = [(Layout(1, False, 0).at(site), site["fn"]) for _, site in _samples(trace)]
        for layout, fn in plain:  # here a stray dimension can't be taken for that of the samples
            layout.check(fn.batch_shape)
        _nestings[program] = max((-dim for layout, _ in plain for _, dim, _ in layout.plates), default=1)
    return _nestings[program]
