"""From what a user names to an object: a name, a file, `file.py:Name`, `pkg.mod:Name`."""

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeAlias

from torch import nn

from ppl_vae.core.errors import InputError
from ppl_vae.core.memory import is_out_of_memory
from ppl_vae.core.palette import REWRITTEN, SHORTHANDS, Shorthand
from ppl_vae.core.registry import did_you_mean
from ppl_vae.programs.imported import own_imports

Kind: TypeAlias = Literal["model", "guide"]
Spec: TypeAlias = str | Path | Callable[..., Any]


@dataclass(frozen=True)
class Source:
    """Where a program came from.

    Args:
        path: None for an object given from Python.
        shorthand: what `spec` stands for, where it is a name for another program with settings.
        imports: the SHA-256 of each file of the user's own that it imports, by the name of the module.
    """

    spec: str
    path: Path | None = None
    attribute: str = ""
    sha256: str = ""
    shipped: bool = False
    shorthand: Shorthand | None = None
    imports: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        spec = f"{self.spec}: {self.shorthand}" if self.shorthand else self.spec
        return f"{spec} ({f'{self.path}, sha256 {self.sha256[:12]}' if self.path else 'given from Python'})"


class Place(NamedTuple):
    """The file of a program, and what its name stands for."""

    path: Path
    shorthand: Shorthand | None = None


@dataclass(frozen=True)
class Method:
    """`Class.method`: to be bound to one instance, which model and guide may share."""

    owner: type[nn.Module]
    name: str


@dataclass
class Finder:
    """Finds programs and executes each file at most once."""

    executed: dict[Path, tuple[ModuleType, str]] = field(default_factory=dict)

    def find(self, spec: Spec, kinds: Sequence[Kind]) -> tuple[Any, Source]:
        """The class, module, method or function that `spec` names, and its source.

        Raises:
            InputError: no such name or file, a file that fails, or one that holds no program.
        """
        if not isinstance(spec, str | Path):
            if not callable(spec):
                raise InputError(f"{spec!r} is no program: give a name, a file, an nn.Module or a Pyro function")
            return spec, Source(getattr(spec, "__qualname__", type(spec).__qualname__))
        place, attribute = _parts(str(spec))
        if attribute.lower() in kinds:
            kinds = [kind for kind in kinds if kind == attribute.lower()]
        path, shorthand = _locate(place, kinds)
        if path not in self.executed:
            self.executed[path] = _execute(path, _package(place))
        module, digest = self.executed[path]
        target, attribute = _member(module, path, attribute, kinds)
        _need_forward(target, f"{path.name}:{attribute}", kinds)
        twins = (shipped_folder(kind) / path.name for kind in kinds)
        shipped = any(twin.is_file() and sha256_of(twin) == digest for twin in twins)
        imports = {} if shipped else own_imports(path, _package(place))
        return target, Source(str(spec), path, attribute, digest, shipped, shorthand, imports)


def _parts(spec: str) -> tuple[str, str]:
    """Place and attribute; a file's path may hold colons."""
    if spec.endswith(".py"):
        return spec, ""
    place, suffix, attribute = spec.rpartition(".py:")
    return (f"{place}.py", attribute) if suffix else (spec.partition(":")[0], spec.partition(":")[2])


def _package(place: str) -> str:
    return place.rpartition(".")[0] if _is_module(place) else ""


def imports_of(spec: str | Path, kind: Kind) -> dict[str, str]:
    """The files of the user's own that the program imports, see `own_imports`; it is not executed."""
    place, _ = _parts(str(spec))
    return own_imports(_locate(place, [kind]).path, _package(place))


def locate(spec: str | Path, kind: Kind) -> Path:
    """The file that `spec` names, which is not executed. Raises as `Finder.find`."""
    return _locate(_parts(str(spec))[0], [kind]).path


def shipped_again(kind: Kind, recorded: Mapping[str, Any]) -> str:
    """What names the shipped program of a run, as `config.json` records it: its file, `file.py:Attribute`.

    The file of a shorthand, such as `models/vampprior.py`, need not be there: it names the shorthand.
    """
    place, path = _parts(recorded["spec"])[0], Path(recorded["path"])
    name = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]
    shorthand = SHORTHANDS[kind].get(name)
    stem = name if shorthand and shorthand.program == path.stem else path.stem
    return f"{shipped_folder(kind) / stem}.py:{recorded['attribute']}"


def same_numbers(spec: str | Path, kind: Kind, sha256: str) -> bool:
    """Does `spec` name the program that a shipped file of that hash has become, without a change of its numbers?"""
    path, shorthand = _locate(_parts(str(spec))[0], [kind])
    rewritten = REWRITTEN[kind].get(path.stem) if path.parent == shipped_folder(kind) else None
    return sha256 in (shorthand.sha256 if shorthand else None, rewritten)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shipped_folder(kind: Kind) -> Path:
    """Where the installed package keeps its models or guides."""
    return Path(importlib.import_module(f"ppl_vae.{kind}s").__path__[0]).resolve()


