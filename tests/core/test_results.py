"""Numbers with errors, and results that print themselves and turn into JSON."""

import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

import ppl_vae
from ppl_vae.core.results import Result, as_text, number, table
from ppl_vae.core.statistics import Estimate


@dataclass(frozen=True, repr=False)
class Small(Result):
    value: Estimate

    def fields(self) -> dict[str, Any]:
        return {"value": self.value.value, "z": self.value.z, "each": [math.inf, 1]}

    def lines(self) -> Iterator[RenderableType]:
        yield f"a [line] with brackets and {'words ' * 20}"
        made = table("name", "number")
        made.add_row("a", number(self.value.value, ".1f"))
        made.add_row("b", number(math.nan, ".1f"))
        yield made


def test_an_estimate_prints_its_error_where_there_is_one() -> None:
    assert f"{Estimate(1.0, 0.5, 'draws'):.3f}" == "1.000 ± 0.500"
    assert Estimate(3.0, 1.5, "seeds").z == 2.0
    assert math.isnan(Estimate(3.0, 0.0, "seeds").z), "without noise there is no z"
    with pytest.raises(FrozenInstanceError):
        Estimate(1.0, 1.0, "draws").value = 2.0  # type: ignore[misc]


def test_what_is_not_defined_is_nan_null_and_a_dash() -> None:
    small = Small(Estimate(1.25, 0.0, "draws"))
    assert math.isnan(small.value.z)
    assert small.asdict() == {"value": 1.25, "z": None, "each": [None, 1]}
    assert json.loads(small.to_json(), parse_constant=pytest.fail) == small.asdict()
    assert small["value"] == 1.25
    lines = str(small).splitlines()
    assert lines[0] == f"a [line] with brackets and {'words ' * 20}".rstrip() or lines[0].startswith("a [line] with")
    assert [line.split() for line in lines[1:]] == [["name", "number"], ["a", "1.2"], ["b", "–"]]
    assert repr(small) == str(small)


def test_lines_are_never_broken_and_tables_are_as_wide_as_asked() -> None:
    small = Small(Estimate(1.25, 0.0, "draws"))
    first, *rest = as_text(small, width=30).splitlines()
    assert len(first) > 100
    assert max(map(len, rest)) <= 30


LONG = {"name": "a name of twenty-six words", "text": "several words that may well be broken into lines of their own"}


@dataclass(frozen=True, repr=False)
class Wide(Result):
    """Ten columns of numbers, and one of text."""

    def fields(self) -> dict[str, Any]:
        return {}

    def lines(self) -> Iterator[RenderableType]:
        made = table("name", *(f"column\n{i}" for i in range(10)))
        made.add_column("text", overflow="fold")
        for row in range(3):
            made.add_row(LONG["name"], *(f"-{row}{i}.{row:03}" for i in range(10)), LONG["text"])
        yield made


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 200])
def test_a_table_that_is_too_wide_goes_on_below_and_no_number_is_cut(width: int) -> None:
    text = as_text(Wide(), width=width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    words = text.split()
    for row in range(3):
        for i in range(10):
            assert words.count(f"-{row}{i}.{row:03}") == 1
    assert words.count("several") == 3
    if width == 200:
        assert len(lines) == 5, "a header of two lines, and three rows"


def test_keys_stand_in_each_piece_and_a_number_stays_with_its_error() -> None:
    @dataclass(frozen=True, repr=False)
    class Keyed(Wide):
        def lines(self) -> Iterator[RenderableType]:
            made = table("dim", "prior", "ELBO", "± s.e.", "less the\nbest", "± s.e.", keys=2)
            made.add_row("2", "normal", "-38.81", "0.14", "-0.97", "0.71")
            yield made

    assert [line.rstrip() for line in as_text(Keyed(), width=40).splitlines()] == [
        "dim  prior     ELBO  ± s.e.",
        "2    normal  -38.81    0.14",
        "",
        "             less the",
        "dim  prior       best  ± s.e.",
        "2    normal     -0.97    0.71",
    ]


def test_print_leaves_the_writing_to_python() -> None:
    """So that a reader who leaves, a broken pipe, is met where the command line expects it."""

    class Left(io.StringIO):
        def write(self, text: str) -> int:
            if text:
                raise BrokenPipeError
            return 0

    with pytest.raises(BrokenPipeError):
        Small(Estimate(1.0, 1.0, "draws")).print(Console(file=Left()))


def test_no_number_is_shown_as_a_negative_zero() -> None:
    """`z` in a format takes the sign from what is rounded to 0."""
    assert (number(-0.001, ".2f"), number(-0.01, ".2f"), number(math.nan, ".2f")) == ("0.00", "-0.01", "–")
    for path in Path(ppl_vae.__file__).parent.rglob("*.py"):
        assert not re.search(r":\.\df\}", path.read_text()), f"{path}: write {{x:z.2f}}"
