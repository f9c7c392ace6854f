"""Files that are complete or do not exist: each is written under another name, flushed to disk, and then renamed."""

import contextlib
import json
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ppl_vae.core.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, and never a part of it."""
    with naming(path), whole(path) as beside:
        beside.write_bytes(content)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the system, such as a full disk, names the file that was asked for."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The file to write in place of `path`, which it becomes at the end; after an error nothing of it is left."""
    with _beside(path) as beside:
        try:
            yield beside
            sync_file(beside)
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """The name to write under: always the same, so that what a kill leaves is written over, but for a second writer.

    Who writes has locked the file, and a lock goes with its process.
    """
    beside = path.with_name(f".{path.name}.part")
    if fcntl is None:
        yield beside
        return
    with open(beside, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(file.fileno()), os.stat(beside))  # and not renamed in between
        except (BlockingIOError, FileNotFoundError):
            mine = False
        except OSError:  # the file system has no locks
            mine = True
        yield beside if mine else path.with_name(f".{path.name}.{os.getpid()}.part")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_bytes(path, (to_json(value, indent=2) + "\n").encode())


def to_json(value: Any, indent: int | None = None) -> str:
    """The value as standard JSON. A number that is not finite becomes null, since JSON can't express it."""
    return json.dumps(finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def finite(value: Any) -> Any:
    """The same dicts and lists with None for every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        InputError: the file does not exist, or does not hold a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} can't be read: it holds no JSON object")
    return value


def append(path: Path, text: str) -> None:
    """Add to the end of a file. A kill may tear what is added; without `sync_file` it may be lost with the power."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def sync_file(path: Path) -> None:
    """Flush what was written to a file to disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Make a folder that is not there, with those above it, and flush their names to disk."""
    new = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True)
    for each in new:
        with contextlib.suppress(PermissionError):  # a folder in which one may write and not look
            sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk. Without this, a rename can be lost when the computer stops."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_file(path: Path) -> None:
    """Raise `InputError`, before the work, where a file can't be written."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a file")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no folder: make it first")


class Scratch:
    """A temporary folder, which goes when nothing refers to this object any more, at the latest when Python ends."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ppl_vae-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
