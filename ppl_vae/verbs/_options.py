"""Options that several verbs have, each typed and described once; and how the command line takes them. No torch."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import tyro
from typing_extensions import Doc

from ppl_vae.core.errors import InputError
from ppl_vae.core.threads import MOST, Threads


@dataclass(frozen=True)
class Flag:
    """How the command line takes an option whose Python type it can't write.

    Args:
        type: of the option there; None for one that it does not have.
        default: in place of the function's.
        read: from what was typed to what the function takes; without a type, from whether nothing is to be said
            beside the result.
    """

    type: Any
    default: Any = ...
    read: Callable[[Any], Any] = lambda typed: typed


def knowing_what_is_given(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The verb, which gets as `given` the names of the arguments that it is called with, be they at their default."""
    own = inspect.signature(verb)
    shown = own.replace(parameters=[p for name, p in own.parameters.items() if name != "given"])

    @functools.wraps(verb)
    def called(*args: Any, **options: Any) -> Any:
        return verb(*args, **options, given=frozenset(shown.bind(*args, **options).arguments))

    called.__signature__ = shown  # type: ignore[attr-defined]
    return called


def listed(typed: tuple[str, ...]) -> list[str] | None:
    """What was typed, or None for nothing."""
    return list(typed) or None


def _conditions(pairs: tuple[str, ...]) -> dict[str, str]:
    """`("y=3", "party=Democrat")` by their names."""
    if wrong := next((pair for pair in pairs if "=" not in pair), None):
        raise InputError(f"--given {wrong}: write it as y=3, or y=0.1,0.2, or party=Democrat")
    return {name: text for name, _, text in (pair.partition("=") for pair in pairs)}


def _threads(typed: str | None) -> Threads:
    """`"2"` or `"auto"`."""
    if typed is None or typed == "auto":
        return typed  # type: ignore[return-value]
    if not typed.isdecimal():
        raise InputError(f"--threads {typed}: it must be a number from 1 to {MOST}, or auto")
    return int(typed)


Several = tyro.conf.UseAppendAction[tuple[str, ...]]

Place: TypeAlias = str | PathLike[str]
"""A path, or a `ppl_vae.Run`, which stands for its folder."""
Program: TypeAlias = str | Path | Callable[..., Any]
"""A name, a file, `file.py:Name`, `pkg.mod:Name`, an `nn.Module` or a Pyro function."""

Model = Annotated[Program, Flag(str)]
Guide = Annotated[Program, Flag(str)]
Data = Annotated[Any, Flag(tuple[str, ...], (), listed)]
Objective = Annotated[Any, Flag(str)]
Settings = Annotated[Mapping[str, Any] | Sequence[str] | str, Flag(Several)]
ObjectiveAgain = Annotated[Any, Doc("Name the objective again, if it is a class of your own."), Flag(str | None)]
SettingsAgain = Annotated[
    Mapping[str, Any] | None,
    Doc("The settings again that were given from Python and have no text, such as a class."),
    Flag(None, read=lambda quiet: None),
]
CompileWork = Annotated[
    Literal["auto", "on", "off"],
    Doc(
        "Compile what is computed again and again: on, off, or, with auto, where that should pay. Numbers then differ "
        "by rounding."
    ),
]
ThreadsFlag = Annotated[Threads, Flag(str | None, None, _threads)]
ThreadsOfWork = Annotated[
    ThreadsFlag,
    Doc(
        "Threads of torch: a number, or auto, which measures whether one or several are faster now; by default as many "
        "as torch takes."
    ),
]
Progress = Annotated[bool, Doc("Show a progress bar on standard error."), Flag(None, read=lambda quiet: not quiet)]
Telling = Annotated[bool, Doc("Say on standard error what was compiled."), Flag(None, read=lambda quiet: not quiet)]

RunFolder = Annotated[Place, Doc("The folder of the run."), Flag(tyro.conf.Positional[Path])]
ModelAgain = Annotated[
    Program | None, Doc("Name the model again, if it is not a shipped one; once is enough."), Flag(str | None)
]
GuideAgain = Annotated[
    Program | None, Doc("Name the guide again, if it is not a shipped one; once is enough."), Flag(str | None)
]
DataAgain = Annotated[Any, Doc("The data of the run again, if they were moved."), Flag(tuple[str, ...], (), listed)]
Rows = Annotated[
    Any,
    Doc("Rows, one or more, which are read by the rules of the run; by default the run's own."),
    Flag(tuple[str, ...], (), listed),
]
ColumnsFile = Annotated[
    Any,
    Doc("Take the columns of the table for what this columns.toml says, and do not look for what they are."),
    Flag(Path | None),
]
Drop = Annotated[Sequence[str] | str | None, Doc("Leave out these columns of the table, a,b."), Flag(str | None)]
Only = Annotated[
    Sequence[str] | str | None, Doc("Leave out all columns of the table but these, a,b."), Flag(str | None)
]
LabelColumn = Annotated[str | None, Doc("Keep this column of the table aside as a label: it is no part of x.")]
Layer = Annotated[
    str | None,
    Doc(
        "Of an .h5ad or an AnnData: the layer that holds the counts; if not said, X. A model of x alone takes "
        "FILE:layers/NAME."
    ),
]
Library = Annotated[
    str | None,
    Doc(
        "Of an .h5ad or an AnnData: the column of obs to which the library size is proportional, such as size factors; "
        "if not said, it is the sum of a cell's counts."
    ),
]
Batch = Annotated[str | None, Doc("Of an .h5ad or an AnnData: the column of obs that says the batch of each cell.")]
Scale = Annotated[float | None, Doc("Divide the first field of --data by this number, in place of the run's scale.")]
Checkpoint = Annotated[int | str, Doc("Which weights are used: a step, best, last, first or middle."), Flag(str)]
Trust = Annotated[bool, Doc("Execute the programs in RUN/sources; they are printed with their hashes.")]
Force = Annotated[bool, Doc("Accept programs or data whose hash is not the run's.")]
Method = Annotated[
    Literal["exact", "sum", "quadrature", "importance", "fitted", "annealed"] | None,
    Doc(
        "How log p(x) is computed: exact by the model's own log_px, the sum over discrete latents, quadrature for "
        "up to 3 latent dimensions, importance sampling from the guide or from a proposal that is fitted to each "
        "row, or annealed importance sampling. By default the first that there is for the model; rows where the "
        "guide is not reliable get a fitted proposal, and some of those where that is not reliable are annealed."
    ),
]
NumSamples = Annotated[int, Doc("K, the draws of importance sampling for each row.")]
Seed = Annotated[int, Doc("Random seed of the draws.")]
Show = Literal["draws", "means"]
Given = Annotated[
    Mapping[str, Any] | None,
    Doc("What a conditional model is given: y=3, several numbers as y=0.1,0.2, a label as in the table. Repeatable."),
    Flag(Several, (), _conditions),
]
Out = Annotated[str | Path | None, Flag(Path | None)]
