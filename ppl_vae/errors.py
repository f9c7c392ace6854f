"""The two ways a command can fail on purpose. Each carries the exit code of its kind."""


class InputError(ValueError):
    """Bad input: a file, a name, data or a program that does not fit. Exit code 2.

    The message is one or two lines: what is wrong, where, and what to do.
    """

    exit_code = 2


class NumericalError(ArithmeticError):
    """A loss or gradient that is not finite. Exit code 1; the last good state has been kept."""

    exit_code = 1
