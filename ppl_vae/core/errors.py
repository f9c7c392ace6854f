"""The two ways a command can fail on purpose. Each carries the exit code of its kind."""

import math
import re
from collections.abc import Sequence


class InputError(ValueError):
    """Bad input: a file, a name, data or a program that does not fit. Exit code 2.

    The message is one or two lines: what is wrong, where, and what to do. What Pyro appends to an error that is
    raised inside a program, a table of its sites, is left out.

    Args:
        add: what to add to the command, so that it is taken.
    """

    exit_code = 2

    def __init__(self, message: str, add: Sequence[str] = ()) -> None:
        self.add = list(add)
        super().__init__(re.split(r"\n *Trace Shapes:", str(message), maxsplit=1)[0])


class NumericalError(ArithmeticError):
    """A loss or gradient that is not finite. Exit code 1; the last good state has been kept.

    Args:
        rows: the rows of the batch where a log-probability is not finite, if it is one.
    """

    exit_code = 1

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = list(rows)


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
