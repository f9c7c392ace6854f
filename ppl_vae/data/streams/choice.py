"""Whether data are read as a stream, and as which kind."""

import math
import os
from pathlib import Path
from typing import Any

from ppl_vae.core import memory
from ppl_vae.core.errors import InputError
from ppl_vae.data.builtin import BUILTIN
from ppl_vae.data.columns import AnySchema, Schema
from ppl_vae.data.source import Spec, parse
from ppl_vae.data.streams.stores import STORES
from ppl_vae.data.streams.stores.sparse import is_sparse, shape_of

SHARE = 0.3
"""Of the memory that is available: what is larger is a stream. In memory are two to four copies while it is split."""


def is_streamed(source: Any, schema: AnySchema | None, stream: str) -> bool:
    """Are these data to be a stream?

    Args:
        stream: `on`, `off` or `auto`: folders, and files whose numbers take more than 30 % of the memory available.

    Raises:
        InputError: `on` for what can't be streamed.
    """
    if stream not in ("on", "off", "auto"):
        raise InputError(f"unknown stream {stream!r}: use one of auto, on, off")
    specs = specs_of(source)
    if why := _unfit(specs, schema):
        if stream == "on":
            raise InputError(f"{why} can't be streamed: leave out --stream on")
        return False
    assert specs is not None
    if not all(_path(spec).is_file() or _path(spec).is_dir() for spec in specs):  # opening a pipe would wait for it
        return False  # the reader says it
    for spec in specs:
        check_no_run(spec)
    kinds = [kind_of(spec) for spec in specs]
    if stream == "off":
        return False
    if None in kinds:
        if stream == "on":
            spec = specs[kinds.index(None)]
            kinds_told = ", ".join(sorted(name for name in STORES if name.startswith(".")))
            raise InputError(
                f"{spec.path} can't be streamed: give {kinds_told} (an .npz that scipy wrote), or a folder of Parquet "
                "files or of pictures; or leave out --stream on"
            )
        return False
    if stream == "on" or any(_path(spec).is_dir() for spec in specs):
        return True
    return _size(specs) > SHARE * memory.available_memory()


def check_no_run(spec: Spec) -> None:
    """
    Raises:
        InputError: it is the folder of a run, which holds pictures.
    """
    if (_path(spec) / "config.json").is_file() and (_path(spec) / "sources").is_dir():
        raise InputError(
            f"{spec.path} is the folder of a run, and no data: give a file, or a folder of Parquet files or of pictures"
        )


def _unfit(specs: list[Spec] | None, schema: AnySchema | None) -> str | None:
    """What can't be a stream, whatever its size."""
    if specs is None or any(spec.path in BUILTIN and not _path(spec).exists() for spec in specs):
        return "data that are in memory"
    if isinstance(schema, Schema):
        return "a table of columns of several kinds"
    return "cells with a library size of their own" if schema is not None and schema.library is not None else None


def specs_of(source: Any) -> list[Spec] | None:
    """The files that are named, if it is files."""
    items = source if isinstance(source, list | tuple) else [source]
    if not items or not all(isinstance(item, str | os.PathLike) for item in items):
        return None
    return [parse(os.fspath(item)) for item in items]


def kind_of(spec: Spec) -> str | None:
    """The name of the store that reads it, if there is one."""
    path = _path(spec)
    if path.is_dir():
        return ".parquet" if next(path.rglob("[!._]*.parquet"), None) is not None else "folder of pictures"
    suffix = path.suffix.lower()
    return suffix if suffix in STORES and (suffix != ".npz" or (spec.key is None and is_sparse(path))) else None


def _size(specs: list[Spec]) -> float:
    """Bytes that the numbers take in memory."""
    total = 0.0
    for spec in specs:
        kind = kind_of(spec)
        assert kind is not None
        if kind == ".csv":  # whose text is about as long as its numbers
            total += _path(spec).stat().st_size
            continue
        try:
            if kind == ".npz":  # which would be loaded
                total += math.prod(shape_of(_path(spec))) * 4
                continue
            store = STORES[kind](_path(spec), spec.path, spec.key)
        except Exception:  # what is wrong is for the reader to say
            return 0
        total += store.rows * math.prod(store.shape) * max(4, store.dtype.itemsize)
    return total


def _path(spec: Spec) -> Path:
    return Path(spec.path).expanduser()
