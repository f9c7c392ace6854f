"""What a verb returns: a result knows its fields, prints itself, and turns into JSON."""

import io
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from ppl_vae.core.files import finite, to_json

WIDTH = 80


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
        """Print to standard output: lines are never broken, tables are as wide as the terminal."""
        console = console or Console()
        with console.capture() as text:  # so that a reader who leaves meets Python's own print
            for part in self.lines():
                if isinstance(part, str):
                    console.print(part, highlight=False, markup=False, soft_wrap=True)
                else:
                    console.print(part)
        print(text.get(), end="", file=console.file)

    def __str__(self) -> str:
        return as_text(self)

    __repr__ = __str__


def as_text(result: Result, width: int = WIDTH) -> str:
    """What `print` prints, in so many columns."""
    text = io.StringIO()
    result.print(Console(file=text, width=width, legacy_windows=False))
    return text.getvalue().rstrip("\n")


def table(*headers: str, gap: int = 2) -> Table:
    """A table without lines, its columns `gap` spaces apart; the first is text, the others are numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    for i, header in enumerate(headers):
        made.add_column(header, justify="right" if i else "left", overflow="fold", no_wrap=bool(i))
    return made


def counted(count: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {what}{'s' * (count != 1)}"


def number(x: float, form: str) -> str:
    """A number in a table: a dash where it is not defined, and never -0.00."""
    return "–" if x != x else format(x, f"z{form}")
