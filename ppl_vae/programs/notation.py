"""What a program says in mathematics: its factors, such as q(z|x) = N(μ(x), diag σ(x)²), read from one pass."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Distribution, MixtureSameFamily, Unit
from pyro.infer.inspect import get_model_relations
from torch import Tensor

from ppl_vae.distributions.wrappers import family
from ppl_vae.programs.layout import samples
from ppl_vae.programs.scores import Batch, ProgramLike
from ppl_vae.programs.state import buffers_kept

PARTS = re.compile("_(un)?observed$")
"""What Pyro adds to the names of the two parts of a site that is known for some rows (`obs_mask=`)."""


@dataclass(frozen=True)
class Parameter:
    """What a parameter of a distribution is.

    Args:
        name: as the distribution calls it, `loc`.
        value: where it is one number that nothing trains.
        of_given: does it depend on what the factor is given?
        trained: does it depend on parameters that are trained?
    """

    name: str
    value: float | None
    of_given: bool
    trained: bool


@dataclass(frozen=True)
class Factor:
    """One factor of a program: a density of `site` given others.

    Args:
        given: the sites, and for a guide the fields of the data, that it depends on.
        kind: the class of the distribution under its wrappers, `Normal`; of a mixture that of its components.
        parameters: those of that distribution, in its order.
        shape: of one datum's value.
        independent: is it a product over the numbers of one datum?
        components: of a mixture; 1 else.
        observed: is it a likelihood?
    """

    site: str
    given: tuple[str, ...]
    kind: str
    parameters: tuple[Parameter, ...]
    shape: tuple[int, ...]
    independent: bool
    components: int = 1
    observed: bool = False


def factors(program: ProgramLike, batch: Batch, fields: Sequence[str] = ()) -> list[Factor]:
    """The factors of a program, in the order in which it draws them; the random state stays as it was.

    What a site is given is read from the program's own flow of values, by `pyro.infer.inspect`. The two parts of a site
    that is known for some rows are one factor.

    Args:
        batch: a few rows, which differ; with fewer than two, nothing is seen to depend on the data.
        fields: the names of the batch's fields, for those that a factor depends on without drawing them.
    """
    modules = [program] if isinstance(program, torch.nn.Module) else []
    with torch.random.fork_rng(), buffers_kept(*modules):
        parents = get_model_relations(program, batch)["sample_sample"]
        trace = poutine.trace(program).get_trace(*batch)
        found: dict[str, Factor] = {}
        for name, site in samples(trace):
            if isinstance(site["fn"], Unit):
                continue
            from_data = _fields_seen(program, batch, fields, trace, name)
            stem = PARTS.sub("", name)
            given = [PARTS.sub("", each) for each in (*parents.get(name, ()), *from_data)]
            others = tuple(each for each in dict.fromkeys(given) if each != stem)
            found.setdefault(stem, _factor(stem, others, site["fn"], bool(site["is_observed"])))
    return list(found.values())


def _fields_seen(
    program: ProgramLike, batch: Batch, fields: Sequence[str], trace: poutine.Trace, name: str
) -> list[str]:
    """The fields that change the distribution of a site, other than what it observes, where all draws stay the same."""
    seen = []
    for i, field in enumerate(fields):
        if field == PARTS.sub("", name) or len(batch[0]) < 2:
            continue
        turned = tuple(x.flip(0) if i == j else x for j, x in enumerate(batch))
        again = poutine.trace(poutine.replay(program, trace)).get_trace(*turned)
        value = trace.nodes[name]["value"]
        before, after = (each.nodes[name]["fn"].log_prob(value) for each in (trace, again))
        if not torch.equal(before, after):
            seen.append(field)
    return seen


def _factor(name: str, given: tuple[str, ...], fn: Distribution, observed: bool) -> Factor:
    under, components = _under(fn)
    parameters = tuple(_parameter(key, x, under, bool(given)) for key, x in _values(under).items())
    independent = fn.event_dim > family(fn).event_dim or (components > 1 and under.event_dim == 0)
    return Factor(
        name, given, type(under).__name__, parameters, tuple(fn.event_shape), independent, components, observed
    )


def _under(fn: Any) -> tuple[Any, int]:
    """The distribution under the wrappers, and under a mixture; how many components it has."""
    under = family(fn)
    if isinstance(under, MixtureSameFamily | torch.distributions.MixtureSameFamily):
        return family(under.component_distribution), under.mixture_distribution.param_shape[-1]
    return under, 1


def _values(fn: Any) -> dict[str, Tensor]:
    """The parameters that a distribution was made from, not those that it derives from them."""
    made = {name: fn.__dict__.get(name) for name in getattr(fn, "arg_constraints", {})}
    there = {name: x for name, x in made.items() if isinstance(x, Tensor)}
    own = getattr(fn, "_param", None)  # of probs and logits, the one that was given
    derived = [name for name in ("probs", "logits") if own is not None and there.get(name) is not own]
    return {name: x for name, x in there.items() if name not in derived}


def _parameter(name: str, x: Tensor, fn: Any, given: bool) -> Parameter:
    first = x.detach().flatten()[:1]
    alike = not x.requires_grad and bool((x.detach() == first).all())
    return Parameter(name, first.item() if alike else None, given and _rows_differ(x), x.requires_grad)


def _rows_differ(x: Tensor) -> bool:
    x = x.detach()
    return x.dim() > 0 and len(x) > 1 and not torch.equal(x, x[:1].expand_as(x))
