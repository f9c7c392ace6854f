"""The verbs of `import ppl_vae`, which the command line offers under the same names with the same results."""

import inspect
import io
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pyro.distributions import Distribution
from torch import Tensor

from ppl_vae import objectives
from ppl_vae.checker import Report, check_pair
from ppl_vae.data import Dataset, open_data
from ppl_vae.diagnostics.compare import compare_estimators
from ppl_vae.errors import InputError
from ppl_vae.programs import Pair, resolve_pair, simulate, terms
from ppl_vae.programs.find import Spec, shipped_folder
from ppl_vae.programs.resolve import check_settings, parse_settings
from ppl_vae.programs.terms import Batch, batches
from ppl_vae.reports.rows import by_row, moments
from ppl_vae.training.files import write_bytes, write_json
from ppl_vae.training.fit import fit
from ppl_vae.training.progress import Progress
from ppl_vae.training.run import Run
from ppl_vae.training.setup import isolated, open_config_data, split_objective

Show = Literal["draws", "means"]


@dataclass(frozen=True)
class Opened:
    """A run, its programs at the weights of one checkpoint, and its data."""

    run: Run
    pair: Pair
    dataset: Dataset

    def move(self, rows: Batch) -> Batch:
        return tuple(x.to(self.run.config.device) for x in rows)


