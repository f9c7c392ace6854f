"""Csv files as people have them, and `columns.toml`: what is understood, and what is refused in one or two lines."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ppl_vae.core.errors import InputError
from ppl_vae.data.columns import choose, detect, read_table, read_toml, refuse_unclear, write_toml


@pytest.fixture
def frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Sixty people, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "height": rng.normal(170, 9, 60).round(1),
            "sex": rng.choice(["f", "m"], 60),
            "city": rng.choice(["Bonn", "Köln, Deutz", "Ulm"], 60),
            "born": [f"{1 + i % 28}.{1 + i % 12}.{1950 + i}" for i in range(60)],
        }
    )


@pytest.mark.parametrize(
    "written",
    [
        {"sep": ","},
        {"sep": ";", "decimal": ",", "encoding": "utf-8-sig"},
        {"sep": "\t", "encoding": "utf-16"},
        {"sep": "|", "lineterminator": "\r\n"},
        {"sep": ";", "decimal": ",", "quoting": 1},
    ],
)
def test_the_same_table_in_other_letters(frame: pd.DataFrame, written: dict) -> None:
    frame.to_csv("a.csv", index=False, **written)
    schema = detect(frame, "frame")
    assert schema.kinds == "real,binary,categorical:3,real"
    table = read_table("a.csv")
    assert choose(table) == schema
    assert np.array_equal(schema.encode(table.frame, "a.csv"), schema.encode(frame, "frame"))
    back = schema.decode(schema.encode(frame, "frame"))
    assert back["born"].dt.strftime("%Y-%m-%d").tolist()[:2] == ["1950-01-01", "1951-02-02"]


def test_how_it_was_read_is_said(frame: pd.DataFrame) -> None:
    frame.to_csv("a.csv", index=False, sep=";", decimal=",")
    assert read_table("a.csv").about == "a.csv: 60 rows, 4 columns; separated by semicolons, decimal comma, UTF-8"


def test_parquet_and_chosen_columns(frame: pd.DataFrame) -> None:
    frame.assign(born=pd.to_datetime(frame["born"], format="%d.%m.%Y")).to_parquet("a.parquet")
    schema = choose(read_table("a.parquet:height,born"))
    assert schema.names == ("height", "born")
    assert {each.name for each in schema.left_out} == {"sex", "city"}
    assert schema.columns[1].holds == "date"


BROKEN = {
    "no rows": ("a,b\n", "a.csv has no rows"),
    "empty": ("", "a.csv is empty"),
    "names twice": ("a,b,a\n1,2,3\n", "a.csv has two columns that are called 'a'"),
    "ragged": ("a,b\n1,2\n1,2,3\n", "a.csv: row 1 has 3 cells, and there are 2 columns"),
    "one row": ("a,b\n1,x\n", "no column is left for the model: left out are a (constant), b (constant)"),
    "delimiter": ("a:b\n1:2\n3:4\n5:6\n", "a.csv was read as one column, 'a:b'"),
    "thousands": ("a;b\n1,100;x\n2,200;y\n", "is the comma of '1,100' a decimal sign? it may set off thousands"),
    "two signs": ("a;b\n1,5;x\n2.5;y\n", "is the comma of '1,5' a decimal sign? '2.5' has a point"),
    "latin": ("a,b\n1,é\n2,x\n", "a.csv is not UTF-8: line 2 holds the byte 0xe9"),
    "mixed": ("a,b\n" + "".join(f"{i},{i}.5\n" for i in range(20)) + "7,tall\n", "such as 'tall': put them right"),
    "texts": ("a,b\n" + "".join(f"{i % 3},t{i % 200}\n" for i in range(500)), "200 different texts in 500 rows"),
    "dates": (
        "a,b\n" + "".join(f"0{i % 9 + 1}/0{i % 8 + 1}/2020,{i % 3}\n" for i in range(20)),
        "%d/%m/%Y or %m/%d/%Y",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_not_clear_is_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = BROKEN[case]
    Path("a.csv").write_bytes(content.encode("latin1" if case == "latin" else "utf-8"))
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        refuse_unclear(choose(read_table("a.csv")), "a.csv")
    assert str(raised.value).count("\n") <= 1


def test_what_the_model_does_not_see_is_said(frame: pd.DataFrame) -> None:
    frame.assign(gone=None, row=range(60), name=[f"p{i}" for i in range(60)]).to_csv("a.csv", index=False)
    left_out = {each.name: (each.reason, each.why) for each in choose(read_table("a.csv")).left_out}
    assert left_out == {
        "gone": ("constant", "each cell is missing"),
        "row": ("identifier", "it counts the rows from 0 to 59"),
        "name": ("identifier", "each row has another text"),
    }


def test_columns_toml_goes_there_and_back(frame: pd.DataFrame) -> None:
    odd = frame.assign(**{'odd "name" \\ é': [["a\t1", "b"][i % 2] for i in range(60)]}, k=[i % 4 for i in range(60)])
    schema = choose(read_table(odd), label="city")
    write_toml(schema, Path("columns.toml"), "a.csv")
    assert read_toml(Path("columns.toml")) == schema


def test_columns_toml_has_the_last_word(frame: pd.DataFrame) -> None:
    frame["city"] = [f"c{i % 40}" for i in range(60)]
    frame.loc[3, "sex"] = "unknown"
    frame.to_csv("a.csv", index=False)
    assert [each.name for each in choose(read_table("a.csv")).unclear] == ["city"]
    Path("columns.toml").write_text(
        'missing = ["", "unknown"]\n[[column]]\nname = "sex"\nkind = "binary"\n'
        '[[column]]\nname = "city"\nkind = "categorical"\n[[column]]\nname = "height"\nkind = "positive"\n'
        '[[column]]\nname = "born"\nkind = "left out"\n'
    )
    table = read_table("a.csv")
    schema = choose(table, "columns.toml")
    assert schema.kinds == "binary,categorical:40,positive"
    assert schema.columns[0].labels == ("f", "m")
    assert np.isnan(schema.encode(table.frame, "a.csv")).sum() == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[column\n", "columns.toml can't be read"),
        ("[[column]]\nkind = 'real'\n", "columns.toml: block 0 of [[column]] has no name"),
        ("[[column]]\nname = 'a'\n", "column 'a' has no kind: there are real, positive"),
        ("[[column]]\nname = 'a'\nkind = 'reel'\n", "column 'a' has the kind 'reel'"),
        ("[[column]]\nname = 'a'\nkind = 'real'\nlevels = 3\n", "column 'a': 'levels' is not known"),
        ("[[column]]\nname = 'a'\nkind = 'binary'\nlabels = 'xy'\n", "column 'a': labels is a list"),
        ("[[columns]]\nname = 'a'\n", "'columns' is not known: there are missing and [[column]]"),
        ("", "no column is left for the model"),
    ],
)
def test_a_columns_toml_that_is_none(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "columns.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        read_toml(path)
