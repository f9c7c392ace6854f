"""Which line of the user's file it was."""

import inspect
import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import nn

import ppl_vae
from ppl_vae.programs import Program

LIBRARIES = tuple(module.__path__[0] for module in (torch, pyro, ppl_vae))


class Lines(poutine.messenger.Messenger):
    """Notes `path:line` of each sample statement: in the program's file, or else where `pyro.sample` was called."""

    def __init__(self, lines: dict[str, str], path: str) -> None:
        super().__init__()
        self.lines, self.path = lines, path

    def _pyro_sample(self, msg: dict) -> None:
        calls = ((frame.f_code.co_filename, frame.f_lineno) for frame in _frames())
        if where := _place(calls, {self.path}):
            self.lines.setdefault(msg["name"], where)


def raised(error: Exception, paths: set[str]) -> str | None:
    """The last line of these files that an exception went through; or else of other code outside the libraries."""
    return _place(((f.filename, f.lineno) for f in reversed(traceback.extract_tb(error.__traceback__))), paths)


def sampled(error: Exception) -> str | None:
    """The site whose `pyro.sample` raised it, if one did."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code is pyro.sample.__code__)
    return next((frame.f_locals["name"] for frame in frames), None)


def source_file(program: nn.Module) -> str:
    """The file of a program that was given from Python; empty where it has none."""
    try:
        return inspect.getsourcefile(program.fn[0] if isinstance(program, Program) else type(program)) or ""
    except TypeError:
        return ""


def _place(calls: Iterable[tuple[str, int | None]], paths: set[str]) -> str | None:
    """The first of these calls in one of the files, or else outside the libraries."""
    calls = [call for call in calls if call[0] in paths or not call[0].startswith(LIBRARIES)]
    own = [call for call in calls if call[0] in paths] or calls
    return "{}:{}".format(*own[0]) if own else None


def _frames() -> Iterator[Any]:
    """The stack outside this file, innermost first."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename != __file__:
            yield frame
        frame = frame.f_back
