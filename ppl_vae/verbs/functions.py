"""The verbs of `import ppl_vae`, which the command line offers under the same names with the same results."""

import functools
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from ppl_vae import objectives
from ppl_vae.checks.pair import Report, check_pair
from ppl_vae.core.errors import InputError
from ppl_vae.data import as_data
from ppl_vae.programs.find import Spec, shipped_folder
from ppl_vae.programs.resolution import parse_settings
from ppl_vae.runs import fitting
from ppl_vae.runs.opened import check_file, check_seed, open_run, rows_of, running
from ppl_vae.runs.run import Run
from ppl_vae.training.setup import isolated, resolve_for, split_objective
from ppl_vae.verbs.comparison import compare
from ppl_vae.verbs.generate import encode, reconstruct, sample

P = ParamSpec("P")


def _drawing(fit: Callable[P, Run]) -> Callable[P, Run]:
    """`fit`, and `learning.png` in the run; a figure that fails is a warning, for the run is whole without it."""

    @functools.wraps(fit)
    def drawn(*args: P.args, **options: P.kwargs) -> Run:
        from ppl_vae.reports import figures

        run = fit(*args, **options)
        try:
            figures.learning_curves(run.metrics, run.folder / "learning.png")
        except Exception as error:
            warnings.warn(f"learning.png was not drawn: {error}", stacklevel=2)
        return run

    return drawn


fit = _drawing(fitting.fit)


def check(
    model: Spec, guide: Spec, data: Any, *, objective: Any = "trace", standardize: bool = False, **options: Any
) -> Report:
    """Is this pair a VAE for this data? Each finding names the site, the line, what is wrong and the mend.

    In a test of your own: `report = check("mine.py", "mine.py", data)`, then `assert report.passed, str(report)`.

    Args:
        objective, standardize: as for `fit`.
        options: `set`, `scale`, `missing`, `binarize`, `split_seed`, as for `fit`.
    """
    settings = options.pop("set", ())
    settings, own = split_objective(parse_settings((settings,) if isinstance(settings, str) else settings))
    dataset = as_data(data, **options)
    with isolated(0):
        named = objectives.named(objective)
        made = named.make(own)
        example = dataset.first(1000)
        asked = {"standardize": standardize, "missing": options.get("missing", "error"), "objective": named.kind}
        pair = resolve_for(dataset, model, guide, example, settings, **asked)
        return check_pair(pair, dataset, made, thorough=True)


def export(
    run: str | Path | Run,
    *,
    data: Any = None,
    scale: float | None = None,
    out: str | Path | None = None,
    rows: int = 100,
    draws: int = 200,
    seed: int = 0,
    **opening: Any,
) -> Any:
    """Draws of the guide for the first rows, as NetCDF (`RUN/arviz.nc`), opened by the ArviZ that is installed.

    Groups and dimensions: see `ppl_vae.reports.arviz.export_draws`.

    Args:
        data, scale: the rows, read as for `encode`; by default the run's test rows.
        opening: as for `Run.pair`, and `force`.
    """
    with warnings.catch_warnings():  # ArviZ 0.23 announces 1.x whenever it is imported
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    from ppl_vae.reports.arviz import export_draws

    check_seed(seed)
    if rows < 1 or draws < 1:
        raise InputError("rows and draws must be at least 1")
    with isolated(seed):
        run = run if isinstance(run, Run) else Run(Path(run))
        path = Path(out).expanduser() if out else run.folder / "arviz.nc"
        check_file(path)
        pair = run.pair(**opening)
        found = rows_of(run, pair, data, scale, test=True, force=opening.get("force", False))
        batch = tuple(x.to(run.config.device) for x in found.first(rows))
        with running(f"the pair of {run.folder}"):
            export_draws(pair, batch, found.numbers[:rows], draws, path)
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


__all__ = ["check", "compare", "encode", "export", "fit", "new", "open_run", "reconstruct", "sample"]