def open_run(
    run: str | Path | Run,
    *,
    model: Spec | None = None,
    guide: Spec | None = None,
    data: Any = None,
    checkpoint: int | str = "best",
    trust: bool = False,
    force: bool = False,
) -> Opened:
    """Open a run for use: what every verb on a run takes.

    Args:
        model, guide: name a program again that is not a shipped one; a hash that differs needs `force`.
        data: the data again, where the run was fitted to arrays given from Python.
        checkpoint: a step, `best`, `last` or `first`.
        trust: execute the programs in `RUN/sources`.

    Raises:
        InputError: no run, no such checkpoint, programs or data that are not the run's.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    pair = run.pair(model=model, guide=guide, checkpoint=checkpoint, trust=trust, force=force)
    return Opened(run, pair, run.data(data, force=force))


def check(model: Spec, guide: Spec, data: Any, *, objective: str = "trace", **options: Any) -> Report:
    """Is this pair a VAE for this data? Each finding names the site, what is wrong and the mend.

    Args:
        options: `set`, `scale`, `binarize`, `split_seed`, as for `fit`.
    """
    settings = options.pop("set", ())
    settings, own = split_objective(parse_settings((settings,) if isinstance(settings, str) else settings))
    made = _objective(objective, own)
    dataset = open_data(data, **options)
    with isolated(0):
        pair = resolve_pair(model, guide, tuple(x[:1000] for x in dataset.train), settings)
        return check_pair(pair, dataset, made)


def compare(
    run: str | Path | Run,
    *,
    objectives: Sequence[str] = ("trace", "analytic-kl"),
    draws: int = 100,
    seed: int = 0,
    progress: bool = False,
    **opening: Any,
) -> dict[str, Any]:
    """Estimators at the run's parameters, on its test rows, draw by draw at the same noise.

    Writes `compare.json` and `compare.png` into the run, and returns what the JSON holds; see
    `ppl_vae.diagnostics.compare.compare_estimators`.

    Args:
        objectives: each with what the run set of `objective.…`, so that num_particles is the same for all.
        draws: R, how often each estimator is repeated.
        opening: as for `open_run`.
    """
    from ppl_vae.reports import figures

    _check_seed(seed)
    if draws < 2:
        raise InputError(f"draws is {draws}: a variance needs at least 2")
    if len(set(objectives)) != len(objectives) or not objectives:
        raise InputError("name each objective to compare once")
    with isolated(seed):
        opened = open_run(run, **opening)
        _, settings = split_objective(parse_settings(opened.run.config.set))
        made = {name: _objective(name, settings, exact=name == opened.run.config.objective) for name in objectives}
        rows = opened.move(opened.dataset.test)
        size = opened.run.config.batch_size
        with Progress(progress, draws * -(-len(rows[0]) // size)) as bar:
            result = compare_estimators(
                opened.pair, made, rows, batch_size=size, draws=draws, seed=seed, step=bar.advance
            )
    about = {"rows": len(rows[0]), "split": "test", "batch_size": size, "draws": draws, "seed": seed}
    result = {"format": 1, "data": opened.dataset.name} | about | result
    write_json(opened.run.folder / "compare.json", result)
    figures.comparison(result, opened.run.folder / "compare.png")
    return result


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

    _check_seed(seed)
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
            figures.image_grid(images, path.with_suffix(".png"), f"x ~ p(x|z), z ~ p(z): {kind}")
            break
    return values


def reconstruct(
    run: str | Path | Run, *, num: int = 12, out: str | Path | None = None, **opening: Any
) -> dict[str, np.ndarray]:
    """The first `num` test rows of each observed site, and E[x|z] at a draw of q(z|x) as `<site>_mean`.

    Written to `out` (`RUN/reconstructions.npz`), and where a datum is an image to a PNG beside it.
    """
    from ppl_vae.reports import figures

    if num < 1:
        raise InputError(f"num is {num}: it must be at least 1")
    with isolated(0), torch.no_grad():
        opened = open_run(run, **opening)
        path = _npz_path(out, opened.run.folder / "reconstructions.npz")
        t = terms(opened.pair.model, opened.pair.guide, opened.move(tuple(x[:num] for x in opened.dataset.test)))
        values = {site: by_row(t, site, x)[0].cpu().numpy() for site, x in t.observed.items() if x.numel()}
        means = {site: by_row(t, site, moments(site, t.p[site])[0])[0].cpu().numpy() for site in values}
    result = values | {f"{site}_mean": means[site] for site in values}
    _save(path, result)
    for site, x in values.items():
        images, image_means = figures.as_images(x), figures.as_images(means[site])
        if images is not None and image_means is not None:
            figures.reconstructions(images, image_means, path.with_suffix(".png"))
            break
    return result


def encode(
    run: str | Path | Run, data: Any = None, *, out: str | Path | None = None, **opening: Any
) -> dict[str, np.ndarray]:
    """Mean and standard deviation of q(z|x) for every row, in the order of the data: `<site>_mean`, `<site>_sd`.

    With several latent sites each is conditional on a draw of those before it. Written to `out` (`RUN/encoding.npz`).

    Args:
        data: other data of the same shape, read as the run's own was; by default the run's.
    """
    with isolated(0), torch.no_grad():
        run = run if isinstance(run, Run) else Run(Path(run))
        opened = Opened(run, run.pair(**opening), _to_encode(run, data, opening.get("force", False)))
        path = _npz_path(out, run.folder / "encoding.npz")
        found: dict[str, list[Tensor]] = {}
        for batch in batches(in_order(opened.dataset), run.config.batch_size):
            t = terms(opened.pair.model, opened.pair.guide, opened.move(batch))
            for site, q in t.q.items():
                for name, x in zip(("mean", "sd"), moments(site, q), strict=True):
                    found.setdefault(f"{site}_{name}", []).append(by_row(t, site, x)[0].cpu())
    values = {name: torch.cat(parts).numpy() for name, parts in found.items()}
    _save(path, values)
    return values


def export(
    run: str | Path | Run,
    *,
    out: str | Path | None = None,
    rows: int = 100,
    draws: int = 200,
    seed: int = 0,
    **opening: Any,
) -> Any:
    """Draws of the guide for the first test rows, as NetCDF (`RUN/arviz.nc`), opened by the ArviZ that is installed.

    Groups and dimensions: see `ppl_vae.reports.arviz.export_draws`.
    """
    with warnings.catch_warnings():  # ArviZ 0.23 announces 1.x whenever it is imported
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    from ppl_vae.reports.arviz import export_draws

    _check_seed(seed)
    if rows < 1 or draws < 1:
        raise InputError("rows and draws must be at least 1")
    with isolated(seed):
        opened = open_run(run, **opening)
        path = Path(out).expanduser() if out else opened.run.folder / "arviz.nc"
        _parent(path)
        batch = opened.move(tuple(x[:rows] for x in opened.dataset.test))
        export_draws(opened.pair, batch, opened.dataset.rows["test"][:rows], draws, path)
    return arviz.from_netcdf(str(path))


def new(folder: str | Path) -> list[Path]:
    """Copy `models/` and `guides/` into `folder`, to edit; files that are there are not overwritten.

    Raises:
        InputError: a file of the same name is there; nothing is copied.
    """
    place = Path(folder).expanduser()
    pairs = [
        (file, place / f"{kind}s" / file.name)
        for kind in ("model", "guide")
        for file in sorted(shipped_folder(kind).glob("[!_]*.py"))
    ]
    for _, copy in pairs:
        if copy.exists():
            raise InputError(f"{copy} exists: give another folder, or move it away")
    for original, copy in pairs:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, copy)
    return [copy for _, copy in pairs]


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


def _objective(name: str, settings: Mapping[str, Any], *, exact: bool = True) -> objectives.Objective:
    """The objective of that name; unless `exact`, without the settings that it does not have."""
    made = objectives.get(name)
    if not exact:
        settings = {key: value for key, value in settings.items() if key in inspect.signature(made).parameters}
    check_settings(settings, made, "objective")
    return made(**settings)


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


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}: it must be between 0 and 2**63 - 1")


def _npz_path(out: str | Path | None, default: Path) -> Path:
    path = default if out is None else Path(out).expanduser()
    if path.suffix != ".npz":
        raise InputError(f"{path}: the arrays are written as .npz")
    _parent(path)
    return path


def _parent(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a file")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no folder: make it first")


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


__all__ = ["check", "compare", "encode", "export", "fit", "new", "open_run", "reconstruct", "sample"]
