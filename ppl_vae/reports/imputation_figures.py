"""The figure of cells that were hidden and imputed: each beside what stood there."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ppl_vae.core.statistics import Estimate
from ppl_vae.reports.dots import dots
from ppl_vae.reports.labels import shortened
from ppl_vae.reports.style import BLACK, BLUE, SMALL, WIDTH, figure, styled

if TYPE_CHECKING:
    import pandas

MOST_COLUMNS, ACROSS = 16, 3


@styled()
def imputed(cells: "pandas.DataFrame", gains: Mapping[str, Estimate], gain: str) -> Figure:
    """What imputation gains; and cells that were hidden: what is imputed, with its interval, and what stood there.

    Each number has a bar in the panel of its column, in the order of the imputed means.

    Args:
        cells: a row for each hidden cell, with the `name` and the `kind` of its column, its `truth`, and the `mean` and
            the 5 % and 95 % points, `low` and `high`, of what is imputed. Codes without an order are not drawn.
        gains: by what they are of.
        gain: what the gains are, with the unit.
    """
    numbers = cells[~cells["kind"].isin(["binary", "categorical"])]
    columns = list(numbers.groupby("name", sort=False))[:MOST_COLUMNS]
    rows = max(1, math.ceil(len(columns) / ACROSS))
    drawn = figure(WIDTH, max(1.25 * rows + 0.7, 0.3 * len(gains) + 1))
    grid = drawn.add_gridspec(rows, 1 + ACROSS, width_ratios=[1.5] + [1] * ACROSS)
    left = drawn.add_subplot(grid[:, 0])
    dots(left, gains, line=0)
    left.set(xlabel=gain, title="± s.e.")
    for place, (name, part) in enumerate(columns):
        axes = drawn.add_subplot(grid[place // ACROSS, 1 + place % ACROSS])
        each = part.sort_values("mean")
        x = range(len(each))
        axes.vlines(x, each["low"], each["high"], color=BLUE, alpha=0.35, lw=min(4.0, 90 / len(each)))
        axes.plot(x, each["mean"], "_", color=BLUE, ms=min(5.0, 130 / len(each)), mew=1.5)
        axes.plot(x, each["truth"], "o", color=BLACK, ms=2)
        axes.set_title(shortened(str(name), 18), fontsize=SMALL)
        axes.tick_params(labelsize=SMALL - 1)
        axes.set_xticks([])
    inside = ((numbers["low"] <= numbers["truth"]) & (numbers["truth"] <= numbers["high"])).mean()
    drawn.supxlabel(
        f"bars: what is imputed, its mean and 5 % to 95 %; black: what stood there, in {inside:.0%} of the bars",
        x=0.99, ha="right",
    )  # fmt: skip
    return drawn
