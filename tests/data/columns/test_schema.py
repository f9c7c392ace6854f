"""A schema: cells turn into numbers and back, and what it does not know is refused in one line."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from ppl_vae.core.errors import InputError
from ppl_vae.data.columns import Column, Schema, Table, choose, detect, schema_from


def table(rows: int = 60) -> pd.DataFrame:
    """A column of every sort, with a missing cell in some of them."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": range(1, rows + 1),
            "party": rng.choice(["Dem", "Ind", "Rep"], rows),
            "voted": pd.array(rng.random(rows) < 0.5, dtype="boolean"),
            "age": rng.poisson(40, rows) + rng.integers(0, 30, rows),
            "income": np.exp(1.5 * rng.normal(size=rows)),
            "score": rng.normal(size=rows),
            "level": rng.integers(-2, 3, rows),
            "code": rng.choice([1, 5, 9], rows),
            "day": pd.date_range("2020-01-01", periods=rows),
            "stamp": pd.date_range("2020-01-01 12:30", periods=rows, freq="36h"),
            "zip": rng.choice(["01234", "02345", "99999"], rows),
            "size": pd.Categorical(rng.choice(["small", "large"], rows), ["small", "medium", "large"], ordered=True),
            "year": rng.integers(1990, 2020, rows),
            "half": rng.choice([1.5, 2.5], rows),
            "same": 3,
        }
    )
    frame["party"] = frame["party"].astype(object)
    frame.loc[3, "party"], frame.loc[4, "age"], frame.loc[6, "day"] = None, np.nan, pd.NaT
    frame.loc[5, "voted"] = pd.NA
    return frame


def test_each_sort_of_column_has_its_kind() -> None:
    schema = detect(table(), "a.csv")
    assert dict(zip(schema.names, schema.kinds.split(","), strict=True)) == {
        "party": "categorical:3", "voted": "binary", "age": "whole", "income": "positive", "score": "real",
        "level": "ordinal:5", "code": "categorical:3", "day": "real", "stamp": "real", "zip": "categorical:3",
        "size": "ordinal:3", "year": "whole", "half": "binary",
    }  # fmt: skip
    assert [(each.name, each.reason) for each in schema.left_out] == [("id", "identifier"), ("same", "constant")]
    assert all(each.why for each in (*schema.columns, *schema.left_out))


def test_cells_come_back_with_their_labels_and_types() -> None:
    frame = table()
    schema = detect(frame, "a.csv")
    x = schema.encode(frame[frame.columns[::-1]], "a.csv")  # in any order
    assert x.dtype == np.float64
    assert np.isnan(x).sum() == 4
    back = schema.decode(x)
    assert list(back.columns) == list(schema.names)
    for name in schema.names:
        there = frame[name].notna()
        assert (back[name].isna() == ~there).all()
        assert (back[name][there].astype(object) == frame[name][there].astype(object)).all(), name
    dtypes = {name: str(back[name].dtype) for name in ("voted", "age", "level", "half")}
    assert dtypes == {"voted": "boolean", "age": "Int64", "level": "int64", "half": "float64"}
    assert back["day"].dtype.kind == back["stamp"].dtype.kind == "M"
    assert np.array_equal(schema.encode(back, "again"), x, equal_nan=True)


def test_a_text_file_gives_the_same_numbers() -> None:
    frame = table().drop(columns="size")
    schema = detect(frame, "a.csv")
    texts = frame.astype(object).map(lambda cell: "n/a" if pd.isna(cell) else str(cell))
    assert detect(texts, "a.csv").kinds == schema.kinds
    assert np.array_equal(schema.encode(texts, "a.csv"), schema.encode(frame, "a.csv"), equal_nan=True)


def test_numbers_that_no_cell_can_hold_go_to_the_nearest() -> None:
    columns = (
        Column("a", "categorical", "text", ("x", "y", "z")),
        Column("b", "positive", "integer"),
        Column("c", "real", "date", dates="ISO8601"),
    )
    back = Schema(columns).decode(np.array([[1.6, 0.2, 0.4], [-0.01, 2.6, 365.0]]))
    assert back["a"].tolist() == ["z", "x"]
    assert back["b"].tolist() == [1, 3]
    assert back["c"].dt.strftime("%Y-%m-%d").tolist() == ["1970-01-01", "1971-01-01"]


@pytest.mark.parametrize("code", [-1.0, 3.0])
def test_a_code_that_no_label_has_is_refused(code: float) -> None:
    schema = Schema((Column("a", "categorical", "text", ("x", "y", "z")),))
    with pytest.raises(InputError, match="row 1, column 'a': no label has the code"):
        schema.decode(np.array([[0.0], [code]]))