def blame(error: BaseException, path: Path | None) -> str:
    """What went wrong and, if it did so there, the line of the user's file."""
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    if is_out_of_memory(error):
        what = "there is not enough memory for it"
    if isinstance(error, SystemExit):
        what = f"it ends Python, by sys.exit({error.code!r})"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {what}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if path and f.filename == str(path)]
    return f"{path}:{lines[-1]}: {what}" if lines else what


def _locate(place: str, kinds: Sequence[Kind]) -> Place:
    if place.endswith(".py") or "/" in place:
        path = Path(os.path.realpath(Path(place).expanduser()))  # resolve() raises at a loop of links
        if not path.is_file():
            for kind in kinds:
                if path.parent == shipped_folder(kind) and path.stem in SHORTHANDS[kind]:
                    return _stands_for(path.stem, kind)
            raise InputError(f"no such file: {place}")
        if path.suffix != ".py":
            raise InputError(f"{place} is no program: a Python file (.py) is expected")
        return Place(path)
    if _is_module(place):
        package, _, name = place.rpartition(".")
        short = [kind for kind in kinds if package == f"ppl_vae.{kind}s" and name in SHORTHANDS[kind]]
        return _stands_for(name, short[0]) if short else Place(_locate_module(place))
    rooms = [Path.cwd() / f"{kind}s" for kind in kinds], [shipped_folder(kind) for kind in kinds]
    for room in rooms:
        found = [Place((folder / f"{place}.py").resolve()) for folder in room if (folder / f"{place}.py").is_file()]
        if room is rooms[1]:
            found += [_stands_for(place, kind) for kind in kinds if place in SHORTHANDS[kind]]
        if len(found) > 1:
            raise InputError(f"{place!r} is both a model and a guide: say {place}:Model or {place}:Guide")
        if found:
            return found[0]
    raise InputError(_unknown(place, kinds, [folder for room in rooms for folder in room]))


def _stands_for(name: str, kind: Kind) -> Place:
    shorthand = SHORTHANDS[kind][name]
    return Place(shipped_folder(kind) / f"{shorthand.program}.py", shorthand)


def _is_module(place: str) -> bool:
    return "." in place and "/" not in place and not place.endswith(".py")


def _unknown(name: str, kinds: Sequence[Kind], folders: list[Path]) -> str:
    files = {p.stem for folder in folders for p in folder.glob("[!_]*.py")}
    names = sorted(files.union(*(SHORTHANDS[kind] for kind in kinds)))
    there = f"there are {', '.join(names)}, or give a file.py{did_you_mean(name, names)}"
    return f"no {' or '.join(kinds)} is called {name!r}: {there}"


def _locate_module(name: str) -> Path:
    try:
        spec = importlib.util.find_spec(name)
    except ImportError:
        spec = None
    except (Exception, SystemExit) as error:
        raise InputError(f"{name} can't be imported: {blame(error, None)}") from error
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise InputError(f"no Python module is called {name!r}: install it, or give a file.py")
    return Path(spec.origin)


def _execute(path: Path, package: str = "") -> tuple[ModuleType, str]:
    """Execute a file as a module of its own, and hash what was executed: its bytes, never a cached .pyc."""
    name = f"_ppl_vae_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(f"{package}.{name}" if package else name, path)
    assert spec is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        source = path.read_bytes()
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        raise InputError(f"{path.name} can't be executed: {blame(error, path)}") from error
    return module, hashlib.sha256(source).hexdigest()


def _need_forward(target: Any, spec: str, kinds: Sequence[Kind]) -> None:
    """Refuse a module whose programs are methods, as in Pyro's tutorial on VAEs, and name them."""
    owner = target if isinstance(target, type) else type(target)
    if issubclass(owner, nn.Module) and owner.forward is nn.Module.forward:
        methods = [f"{spec}.{kind}" for kind in kinds if callable(getattr(owner, kind, None))]
        if methods:
            raise InputError(f"{spec} has no forward: did you mean {' or '.join(methods)}?")


def _member(module: ModuleType, path: Path, attribute: str, kinds: Sequence[Kind]) -> tuple[Any, str]:
    if not attribute:
        names = [name for kind in kinds for name in (kind.capitalize(), kind) if hasattr(module, name)]
        if not names:
            wanted = " or ".join(f"{kind.capitalize()} or {kind}" for kind in kinds)
            raise InputError(f"{path} holds no {wanted}: name what it holds, as in {path.name}:Name")
        if len({name.lower() for name in names}) > 1:
            raise InputError(f"{path} holds a model and a guide: say {path.name}:{names[0]} or {path.name}:{names[-1]}")
        attribute = names[0]
    target: Any = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            have = ", ".join(n for n in vars(module) if not n.startswith("_"))
            raise InputError(f"{path} has no {attribute!r}: it has {have}")
        owner, target = target, getattr(target, part)
        if isinstance(owner, type) and attribute.endswith(f".{part}"):
            return Method(owner, part), attribute
    if not callable(target):
        raise InputError(f"{attribute} in {path} is no program: a Pyro function or an nn.Module is expected")
    return target, attribute
