"""Shell completion: verbs, options, their values, the names of built-in parts, and files. Imports no torch."""

import argparse
import importlib.util
import re
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
    text = shtab.complete(made, shell, preamble="\n".join(functions))
    lists = [
        (name, action)
        for name, parser in subparsers.choices.items()
        for action in parser._actions
        if action.option_strings and action.nargs == "*"
    ]
    return {"bash": _as_it_is, "zsh": _lists_in_zsh, "fish": _lists_in_fish}[shell](text, lists)


Lists: TypeAlias = list[tuple[str, argparse.Action]]
"""The options that take several values, each with its verb. shtab ends them after the first, but in bash."""


def _as_it_is(text: str, lists: Lists) -> str:
    return text


def _lists_in_zsh(text: str, lists: Lists) -> str:
    """Such an option may be given again, and goes on for eight values; what stands at a place, for any number."""
    for verb, action in lists:
        options, flag = f"_shtab_ppl_vae_{verb}_options=", action.option_strings[0]
        found = re.search(rf'{options}(?:.*\n)+?  "({flag}\[.*?(?<!\\)\](:.*))"\n', text)
        assert found is not None, f"{verb} {flag}"
        begin, end = found.span(1)
        text = f"{text[:begin]}*{found[1]}{f':{found[2]}' * 7}{text[end:]}"
    return text.replace('"(*)::', '"*:')


def _lists_in_fish(text: str, lists: Lists) -> str:
    """The choices of such an option are offered as long as no other option follows it."""
    lines = ["function _ppl_vae_of", "  set -l given (string match -- '-*' (commandline -opc))"]
    lines += ['  test (count $given) -gt 0; and test "$given[-1]" = "$argv[1]"', "end"]
    for verb, action in lists:
        if action.choices:
            where = f"_shtab_ppl_vae_using {verb}; and _ppl_vae_of {action.option_strings[0]}"
            lines.append(f"complete -c ppl-vae -n '{where}' -a '{' '.join(action.choices)}'")
    return "\n".join([text, *lines, ""])


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
