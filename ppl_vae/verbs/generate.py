"""Verbs that look at what was learned: sample, reconstruct, encode."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pyro import poutine
from pyro.distributions import Categorical, Distribution, OneHotCategorical, Unit
from torch import Tensor

from ppl_vae.blocks.likelihoods.table import Cells
from ppl_vae.core.errors import InputError
from ppl_vae.core.files import write_bytes
from ppl_vae.programs import Terms, simulate, terms
from ppl_vae.programs.layout import samples
from ppl_vae.programs.passes import mean_of
from ppl_vae.programs.scores import Batch, batches
from ppl_vae.runs.opened import check_file, check_seed, rows_of, running
from ppl_vae.runs.run import Run
from ppl_vae.training.setup import isolated

Show = Literal["draws", "means"]


def sample(
    run: str | Path | Run,
    *,
    num: int = 64,
    show: Show | None = None,
    given: Mapping[str, Any] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    **opening: Any,
) -> dict[str, np.ndarray]:
    """z ~ p(z), then x ~ p(x|z), or its mean: `num` of them, per site. No data is read.

    Written to `out` (`RUN/samples.npz`), and where a datum is an image to a PNG beside it.

    Args:
        show: `draws` or `means` of p(x|z); by default draws of discrete x and of tables, means of other x.
        given: a value for each field that a conditional model p(x|z, y) is given: one datum for all samples, as in
            `{"y": 3}`, or an array with one for each. It stands beside the samples, under the name of the field.
        opening: as for `Run.pair`.
    """
    from ppl_vae.reports import figures

    check_seed(seed)
    if num < 1:
        raise InputError(f"num is {num}: it must be at least 1")
    with isolated(seed):
        run = run if isinstance(run, Run) else Run(Path(run))
        path = _npz_path(out, run.folder / "samples.npz")
        pair = run.pair(**opening)
        conditions = _conditions(run, run.given(pair.model), given or {}, num)
        fields = zip(run.rules.fields, run.zeros(num), strict=True)
        like = tuple(conditions.get(name, x).to(run.config.device) for name, x in fields)
        with running(f"the model of {run.folder}"):
            likelihoods = _likelihoods(pair.model, tuple(x[:1] for x in like))
            kind = show or ("draws" if any(map(_is_discrete, likelihoods.values())) else "means")
            drawn = simulate(pair.model, like, means=kind == "means")
    values = {name: x.cpu().numpy() for name, x in (conditions | drawn).items()}
    _save(path, values)
    for site in likelihoods:
        images = figures.as_images(values[site], run.image)
        if images is not None:
            figures.image_grid(
                images, path.with_suffix(".png"), "E[x|z], z ~ p(z)" if kind == "means" else "x ~ p(x|z), z ~ p(z)"
            )
            break
    return values


def reconstruct(
    run: str | Path | Run,
    *,
    data: Any = None,
    scale: float | None = None,
    num: int = 12,
    show: Show = "means",
    seed: int = 0,
    out: str | Path | None = None,
    **opening: Any,
) -> dict[str, np.ndarray]:
    """The first `num` rows of each observed site, and E[x|z] at a draw of q(z|x) as `<site>_mean`.

    Written to `out` (`RUN/reconstructions.npz`), and where a datum is an image to a PNG beside it.

    Args:
        data, scale: the rows, read as for `encode`; by default the run's test rows.
        show: `means`, or `draws` of p(x|z) as `<site>_draw`, for a likelihood that has no mean in closed form.
        opening: as for `Run.pair`.
    """
    from ppl_vae.reports import figures

    if num < 1:
        raise InputError(f"num is {num}: it must be at least 1")
    check_seed(seed)
    with isolated(seed), torch.no_grad():
        run = run if isinstance(run, Run) else Run(Path(run))
        path = _npz_path(out, run.folder / "reconstructions.npz")
        pair = run.pair(**opening)
        rows = rows_of(run, pair, data, scale, test=True, force=opening.get("force", False)).batch
        with running(f"the pair of {run.folder}"):
            t = terms(pair.model, pair.guide, _moved(run, tuple(x[:num] for x in rows)))
        values = {site: t.by_row(site, x)[0].cpu().numpy() for site, x in t.observed.items() if x.numel()}
        again = {
            site: t.by_row(site, mean_of(site, t.p[site]) if show == "means" else t.p[site].sample())[0].cpu().numpy()
            for site in values
        }
    result = values | {f"{site}_{show.removesuffix('s')}": x for site, x in again.items()}
    _save(path, result)
    for site, x in values.items():
        images, images_again = (figures.as_images(each, run.image) for each in (x, again[site]))
        if images is not None and images_again is not None:
            label = "E[x|z]" if show == "means" else "x ~ p(x|z)"
            figures.reconstructions(images, images_again, path.with_suffix(".png"), label)
            break
    return result


def encode(
    run: str | Path | Run,
    data: Any = None,
    *,
    scale: float | None = None,
    draws: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    **opening: Any,
) -> dict[str, np.ndarray]:
    """Mean and standard deviation of q(z|x) for every row, in the order of the data: `<site>_mean`, `<site>_sd`.

    Of a categorical site it is the probability of each class, `<site>_probs`, `(N, ..., classes)`. With several latent
    sites each is conditional on a draw of those before it. Written to `out` (`RUN/encoding.npz`).

    Args:
        data: rows, one or more, as `open_data` reads them; by default all of the run's. Columns go by their names,
            and scale, binarization and missing cells by the rules of the run.
        scale: divides the first field of `data`, in place of the run's scale.
        draws: take mean and standard deviation over so many draws, for a guide without a mean in closed form (a flow).
        opening: as for `Run.pair`.

    Raises:
        InputError: other columns or shapes than the run's, or a row outside the support of its likelihood.
    """
    check_seed(seed)
    if draws is not None and draws < 2:
        raise InputError(f"draws is {draws}: a standard deviation needs at least 2")
    with isolated(seed), torch.no_grad():
        run = run if isinstance(run, Run) else Run(Path(run))
        path = _npz_path(out, run.folder / "encoding.npz")
        pair = run.pair(**opening)
        rows = rows_of(run, pair, data, scale, test=False, force=opening.get("force", False)).batch
        found: dict[str, list[Tensor]] = {}
        for batch in batches(rows, run.config.batch_size):
            with running(f"the pair of {run.folder}"):
                t = terms(pair.model, pair.guide, _moved(run, batch), draws or 1)
            for site in t.q:
                for name, x in _summary(t, site, draws).items():
                    found.setdefault(f"{site}_{name}", []).append(x.cpu())
    values = {name: torch.cat(parts).numpy() for name, parts in found.items()}
    _save(path, values)
    return values


def _summary(t: Terms, site: str, draws: int | None) -> dict[str, Tensor]:
    """What is told of q(z|x) at one site, a row each."""
    q = t.q[site]
    family = _under(q)
    if isinstance(family, Categorical):
        each = [t.by_row(site, probs)[0] for probs in family.probs.unbind(-1)]
        return {"probs": torch.stack(each, -1)}
    if isinstance(family, OneHotCategorical):
        return {"probs": t.by_row(site, family.probs)[0]}
    if draws is None:
        if site in t.points and len(t.q) > 1:
            raise InputError(f"site {site!r}: a Delta of other draws has the spread of those: ask for draws")
        return {"mean": t.by_row(site, mean_of(site, q))[0], "sd": t.by_row(site, q.variance.sqrt())[0]}
    z = t.layouts[site].rows_first(t.values[site], q)
    if not z.is_floating_point():
        raise InputError(f"site {site!r}: {type(family).__name__} draws codes, of which there is no mean")
    return {"mean": z.mean(0), "sd": z.std(0)}


def _conditions(run: Run, wanted: list[str], given: Mapping[str, Any], num: int) -> dict[str, Tensor]:
    """The values `(num, *shape)` of the fields that the model is given."""
    if unknown := [name for name in given if name not in wanted]:
        has = f"the model of {run.folder} is given {', '.join(wanted)}" if wanted else "it draws all by itself"
        raise InputError(f"given {unknown[0]}: {has}; leave {unknown[0]} out")
    rules, found = run.rules, {}
    for name, shape, dtype in zip(rules.fields, rules.shapes, rules.dtypes, strict=True):
        if name not in wanted:
            continue
        if name not in given:
            example = ",".join(["0"] * max(1, math.prod(shape))) if len(shape) < 2 else "..."
            raise InputError(f"the model of {run.folder} is given {name}: say what, as in --given {name}={example}")
        try:
            value = torch.as_tensor(np.asarray(given[name], dtype=np.float64))
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


def _moved(run: Run, rows: Batch) -> Batch:
    return tuple(x.to(run.config.device) for x in rows)


def _likelihoods(model: Any, like: Batch) -> dict[str, Distribution]:
    """p(x|z) of each observed site; the random state stays as it was."""
    with torch.no_grad(), torch.random.fork_rng():
        trace = poutine.trace(poutine.uncondition(model)).get_trace(*like)
    observed = {name: site["fn"] for name, site in samples(trace) if site["infer"].get("was_observed")}
    return {name: fn for name, fn in observed.items() if not isinstance(fn, Unit)}


def _under(q: Any) -> Any:
    """The family under masks, `to_event` and the like."""
    while not isinstance(q, Cells) and hasattr(q, "base_dist") and not hasattr(q, "transforms"):
        q = q.base_dist
    return q


def _is_discrete(p: Distribution) -> bool:
    """Is it shown by draws? So is a row of a table, whose cells have the numbers of their kinds."""
    if isinstance(_under(p), Cells):
        return True
    try:
        return p.support.is_discrete
    except NotImplementedError:
        return False


def _npz_path(out: str | Path | None, default: Path) -> Path:
    path = default if out is None else Path(out).expanduser()
    if path.suffix != ".npz":
        raise InputError(f"{path}: the arrays are written as .npz")
    check_file(path)
    return path


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())
