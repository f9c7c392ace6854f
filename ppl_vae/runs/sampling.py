"""What was learned, as arrays: samples of a run's model, reconstructions of rows, and their codes."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from pyro import poutine
from pyro.distributions import Categorical, Distribution, OneHotCategorical, Unit
from torch import Tensor

from ppl_vae.blocks.likelihoods.table import Cells
from ppl_vae.core.errors import InputError, at_least, check_seeds
from ppl_vae.core.frames import shortest
from ppl_vae.data.columns import Column, Schema, label_values
from ppl_vae.data.columns.cells import ISO, as_number
from ppl_vae.distributions.wrappers import family
from ppl_vae.graphs.calls import compilable
from ppl_vae.programs import Pair, Terms, simulate, terms
from ppl_vae.programs.layout import samples
from ppl_vae.programs.passes import mean_of
from ppl_vae.programs.scores import Batch, ProgramLike
from ppl_vae.runs.opening import rows_of, running
from ppl_vae.runs.run import Run

if TYPE_CHECKING:
    import pandas

Show = Literal["draws", "means"]
Arrays = dict[str, np.ndarray]
LABEL = "y"
"""The field of the label that the model of a table is given."""


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
        found: dict[str, list[Tensor]] = {}
        for batch in rows.batches(run.config.batch_size):
            with running(f"the pair of {run.folder}"):
                t = terms(pair.model, pair.guide, _moved(run, batch), num)
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
            t = terms(pair.model, pair.guide, _moved(run, rows.first(num)))
        values = {site: t.by_row(site, x)[0].cpu().numpy() for site, x in t.observed.items() if x.numel()}
        again = {
            site: t.by_row(site, mean_of(site, t.p[site]) if show == "means" else t.p[site].sample())[0].cpu().numpy()
            for site in values
        }
    return values, again, rows.numbers[:num].numpy()


def encoded(
    run: Run, data: Any = None, scale: float | None = None, draws: int | None = None, seed: int = 0, **opening: Any
) -> tuple[Arrays, np.ndarray]:
    """Mean and standard deviation of q(z|x) for every row, in the order of the data: `<site>_mean`, `<site>_sd`.

    Beside them come the numbers of the rows.

    Of a categorical site it is the probability of each class, `<site>_probs`, `(N, ..., classes)`. With several latent
    sites each is conditional on a draw of those before it.

    Args:
        data: rows, one or more, as `open_data` reads them; by default all of the run's. Columns go by their names,
            and scale, binarization and missing cells by the rules of the run.
        scale: divides the first field of `data`, in place of the run's scale.
        draws: take mean and standard deviation over so many draws, for a guide without a mean in closed form (a flow).
        opening: as for `Run.pair`.

    Raises:
        InputError: other columns or shapes than the run's, or a row outside the support of its likelihood.
    """
    check_seeds(seed=seed)
    if draws is not None and draws < 2:
        raise InputError(f"draws is {draws}: a standard deviation needs at least 2")
    with run.isolated(seed), torch.no_grad():
        pair = run.pair(**opening)
        rows = rows_of(run, pair, data, scale, test=False, force=opening.get("force", False))
        found: dict[str, list[Tensor]] = {}
        for batch in rows.batches(run.config.batch_size):
            for name, x in codes_of(run, pair, batch, draws).items():
                found.setdefault(name, []).append(x.cpu())
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}, rows.numbers.numpy()


def code_names(codes: Arrays) -> dict[str, list[str]]:
    """The columns of a table of `encoded`: z1, ... and z1_sd, ... of the only site z; of several sites z_1, ...

    The probabilities of classes, whose codes count from 0, are z_prob_0, ...
    """
    parts = {name: name.rpartition("_") for name in codes}
    alone = len({site for site, *_ in parts.values()}) == 1
    found: dict[str, list[str]] = {}
    for name, (site, _, what) in parts.items():
        x, stem = codes[name], site if alone and not site[-1].isdigit() else f"{site}_"
        end = "_sd" if what == "sd" else ""
        if what == "probs" and x.ndim == 2:
            found[name] = [f"{site}_prob_{code}" for code in range(x.shape[1])]
        elif x.ndim <= 2:
            found[name] = [f"{stem}{i + 1}{end}" for i in range(x.shape[1])] if x.ndim == 2 else [site + end]
    return found


def obsm_names(codes: Arrays) -> dict[str, str]:
    """What an AnnData calls the arrays of `encoded`: X_ppl_vae, its means, X_ppl_vae_sd and so on of the only site."""
    parts = {name: name.rpartition("_") for name in codes}
    alone = len({site for site, *_ in parts.values()}) == 1
    return {
        name: "_".join(["X_ppl_vae", *([] if alone else [site]), *([] if what == "mean" else [what])])
        for name, (site, _, what) in parts.items()
    }


def column_names(run: Run, observed: Arrays, end: str = "") -> dict[str, list[str]]:
    """The names of the data's columns with `end` behind them, for each array of a site that observes a named field.

    A site observes the field of its own name, or, as the only one, the first.
    """
    columns = run.rules.columns
    first = columns.get(run.rules.fields[0], ())
    found = {}
    for site, x in observed.items():
        names = columns.get(site, first if len(observed) == 1 else ())
        if x.shape[1:] == (len(names),):
            found[site] = [name + end for name in names]
    return found


def in_units(run: Run, observed: Arrays, scale: float | None = None) -> Arrays:
    """The same in units of the data, where these were divided by a scale before the programs saw them.

    Args:
        scale: in place of the run's.
    """
    rules = run.rules
    factor = scale or rules.scale
    if factor is None or rules.binarize != "none":
        return observed
    first = rules.fields[0] if rules.fields[0] in observed or len(observed) > 1 else next(iter(observed), "")
    return {site: x * factor if site == first else x for site, x in observed.items()}


def decoded(run: Run, observed: Arrays, end: str = "") -> "dict[str, pandas.DataFrame]":
    """The same with the labels of codes and all else that the data's schema knows, if the run has one."""
    schema = run.schema
    if schema is None:
        return {}
    tables = {site: schema.decode(shortest(x)) for site, x in observed.items() if x.shape[1:] == (len(schema.names),)}
    found = {site: as_written(schema, table).add_suffix(end) for site, table in tables.items()}
    if schema.y is not None and LABEL in observed:
        found[LABEL] = schema.y.decode(shortest(observed[LABEL])).to_frame()
    return found


