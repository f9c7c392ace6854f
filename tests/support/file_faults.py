"""Faults of the file layer, put into a process of its own: what a kill, a full disk or a loss of power does there.

Every operation by which a run is written is numbered as it comes: to make a folder, to write or append to a file, to
flush, to rename, to remove. Nothing of this is in the package, whose functions are wrapped from outside.
"""

import builtins
import ctypes
import errno
import os
import pickle
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = ("write_bytes", "append")
ENLARGE = (*WRITES, "mkdir", "fsync", "replace", "rename")  # what a full disk refuses
Operation = tuple[str, str, Any]
"""Its name, the path, and the content that is written, or the other path."""


def install(folder: Path, kind: str, **how: Any) -> None:
    """Put a fault into this process, for what is written in `folder`."""
    FAULTS[kind](folder, **how)


def count(folder: Path, into: str, inside: str | None = None) -> None:
    """No fault: when the process ends by itself, `into` has the list of operations inside a folder (pickle)."""
    seen: list[Operation] = []

    def at(n: int, operation: Operation, do: Callable[[], Any]) -> Any:
        seen.append(operation)
        try:
            return do()
        except OSError:
            seen[n - 1] = ("failed", *operation[1:])
            raise

    restore = _wrap(Path(inside or folder), at)
    _at_exit.append(lambda: (restore(), Path(into).write_bytes(pickle.dumps(seen))))


def kill(folder: Path, at: int, when: str = "before", share: float = 0.5) -> None:
    """SIGKILL before or after operation number `at`; or, `within` it, when a share of the bytes is written."""

    def strike(n: int, operation: Operation, do: Callable[[], Any]) -> Any:
        if n < at:
            return do()
        if when == "after":
            do()
        if when == "within":
            _partly(operation, share)
        os.kill(os.getpid(), signal.SIGKILL)

    _wrap(folder, strike)


def fail(folder: Path, at: int, number: int = errno.ENOSPC, share: float = 0.5) -> None:
    """From operation number `at` on, each that takes room fails, a write after a share of its bytes."""

    def strike(n: int, operation: Operation, do: Callable[[], Any]) -> Any:
        if n < at or operation[0] not in ENLARGE:
            return do()
        _partly(operation, share)
        raise OSError(number, os.strerror(number))

    _wrap(folder, strike)


def size(folder: Path, most: int) -> None:
    """No file may grow beyond so many bytes (the system's own limit)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def modes(folder: Path) -> None:
    """What a folder's mode forbids is forbidden to root too, which gives up CAP_DAC_OVERRIDE and two others."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        header, found = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, found) == 0
        found[0] &= ~0b1110  # of those in effect: DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
        assert libc.capset(header, found) == 0


FAULTS = {each.__name__: each for each in (count, kill, fail, size, modes)}
_at_exit: list[Callable[[], Any]] = []


def finish() -> None:
    """What is done when the process ends by itself."""
    for each in _at_exit:
        each()


def _partly(operation: Operation, share: float) -> None:
    name, path, content = operation
    if name in WRITES:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if name == "append" else os.O_TRUNC))
        os.write(descriptor, content[: int(share * len(content))])
        os.close(descriptor)


def _wrap(folder: Path, at: Callable[[int, Operation, Callable[[], Any]], Any]) -> Callable[[], None]:
    """Call `at(number, operation, do)` in place of each operation in `folder`; the result takes it back."""
    done, inside = 0, str(folder)
    kept: list[tuple[Any, str, Any]] = []

    def through(operation: Operation, do: Callable[[], Any]) -> Any:
        nonlocal done
        if not (operation[1] == inside or operation[1].startswith(f"{inside}/")):
            return do()
        done += 1
        return at(done, operation, do)

    def wrap(module: Any, name: str, path: Callable[..., str], more: Callable[..., Any] = lambda *a, **k: None) -> None:
        original = getattr(module, name)

        def called(*args: Any, **options: Any) -> Any:
            operation = (name, path(*args, **options), more(*args, **options))
            return through(operation, lambda: original(*args, **options))

        kept.append((module, name, original))
        setattr(module, name, called)

    wrap(os, "fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{int(descriptor)}"))
    for name in ("replace", "rename"):
        wrap(os, name, lambda a, b: str(a), lambda a, b: str(b))
    for name in ("unlink", "rmdir", "mkdir"):
        wrap(os, name, _absolute)
    wrap(Path, "write_bytes", lambda path, content: str(path), lambda path, content: bytes(content))
    original = builtins.open

    def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        found = original(file, mode, *args, **options)
        return _Appending(found, str(file), through) if mode == "a" else found  # a line of the metrics: one write

    kept.append((builtins, "open", original))
    builtins.open = opened  # type: ignore[assignment]

    def restore() -> None:
        for module, name, had in kept:
            setattr(module, name, had)

    return restore


class _Appending:
    """A file that is appended to."""

    def __init__(self, file: Any, path: str, through: Callable[[Operation, Callable[[], Any]], Any]) -> None:
        self.file, self.path, self.through = file, path, through

    def __enter__(self) -> "_Appending":
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()

    def write(self, text: str) -> None:
        self.through(("append", self.path, text.encode()), lambda: (self.file.write(text), self.file.flush()))


def _absolute(path: Any, *args: Any, dir_fd: int | None = None, **options: Any) -> str:
    return str(path) if dir_fd is None else f"{os.readlink(f'/proc/self/fd/{dir_fd}')}/{path}"
