"""`ppl-vae`: arguments in, exit code out. `--help` and a wrong word import no torch."""

import contextlib
import io
import os
import re
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

import tyro

import ppl_vae
from ppl_vae.core.errors import InputError, NumericalError
from ppl_vae.verbs.commands import VERBS, Verb


def main(args: Sequence[str] | None = None) -> int:
    """Run one verb. Exit codes: 0; 1 a negative verdict or a numerical stop; 2 bad input; 130 Ctrl-C; 143 SIGTERM."""
    args = sys.argv[1:] if args is None else list(args)
    debug = "--debug" in args
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without ± gets a question mark, not a traceback
            stream.reconfigure(errors="replace")
    if args == ["--version"]:
        print(f"ppl_vae {ppl_vae.__version__}")
        return 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return parse(args).run_verb()
    except InputError as error:
        again = f"\nppl-vae {shlex.join([*args, *error.add])}" if error.add else ""
        return _fail(f"{error}{again}", error.exit_code, debug)
    except NumericalError as error:
        return _fail(str(error), error.exit_code, debug)
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", getattr(error, "exit_code", 128 + signal.SIGINT), debug)
    except BrokenPipeError:  # the reader has seen enough: what is left goes nowhere, quietly also at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(str(error), InputError.exit_code, debug)


def parse(args: Sequence[str]) -> Verb:
    """The verb that the arguments ask for.

    Raises:
        InputError: what tyro says in its box, in one or two lines.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.extras.subcommand_cli_from_dict(
                VERBS,
                prog="ppl-vae",
                description="Variational autoencoders as Pyro programs, with numbers that can be trusted.",
                args=args,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise InputError(_unboxed(box.getvalue())) from None


def _unboxed(box: str) -> str:
    """tyro's error box as two lines: what is wrong, and its best suggestion."""
    lines = [line.strip("│ ") for line in box.splitlines()]
    paragraphs = [""]
    for line in lines:
        if re.fullmatch(r"[─-]{3,}", line):
            paragraphs.append("")
        elif line and line[0] not in "╭╰":
            paragraphs[-1] = f"{paragraphs[-1]} {line}".strip()
    if "╭" not in box:  # where the terminal can't show it, the title is a paragraph of its own
        paragraphs.pop(0)
    paragraphs = [p for p in paragraphs if p]
    hint = next((p for p in paragraphs[1:] if p.startswith(("Perhaps", "Available"))), paragraphs[-1])
    return f"{paragraphs[0]}\n{hint}"


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """`warnings.showwarning` for a person: what, and not in which line of ours."""
    print(f"warning: {message}", file=sys.stderr)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
