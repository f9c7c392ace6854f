"""`ppl-vae`: arguments in, exit code out. Every verb's options are those of its function; `--help` imports no torch."""

import contextlib
import inspect
import io
import os
import re
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, make_dataclass
from types import FrameType
from typing import Annotated, Any, Literal, NoReturn, TextIO, get_args, get_origin, get_type_hints

import tyro
from typing_extensions import Doc

import ppl_vae
from ppl_vae import verbs
from ppl_vae.core.errors import InputError, NumericalError
from ppl_vae.core.results import Result
from ppl_vae.training.config import FitConfig
from ppl_vae.verbs._completion import Shell, script
from ppl_vae.verbs._options import Flag


@dataclass(frozen=True, kw_only=True)
class Command:
    """The options of one verb as they were typed, and those that every verb has."""

    json: Annotated[bool, Doc("Print one JSON object to standard output, and nothing else there.")] = False
    quiet: Annotated[
        bool,
        Doc("Print nothing to standard error but warnings and errors: no progress. The result is printed as ever."),
    ] = False
    debug: Annotated[bool, Doc("On an error, show the traceback.")] = False

    def call(self, verb: str, typed: Sequence[str]) -> int:
        """Call the verb; print its result for a person or a program; return the exit code.

        Args:
            typed: all that was typed. The verb gets no option at its default that was not, so that it can tell.
        """
        function = verbs.get(verb)
        options = {name: self._value(name, flag) for name, flag in flags(function).items()}
        said = {each.partition("=")[0].removeprefix("--").replace("-", "_") for each in typed if each.startswith("--")}
        defaults = inspect.signature(function).parameters
        result: Result = function(**{n: x for n, x in options.items() if n in said or x != defaults[n].default})
        if self.json:
            print(result.to_json())
        else:
            result.print()
        sys.stdout.flush()  # here, where a reader that has gone away is no error
        return result.exit_code

    def _value(self, name: str, flag: Flag) -> Any:
        return flag.read(self.json or self.quiet if flag.type is None else getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Print what makes a shell complete verbs, options and names: source <(ppl-vae completion bash)."""

    shell: Annotated[tyro.conf.Positional[Shell], Doc("The shell that reads it.")]

    def call(self, verb: str, typed: Sequence[str]) -> int:
        print(script(self.shell, commands()))
        return 0


def commands() -> dict[str, Callable[..., Any]]:
    """What may stand after `ppl-vae`: the verbs, and `completion`."""
    return {name: command(verbs.get(name)) for name in verbs.names()} | {"completion": Completion}


def command(function: Callable[..., Any]) -> type[Command]:
    """The options of a verb, as tyro takes them: a field for each parameter of its function."""
    shared, parameters = get_type_hints(FitConfig, include_extras=True), inspect.signature(function).parameters
    options: list[Any] = []
    for name, flag in flags(function).items():
        if flag.type is None:
            continue
        described = [
            *get_args(parameters[name].annotation),
            *get_args(shared.get(name)),
        ]  # an option without a text is one of fit's
        doc = next(each for each in described if isinstance(each, Doc))
        required = flag.default is inspect.Parameter.empty
        hint: Any = Annotated[flag.type, doc, *_unsaid(flag)]
        options.append((name, hint, field() if required else field(default=flag.default)))
    made = make_dataclass(function.__name__, options, bases=(Command,), frozen=True, kw_only=True)
    made.__doc__ = (inspect.getdoc(function) or "").partition("\n\n")[0]
    return made


def _unsaid(flag: Flag) -> list[Any]:
    """Where an option is not given unless it is said: no `(default: None)`, and no None among its values."""
    if flag.default not in (None, ()):
        return []
    inner = next((each for each in get_args(flag.type) if each is not type(None)), None)
    optional = type(None) in get_args(flag.type)
    values = get_args(inner) if get_origin(inner) is Literal else ()
    metavar = f"{{{','.join(values)}}}" if values else getattr(inner, "__name__", "").upper() if optional else None
    return [tyro.conf.arg(metavar=metavar, help_behavior_hint="")]


def flags(function: Callable[..., Any]) -> dict[str, Flag]:
    """How the command line takes each parameter of a verb."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        hint = parameter.annotation
        flag = next((each for each in get_args(hint) if isinstance(each, Flag)), Flag(_plain(hint)))
        found[name] = Flag(flag.type, parameter.default if flag.default is ... else flag.default, flag.read)
    return found


def _plain(hint: Any) -> Any:
    return hint.__origin__ if hasattr(hint, "__metadata__") else hint


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
        with _terminable(), warnings.catch_warnings():
            warnings.showwarning = _warn
            return parse(args).call(args[0], args)
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


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a verb with exit code 143, whenever it comes; `fit` saves its state first.

    It raises nothing, since what is imported may pass over an exception, and go on broken. Files are whole or not there
    whenever a process ends.
    """

    def end(signum: int, frame: FrameType | None) -> NoReturn:
        os.write(2, b"error: terminated\n")
        os._exit(128 + signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def parse(args: Sequence[str]) -> "Command | Completion":
    """The verb that the arguments ask for, with its options.

    Raises:
        InputError: what tyro says in its box, in one or two lines.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.extras.subcommand_cli_from_dict(
                commands(),
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
    return f"{re.sub(CHOICES, _sorted, paragraphs[0])}\n{hint}"


CHOICES = re.compile(r"(?<=Expected one of \()[^)]*")


def _sorted(choices: re.Match[str]) -> str:
    """The values that an option takes, in an order that stays; None is how an option is left out."""
    return ", ".join(sorted(set(choices[0].split(", ")) - {"'None'"}))


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
