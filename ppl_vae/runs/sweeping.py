"""A sweep's runs: every setting at every seed, each an ordinary run in a folder of its own."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ppl_vae.core.errors import InputError
from ppl_vae.data import Data
from ppl_vae.data.cells import CellFields
from ppl_vae.distributions.wrappers import support_of
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair
from ppl_vae.programs.find import Spec
from ppl_vae.runs.fitting import asked, built, start, values_of
from ppl_vae.runs.grid import Setting
from ppl_vae.runs.record import FILE
from ppl_vae.runs.resuming import go_on
from ppl_vae.runs.run import Run
from ppl_vae.runs.sampling import likelihoods
from ppl_vae.runs.wired import EXAMPLE_ROWS, Set, notes_of
from ppl_vae.training import settings
from ppl_vae.training.config import FitConfig
from ppl_vae.training.prepare import isolated, make_objective, open_config_data


@dataclass(frozen=True)
class Job:
    """One setting at one seed.

    Args:
        set, objective: as they were given to `fit`; the set with the setting's values.
        config: what of it all is recorded.
        cells: which parts of the data the fields are, where they are single-cell data.
    """

    setting: Setting
    model: Spec
    guide: Spec
    data: Any
    folder: Path
    config: FitConfig
    set: Set
    objective: Any
    cells: CellFields | None = None

    @property
    def label(self) -> str:
        return f"{self.setting.label}, seed {self.config.seed}"

    @property
    def begun(self) -> bool:
        return (self.folder / FILE).is_file()

    def run(self) -> Run:
        """The run that is there already, which does not ask again for what was given.

        Raises:
            InputError: it was fitted with other options.
        """
        given = values_of(self.config, self.set)
        again = {"model": self.model, "guide": self.guide, "set": notes_of(self.config, given)}
        run = Run(self.folder, again={name: value for name, value in again.items() if value})
        for field in fields(FitConfig):
            had, wanted = getattr(run.config, field.name), getattr(self.config, field.name)
            if had != wanted:
                raise InputError(
                    f"{self.folder} was fitted with {field.name} {had!r}, not {wanted!r}: choose another --out, or "
                    "leave the option as it was"
                )
        return run

    def trained(self, progress: bool = False) -> Run:
        """The run at its end: fitted, gone on with, or as it is if it is done."""
        if not self.begun:
            how: dict[str, Any] = {
                "set": self.set,
                "objective": self.objective,
                "cells": self.cells,
                "progress": progress,
            }
            return start(self.model, self.guide, self.data, self.folder, self.config, **how)
        run = self.run()
        if run.fresh is not None:
            return run
        return go_on(
            run, {}, model=self.model, guide=self.guide, data=self.data, set=run.again.get("set", {}),
            objective=self.objective, progress=progress,
        )  # fmt: skip

    def made_objective(self, run: Run) -> Objective:
        """The objective of its run."""
        given = settings.restore(run.config.set, run.again.get("set", {}), run.folder)
        return make_objective(run.named_objective(self.objective), given)


def jobs(
    model: Spec | None,
    guide: Spec | None,
    data: Any,
    out: Path,
    grid: Sequence[Setting],
    seeds: int,
    options: Mapping[str, Any],
    cells: CellFields | None = None,
) -> list[Job]:
    """A job for each setting and seed, the seeds of one setting together.

    Args:
        out: the folder of the sweep.
        seeds: how many, from the option `seed` on.
        options: those of `fit`.
        cells: as for `Job`.

    Raises:
        InputError: an option or a setting that does not fit, programs that can't be made anew, a folder that is no
            sweep's.
    """
    if model is None or guide is None or data is None:
        missing = next(name for name, x in (("model", model), ("guide", guide), ("data", data)) if x is None)
        raise InputError(f"fit needs a {missing}: --{missing}")
    if out.exists() and (not out.is_dir() or (out / FILE).exists()):
        raise InputError(f"{out} is a run or a file: give the runs of a sweep a folder of their own, by another --out")
    base = settings.values(options.get("set", ()))
    for setting in grid:
        if both := set(base) & set(setting.values):
            raise InputError(f"{both.pop()} is among the settings and in the sweep: leave out one of the two")
    _check_anew({"model": model, "guide": guide, "objective": options.get("objective")}, base, grid)
    made = []
    for setting in grid:
        for seed in range(options.get("seed", FitConfig.seed), options.get("seed", FitConfig.seed) + seeds):
            given = {**base, **setting.values}
            config, _, objective = asked(model, guide, data, {**options, "set": given, "seed": seed})
            folder = out / setting.folder / f"seed-{seed}"
            made.append(Job(setting, model, guide, data, folder, config, given, objective, cells))
    return made


def _check_anew(programs: Mapping[str, Any], base: Mapping[str, Any], grid: Sequence[Setting]) -> None:
    """
    Raises:
        InputError: what was given is an object, which the second run would find trained by the first.
    """
    for name, spec in programs.items():
        if spec is not None and not isinstance(spec, str | os.PathLike | type):
            raise InputError(f"the {name} of a sweep is made anew for each run: give its name, its file or its class")
    for name, value in [*base.items(), *(item for setting in grid for item in setting.values.items())]:
        if isinstance(value, nn.Module):
            raise InputError(f"the setting {name} of a sweep is made anew for each run: give its class")


def check(jobs: Sequence[Job]) -> None:
    """Build each setting once, before anything is trained.

    Raises:
        InputError: a setting that no program has or takes; a run that was fitted with other options; settings of which
            some give probabilities of the data and others densities, which can't be compared.
    """
    for job in jobs:
        if job.begun:
            job.run()
    first = {job.setting.label: job for job in reversed(jobs)}
    data = open_config_data(jobs[0].config, jobs[0].data, jobs[0].cells)
    kinds = {}
    for label, job in reversed(first.items()):
        try:
            kinds[label] = _kinds(job, data)
        except InputError as error:
            raise InputError(f"{label}: {error}") from error
    for label, kind in kinds.items():
        one, known = next(iter(kinds.items()))
        for site in kind.keys() & known.keys():
            if kind[site] != known[site]:
                discrete, other = (label, one) if kind[site] else (one, label)
                raise InputError(
                    f"{discrete} gives probabilities of {site!r}, and {other} densities, whose logarithms can't be "
                    "compared: sweep over one kind of likelihood"
                )


def _kinds(job: Job, data: Data) -> dict[str, bool]:
    """For each observed site, is it discrete? Sites that do not state their support are left out."""
    with isolated(job.config.seed, precision=job.config.precision):
        example = data.first(EXAMPLE_ROWS)
        given = values_of(job.config, job.set)
        pair, _, _ = built(job.config, job.model, job.guide, data, example, given, job.objective)
        found = dict(_supports(pair, tuple(x[:2].to(job.config.device) for x in example)))
    return {site: support.is_discrete for site, support in found.items() if support is not None}


def _supports(pair: Pair, rows: tuple[torch.Tensor, ...]) -> Iterator[tuple[str, Any]]:
    try:
        observed = likelihoods(pair.model, rows)
    except Exception:  # what is wrong is for the checks of the fit to say
        return
    yield from ((site, support_of(fn)) for site, fn in observed.items())
