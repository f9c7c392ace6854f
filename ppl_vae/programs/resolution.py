"""From specs and settings to programs: `resolve` one, or a model and a guide together."""

import ast
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
import typeguard
from torch import nn
from typeguard import CollectionCheckStrategy

from ppl_vae.core.errors import InputError
from ppl_vae.programs.find import Finder, Kind, Method, Source, Spec, blame
from ppl_vae.programs.program import Program
from ppl_vae.programs.scores import Batch, as_batch

RESERVED = ("data_shape", "data", "model", "guide")


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
            tensor, or a tuple with one tensor per field); `model` or `guide`, the partner. A plain function is
            traced once on `data`, or on zeros of `data_shape`.

    Raises:
        InputError: nothing of that name, a file that fails or holds no program, an unknown or ill-typed setting.
    """
    target, source = Finder().find(spec, ["model", "guide"])
    given = {name: settings.pop(name) for name in RESERVED if name in settings}
    batch = as_batch(given.pop("data")) if "data" in given else None
    if batch is None and "data_shape" in given:
        batch = (torch.zeros(2, *given["data_shape"]),)
    return _build(target, source, settings, _about(batch) | given, batch, {})


def resolve_pair(
    model: Spec, guide: Spec, batch: Batch, settings: Mapping[str, Any] | None = None, others: Sequence[str] = ()
) -> Pair:
    """Model and guide for data like `batch` (up to 1000 rows). Each file is executed once, even if it holds both.

    Args:
        settings: `model.name`, `guide.name`, or a bare `name` for every constructor that has it.
        others: settings of what is no program, as `objective.num_particles`, which an error may suggest.
    """
    finder = Finder()
    found: dict[Kind, tuple[Any, Source]] = {
        "model": finder.find(model, ["model"]),
        "guide": finder.find(guide, ["guide"]),
    }
    model_borrows = "guide" in _parameters(found["model"][0])
    if model_borrows and "model" in _parameters(found["guide"][0]):
        raise InputError(
            "the model's constructor asks for the guide and the guide's for the model: drop one of the two"
        )
    own = _split(settings or {}, {kind: target for kind, (target, _) in found.items()}, others)
    order: tuple[Kind, Kind] = ("guide", "model") if model_borrows else ("model", "guide")
    instances: dict[type, nn.Module] = {}
    built: dict[str, nn.Module] = {}
    for kind in order:
        built[kind] = _build(*found[kind], own[kind], _about(batch) | built, batch, instances)
    lender, borrower = (built[kind] for kind in order)
    if isinstance(lender, Program) and isinstance(borrower, Program):
        borrower.share(lender)
    return Pair(built["model"], built["guide"], {kind: source for kind, (_, source) in found.items()}, order[1])


def parse_settings(pairs: Mapping[str, Any] | Sequence[str] | str) -> dict[str, Any]:
    """`("model.latent_dim=16", …)`, or one of them, as a dict; values are Python literals, or else text."""
    if isinstance(pairs, Mapping):
        return dict(pairs)
    if isinstance(pairs, str):
        pairs = (pairs,)
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise InputError(f"--set {pair}: write it as name=value, for example model.latent_dim=16")
        try:
            settings[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            settings[name] = text
    return settings


def check_settings(settings: Mapping[str, Any], owner: Any, prefix: str) -> None:
    """Check constructor settings against the signature and its types.

    Raises:
        InputError: a name that the constructor does not have, or a value that is not of its type.
    """
    parameters = _parameters(owner)
    settable = [name for name in parameters if name not in RESERVED]
    hints = _hints(_constructor(owner)) if settings and parameters else {}
    for name, value in settings.items():
        if name not in settable:
            close = get_close_matches(name, settable, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"{prefix} has no setting {name!r}: it has {', '.join(settable) or 'none'}{hint}")
        default = parameters[name].default
        expected = hints.get(name, type(default) if default not in (None, inspect.Parameter.empty) else Any)
        try:
            typeguard.check_type(value, expected, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
            fits = expected is bool or not isinstance(value, bool) or "bool" in str(expected) or expected is Any
        except typeguard.TypeCheckError:
            fits = False
        if not fits:
            shown = " or ".join(map(repr, get_args(expected))) if get_origin(expected) is Literal else None
            shown = shown or getattr(expected, "__name__", str(expected))
            raise InputError(f"{prefix}.{name} is {value!r}: expected {shown}")


def _hints(owner: type) -> dict[str, Any]:
    try:
        return get_type_hints(owner.__init__)  # type: ignore[misc]
    except NameError:  # a name that is imported for type checkers only: the default's type has to do
        return {}


def _about(batch: Batch | None) -> dict[str, Any]:
    return {} if batch is None else {"data_shape": tuple(batch[0].shape[1:]), "data": batch[0]}


def _constructor(target: Any) -> Any:
    return target.owner if isinstance(target, Method) else target


def _parameters(target: Any) -> dict[str, inspect.Parameter]:
    owner = _constructor(target)
    parameters = inspect.signature(owner).parameters if isinstance(owner, type) else {}
    return {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def _split(settings: Mapping[str, Any], targets: dict[Kind, Any], others: Sequence[str]) -> dict[Kind, dict[str, Any]]:
    """Each constructor's own settings, checked."""
    own: dict[Kind, dict[str, Any]] = {"model": {}, "guide": {}}
    for name, value in sorted(settings.items(), key=lambda item: "." in item[0]):  # a prefixed one has the last word
        prefix, _, rest = name.rpartition(".")
        if prefix in own:
            own[prefix][rest] = value
            continue
        takers = [kind for kind in own if name in _parameters(targets[kind]) and name not in RESERVED]
        if prefix or not takers:
            have = [f"{kind}.{p}" for kind in own for p in _parameters(targets[kind]) if p not in RESERVED]
            bare = name.rpartition(".")[2]
            close = [other for other in others if other.rpartition(".")[2] == bare]
            close = close or get_close_matches(bare, [h.partition(".")[2] for h in have], 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"no program has a setting {name!r}: there are {', '.join(have) or 'none'}{hint}")
        for kind in takers:
            own[kind][name] = value
    if isinstance(targets["model"], Method) and _constructor(targets["model"]) is _constructor(targets["guide"]):
        own["model"] = own["guide"] = own["model"] | own["guide"]
    for kind in own:
        check_settings(own[kind], targets[kind], kind)
    return own


def _build(
    target: Any,
    source: Source,
    settings: Mapping[str, Any],
    given: Mapping[str, Any],
    batch: Batch | None,
    instances: dict[type, nn.Module],
) -> nn.Module:
    check_settings(settings, target, source.spec)
    owner = _constructor(target)
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
    for name, parameter in _parameters(owner).items():
        if name in RESERVED and name in given:
            arguments[name] = given[name]
        elif name not in arguments and parameter.default is parameter.empty:
            mend = "pass it" if name in RESERVED else "give it a default"
            raise InputError(f"{owner.__name__}'s constructor needs {name!r}, which nobody gives: {mend}")
    try:
        program = owner(**arguments)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{owner.__name__} can't be built: {blame(error, path)}") from error
    if not isinstance(program, nn.Module):
        raise InputError(f"{owner.__name__} is no nn.Module: derive it from torch.nn.Module, or give a function")
    return program
