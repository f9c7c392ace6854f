"""Filled tables of people: texts, dates, categories and an index stay as they are around the filled cells."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ppl_vae.evidence.completion import Completed
from ppl_vae.evidence.imputed import Imputed

NAMES = ("city", "born", "visits", "height")
LABELS = np.array(["Bern", "Rom", "Wien"], dtype=object)
DAY = pd.Timestamp("1970-01-01")


def decode(x: np.ndarray) -> pd.DataFrame:
    """As a schema does: labels of codes, dates of days, whole numbers."""
    days = DAY + pd.to_timedelta(x[:, 1].round(), unit="D")
    visits = x[:, 2].round().astype(np.int64)
    return pd.DataFrame({"city": LABELS[x[:, 0].astype(int)], "born": days, "visits": visits, "height": x[:, 3]})


def given() -> pd.DataFrame:
    """With a column that the run does not know, and an index."""
    columns: dict[str, Any] = {
        "height": [1.75, np.nan, 1.6],
        "who": ["a", "b", "c"],
        "city": [None, "Rom", "Bern"],
        "born": pd.to_datetime(["1990-05-01", None, "2001-02-03"]),
        "visits": pd.array([3, None, 0], dtype="Int64"),
    }
    return pd.DataFrame(columns, index=pd.Index(["p", "q", "r"], name="id"))


def imputed(table: pd.DataFrame, draws: int = 0) -> Imputed:
    nan = torch.nan
    x = torch.tensor([[2.0, 7425.0, 3.0, 1.75], [1.0, 10957.2, 5.0, 1.8], [0.0, 11356.0, 0.0, 1.6]])
    gone = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)
    sd, rows = torch.full_like(x, nan), torch.ones(3, dtype=torch.double)
    found = Completed(
        x, x.expand(draws, 3, 4) + torch.arange(draws).reshape(-1, 1, 1) * torch.tensor([0, 1.0, 1.0, 0.01]),
        x.masked_fill(~gone, nan), sd, sd, torch.tensor([1, 1, 0]), torch.tensor([True, False, True]), rows, rows, rows,
    )  # fmt: skip
    return Imputed("d", 1, 0, 10, table.index, table, NAMES, gone.numpy(), found, decode)


def test_only_the_holes_are_filled_and_types_stay() -> None:
    table = given()
    made = imputed(table).frame
    assert list(made) == list(table)
    assert made.index.equals(table.index)
    assert made.index.name == "id"
    assert made["city"].tolist() == ["Wien", "Rom", "Bern"]
    assert made["born"].tolist()[1] == pd.Timestamp("2000-01-01")
    assert made["visits"].tolist() == [3, 5, 0]
    assert str(made["visits"].dtype) == "Int64"
    assert made["born"].dtype == table["born"].dtype
    assert made["height"].tolist() == [1.75, pytest.approx(1.8), 1.6]
    for name in table:
        there = table[name].notna()
        assert made[name][there].equals(table[name][there])


def test_categories_stay_and_texts_get_texts() -> None:
    table = given()
    table["city"] = table["city"].astype(pd.CategoricalDtype(LABELS))
    table["born"] = ["1990-05-01", "?", "2001-02-03"]
    table["visits"] = ["3", "-", "0"]
    made = imputed(table).frame
    assert made["city"].dtype == table["city"].dtype
    assert made["city"].tolist() == ["Wien", "Rom", "Bern"]
    assert made["born"].tolist() == ["1990-05-01", "2000-01-01", "2001-02-03"]
    assert made["visits"].tolist() == ["3", "5", "0"]


def test_draws_are_stacked_and_cells_are_told() -> None:
    found = imputed(given(), draws=2)
    assert found.frame["draw"].tolist() == [1, 1, 1, 2, 2, 2]
    assert found.frame["visits"].tolist() == [3, 5, 0, 3, 6, 0]
    assert found.frame.index.tolist() == ["p", "q", "r"] * 2
    cells = found.cells
    assert cells["row"].tolist() == ["p", "q", "q", "q"]
    assert cells["column"].tolist() == ["city", "born", "visits", "height"]
    assert cells["guess"].tolist()[0] == "Wien"
    assert cells["reliable"].tolist() == [True, False, False, False]
    assert found.arrays["x"].shape == (2, 3, 4)
    assert found.arrays["x"][0, 0, 0] == 2, "codes where a column has labels"
    assert found["unreliable_rows"] == ["q"]
    assert "not reliable, since too few draws count or chains do not agree: 1 row, q" in str(found)
