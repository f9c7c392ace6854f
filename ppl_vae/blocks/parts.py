"""Parts: what a program is put together from, chosen by name or given as an object.

A program's constructor takes one as an argument of the type `Part`, and builds it:

    def __init__(self, data_shape, latent_dim: int = 20, prior: Part = "standard_normal"):
        self.p_z = priors.build(prior, latent_dim=latent_dim)

`--set prior=mixture --set prior.components=20` then says what `self.p_z = priors.Mixture(latent_dim, components=20)`
says in the file. A part gets what it needs as a program does, by naming it in its constructor.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import nn

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.core.palette import PARTS
from ppl_vae.core.settings import arguments_of, check_settings, unknown

GIVEN = ("latent_dim", "dim", "data_shape", "data", "guide", "n_in", "n_out", "reads", "writes", "params")
"""What a part gets from its program, or from a class derived from it, and never from a setting."""

COUNTS = {"hidden": 1, "channels": 1, "components": 1, "grid": 1, "total": 1}
COUNTS |= {"layers": 0, "blocks": 0, "steps": 0, "reflections": 0, "context": 0, "rank": 0}
"""Settings of parts that count something, and the least that there may be."""


@dataclass(frozen=True)
class Choice:
    """A part that is chosen and not yet built, with its settings."""

    part: Any
    settings: Mapping[str, Any] = field(default_factory=dict)

    def having(self, settings: Mapping[str, Any]) -> "Choice":
        """The same with settings beside, which have the last word."""
        return Choice(self.part, {**self.settings, **settings})


Part: TypeAlias = str | Callable[..., Any] | Choice
"""A name of the registry, a class or function that makes the part, the part itself, or a `Choice` of these."""


def kind_of(argument: str) -> str:
    """`prior` of the argument `prior` or `top_prior`."""
    return argument.rpartition("_")[2]


def maker(kind: str, part: Part) -> Any:
    """The class or function that makes a part; a part that is made already is returned as it is.

    Raises:
        InputError: no part has this name, or what is given is no part.
    """
    part = part.part if isinstance(part, Choice) else part
    if isinstance(part, str):
        return PARTS[kind][part]
    if not callable(part):
        raise InputError(
            f"{kind} is {part!r}: expected one of {', '.join(PARTS[kind])}, or a class that makes a {kind}"
        )
    return part


def settable(kind: str, part: Part | None) -> list[str]:
    """The settings that a part has."""
    return [name for name in _taken(kind, part) if name not in GIVEN]


def needs(kind: str, part: Part | None, name: str) -> bool:
    """Does the constructor of a part ask for what is called `name`, such as the guide?"""
    return name in _taken(kind, part)


def _taken(kind: str, part: Part | None) -> list[str]:
    """What the constructor of a part takes; nothing where the part is made already, or not chosen."""
    made = None if part is None else maker(kind, part)
    return [] if made is None or isinstance(made, nn.Module) else list(arguments_of(made))


def elsewhere(kind: str, name: str) -> str:
    """`; mixture or vamp has it: --set prior=...`, of a setting that other parts of a kind have; else nothing."""
    others = [other for other in PARTS[kind] if name in settable(kind, other)]
    return f"; {' or '.join(others)} has it: --set {kind}=..." if others else ""


def build(kind: str, part: Part, given: Mapping[str, Any]) -> Any:
    """Make a part, which gets from `given` what its constructor names; its settings have the last word.

    Raises:
        InputError: no part has this name, a setting that the part does not have or that is not of its type, or one
            that it needs and that is not given.
    """
    settings = dict(part.settings) if isinstance(part, Choice) else {}
    made = maker(kind, part)
    if isinstance(made, nn.Module):
        if settings:
            raise InputError(f"{kind} is given as an object, which has its settings: leave {kind}.{min(settings)} out")
        return made
    called = getattr(made, "name", None) or getattr(made, "__name__", type(made).__name__)
    parameters, own = arguments_of(made), settable(kind, part)
    arguments = {name: given[name] for name in parameters if given.get(name) is not None} | settings
    open_ended = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(made).parameters.values())
    for name in settings:
        if name not in own and not (open_ended and name not in parameters):
            raise InputError(unknown(f"{kind} {called}", name, own) + elsewhere(kind, name))
    check_settings({name: value for name, value in settings.items() if name in own}, made, kind, GIVEN)
    for name, least in COUNTS.items():
        if type(settings.get(name)) is int:
            at_least(least, f"{kind} {called}", **{name: settings[name]})
    for name, parameter in parameters.items():
        if name not in arguments and parameter.default is parameter.empty:
            fix = f"--set {kind}.{name}=..." if name in own else "this program has none to give"
            raise InputError(f"{kind} {called} needs {name}: {fix}")
    return made(**arguments)
