"""The errors that are raised on purpose, of two kinds, each with the exit code of the command that it ends."""

import math
import re
from collections.abc import Sequence


class Told(Exception):
    """An error of which `common` says that every process raises it, so that nobody has to be told."""

    common = False


class InputError(Told, ValueError):
    """Bad input: a file, a name, data or a program that does not fit. Exit code 2.

    The message is one or two lines: what is wrong, where, and what to do. If the error is raised inside a program, Pyro
    appends a table of the program's sites; the table is left out.

    Args:
        add: arguments that make the command succeed when they are added to it.
    """

    exit_code = 2

    def __init__(self, message: str, add: Sequence[str] = ()) -> None:
        self.add = list(add)
        super().__init__(re.split(r"\n *Trace Shapes:", str(message), maxsplit=1)[0])


class NumericalError(Told, ArithmeticError):
    """A number that can't be right. Exit code 1. The last good state has been kept.

    Args:
        rows: the rows of the batch whose log-probability is not finite.
    """

    exit_code = 1

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = list(rows)


class NotFinite(NumericalError):
    """A loss or gradient that is not finite. A training may go on without that step."""


class ProcessLost(RuntimeError):
    """Another process of the same training has ended, or does not answer. Exit code 1. What is on disk is whole."""

    exit_code = 1


def at_least(least: float, where: str = "", /, **settings: float | None) -> None:
    """Check that each setting is a finite number and not below `least`. None stands for a setting that is not given.

    Args:
        where: whose settings they are, such as `iwae`; it begins the message.

    Raises:
        InputError: a setting is below `least`, or is not finite.
    """
    for name, value in settings.items():
        if value is not None and not least <= value < math.inf:
            finite = "" if math.isfinite(value) else "a finite number, "
            begin = f"{where}: " if where else ""
            raise InputError(f"{begin}{name} is {value}: it must be {finite}at least {least}")


def check_seeds(**seeds: int) -> None:
    """Check that torch takes each of the seeds.

    Raises:
        InputError: a seed is below 0, or not below 2**63.
    """
    for name, seed in seeds.items():
        if not 0 <= seed < 2**63:
            raise InputError(f"{name} is {seed}: it must be between 0 and 2**63 - 1")
