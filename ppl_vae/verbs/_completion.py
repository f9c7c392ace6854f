"""Shell completion: verbs, options, their values, the names of built-in parts, and files. Imports no torch."""

import argparse
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import tyro
from typing_extensions import Doc

from ppl_vae.core.palette import SHORTHANDS
from ppl_vae.core.registry import Registry

Shell: TypeAlias = Literal["bash", "zsh", "fish"]
POSITIONAL = get_args(tyro.conf.Positional[str])[1]
LONGEST = 80  # characters of a description


def script(shell: Shell, commands: Mapping[str, Any]) -> str:
    """What the shell is to read, for commands by their names: dataclasses with a field for each option.

    It is complete in itself, so that nothing is started when somebody types.
    """
    import shtab

    made = argparse.ArgumentParser("ppl-vae")
    subparsers = made.add_subparsers()
    for name, command in commands.items():
        parser = subparsers.add_parser(name, help=_short(command.__doc__ or ""))
        for field in fields(command):
            _add(parser, field)
    functions = (FUNCTIONS[shell].format(kind, " ".join(names(kind))) for kind in KINDS)
    return shtab.complete(made, shell, preamble="\n".join(functions))


def names(kind: str) -> list[str]:
    """What an option of that name may hold, beside files."""
    if kind in SHORTHANDS:
        places = importlib.util.find_spec(f"ppl_vae.{kind}s").submodule_search_locations or ()  # type: ignore[union-attr]
        return sorted({*SHORTHANDS[kind], *(file.stem for place in places for file in Path(place).glob("[!_]*.py"))})
    return sorted(Registry[Any](*KINDS[kind]))


KINDS = {
    "model": (),
    "guide": (),
    "objective": ("ppl_vae.objectives", "objective"),
    "data": ("ppl_vae.data.builtin", "data set"),
}
"""The options with names, and where those are that no file of models/ or guides/ is."""

FUNCTIONS = {
    "bash": '_ppl_vae_{}() {{ compgen -W "{}" -- "$1"; compgen -f -- "$1"; }}',
    "zsh": "_ppl_vae_{}() {{ _alternative 'names:name:({})' 'files:file:_files' }}",
    "fish": "function _ppl_vae_{}; string split ' ' '{}'; __fish_complete_path (commandline -ct); end",
}
"""For each shell, a function of a kind and its names, which completes them and files."""
CALLS = {"bash": "_ppl_vae_{}", "zsh": "_ppl_vae_{}", "fish": "(_ppl_vae_{})"}


def _add(parser: argparse.ArgumentParser, field: "Field[Any]") -> None:
    """An option as argparse takes it, with what it may hold."""
    import shtab

    hint, *about = get_args(field.type) if get_origin(field.type) is Annotated else (field.type,)
    types = list(_plain(hint))
    literals = [value for each in types if get_origin(each) is Literal for value in get_args(each)]
    text = next((each.documentation for each in about if isinstance(each, Doc)), "")
    flag = [field.name] if POSITIONAL in about else [f"--{field.name.replace('_', '-')}"]
    if types == [bool]:
        parser.add_argument(*flag, action="store_true", help=_short(text))
        return
    if field.name == "objectives":
        literals = names("objective")
    completed = shtab.FILE if Path in types else None
    if field.name in KINDS:
        completed = {shell: call.format(field.name) for shell, call in CALLS.items()}
    several = get_origin(hint) is tuple and (completed is None or flag == [field.name])  # shtab ends no list of files
    action = parser.add_argument(*flag, nargs="*" if several else None, help=_short(text), choices=literals or None)
    if completed:
        action.complete = completed  # type: ignore[attr-defined]


def _plain(hint: Any) -> Iterator[Any]:
    """The types that a value may have: those of a union or of the elements of a tuple, without None."""
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _plain(get_args(hint)[0])
    elif origin in (Union, UnionType, tuple):
        for each in get_args(hint):
            yield from _plain(each)
    elif hint not in (NoneType, Ellipsis):
        yield hint


def _short(text: str) -> str:
    """The first sentence, cut where it is long; argparse reads % as a format."""
    sentence = " ".join(text.split()).partition(". ")[0].rstrip(".")
    shown = sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST - 1]}…"
    return shown.replace("%", "%%")
