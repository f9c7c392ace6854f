"""Files that are whole or not there: written beside, flushed to disk, renamed."""

import json
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_vae.core.errors import InputError


def write_bytes(path: Path, content: bytes) -> None:
    """Write `path` so that a reader sees the old file or the new one, never a part of it."""
    beside = path.with_name(f".{path.name}.part")
    with open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_folder(path.parent)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_bytes(path, (to_json(value, indent=2) + "\n").encode())


def to_json(value: Any, indent: int | None = None) -> str:
    """Standard JSON: a number that is not finite, for which it has no word, is null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any]:
    """
    Raises:
        InputError: no such file, or it is no JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} can't be read: it holds no JSON object")
    return value


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries: a rename is not on disk before that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Scratch:
    """A temporary folder, which goes when nothing refers to this object any more, at the latest when Python ends."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ppl_vae-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
