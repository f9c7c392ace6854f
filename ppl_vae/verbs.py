"""The verbs of `import ppl_vae`, which the command line offers under the same names with the same results."""

import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ppl_vae import objectives
from ppl_vae.check import Report, check_pair
from ppl_vae.data import Dataset, open_data
from ppl_vae.diagnostics.compare import compare_estimators
from ppl_vae.errors import InputError
from ppl_vae.programs import Pair, resolve_pair, simulate, terms
from ppl_vae.programs.find import Spec, shipped_folder
from ppl_vae.programs.resolve import parse_settings
from ppl_vae.programs.terms import Batch, batches
from ppl_vae.training.files import write_json
from ppl_vae.training.fit import fit
from ppl_vae.training.progress import Progress
from ppl_vae.training.run import Run, isolated, open_config_data

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
    settings = parse_settings(options.pop("set", ()))
    dataset = open_data(data, **options)
    with isolated(0):
        pair = resolve_pair(model, guide, tuple(x[:1000] for x in dataset.train), settings)
        return check_pair(pair, dataset, objectives.get(objective)())


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
        draws: R, how often each estimator is repeated.
        opening: as for `open_run`.
    """
    from ppl_vae.reports import figures

    if draws < 2:
        raise InputError(f"draws is {draws}: a variance needs at least 2")
    if len(set(objectives)) != len(objectives) or not objectives:
        raise InputError("name each objective to compare once")
    with isolated(seed):
        opened = open_run(run, **opening)
        made = {name: _objective(name, opened.run) for name in objectives}
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
    if num < 1:
        raise InputError(f"num is {num}: it must be at least 1")
    with isolated(seed):
        opened = open_run(run, **opening)
        like = opened.move(tuple(x[:1].expand(num, *x.shape[1:]) for x in opened.dataset.train))
        kind = show or _natural(opened)
        values = {name: x.cpu().numpy() for name, x in simulate(opened.pair.model, like, means=kind == "means").items()}
    path = _npz_path(out, opened.run.folder / "samples.npz")
    _save(path, values)
    _image(values, path, f"x ~ p(x|z), z ~ p(z): {kind}")
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
        t = terms(opened.pair.model, opened.pair.guide, opened.move(tuple(x[:num] for x in opened.dataset.test)))
        values = {site: x.cpu().numpy() for site, x in t.observed.items() if x.numel()}
        means = {site: t.p[site].mean.cpu().numpy() for site in values}
    path = _npz_path(out, opened.run.folder / "reconstructions.npz")
    _save(path, values | {f"{site}_mean": mean for site, mean in means.items()})
    for site, x in values.items():
        images, image_means = figures.as_images(x), figures.as_images(means[site])
        if images is not None and image_means is not None:
            figures.reconstructions(images, image_means, path.with_suffix(".png"))
            break
    return values | {f"{site}_mean": mean for site, mean in means.items()}


def encode(
    run: str | Path | Run, data: Any = None, *, out: str | Path | None = None, **opening: Any
) -> dict[str, np.ndarray]:
    """Mean and standard deviation of q(z|x) for every row, in the order of the data: `<site>_mean`, `<site>_sd`.

    With several latent sites each is conditional on a draw of those before it. Written to `out` (`RUN/encoding.npz`).

    Args:
        data: other data of the same shape, read as the run's own was; by default the run's.
    """
    with isolated(0), torch.no_grad():
        opened = open_run(run, **opening)
        dataset = opened.dataset if data is None else open_config_data(opened.run.config, data)
        if dataset.data_shape != opened.dataset.data_shape:
            raise InputError(f"a datum is {dataset.data_shape}, the run was fitted to {opened.dataset.data_shape}")
        found: dict[str, list[Tensor]] = {}
        for batch in batches(in_order(dataset), opened.run.config.batch_size):
            t = terms(opened.pair.model, opened.pair.guide, opened.move(batch))
            for site, q in t.q.items():
                found.setdefault(f"{site}_mean", []).append(q.mean.cpu())
                found.setdefault(f"{site}_sd", []).append(q.variance.sqrt().cpu())
    values = {name: torch.cat(parts).numpy() for name, parts in found.items()}
    _save(_npz_path(out, opened.run.folder / "encoding.npz"), values)
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


def in_order(dataset: Dataset) -> Batch:
    """All rows of a data set, in the order in which they were read."""
    numbers = torch.cat(list(dataset.rows.values()))
    fields = zip(dataset.train, dataset.valid, dataset.test, strict=True)
    return tuple(torch.cat(parts)[numbers.argsort()] for parts in fields)


def _objective(name: str, run: Run) -> objectives.Objective:
    return run.objective() if name == run.config.objective else objectives.get(name)()


def _natural(opened: Opened) -> Show:
    """Draws of discrete x, means of continuous x."""
    with torch.no_grad():
        t = terms(opened.pair.model, opened.pair.guide, opened.move(tuple(x[:1] for x in opened.dataset.train)))
    return "draws" if any(t.p[site].support.is_discrete for site in t.log_lik) else "means"


def _npz_path(out: str | Path | None, default: Path) -> Path:
    path = default if out is None else Path(out).expanduser()
    if path.suffix != ".npz":
        raise InputError(f"{path}: the arrays are written as .npz")
    _parent(path)
    return path


def _parent(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no folder: make it first")


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    beside = path.with_name(f".{path.name}.part.npz")
    np.savez_compressed(beside, **arrays)  # type: ignore[arg-type]
    beside.replace(path)


def _image(values: Mapping[str, np.ndarray], path: Path, title: str) -> None:
    from ppl_vae.reports import figures

    for x in values.values():
        images = figures.as_images(x)
        if images is not None:
            figures.image_grid(images, path.with_suffix(".png"), title)
            return


__all__ = ["check", "compare", "encode", "export", "fit", "new", "open_run", "reconstruct", "sample"]
