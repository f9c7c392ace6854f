"""Which line of the user's file a finding is about."""

import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

import pyro
import torch
from pyro import poutine

import ppl_vae

# models/ and guides/ are left out: they are the user's
ROOMS = ("blocks/", "checks/", "core/", "distributions/", "graphs/", "objectives/", "programs/")
LIBRARIES = (torch.__path__[0], pyro.__path__[0], *(f"{ppl_vae.__path__[0]}/{room}" for room in ROOMS))


class Lines(poutine.messenger.Messenger):
    """Record `path:line` of each sample statement, in the program's file, or else where `pyro.sample` was called."""

    def __init__(self, lines: dict[str, str], paths: set[str]) -> None:
        super().__init__()
        self.lines, self.paths = lines, paths

    def _pyro_sample(self, msg: dict) -> None:
        calls = ((frame.f_code.co_filename, frame.f_lineno) for frame in _frames())
        if where := place(calls, self.paths):
            self.lines.setdefault(msg["name"], where)


def raised(error: BaseException, paths: set[str]) -> str | None:
    """The last line that an exception went through in these files, or else in other code outside the libraries."""
    return place(((f.filename, f.lineno) for f in reversed(traceback.extract_tb(error.__traceback__))), paths)


def sampled(error: Exception) -> str | None:
    """The site whose `pyro.sample` raised the exception, or None."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code is pyro.sample.__code__)
    return next((frame.f_locals["name"] for frame in frames), None)


def place(calls: Iterable[tuple[str, int | None]], paths: set[str]) -> str | None:
    """`path:line` of the first of these calls that is in one of the files, or else outside the libraries."""
    calls = [call for call in calls if call[0] in paths or not call[0].startswith((*LIBRARIES, "<"))]  # <string>
    own = [call for call in calls if call[0] in paths] or calls
    return "{}:{}".format(*own[0]) if own else None


def _frames() -> Iterator[Any]:
    """The stack outside this file, innermost first."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename != __file__:
            yield frame
        frame = frame.f_back
