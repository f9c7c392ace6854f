"""Parts by name: priors, likelihoods, families, objectives, built-in data. A new part is one class in one file."""

import ast
import importlib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from ppl_vae.core.errors import InputError

T = TypeVar("T")
ROOT = Path(__file__).parents[1]


class Entry(NamedTuple):
    """Where a part is defined, and the first paragraph of its docstring."""

    module: str
    attribute: str
    summary: str


class Registry(Mapping[str, T], Generic[T]):
    """The parts of one kind, by name: every class in the files of `package` that has a line `name = "…"` in its body.

    Names and summaries are read from the sources, so that a list of them, as in `--help`, imports no torch. A part is
    imported when it is asked for. Indexing raises `InputError` for a name that there is not.

    Args:
        package: where the files are, such as `ppl_vae.objectives`; files of folders inside it do not count.
        kind: what a part is called in an error message, such as `objective`.
        own: how a user names a part of their own, such as `file.py:Class`, if that is possible where the name is given.
    """

    def __init__(self, package: str, kind: str, own: str = "") -> None:
        self.package, self.kind, self.own = package, kind, own

    @cached_property
    def entries(self) -> dict[str, Entry]:
        folder = ROOT.joinpath(*self.package.split(".")[1:])
        files = sorted(folder.glob("[!_]*.py"))
        return {name: entry for file in files for name, entry in _declared(file, f"{self.package}.{file.stem}")}

    def __getitem__(self, name: str) -> T:
        if name not in self.entries:
            there_are = ", ".join(self.entries) + (f", or {self.own}" if self.own else "")
            raise InputError(f"no {self.kind} is called {name!r}: there are {there_are}{did_you_mean(name, self)}")
        entry = self.entries[name]
        part: Any = getattr(importlib.import_module(entry.module), entry.attribute)
        return part

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self.entries else default

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def did_you_mean(name: str, names: Any, quoted: str = "{!r}") -> str:
    """The end of an error message: `; did you mean 'mixture'?`, or nothing if no name is close."""
    close = get_close_matches(name, list(names), 1)
    return f"; did you mean {quoted.format(close[0])}?" if close else ""


def _declared(file: Path, module: str) -> Iterator[tuple[str, Entry]]:
    """The classes of a file that state a name. The file is read and not executed."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and (name := _name_of(node)):
            summary = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            yield name, Entry(module, node.name, summary)


def _name_of(node: ast.ClassDef) -> str | None:
    for line in node.body:
        targets = (
            line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
        )
        value = line.value if isinstance(line, ast.Assign | ast.AnnAssign) else None
        named = any(isinstance(target, ast.Name) and target.id == "name" for target in targets)
        if named and isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return None
