"""Tables with faults of every kind, and bytes that are none, described; and files of columns."""

import csv
import io
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from hypothesis import strategies as st
from support.fuzzing import Outcome, called, damages, few_or, for_all

from ppl_vae.data.columns.toml import KEYS, KINDS, OUT

DELIMITERS = {"commas": ",", "semicolons": ";", "tabs": "\t", "bars": "|"}
ROWS = 24
NUMBERS = ("x", "y", "n")


def sound(rows: int = ROWS) -> dict[str, list[str]]:
    """Two columns of real numbers, one of whole ones and one of two texts."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=rows), rng.normal(size=rows)
    n = rng.poisson(4, size=rows)
    words = ["up" if i % 3 else "down" for i in range(rows)]
    return {"x": [f"{v:.3f}" for v in x], "y": [f"{v:.3f}" for v in y], "n": list(map(str, n)), "t": words}


def text_of(columns: dict[str, list[str]], delimiter: str = ",", end: str = "\n") -> str:
    lines = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    return "".join(delimiter.join(line) + end for line in lines)


def describe(file: Path, *args: str | Path) -> Outcome:
    return called("describe", file, "--json", *args, names=(file.name, *(str(a) for a in args[1:])))


def kinds(found: Outcome) -> dict[str, str]:
    told = json.loads(found.out)
    columns = {each["name"]: each["kind"] for each in told["columns"]}
    return columns | {each["name"]: each["reason"] for each in told["left_out"]}


CELLS = st.one_of(
    st.sampled_from(
        [
            "abc", "1,5", "1.5.2", "12abc", "1e", "--5", "0x10", "1_000", "٣", "½", "²", "inf", "-inf", "Infinity",
            "1e999",
            "TRUE", "2024-01-31", "\x00", '"', "'1'", "=1+1", "1 2", "NAN!", "#REF!", "\ufeff1", "−1", "$5", "5%",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters=',\r\n"'), min_size=1, max_size=8),
)  # fmt: skip


def is_number(cell: str) -> bool:
    """As Python reads it; a digit of another script or an underscore is none."""
    try:
        return bool(np.isfinite(float(cell))) and cell.isascii() and "_" not in cell
    except ValueError:
        return False


MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none", "?", "-", "--", "."}


@few_or(1000, few=20)
def test_a_cell_that_is_no_number_among_numbers(place: Path, count: int) -> None:
    """It is refused, its column is not taken for numbers, or it is counted as missing where it is spelled so."""

    def holds(case: tuple[str, int, str]) -> None:
        name, row, cell = case
        columns = sound()
        columns[name][row] = cell
        file = place / "cell.csv"
        file.write_text(text_of(columns), encoding="utf-8")
        found = describe(file)
        if found.code == 2 or is_number(cell.strip()):
            return
        if cell.strip().lower() in MISSING:
            told = {each["name"]: each for each in json.loads(found.out)["columns"]}
            assert told[name]["missing_share"] == 1 / ROWS
        else:
            assert kinds(found)[name] not in ("real", "count", "whole", "positive", "shaped"), cell

    for_all(st.tuples(st.sampled_from(NUMBERS), st.integers(0, ROWS - 1), CELLS), holds, count)


@few_or(800, few=20)
def test_lines_that_do_not_fit(place: Path, count: int) -> None:
    """Cells too many or too few in a line, in a table that is delimited in any of four ways."""

    def holds(case: tuple[str, int, int, str]) -> None:
        delimiter, row, more, end = case
        lines = text_of(sound(), delimiter, end).splitlines(keepends=True)
        cells = lines[row].rstrip("\r\n").split(delimiter)
        cells = cells + ["1.5"] * more if more > 0 else cells[:more]
        file = place / "ragged.csv"
        file.write_bytes("".join([*lines[:row], delimiter.join(cells) + end, *lines[row + 1 :]]).encode())
        assert describe(file).code == 2

    changes = st.sampled_from([-3, -2, -1, 1, 2, 30])
    ends = st.sampled_from(["\n", "\r\n"])
    for_all(st.tuples(st.sampled_from([",", ";", "\t"]), st.integers(1, ROWS), changes, ends), holds, count)


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "cp037", "shift-jis"]


@few_or(500, few=20)
def test_encodings_names_and_decimal_commas(place: Path, count: int) -> None:
    """What is accepted has the rows, the columns and the numbers that were written."""

    def holds(case: tuple[str, str, str, bool, int]) -> None:
        encoding, delimiter, name, comma, rows = case
        columns = sound(rows)
        columns = {name if old == "x" else old: cells for old, cells in columns.items()}
        written = [float(cell) for cell in columns[name]]
        if comma:
            columns = {old: [cell.replace(".", ",") for cell in cells] for old, cells in columns.items()}
        try:
            content = text_of(columns, delimiter).encode(encoding)
        except UnicodeEncodeError:
            return
        file = place / "encoded.csv"
        file.write_bytes(content)
        found = describe(file)
        if found.code == 2:
            return
        told = json.loads(found.out)
        assert told["rows"] == rows
        assert len(told["columns"]) + len(told["left_out"]) == 4
        column = next((each for each in told["columns"] if each["name"] == name.strip()), None)
        if column is not None and column["kind"] in ("real", "shaped"):
            np.testing.assert_allclose(column["range"], [min(written), max(written)])

    names = st.one_of(
        st.sampled_from(["x", "größe", "名前", "x" * 5000, "a b", " x ", "é", "\u202ex", "😀",
             "x.1", "nan", "-5", "1"]),
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"], exclude_characters=",;\t|\r\n\"yntx"), min_size=1),
    )  # fmt: skip
    shapes = st.sampled_from([0, 1, 2, 3, 24])
    cases = st.tuples(st.sampled_from(ENCODINGS), st.sampled_from([",", ";", "\t"]), names, st.booleans(), shapes)
    for_all(cases.filter(lambda case: not (case[3] and case[1] == ",")), holds, count)


@few_or(900, few=20)
def test_bytes_that_are_damaged(place: Path, count: int) -> None:
    """What is accepted is a table to Python's own reader too, of as many rows and columns."""

    def holds(damaged: bytes) -> None:
        file = place / "damaged.csv"
        file.write_bytes(damaged)
        found = describe(file)
        if found.code == 2:
            return
        told = json.loads(found.out)
        text = damaged.decode("utf-16" if damaged[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")
        delimiter = next(mark for word, mark in DELIMITERS.items() if f"separated by {word}" in told["about"])
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        full = [line for line in lines if any(cell.strip() for cell in line)]
        assert {len(line) for line in full} == {len(told["columns"]) + len(told["left_out"])}
        assert told["rows"] in (len(full), len(full) - 1)

    content = text_of(sound()).encode()
    for_all(st.one_of(damages(content), damages(text_of(sound(), ";").encode()), st.binary(max_size=60)), holds, count)


@few_or(400, few=10)
def test_parquet_that_is_damaged(place: Path, count: int) -> None:
    """What is accepted has the columns that were written, and their numbers, unless a page of numbers was hit.

    Pages of parquet have no checksum as pyarrow writes them, so that the numbers of one can't be told from others.
    """
    frame = pandas.DataFrame({name: pandas.to_numeric(cells) for name, cells in sound().items() if name != "t"})
    buffer = io.BytesIO()
    frame.to_parquet(buffer)

    def holds(damaged: bytes) -> None:
        file = place / "damaged.parquet"
        file.write_bytes(damaged)
        found = describe(file)
        if found.code == 0:
            read = pandas.read_parquet(file)
            told = json.loads(found.out)
            assert told["rows"] == len(read)
            assert set(kinds(found)) == set(map(str, read.columns))

    for_all(st.one_of(damages(buffer.getvalue()), st.binary(max_size=60)), holds, count)


VALUES: Any = st.recursive(
    st.one_of(
        st.integers(), st.floats(), st.booleans(), st.text(max_size=5),
        st.sampled_from([*KINDS, OUT, "text", "number", "time", "date"]),
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


def toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, float):
        return "nan" if value != value else "inf" if value == np.inf else "-inf" if value == -np.inf else repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else str(value)


@few_or(700, few=20)
def test_files_of_columns(place: Path, count: int) -> None:
    """What is accepted has the keys and the kinds that there are, and columns of the table."""
    table = place / "sound.csv"
    table.write_text(text_of(sound()))
    usual = place / "usual.toml"
    if not usual.exists():
        assert describe(table, "--out", usual).code == 0
    content = usual.read_bytes()

    def changed(case: tuple[int, str, Any]) -> bytes:
        line, key, value = case
        lines = content.decode().splitlines()
        at = line % len(lines)
        lines[at : at + 1] = [f"{key} = {toml_value(value)}"]
        return "\n".join(lines).encode(errors="replace")

    def holds(given: bytes) -> None:
        file = place / "columns.toml"
        file.write_bytes(given)
        found = describe(table, "--columns", file)
        if found.code == 2:
            return
        told = tomllib.loads(given.decode("utf-8-sig"))
        assert set(told) <= {"missing", "column"}
        for block in told["column"]:
            assert set(block) <= set(KEYS)
            assert block["kind"] in (*KINDS, OUT)
            assert block["kind"] == OUT or block["name"] in sound()
        shown = {each["name"]: each["kind"] for each in json.loads(found.out)["columns"]}
        assert shown == {each["name"]: each["kind"] for each in told["column"] if each["kind"] != OUT}

    keys = st.sampled_from([*KEYS, "missing", "colour", "", "[column", "x.y"])
    edits = st.tuples(st.integers(0, 200), keys, VALUES).map(changed)
    for_all(st.one_of(edits, edits, damages(content), st.binary(max_size=40)), holds, count)
