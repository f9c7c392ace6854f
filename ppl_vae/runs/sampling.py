"""What a run's model makes, as arrays: samples, and reconstructions of rows."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pyro import poutine
from pyro.distributions import Distribution, Unit
from torch import Tensor

from ppl_vae.blocks.likelihoods.table import Cells
from ppl_vae.core.errors import InputError, at_least, check_seeds
from ppl_vae.core.frames import Arrays
from ppl_vae.data.columns import Column, label_values
from ppl_vae.data.columns.cells import as_number
from ppl_vae.distributions.wrappers import family
from ppl_vae.programs import simulate, terms
from ppl_vae.programs.layout import samples
from ppl_vae.programs.passes import mean_of
from ppl_vae.programs.room import check_room
from ppl_vae.programs.scores import Batch
from ppl_vae.runs.opening import moved, rows_of, running
from ppl_vae.runs.run import Run
from ppl_vae.runs.wording import LABEL

Show = Literal["draws", "means"]


class Sampled(NamedTuple):
    """Arrays by site and given field, `(num, ...)`; which are observed; what is shown of p(x|z); which are given."""

    arrays: Arrays
    observed: tuple[str, ...]
    show: Show
    given: tuple[str, ...] = ()


def sampled(
    run: Run, num: int, show: Show | None = None, given: Mapping[str, Any] | None = None, seed: int = 0, **opening: Any
) -> Sampled:
    """z ~ p(z), then x ~ p(x|z), or its mean: `num` of them, per site. No data is read.

    Args:
        show: `draws` or `means` of p(x|z); by default draws of discrete x and of tables, means of other x.
        given: a value for each field that a conditional model p(x|z, y) is given: one datum for all samples, as in
            `{"y": 3}`, or an array with one for each. It stands beside the samples, under the name of the field.
        opening: as for `Run.pair`.
    """
    check_seeds(seed=seed)
    at_least(1, num=num)
    with run.isolated(seed):
        pair = run.pair(**opening)
        check_room([pair.model], run.zeros(1), num, f"{num} samples")
        conditions = _conditions(run, run.given(pair.model), given or {}, num)
        fields = zip(run.rules.fields, run.zeros(num), strict=True)
        like = tuple(conditions.get(name, x).to(run.config.device) for name, x in fields)
        with running(f"the model of {run.folder}"):
            observed = likelihoods(pair.model, tuple(x[:1] for x in like))
            kind = _shown(show, observed)
            drawn = simulate(pair.model, like, means=kind == "means")
    arrays = {name: x.cpu().numpy() for name, x in (conditions | drawn).items()}
    return Sampled(arrays, tuple(observed), kind, tuple(conditions))


def alike(
    run: Run, like: Any, scale: float | None = None, num: int = 1, show: Show | None = None, seed: int = 0,
    **opening: Any,
) -> Sampled:  # fmt: skip
    """z ~ q(z|x), then x' ~ p(x|z), or its mean: `num` for each row x of `like`, one row's after another's.

    The array `like` holds the number of the row, `(N·num,)`. The other arguments are those of `sampled`.
    """
    check_seeds(seed=seed)
    at_least(1, num=num)
    with run.isolated(seed), torch.no_grad():
        pair = run.pair(**opening)
        rows = rows_of(run, pair, like, scale, test=True, force=opening.get("force", False))
        check_room((), run.zeros(1), num * len(rows.numbers), f"{num} samples for each of {len(rows.numbers)} rows")
        found: dict[str, list[Tensor]] = {}
        for batch in rows.batches(run.config.batch_size):
            with running(f"the pair of {run.folder}"):
                t = terms(pair.model, pair.guide, moved(run, batch), num)
                observed = {site: t.p[site] for site, x in t.observed.items() if x.numel()}
                kind = _shown(show, observed)
                values = {site: t.layouts[site].rows_first(z, (t.q | t.p)[site]) for site, z in t.values.items()}
                for site, p in observed.items():
                    values[site] = t.by_row(site, mean_of(site, p) if kind == "means" else p.sample())
            for site, x in values.items():
                found.setdefault(site, []).append(x.transpose(0, 1).flatten(0, 1).cpu())
    arrays = {site: torch.cat(parts).numpy() for site, parts in found.items()}
    return Sampled(arrays | {"like": rows.numbers.repeat_interleave(num).numpy()}, tuple(observed), kind)


def _shown(show: Show | None, observed: Mapping[str, Distribution]) -> Show:
    return show or ("draws" if any(map(_is_discrete, observed.values())) else "means")


def reconstructed(
    run: Run, data: Any = None, scale: float | None = None, num: int = 12, show: Show = "means", seed: int = 0,
    **opening: Any,
) -> tuple[Arrays, Arrays, np.ndarray]:  # fmt: skip
    """The first `num` rows of each observed site, E[x|z] or a draw of p(x|z) at a draw of q(z|x), and their numbers."""
    at_least(1, num=num)
    check_seeds(seed=seed)
    with run.isolated(seed), torch.no_grad():
        pair = run.pair(**opening)
        rows = rows_of(run, pair, data, scale, test=True, force=opening.get("force", False))
        with running(f"the pair of {run.folder}"):
            t = terms(pair.model, pair.guide, moved(run, rows.first(num)))
        values = {site: t.by_row(site, x)[0].cpu().numpy() for site, x in t.observed.items() if x.numel()}
        again = {
            site: t.by_row(site, mean_of(site, t.p[site]) if show == "means" else t.p[site].sample())[0].cpu().numpy()
            for site in values
        }
    return values, again, rows.numbers[:num].numpy()


def _conditions(run: Run, wanted: list[str], given: Mapping[str, Any], num: int) -> dict[str, Tensor]:
    """The values `(num, *shape)` of the fields that the model is given."""
    label = None if run.schema is None else run.schema.y
    if label is not None:
        given = {LABEL if name == label.name else name: value for name, value in given.items()}
    if unknown := [name for name in given if name not in wanted]:
        has = f"the model of {run.folder} is given {', '.join(wanted)}" if wanted else "it draws all by itself"
        raise InputError(f"given {unknown[0]}: {has}; leave {unknown[0]} out")
    rules, found = run.rules, {}
    for name, shape, dtype in zip(rules.fields, rules.shapes, rules.dtypes, strict=True):
        if name not in wanted:
            continue
        if name not in given:
            example = ",".join(["0"] * max(1, math.prod(shape))) if len(shape) < 2 else "..."
            if label is not None:
                raise InputError(
                    f"the model of {run.folder} is given {label.name}: say what, as in --given "
                    f"{label.name}={label.labels[0] if label.labels else 0}"
                )
            raise InputError(f"the model of {run.folder} is given {name}: say what, as in --given {name}={example}")
        numbers = _numbers(name, given[name], label)
        try:
            value = torch.as_tensor(np.asarray(numbers, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise InputError(f"given {name}: {given[name]!r} is no number, nor an array of them") from error
        if not value.isfinite().all():
            raise InputError(f"given {name}: a number is not finite")
        if not dtype.is_floating_point and (value != value.round()).any():
            bad = value[value != value.round()][0].item()
            raise InputError(f"given {name}: {bad:g} is no whole number, and the run was fitted to whole numbers here")
        if tuple(value.shape) not in (shape, (num, *shape)):
            raise InputError(
                f"given {name} is of shape {tuple(value.shape)}: give one datum, {shape}, or one for each of the {num} "
                f"samples, {(num, *shape)}"
            )
        if name == rules.fields[0] and rules.scale is not None:
            value = value / rules.scale
        found[name] = value.to(dtype).expand(num, *shape)
    return found


def _numbers(name: str, value: Any, label: Column | None) -> Any:
    """What was given, in numbers: of a label as it stands in the table its code, of a text as typed its numbers."""
    if label is not None:
        import pandas

        cells = pandas.DataFrame({label.name: np.atleast_1d(np.asarray(value, dtype=object))})
        codes = label_values(label, cells, f"given {label.name}")
        return codes if np.ndim(value) else codes[0]
    if not isinstance(value, str):
        return value
    numbers = [as_number(each.strip()) for each in value.split(",")]
    if None in numbers:
        raise InputError(f"given {name}: {value!r} is no number: write it as {name}=3, or {name}=0.1,0.2")
    return numbers if len(numbers) > 1 else numbers[0]


def likelihoods(model: Any, like: Batch) -> dict[str, Distribution]:
    """p(x|z) of each observed site; the random state stays as it was."""
    with torch.no_grad(), torch.random.fork_rng():
        trace = poutine.trace(poutine.uncondition(model)).get_trace(*like)
    observed = {name: site["fn"] for name, site in samples(trace) if site["infer"].get("was_observed")}
    return {name: fn for name, fn in observed.items() if not isinstance(fn, Unit)}


def _is_discrete(p: Distribution) -> bool:
    """Is it shown by draws? So is a row of a table, whose cells have the numbers of their kinds."""
    if isinstance(family(p), Cells):
        return True
    try:
        return p.support.is_discrete
    except NotImplementedError:
        return False
