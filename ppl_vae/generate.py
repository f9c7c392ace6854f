"""Verbs that look at what was learned: sample, reconstruct, encode."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pyro.distributions import Distribution
from torch import Tensor

from ppl_vae.data import Dataset
from ppl_vae.errors import InputError
from ppl_vae.opened import Opened, check_file, check_seed, open_run
from ppl_vae.programs import simulate, terms
from ppl_vae.programs.passes import mean_of
from ppl_vae.programs.terms import Batch, batches
from ppl_vae.training.files import write_bytes
from ppl_vae.training.run import Run
from ppl_vae.training.setup import isolated, open_config_data

Show = Literal["draws", "means"]


def sample(
    run: str | Path | Run,
    *,
    num: int = 64,
    show: Show | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    **opening: Any,
) -> dict[str, np.ndarray]:
    """z ~ p(z), then x ~ p(x|z), or its mean: `num` of them, per site.

    Written to `out` (`RUN/samples.npz`), and where a datum is an image to a PNG beside it.

    Args:
        show: `draws` or `means` of p(x|z); by default draws of discrete x, means of continuous x.
        opening: as for `open_run`.
    """
    from ppl_vae.reports import figures

    check_seed(seed)
    if num < 1:
        raise InputError(f"num is {num}: it must be at least 1")
    with isolated(seed):
        opened = open_run(run, **opening)
        path = _npz_path(out, opened.run.folder / "samples.npz")
        like = opened.move(tuple(x[:1].expand(num, *x.shape[1:]) for x in opened.dataset.train))
        likelihoods = _likelihoods(opened)
        kind = show or ("draws" if any(map(_is_discrete, likelihoods.values())) else "means")
        values = {name: x.cpu().numpy() for name, x in simulate(opened.pair.model, like, means=kind == "means").items()}
    _save(path, values)
    for site in likelihoods:
        images = figures.as_images(values[site])
        if images is not None:
            figures.image_grid(
                images, path.with_suffix(".png"), "E[x|z], z ~ p(z)" if kind == "means" else "x ~ p(x|z), z ~ p(z)"
            )
            break
    return values


def reconstruct(
    run: str | Path | Run,
    *,
    num: int = 12,
    show: Show = "means",
    seed: int = 0,
    out: str | Path | None = None,
    **opening: Any,
) -> dict[str, np.ndarray]:
    """The first `num` test rows of each observed site, and E[x|z] at a draw of q(z|x) as `<site>_mean`.

    Written to `out` (`RUN/reconstructions.npz`), and where a datum is an image to a PNG beside it.

    Args:
        show: `means`, or `draws` of p(x|z) as `<site>_draw`, for a likelihood that has no mean in closed form.
    """
    from ppl_vae.reports import figures

    if num < 1:
        raise InputError(f"num is {num}: it must be at least 1")
    check_seed(seed)
    with isolated(seed), torch.no_grad():
        opened = open_run(run, **opening)
        path = _npz_path(out, opened.run.folder / "reconstructions.npz")
        t = terms(opened.pair.model, opened.pair.guide, opened.move(tuple(x[:num] for x in opened.dataset.test)))
        values = {site: t.by_row(site, x)[0].cpu().numpy() for site, x in t.observed.items() if x.numel()}
        again = {
            site: t.by_row(site, mean_of(site, t.p[site]) if show == "means" else t.p[site].sample())[0].cpu().numpy()
            for site in values
        }
    result = values | {f"{site}_{show.removesuffix('s')}": x for site, x in again.items()}
    _save(path, result)
    for site, x in values.items():
        images, images_again = figures.as_images(x), figures.as_images(again[site])
        if images is not None and images_again is not None:
            label = "E[x|z]" if show == "means" else "x ~ p(x|z)"
            figures.reconstructions(images, images_again, path.with_suffix(".png"), label)
            break
    return result


def encode(
    run: str | Path | Run,
    data: Any = None,
    *,
    draws: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    **opening: Any,
) -> dict[str, np.ndarray]:
    """Mean and standard deviation of q(z|x) for every row, in the order of the data: `<site>_mean`, `<site>_sd`.

    With several latent sites each is conditional on a draw of those before it. Written to `out` (`RUN/encoding.npz`).

    Args:
        data: other data of the same shape, read as the run's own was; by default the run's.
        draws: take them over so many draws, for a guide that has no mean in closed form (a flow).
    """
    check_seed(seed)
    if draws is not None and draws < 2:
        raise InputError(f"draws is {draws}: a standard deviation needs at least 2")
    with isolated(seed), torch.no_grad():
        run = run if isinstance(run, Run) else Run(Path(run))
        opened = Opened(run, run.pair(**opening), _to_encode(run, data, opening.get("force", False)))
        path = _npz_path(out, run.folder / "encoding.npz")
        found: dict[str, list[Tensor]] = {}
        for batch in batches(in_order(opened.dataset), run.config.batch_size):
            t = terms(opened.pair.model, opened.pair.guide, opened.move(batch), draws or 1)
            for site, q in t.q.items():
                z = t.layouts[site].rows_first(t.values[site], q)
                if draws and not z.is_floating_point():
                    raise InputError(f"site {site!r}: {type(q).__name__} draws codes, of which there is no mean")
                mean = z.mean(0) if draws else t.by_row(site, mean_of(site, q))[0]
                sd = z.std(0) if draws else t.by_row(site, q.variance.sqrt())[0]
                for name, x in (("mean", mean), ("sd", sd)):
                    found.setdefault(f"{site}_{name}", []).append(x.cpu())
    values = {name: torch.cat(parts).numpy() for name, parts in found.items()}
    _save(path, values)
    return values


def _to_encode(run: Run, data: Any, force: bool) -> Dataset:
    """The run's data, or other data of the same shape; where an epoch draws its bits anew, the draw of `once`."""
    config = run.config
    if config.binarize == "epoch":
        config = replace(config, binarize="once")
    recorded = run.record["batch"]
    if data is None:
        dataset = run.data(force=force)
        return dataset if config == run.config else open_config_data(config)
    dataset = open_config_data(config, data)
    got = [(list(x.shape[1:]), str(x.dtype).removeprefix("torch.")) for x in dataset.train]
    wanted = list(zip(recorded["shapes"], recorded["dtypes"], strict=True))
    if got != wanted:
        given, fitted = (", ".join(f"{tuple(shape)} of {dtype}" for shape, dtype in each) for each in (got, wanted))
        raise InputError(f"a datum is {given}; the run was fitted to {fitted}")
    return dataset


def in_order(dataset: Dataset) -> Batch:
    """All rows of a data set, in the order in which they were read."""
    numbers = torch.cat(list(dataset.rows.values()))
    fields = zip(dataset.train, dataset.valid, dataset.test, strict=True)
    return tuple(torch.cat(parts)[numbers.argsort()] for parts in fields)


def _likelihoods(opened: Opened) -> dict[str, Distribution]:
    """p(x|z) of each observed site, for one row; the random state stays as it was."""
    with torch.no_grad(), torch.random.fork_rng():
        t = terms(opened.pair.model, opened.pair.guide, opened.move(tuple(x[:1] for x in opened.dataset.train)))
    return {site: t.p[site] for site, x in t.observed.items() if x.numel()}


def _is_discrete(p: Distribution) -> bool:
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
