"""`fit`: check, train, keep the best, survive interruption."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ppl_vae import objectives
from ppl_vae.core.errors import InputError
from ppl_vae.core.files import write_json
from ppl_vae.data import Dataset
from ppl_vae.programs.find import Spec
from ppl_vae.programs.resolution import parse_settings
from ppl_vae.programs.scores import Batch
from ppl_vae.runs.run import Run, create, record_data
from ppl_vae.training.config import FitConfig, config_from
from ppl_vae.training.job import Job
from ppl_vae.training.setup import isolated, open_config_data, resolve_for, split_objective, to_device

EXAMPLE_ROWS = 1000


def fit(
    model: Spec | None = None,
    guide: Spec | None = None,
    data: Any = None,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    trust: bool = False,
    force: bool = False,
    progress: bool = False,
    **options: Any,
) -> Run:
    """Fit a model and a guide to data, and return the run.

    Args:
        model: p(z) p(x|z): a name, a file, `file.py:Name`, an `nn.Module` or a Pyro function.
        guide: q(z|x): likewise.
        data: what `ppl_vae.data.open_data` reads: a built-in set, files, or arrays.
        out: the folder to make; with `resume`, the run to go on with.
        trust, force: with `resume`: execute programs from `RUN/sources`; accept other hashes (see `Run.pair`).
        progress: show a progress bar on standard error.
        options: the fields of `ppl_vae.training.config.FitConfig`; `set` may be a dict, and `objective` a subclass of
            `ppl_vae.objectives.Objective` or an instance of one.

    Raises:
        InputError: anything that `check` refuses, an option that does not fit, an existing folder.
        NumericalError: a loss or gradient that is not finite; the state before that step has been saved.
        Interrupted: Ctrl-C or SIGTERM, after the state has been saved.
    """
    if out is None:
        raise InputError("fit needs out, the folder of the run")
    folder = Path(out).expanduser()
    asked = _asked(model, guide, data, options)
    if resume:
        run = Run(folder)
        config = _extended(run.config, asked)
        dataset = run.data(data, force=force)
        with isolated(config.seed):
            example = None if run.checkpoints.steps else _example(dataset)
            rows = dataset.train[0]
            programs = {"model": model, "guide": guide}
            pair = run.build(programs, example, rows, given=_given(options), trust=trust, force=force)
            job = Job(
                config, pair, dataset, named=run.named_objective(options.get("objective"), trust=trust, force=force)
            )
            if run.checkpoints.steps:
                job.load(run)
            job.check()
            if config != run.config:
                write_json(folder / "config.json", run.record | {"fit": config.asdict()})
            return job.train(Run(folder), progress)
    for name, value in (("model", model), ("guide", guide), ("data", data)):
        if value is None:
            raise InputError(f"fit needs a {name}: --{name}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists: choose another --out, or --resume to go on with it")
    dataset = open_config_data(asked, data)
    with isolated(asked.seed):
        example = _example(dataset)
        settings, _ = split_objective(parse_settings(asked.set) | _given(options))
        named = objectives.named(options.get("objective", asked.objective))
        how = {"standardize": asked.standardize, "missing": asked.missing, "objective": named.kind}
        pair = resolve_for(dataset, model, guide, example, settings, **how)  # type: ignore[arg-type]
        to_device(pair, asked.device)
        job = Job(asked, pair, dataset, named=named)
        job.check()
        run = create(folder, asked, pair, dataset, example, job.objective, named.source)
        return job.train(run, progress)


def _asked(model: Any, guide: Any, data: Any, options: dict[str, Any]) -> FitConfig:
    def text(spec: Any) -> str:
        return str(spec) if isinstance(spec, str | Path) else ""

    objective = options.get("objective", FitConfig.objective)
    if not isinstance(objective, str):
        kind = objective if isinstance(objective, type) else type(objective)
        options = options | {"objective": text(objective) or kind.__qualname__}
    settings = options.get("set", ())
    if isinstance(settings, dict):
        settings = [f"{name}={value!r}" for name, value in settings.items()]
    options = options | {"set": (settings,) if isinstance(settings, str) else tuple(settings)}
    recorded = {"model": text(model), "guide": text(guide), "data": () if data is None else record_data(data)}
    return config_from(options | recorded)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they were given from Python, which may be objects; none where they are text."""
    settings = options.get("set")
    return dict(settings) if isinstance(settings, Mapping) else {}


def _extended(recorded: FitConfig, asked: FitConfig) -> FitConfig:
    """The configuration of a run with the number of epochs that is asked for, if any is."""
    config = recorded.resumed_with(replace(asked, model="", guide="", data=()))
    if config.epochs != recorded.epochs and config.schedule != "constant":
        raise InputError(f"the {config.schedule} schedule was laid out for {recorded.epochs} epochs: leave out epochs")
    if config.epochs < recorded.epochs:
        raise InputError(f"the run was started with {recorded.epochs} epochs, not {config.epochs}: leave it out")
    return config


def _example(dataset: Dataset) -> Batch:
    return tuple(x[:EXAMPLE_ROWS] for x in dataset.train)
