"""Settings: `--set name=value` as Python values, checked against the constructor that takes them."""

import ast
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typeguard
from typeguard import CollectionCheckStrategy

from ppl_vae.core.errors import InputError
from ppl_vae.core.registry import did_you_mean


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


def arguments_of(owner: Any) -> dict[str, inspect.Parameter]:
    """What a class or a function takes by name; neither `*args` nor `**options`."""
    parameters = inspect.signature(owner).parameters
    return {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def hints_of(owner: Any) -> dict[str, Any]:
    """The types of what it takes."""
    try:
        return get_type_hints(owner.__init__ if isinstance(owner, type) else owner)  # type: ignore[misc]
    except (NameError, TypeError):  # a name for type checkers only, or no function: the default's type has to do
        return {}


def check_settings(settings: Mapping[str, Any], owner: Any, prefix: str, reserved: Iterable[str] = ()) -> None:
    """Check settings against the signature of a class or a function, and against its types.

    Args:
        prefix: what the error calls the owner.
        reserved: arguments that are no settings.

    Raises:
        InputError: a name that is no argument, or a value that is not of its type.
    """
    if not settings:
        return
    parameters = arguments_of(owner)
    settable = [name for name in parameters if name not in reserved]
    hints = hints_of(owner)
    for name, value in settings.items():
        if name not in settable:
            raise InputError(unknown(prefix, name, settable))
        default = parameters[name].default
        expected = hints.get(name, type(default) if default not in (None, inspect.Parameter.empty) else Any)
        if not _fits(value, expected):
            raise InputError(f"{prefix}.{name} is {value!r}: expected {_in_words(expected)}")


def unknown(prefix: str, name: str, settable: Sequence[str]) -> str:
    """That there is no such setting, and which there are."""
    hint = did_you_mean(name, settable, "{}")
    return f"{prefix} has no setting {name!r}: it has {', '.join(settable) or 'none'}{hint}"


def _fits(value: Any, expected: Any) -> bool:
    try:
        typeguard.check_type(value, expected, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except typeguard.TypeCheckError:
        return False
    return expected is bool or not isinstance(value, bool) or "bool" in str(expected) or expected is Any


def _in_words(expected: Any) -> str:
    if get_origin(expected) is Literal:
        return " or ".join(map(repr, get_args(expected)))
    return getattr(expected, "__name__", str(expected))
