"""Trackers: one a file, a class with a line `name = "…"`, which is also the extra that installs its package.

A tracker is told what `metrics.jsonl` holds. The package is imported when a run is tracked by it.
"""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from ppl_vae.core.errors import InputError
from ppl_vae.core.registry import Registry


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told of a run when it begins, or goes on.

    Args:
        folder: the run's.
        config: the options of the fit.
        id: what the tracker called this run before; None for a run that it does not know.
        start: the step that training goes on from; −1 where there is none yet.
        seen: the step of the last line of the metrics, also where it will be taken again; −1 where there is none.
        quiet: say nothing on standard error.
    """

    folder: Path
    config: Mapping[str, Any]
    id: str | None
    start: int
    seen: int
    quiet: bool


class Tracker(Protocol):
    """Made of a `Tracked`. Any method may fail: then the tracker is left out, and the training goes on."""

    name: ClassVar[str]
    needs: ClassVar[str]
    """The module to import."""
    id: str
    """What it calls the run, kept in the run's record."""
    seen: int
    """It is told of later steps alone: those that it shows already are taken again, and give the same numbers."""

    def __init__(self, about: Tracked) -> None: ...

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """The numbers of a line of the metrics, such as `valid/elbo`, after so many steps."""
        ...

    def best(self, step: int, numbers: Mapping[str, float]) -> None:
        """The numbers of the best step, such as `best/elbo`, when training has ended after so many steps."""
        ...

    def close(self, failed: bool) -> None:
        """Training has ended, or has been stopped."""
        ...


TRACKERS = Registry[type[Tracker]]("ppl_vae.runs.trackers", "tracker")


def check_packages(names: Iterable[str]) -> None:
    """
    Raises:
        InputError: a tracker's package can't be imported.
    """
    for name in names:
        try:
            importlib.import_module(TRACKERS[name].needs)
        except ImportError as error:
            raise InputError(f"--track {name}: {error}. Install it by: pip install 'ppl_vae[{name}]'") from error
