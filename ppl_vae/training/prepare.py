"""From a configuration to what it names: data, objective, device, and a process state of its own."""

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import pyro
import torch

from ppl_vae import objectives
from ppl_vae.core.errors import InputError
from ppl_vae.core.randomness import kept
from ppl_vae.core.threads import Threads, threads_of
from ppl_vae.data import Data, as_data
from ppl_vae.data.columns import AnySchema
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, resolve_pair
from ppl_vae.programs.find import Spec
from ppl_vae.programs.scores import Batch
from ppl_vae.programs.standardize import check_standardizable, resolve_standardized
from ppl_vae.training.config import FitConfig, Precision
from ppl_vae.training.distributed import helpers


@contextlib.contextmanager
def isolated(seed: int | None = None, threads: Threads = None, precision: Precision | None = None) -> Iterator[None]:
    """Pyro's parameter store and the random states (torch, numpy, Python) of a seed, and Pyro's validation off.

    All is restored afterwards, and so is the default dtype, which a program's file may set.

    Args:
        threads: how many torch is to take, see `core.threads.threads_of`.
        precision: torch's default dtype is float64 if it says so.
    """
    dtype = torch.get_default_dtype()
    with pyro.get_param_store().scope(), pyro.validation_enabled(False), kept(seed), threads_of(threads):
        try:
            if precision == "float64":
                torch.set_default_dtype(torch.float64)
            yield
        finally:
            torch.set_default_dtype(dtype)


def open_config_data(
    config: FitConfig,
    data: Any = None,
    schema: AnySchema | None = None,
    recorded: Mapping[str, Any] | None = None,
) -> Data:
    """The data of `config`, or `data` in its place, split, scaled and binarized as it says; a table by its schema.

    The rows of a stream are looked at when the pair is checked, unless the pair is made by what is found in all rows.

    Args:
        recorded: what a run knows of its stream, as for `as_data`.
    """
    source = list(config.data) if data is None else data
    names = ("scale", "missing", "binarize", "split_seed", "stream")
    with isolated(precision=config.precision):
        found = as_data(
            source, schema, recorded=recorded, others=helpers(), look=config.standardize,
            **{name: getattr(config, name) for name in names},
        )  # fmt: skip
    if config.precision == "float64" and torch.float32 in found.dtypes:
        raise InputError(f"precision is float64, and {found.name} is given as float32: give it as float64")
    return found


def resolve_for(
    dataset: Data,
    model: Spec,
    guide: Spec,
    example: Batch,
    settings: Mapping[str, Any],
    *,
    standardize: bool = False,
    missing: str = "error",
    objective: type[Objective] | None = None,
) -> Pair:
    """The pair for a data set, of which `example` is the first rows; on standardized data if so asked.

    Raises:
        InputError: as `resolve_pair`; data that can't be standardized.
    """
    others = () if objective is None else objective_settings(objective)
    if not standardize:
        return resolve_pair(model, guide, example, settings, others)
    check_standardizable(dataset.binarize, missing)
    return resolve_standardized(model, guide, example, settings, dataset.moments(), others)


def split_objective(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the programs, and those of the objective without their prefix."""
    own = {k.removeprefix("objective."): v for k, v in settings.items() if k.startswith("objective.")}
    return {k: v for k, v in settings.items() if not k.startswith("objective.")}, own


def make_objective(named: objectives.Named, settings: Mapping[str, Any], precision: Precision = "float32") -> Objective:
    """The objective that was named, with those of all settings that are its own, and products of this precision."""
    _, own = split_objective(settings)
    made = named.make(own)
    return made.with_products(torch.bfloat16) if precision == "bfloat16" else made


def objective_settings(objective: type[Objective]) -> list[str]:
    """What `--set` calls the settings of an objective."""
    return [f"objective.{name}" for name in inspect.signature(objective).parameters]


def to_device(pair: Pair, device: str) -> None:
    """
    Raises:
        InputError: torch has no such device here.
    """
    try:
        pair.model.to(device)
        pair.guide.to(device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without CUDA
        raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from error
