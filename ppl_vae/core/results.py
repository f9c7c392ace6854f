"""What a verb returns: a result knows its fields, prints itself, and turns into JSON."""

import io
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Column, Table

from ppl_vae.core.files import finite, to_json

WIDTH = 80
TEXT = 16  # columns that a text is broken into lines of, at least
COMMAND = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")  # of a terminal, but for colours
UNBROKEN = 10_000  # columns, in which everything has a place


class Result:
    """What all results have in common. They are frozen dataclasses, and lists of lines and tables for a person.

    A number that is not defined is NaN in an attribute, null in JSON, and a dash in a table. `result[key]` reads what
    the JSON holds under that key.
    """

    @property
    def exit_code(self) -> int:
        """The exit code of the command that prints it: 0 unless it is a negative verdict."""
        return 0

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """What the JSON holds, with NaN for a number that is not defined."""

    @abstractmethod
    def lines(self) -> Iterable[RenderableType]:
        """What a person reads: strings, each a line, and tables."""

    def asdict(self) -> dict[str, Any]:
        """What the JSON holds: numbers, text, lists and dicts, None for a number that is not defined."""
        return finite(self.fields())

    def to_json(self, indent: int | None = None) -> str:
        return to_json(self.fields(), indent)

    def __getitem__(self, key: str) -> Any:
        return self.asdict()[key]

    def print(self, console: Console | None = None) -> None:
        """Print to standard output: lines are never broken, tables are at most as wide as the terminal."""
        console = console or Console()
        with console.capture() as text:  # so that a reader who leaves meets Python's own print
            for part in self.lines():
                if isinstance(part, str):
                    console.print(part, highlight=False, markup=False, soft_wrap=True)
                else:
                    pieces = fitted(part, console) if isinstance(part, Table) else [part]
                    for i, piece in enumerate(pieces):
                        console.print(*[""] * bool(i), piece, sep="\n")
        print(printable(text.get()), end="", file=console.file)

    def __str__(self) -> str:
        return as_text(self)

    __repr__ = __str__


def printable(text: str) -> str:
    """Control characters, by which a name in the data could command the terminal, as Python writes them."""
    return COMMAND.sub(lambda found: repr(found[0])[1:-1], text)


def as_text(result: Result, width: int = WIDTH) -> str:
    """What `print` prints, in so many columns."""
    text = io.StringIO()
    result.print(Console(file=text, width=width, legacy_windows=False))
    return text.getvalue().rstrip("\n")


class Grid(Table):
    """A table whose first `keys` columns say what a row is of."""

    keys = 1


def table(*headers: str, gap: int = 2, keys: int = 1) -> Grid:
    """A table without lines, its columns `gap` spaces apart; the first `keys` are text, the others are numbers."""
    made = Grid(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    made.keys = keys
    for i, header in enumerate(headers):
        text = i < keys
        made.add_column(header, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    return made


def fitted(made: Table, console: Console) -> Iterator[Table]:
    """The table, or where the console is too narrow for it several, each with the key columns and some of the others.

    So no number is cut, and none is apart from its error. Keys are broken into lines where the table is then one, or
    where they would take more than half of the width.
    """
    number, gap = getattr(made, "keys", 1), made.padding[1]
    unbroken = console.options.update(max_width=UNBROKEN)
    wide = [gap + console.measure(_of(made, column), options=unbroken).maximum for column in made.columns]
    least = [
        width if column.no_wrap else min(width, TEXT + gap) for column, width in zip(made.columns, wide, strict=True)
    ]
    keys, others = made.columns[:number], made.columns[number:]
    room, most = console.width + gap, sum(wide[:number])
    if sum(least) > room and most - gap <= console.width // 2:
        keys, least[:number] = [replace(key, no_wrap=True) for key in keys], wide[:number]
    room -= sum(least[:number])
    start = 0
    while start < len(others):
        end = start + 1
        while end < len(others) and sum(least[number + start : number + end + 1]) <= room:
            end += 1
        while start + 1 < end < len(others) and str(others[end].header).startswith("±"):
            end -= 1
        yield _of(made, *keys, *others[start:end])
        start = end


def _of(made: Table, *columns: Column) -> Table:
    """The table with these columns alone."""
    piece = Table(box=made.box, pad_edge=made.pad_edge, header_style=made.header_style, padding=made.padding)
    for c in columns:
        piece.add_column(c.header, justify=c.justify, overflow=c.overflow, no_wrap=c.no_wrap)
    for cells in zip(*(c.cells for c in columns), strict=True):
        piece.add_row(*cells)
    return piece


def counted(count: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {what}{'s' * (count != 1)}"


def number(x: float, form: str) -> str:
    """A number in a table: a dash where it is not defined, and never -0.00."""
    return "–" if x != x else format(x, f"z{form}")
