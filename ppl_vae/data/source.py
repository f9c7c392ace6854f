"""What a user names as data: a built-in set, files with names and keys, or arrays; as fields that are read."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.core.registry import did_you_mean
from ppl_vae.data.builtin import BUILTIN
from ppl_vae.data.raw import Raw, as_raw
from ppl_vae.data.readers import READERS

Source = str | os.PathLike[str] | np.ndarray | Tensor | Sequence[str] | Sequence[np.ndarray | Tensor]
S = TypeVar("S")


class Spec(NamedTuple):
    """What names a file, `name=path:key`; without a name or key, None."""

    name: str | None
    path: str
    key: str | None


def absolute(source: S) -> S:
    """The same source with its file paths absolute; built-in names and arrays come back unchanged."""
    given: Any = source
    result = given
    if isinstance(given, str | os.PathLike):
        spec = parse(os.fspath(given))
        path = os.path.abspath(os.path.expanduser(spec.path))
        name = "" if spec.name is None else f"{spec.name}="
        result = given if given in BUILTIN else name + path + ("" if spec.key is None else f":{spec.key}")
    elif isinstance(given, list | tuple):
        result = type(given)(absolute(item) for item in given)
    return result


def there(source: str) -> bool:
    """Is it a built-in set, or a file that exists?"""
    return source in BUILTIN or os.path.exists(os.path.expanduser(parse(source).path))


def gather(source: Any) -> tuple[str, tuple[str, ...], list[Raw]]:
    """Name of the set, names of the fields, and the fields."""
    items = list(source) if isinstance(source, list | tuple) else [source]
    if items and all(isinstance(item, np.ndarray | Tensor) for item in items):
        fields = default_names(len(items))
        raws = [as_raw(f"field {name}", item) for name, item in zip(fields, items, strict=True)]
        return "arrays" if len(raws) > 1 else "array", fields, raws
    if not items or not all(isinstance(item, str | os.PathLike) for item in items):
        kinds = ", ".join(dict.fromkeys(type(item).__name__ for item in items)) or "nothing"
        raise InputError(f"data must be a built-in name, files, or arrays; not {kinds}")
    texts = [os.fspath(item) for item in items]
    if len(texts) == 1 and texts[0] in BUILTIN:
        return texts[0], ("x",), [as_raw(f"field x ({texts[0]})", BUILTIN[texts[0]].read())]
    specs = [parse(text) for text in texts]
    fields = field_names(specs)
    raws = [_read(name, spec, name == fields[0]) for name, spec in zip(fields, specs, strict=True)]
    return ", ".join(dict.fromkeys(os.path.basename(spec.path) for spec in specs)), fields, raws


def parse(text: str) -> Spec:
    """Split `name=path:key`, unless a file exists under the longer name."""
    path, key = path_and_key(text)
    if not path.rpartition("=")[2]:
        raise InputError(f"{text!r} names no data: give a built-in set, a file or a folder")
    name, equals, rest = text.partition("=")
    if not equals or "/" in name or os.path.exists(os.path.expanduser(path)):
        return Spec(None, path, key)
    if not name.isidentifier():
        what = f"{name!r} is not a field name" if name else "the field name is empty"
        raise InputError(f"{text}: {what}; write it like x={rest or 'a.npy'}")
    return Spec(name, *path_and_key(rest))


def path_and_key(text: str) -> tuple[str, str | None]:
    """Split at the last colon behind an existing file, else at the first colon."""
    if os.path.exists(os.path.expanduser(text)) or ":" not in text:
        return text, None
    cuts = [i for i, letter in enumerate(text) if letter == ":"]
    cut = next((i for i in reversed(cuts) if os.path.isfile(os.path.expanduser(text[:i]))), cuts[0])
    return text[:cut], text[cut + 1 :]


def default_names(count: int) -> tuple[str, ...]:
    return ("x", "y", *(f"x{i}" for i in range(2, count)))[:count]


def field_names(specs: list[Spec]) -> tuple[str, ...]:
    names = [spec.name for spec in specs if spec.name is not None]
    if not names:
        return default_names(len(specs))
    if len(names) < len(specs):
        bare = next(spec.path for spec in specs if spec.name is None)
        raise InputError(f"{bare} has no field name, other files have: name all (y={bare}) or none")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two fields are named {twice}: give each its own name")
    return tuple(names)


def _read(name: str, spec: Spec, first: bool) -> Raw:
    """Read a file. One column, chosen by name for a later field, comes as `(rows,)`, say for labels."""
    path = os.path.expanduser(spec.path)
    suffix = os.path.splitext(path)[1].lower()
    if not os.path.exists(path):
        if spec.path in BUILTIN:
            raise InputError(f"{spec.path} is a whole set: give it alone, without a field name")
        raise InputError(no_file(spec.path))
    if os.path.isdir(path):
        from ppl_vae.data.streams.opening import whole_folder  # which is made of this module

        return whole_folder(name, spec)
    if not os.path.isfile(path):
        raise InputError(f"{spec.path} is not a regular file: give a file, {', '.join(READERS)}")
    if suffix not in READERS:
        raise InputError(f"{spec.path}: unknown kind of file {suffix!r}; known are {', '.join(READERS)}")
    try:
        with open(path, "rb") as file:
            values, columns = READERS[suffix].read(file, spec.path, spec.key)
    except InputError:
        raise
    except Exception as error:  # whatever a reader raises is about the file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{spec.path}: cannot be read as {suffix}; write it anew\n{reason}") from error
    if not first and spec.key is not None and len(columns) == 1:
        values = values[:, 0]
    label = spec.path if spec.key is None else f"{spec.path}:{spec.key}"
    return as_raw(f"field {name} ({label})", values, columns)


def no_file(path: str) -> str:
    """What is said of a file that does not exist."""
    if os.path.islink(os.path.expanduser(path)):
        return f"{path}: no such file: it is a link that leads nowhere"
    folder, base = os.path.split(os.path.expanduser(path))
    try:
        around = os.listdir(folder or ".")
    except (OSError, ValueError):
        around = []
    hint = did_you_mean(base, [*BUILTIN, *around], "{}")
    return f"{path}: no such file{hint}\nBuilt-in sets: {', '.join(BUILTIN)}"