def as_written(schema: Schema, table: "pandas.DataFrame") -> "pandas.DataFrame":
    """The table with its dates as the texts that the schema takes, where it takes no ISO 8601."""
    texts = {column.name: column.dates for column in schema.columns if column.is_date and column.dates != ISO}
    return table.assign(**{name: table[name].dt.strftime(form) for name, form in texts.items()})


def numbered(run: Run, shape: tuple[int, ...], site: str = "x") -> list[str]:
    """A name for each number of a datum of the first field: the column's, or its place, as x_1 or x_1_28."""
    names = run.rules.columns.get(run.rules.fields[0], ())
    if shape == (len(names),):
        return list(names)
    return [f"{site}_{'_'.join(str(i + 1) for i in place)}" for place in np.ndindex(*shape)]


def codes_of(run: Run, pair: Pair, batch: Batch, draws: int | None = None) -> dict[str, Tensor]:
    """What `encoded` gives, of one batch and as tensors."""
    with running(f"the pair of {run.folder}"):
        return _codes(pair.model, pair.guide, _moved(run, batch), draws)


@compilable
def _codes(model: ProgramLike, guide: ProgramLike, batch: Batch, draws: int | None) -> dict[str, Tensor]:
    t = terms(model, guide, batch, draws or 1)
    return {f"{site}_{name}": x for site in t.q for name, x in _summary(t, site, draws).items()}


def _summary(t: Terms, site: str, draws: int | None) -> dict[str, Tensor]:
    """What is told of q(z|x) at one site, a row each."""
    q = t.q[site]
    under = family(q)
    if isinstance(under, Categorical):
        each = [t.by_row(site, probs)[0] for probs in under.probs.unbind(-1)]
        return {"probs": torch.stack(each, -1)}
    if isinstance(under, OneHotCategorical):
        return {"probs": t.by_row(site, under.probs)[0]}
    if draws is None:
        if site in t.points and len(t.q) > 1:
            raise InputError(f"site {site!r}: a Delta of other draws has the spread of those: ask for draws")
        return {"mean": t.by_row(site, mean_of(site, q))[0], "sd": t.by_row(site, q.variance.sqrt())[0]}
    z = t.layouts[site].rows_first(t.values[site], q)
    if not z.is_floating_point():
        raise InputError(f"site {site!r}: {type(under).__name__} draws codes, of which there is no mean")
    return {"mean": z.mean(0), "sd": z.std(0)}


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


def _moved(run: Run, rows: Batch) -> Batch:
    return tuple(x.to(run.config.device) for x in rows)


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
