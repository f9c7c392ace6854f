"""From specs and settings to programs: `resolve` one, or a model and a guide together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ppl_vae.blocks.spaces import check_spaces
from ppl_vae.core.errors import InputError
from ppl_vae.core.settings import check_settings as check_settings
from ppl_vae.core.settings import parse_settings as parse_settings
from ppl_vae.programs.find import Finder, Kind, Method, Source, Spec, blame
from ppl_vae.programs.program import Program
from ppl_vae.programs.scores import Batch, as_batch
from ppl_vae.programs.settings import RESERVED, Taker, constructor, constructor_arguments, share


@dataclass(frozen=True)
class Pair:
    """A model, a guide, where they came from, and which of the two may borrow tensors of the other."""

    model: nn.Module
    guide: nn.Module
    sources: dict[str, Source]
    borrower: Kind


def resolve(spec: Spec, **settings: Any) -> nn.Module:
    """The program that `spec` names, as an `nn.Module`.

    Args:
        spec: a name (first `./models/` and `./guides/`, then the shipped ones), a file, `file.py:Name`,
            `file.py:vae.model`, `pkg.mod:Name`, a class, a module or a Pyro function. Without a name in it, a file's
            `Model`/`model` or `Guide`/`guide` is taken.
        settings: constructor arguments. Reserved: `data_shape`, the shape of one datum; `data`, up to 1000 rows (a
            tensor, or a tuple with one tensor per field), of which a program gets the first field as `data` and all as
            `example`; `model` or `guide`, the partner. A plain function is traced once on `data`, or on zeros of
            `data_shape`.

    Raises:
        InputError: nothing of that name, a file that fails or holds no program, an unknown or ill-typed setting.
    """
    target, source = Finder().find(spec, ["model", "guide"])
    given = {name: settings.pop(name) for name in RESERVED if name in settings}
    batch = as_batch(given.pop("data")) if "data" in given else None
    if batch is None and "data_shape" in given:
        batch = (torch.zeros(2, *given["data_shape"]),)
    taker = Taker(source.spec, target, source.shorthand)
    share(settings, [taker])
    return _build(target, source, taker.arguments(), _about(batch) | given, batch, {})


def resolve_pair(
    model: Spec, guide: Spec, batch: Batch, settings: Mapping[str, Any] | None = None, others: Sequence[str] = ()
) -> Pair:
    """Model and guide for data like `batch` (up to 1000 rows). Each file is executed once, even if it holds both.

    Args:
        settings: `model.name`, `guide.name`, or a bare `name` for every constructor that has it; `prior.name` is a
            setting of the prior that the model is put together from. See `programs.settings`.
        others: settings of what is no program, as `objective.num_particles`, which an error may suggest.
    """
    finder = Finder()
    found: dict[Kind, tuple[Any, Source]] = {
        "model": finder.find(model, ["model"]),
        "guide": finder.find(guide, ["guide"]),
    }
    takers: dict[Kind, Taker] = {kind: Taker(kind, target, s.shorthand) for kind, (target, s) in found.items()}
    share(settings or {}, list(takers.values()), others)
    if isinstance(found["model"][0], Method) and constructor(found["model"][0]) is constructor(found["guide"][0]):
        takers["model"].own = takers["guide"].own = takers["model"].own | takers["guide"].own
    own = {kind: taker.arguments() for kind, taker in takers.items()}
    model_borrows = takers["model"].borrows("guide")
    if model_borrows and takers["guide"].borrows("model"):
        raise InputError(
            "the model's constructor asks for the guide and the guide's for the model: drop one of the two"
        )
    order: tuple[Kind, Kind] = ("guide", "model") if model_borrows else ("model", "guide")
    instances: dict[type, nn.Module] = {}
    built: dict[str, nn.Module] = {}
    for kind in order:
        built[kind] = _build(*found[kind], own[kind], _about(batch) | built, batch, instances)
    check_spaces(built["model"], built["guide"])
    lender, borrower = (built[kind] for kind in order)
    if isinstance(lender, Program) and isinstance(borrower, Program):
        borrower.share(lender)
    sources: dict[str, Source] = {
        kind: replace(source, shorthand=takers[kind].in_effect) for kind, (_, source) in found.items()
    }
    return Pair(built["model"], built["guide"], sources, order[1])


def _about(batch: Batch | None) -> dict[str, Any]:
    return {} if batch is None else {"data_shape": tuple(batch[0].shape[1:]), "data": batch[0], "example": batch}


def _build(
    target: Any,
    source: Source,
    settings: Mapping[str, Any],
    given: Mapping[str, Any],
    batch: Batch | None,
    instances: dict[type, nn.Module],
) -> nn.Module:
    owner = constructor(target)
    if isinstance(owner, type) and owner not in instances:
        instances[owner] = _construct(owner, source.path, settings, given)
    if isinstance(target, Method):
        target = getattr(instances[target.owner], target.name)
    elif isinstance(target, type):
        return instances.pop(target)
    if isinstance(target, nn.Module):
        return target
    if batch is None:
        raise InputError(f"{source.spec} is a plain function: give data= or data_shape=, for it is traced once")
    try:
        return Program(target, batch)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{source.spec} fails on data: {blame(error, source.path)}") from error


def _construct(owner: type, path: Path | None, settings: Mapping[str, Any], given: Mapping[str, Any]) -> nn.Module:
    arguments = dict(settings)
    for name, parameter in constructor_arguments(owner).items():
        if name in RESERVED and name in given:
            arguments[name] = given[name]
        elif name not in arguments and parameter.default is parameter.empty:
            fix = "pass it" if name in RESERVED else "give it a default"
            raise InputError(f"{owner.__name__}'s constructor needs {name!r}, which nobody gives: {fix}")
    try:
        program = owner(**arguments)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{owner.__name__} can't be built: {blame(error, path)}") from error
    if not isinstance(program, nn.Module):
        raise InputError(f"{owner.__name__} is no nn.Module: derive it from torch.nn.Module, or give a function")
    return program