def test_single_precision_shows_no_digits_of_its_own() -> None:
    assert Schema((Column("a", "real"),)).decode(np.array([[0.3]], np.float32))["a"].tolist() == [0.3]


def kind_of(x: np.ndarray) -> str:
    (found,) = (*(made := detect(pd.DataFrame({"x": x, "y": np.arange(len(x)) % 7}), "a")).columns, *made.left_out)[:1]
    return found.told if isinstance(found, Column) else found.reason


def test_numbers_are_told_apart_by_their_shapes() -> None:
    rng = np.random.default_rng(1)
    normal = rng.normal(size=500)
    assert kind_of(normal) == "real"
    assert kind_of(np.where(normal > 0, normal, 0.0)) == "shaped@0"
    assert kind_of(np.where(normal > 0, normal + 3, normal - 3)) == "shaped"
    assert kind_of(rng.uniform(size=500)) == "shaped"
    assert kind_of(np.exp(normal)) == "positive"
    assert kind_of(rng.choice(np.arange(20) / 8, 500)) == "ordinal:20"
    assert kind_of(rng.poisson(30, 500)) == kind_of(rng.integers(-50, 50, 500)) == "whole"
    counting = rng.permutation(500) + 1000
    found = detect(pd.DataFrame({"x": counting, "y": normal}), "a").left_out
    assert [(each.name, each.reason) for each in found] == [("x", "identifier")]


def test_a_comma_that_may_set_off_thousands_is_asked_about() -> None:
    texts = [f"{1000 + i:,}" if i % 2 else str(i) for i in range(60)]
    (out,) = detect(pd.DataFrame({"x": texts, "y": np.arange(60) % 7}), "a").unclear
    assert "the comma of '1,001' may set off thousands" in out.why


def test_spikes_belong_to_a_shaped_column() -> None:
    assert Column("a", "shaped", spikes=(0.0, 0.25)).told == "shaped@0@0.25"
    with pytest.raises(InputError, match="column 'a' is real, and has spikes: only shaped has them"):
        Column("a", "real", spikes=(0.0,))


def test_json() -> None:
    schema = choose(Table(table(), "a.csv"), drop="zip,id", label="party")
    assert schema_from(json.loads(json.dumps(schema.asdict()))) == schema
    assert schema.label == "party"
    assert {(each.name, each.reason) for each in schema.left_out} == {
        ("id", "dropped"), ("zip", "dropped"), ("party", "label"), ("same", "constant")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="age"), "new.csv has no column 'age': the columns are party, voted"),
        (lambda f: f.rename(columns={"age": "Age"}), "new.csv has no column 'age'; did you mean 'Age'?"),
        (lambda f: f.assign(more=1), "new.csv has a column 'more', which is not known"),
        (lambda f: pd.concat([f, f[["age"]]], axis=1), "new.csv has two columns that are called 'age'"),
        (lambda f: f.iloc[:0], "new.csv has no rows"),
        (lambda f: f.assign(party="Green"), "row 0, column 'party' holds 'Green': known are Dem, Ind, Rep"),
        (lambda f: f.assign(age=-1.5), "row 0, column 'age' holds -1.5: it takes whole numbers"),
        (lambda f: f.assign(income=0.0), "row 0, column 'income' holds 0.0: it takes numbers above 0"),
        (lambda f: f.assign(score="1,5"), "row 0, column 'score' holds '1,5': it takes numbers"),
        (lambda f: f.assign(score=np.inf), "row 0, column 'score' holds inf: it takes numbers"),
        (lambda f: f.assign(day="soon"), "row 0, column 'day' holds 'soon': it takes dates as 2024-12-31"),
    ],
)
def test_what_it_does_not_know_is_refused_in_one_line(change, message) -> None:
    schema = detect(table(), "a.csv")
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        schema.encode(change(table()), "new.csv")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "number"}, "column 'a' has the kind 'number': there are real, positive"),
        ({"kind": "binary", "labels": (1, 2, 3)}, "column 'a' is binary, which needs 2 labels; it has 3"),
        ({"kind": "ordinal", "labels": (1, 1)}, "column 'a' has a label twice"),
        ({"kind": "real", "holds": "text"}, "column 'a' holds text, which can't be real"),
        ({"kind": "count", "holds": "date"}, "column 'a' holds dates, days since 1970-01-01, which are real"),
    ],
)
def test_a_column_that_can_not_be(options, message) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Column("a", **options)
