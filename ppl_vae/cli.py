"""`ppl-vae`: arguments in, exit code out. Every verb's options are those of its function; `--help` imports no torch."""

import contextlib
import errno
import inspect
import io
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, make_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TextIO, get_args, get_origin, get_type_hints

import tyro
from typing_extensions import Doc

import ppl_vae
from ppl_vae import verbs
from ppl_vae.core.errors import InputError, NumericalError, ProcessLost
from ppl_vae.core.memory import is_out_of_memory
from ppl_vae.core.results import Result, printable
from ppl_vae.core.stops import WORDS, end, interrupt
from ppl_vae.training.config import FitConfig
from ppl_vae.verbs._box import unboxed
from ppl_vae.verbs._completion import Shell, script
from ppl_vae.verbs._options import Flag

LONGEST = 1000


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
        with _processes(verb):
            result: Result = function(**{n: x for n, x in options.items() if n in said or x != defaults[n].default})
            if self.json:
                print(result.to_json())
            else:
                result.print()
            return result.exit_code

    def _value(self, name: str, flag: Flag) -> Any:
        return flag.read(self.json or self.quiet if flag.type is None else getattr(self, name))


def _processes(verb: str) -> contextlib.AbstractContextManager[Any]:
    """The processes that torchrun has started, if it has: one reports, and an error is told once."""
    if not launched():
        return contextlib.nullcontext()
    from ppl_vae.training.distributed import joined

    return joined(verb)


def launched() -> bool:
    """Has torchrun, or another launcher that says the same in the environment, started several of this process?"""
    return os.environ.keys() >= {"MASTER_ADDR", "RANK"} and os.environ.get("WORLD_SIZE", "1") != "1"


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


@cache
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
    _open_streams()
    try:
        with _terminable(), warnings.catch_warnings():
            warnings.showwarning = _warn
            return _run(args)
    except InputError as error:
        again = f"\nppl-vae {shlex.join([*args, *error.add])}" if error.add else ""
        return _fail(f"{error}{again}", error.exit_code, debug)
    except (NumericalError, ProcessLost) as error:
        return _fail(str(error), error.exit_code, debug)
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", getattr(error, "exit_code", 128 + signal.SIGINT), debug)
    except BrokenPipeError:  # the reader has seen enough: what is left goes nowhere, quietly also at exit
        _discard(sys.stdout)
        return 0
    except OSError as error:
        return _fail(_of_system(error), InputError.exit_code, debug)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        less = "ask for less at a time: fewer rows, draws or hidden units, or a smaller --batch-size"
        return _fail(f"there is not enough memory for this; {less}", InputError.exit_code, debug)


def _run(args: Sequence[str]) -> int:
    try:
        if args == ["--version"]:
            print(f"ppl_vae {ppl_vae.__version__}")
            return 0
        return parse(args).call(args[0], args)
    finally:
        sys.stdout.flush()  # here, where an error can be told


def _open_streams() -> None:
    """Give a stream that is closed a place to write to; on a terminal without ± print a question mark for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # the lowest descriptor that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        if mode == "w" and isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _of_system(error: OSError) -> str:
    """What the operating system refuses: which file, and why."""
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF):
        _discard(sys.stdout)
        return f"standard output can't be written: {error.strerror}"
    if error.filename is None or not error.strerror:
        return str(error)
    return f"{os.fsdecode(error.filename)} can't be read or written: {error.strerror}"


def _discard(stream: TextIO) -> None:
    """What is left in its buffer goes nowhere, quietly also at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a verb with exit code 143, whenever it comes, and Ctrl-C with 130; `fit` saves its state first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in WORDS}
    signal.signal(signal.SIGTERM, end)
    if before[signal.SIGINT] != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


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
        raise InputError(unboxed(box.getvalue())) from None


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """`warnings.showwarning` for a person: what, and not in which line of ours."""
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"warning: {shorten(str(message))}", file=sys.stderr)


def shorten(message: str) -> str:
    """Lines of at most `LONGEST` characters, the middle of a longer one left out, as of a name that fills pages."""
    half = LONGEST // 2
    return "\n".join(x if len(x) <= LONGEST else f"{x[:half]} … {x[-half:]}" for x in printable(message).split("\n"))


def _fail(message: str, code: int, debug: bool) -> int:
    try:
        if debug:
            traceback.print_exc()
        print(f"error: {shorten(message)}", file=sys.stderr)
    except OSError:  # nobody reads it
        _discard(sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
