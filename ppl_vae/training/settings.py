"""Settings of constructors: the values that a program gets, and what a run records of them.

A value that Python can write down and read back, such as a number, text or a list of them, is recorded as text. Any
other value, such as a class, a tensor or an instance, is recorded by a note, and a fresh process has to be given it
again.
"""

import ast
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ppl_vae.core.errors import InputError
from ppl_vae.programs.resolution import parse_settings

Recorded: TypeAlias = tuple[str | dict[str, str], ...]
"""Each is `name=value`, or a note `{"name": name, "python": what kind of value}`."""


def values(given: Mapping[str, Any] | str | Iterable[str]) -> dict[str, Any]:
    """The values of what a user gave: a dict, passed on as it is; one text `name=value`, or several.

    Raises:
        InputError: a text that is no setting, or a name that is given two values.
    """
    if isinstance(given, Mapping):
        if wrong := [name for name in given if not isinstance(name, str)]:
            raise InputError(f"set has the name {wrong[0]!r}: names of settings are text, such as 'latent_dim'")
        return dict(given)
    pairs = (given,) if isinstance(given, str) else tuple(given)
    found = parse_settings(pairs)
    seen: dict[str, str] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if seen.setdefault(name, text) != text:
            raise InputError(f"--set {name} is given twice, as {seen[name]} and as {text}: leave out one of the two")
    return found


def record(given: Mapping[str, Any] | str | Iterable[str]) -> Recorded:
    """What a run records of the settings that a user gave."""
    if isinstance(given, Mapping):
        return tuple(_entry(name, value) for name, value in given.items())
    return (given,) if isinstance(given, str) else tuple(given)


def spoken(recorded: Recorded) -> dict[str, Any]:
    """The values of the settings that are recorded as text."""
    return parse_settings(tuple(entry for entry in recorded if isinstance(entry, str)))


def restore(recorded: Recorded, given: Mapping[str, Any] | str | Iterable[str], where: object) -> dict[str, Any]:
    """The values of the settings of a run, of which `given` are given again.

    Args:
        where: the run, for messages.

    Raises:
        InputError: a setting that has no text is not given again, or one is given that the run does not have.
    """
    again, text = values(given), spoken(recorded)
    for entry in record(given):
        own = {} if isinstance(entry, dict) else parse_settings((entry,))
        said = any(name in text and _same(text[name], value) for name, value in own.items())
        if entry not in recorded and not said:
            had = ", ".join(map(_shown, recorded)) or "nothing"
            raise InputError(f"the run was started with set {had}, not {_shown(entry)}: leave it out")
    notes = {entry["name"]: entry["python"] for entry in recorded if isinstance(entry, dict)}
    if missing := [name for name in notes if name not in again]:
        raise InputError(
            f"the setting {missing[0]} of {where} was given from Python ({notes[missing[0]]}): give it again, as in "
            f"set={{{missing[0]!r}: ...}}"
        )
    return text | {name: again[name] for name in notes}


def _same(parsed: Any, value: Any) -> bool:
    """Is a value the one that was read from text? `parsed` is a Python literal, so that `==` gives a truth value."""
    return type(parsed) is type(value) and parsed == value


def _shown(entry: str | dict[str, str]) -> str:
    return entry if isinstance(entry, str) else f"{entry['name']} ({entry['python']})"


def _entry(name: str, value: Any) -> str | dict[str, str]:
    text = repr(value)
    try:
        parsed = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        parsed = None
    if _same(parsed, value):
        return f"{name}={text}"
    kind = value if hasattr(value, "__qualname__") else type(value)  # a class and a function have a name of their own
    return {"name": name, "python": f"{kind.__module__}.{kind.__qualname__}"}
