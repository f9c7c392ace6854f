"""Rows of numbers with their errors, and the figure of imputed cells."""

import math

import numpy as np
import pandas as pd
import pytest
from support.figures import beyond, overlapping

from ppl_vae.core.statistics import Estimate
from ppl_vae.reports.dots import dot_figure, dots
from ppl_vae.reports.imputation_figures import imputed
from ppl_vae.reports.style import GREY, figure, styled

VALUES = {
    "one": Estimate(-3.25, 0.5, "seeds"), "two": Estimate(1.0, math.nan, "data"), "none": Estimate(0.0, 0.0, "data"),
}  # fmt: skip


def test_each_number_with_its_error_and_its_text() -> None:
    with styled():
        drawn = figure(5, 2)
        axes = drawn.subplots()
        dots(axes, VALUES, {"two": GREY}, line=0)
    assert [text.get_text() for text in axes.texts] == ["−3.25 ± 0.50", "1.00", "0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two", "none"]
    assert axes.get_ylim() == (2.5, -0.5), "from the top"
    assert [container.lines[0].get_xdata()[0] for container in axes.containers] == [-3.25, 1, 0]
    bars = [container.has_xerr for container in axes.containers]
    assert bars == [True, False, False]
    ends = np.ravel(axes.containers[0].lines[2][0].get_segments())[[0, 2]]
    assert ends == pytest.approx([-3.75, -2.75])
    assert axes.containers[1].lines[0].get_color() == GREY
    assert beyond(drawn) < 1
    assert overlapping(drawn) == []


def test_hidden_cells_by_their_imputed_means() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 7, 60).astype(float)
    cells = pd.DataFrame({
        "name": [f"column {i % 4}" for i in range(60)], "kind": np.where(np.arange(60) % 4, "ordinal", "categorical"),
        "truth": truth, "mean": truth + 0.5, "low": truth - np.arange(60) % 2, "high": truth + 1,
    })  # fmt: skip
    cells.loc[1, ["low", "high"]] = 90, 99  # the truth is not in it
    drawn = imputed(cells, {"ordinal": Estimate(0.2, 0.1, "data")}, "log p less the column's")
    _, *panels = drawn.axes
    assert [axes.get_title(loc="left") for axes in panels] == ["column 1", "column 2", "column 3"], (
        "codes without an order"
    )
    for axes, (_, part) in zip(panels, cells[cells["kind"] == "ordinal"].groupby("name"), strict=True):
        means, hidden = (np.asarray(line.get_ydata()) for line in axes.lines)
        assert means.tolist() == sorted(part["mean"])
        np.testing.assert_allclose(hidden, means - 0.5)
    assert "in 98% of the bars" in drawn._supxlabel.get_text()
    assert beyond(drawn) < 1


def test_a_figure_of_rows_alone() -> None:
    values = {f"a row with the number {i}": Estimate(i, 1.0, "seeds") for i in range(30)}
    drawn = dot_figure({"nats": values, "bits": values})
    assert [axes.get_xlabel() for axes in drawn.axes] == ["nats", "bits"]
    assert beyond(drawn) < 1
    assert overlapping(drawn) == []
