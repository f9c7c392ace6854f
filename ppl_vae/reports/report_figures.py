"""Figures of a report alone: one latent dimension moved after another, the learning of several runs, columns."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ppl_vae.reports.labels import name_ends, shortened, wrapped
from ppl_vae.reports.style import BLUE, GREY, PALETTE, SMALL, WIDTH, figure, styled

if TYPE_CHECKING:
    import pandas

MOST_COLUMNS, MOST_VALUES = 16, 12


@styled()
def traversals(images: np.ndarray, names: Sequence[str], like: np.ndarray) -> Figure:
    """E[x|z] as one dimension moves, then another: pictures `(dimensions, steps, H, W)`, a row for each of `names`.

    Args:
        like: pictures of the data `(N, H, W)`, whose range of shades is shown.
    """
    count, steps, height, width, *_ = images.shape
    drawn = figure(steps * 0.62 + 0.8, count * 0.62 * height / width)
    low, high = min(0.0, float(np.nanmin(like))), max(1.0, float(np.nanmax(like)))
    for row, pictures, name in zip(drawn.subplots(count, steps, squeeze=False), images, names, strict=True):
        for axes, image in zip(row, pictures, strict=True):
            axes.axis("off")
            axes.imshow(np.clip((image - low) / (high - low), 0, 1), cmap="gray_r", vmin=0, vmax=1)
        row[0].text(-0.2, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=SMALL)
    return drawn


@styled()
def learning(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """The validation ELBO over epochs of several runs, by their names, ± s.e. over data."""
    drawn = figure(WIDTH, 3.2)
    axes = drawn.subplots()
    ends = {}
    styles = zip(cycle(PALETTE), cycle(("-", "--", "-.", ":")), strict=False)
    for (name, metrics), (color, dashes) in zip(runs.items(), styles, strict=False):
        lines = [line for line in metrics if line["epoch"] > 0]
        epochs = [line["epoch"] for line in lines]
        elbo, se = (np.array([line["valid"][key] for line in lines], float) for key in ("elbo", "elbo_se_data"))
        axes.plot(epochs, elbo, dashes, color=color, marker="o" if len(lines) == 1 else None)
        axes.fill_between(epochs, elbo - se, elbo + se, color=color, alpha=0.15, lw=0)
        if len(lines):
            ends[wrapped(shortened(name, 60))] = (elbo[-1], color)
    axes.set(xlabel="epoch", ylabel="validation ELBO, nats per datum")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    name_ends(axes, ends)
    return drawn


@styled()
def columns(data: "pandas.DataFrame", drawn_anew: "pandas.DataFrame") -> Figure:
    """The columns of a table beside those of rows that the model draws: shares of labels, histograms of numbers."""
    names = [name for name in data.columns if name in drawn_anew][:MOST_COLUMNS]
    across = min(4, len(names))
    down = -(-len(names) // across)
    drawn = figure(WIDTH, 1.7 * down + 0.3)
    panels = drawn.subplots(down, across, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _column(axes, data[name].dropna(), drawn_anew[name].dropna())
        axes.set_title(str(name))
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    each = (axes.get_legend_handles_labels() for axes in panels)
    handles, labels = next((found for found in each if found[0]), ([], []))
    drawn.legend(handles, labels, loc="outside upper right", ncols=2)
    return drawn


def _column(axes: Axes, data: "pandas.Series", anew: "pandas.Series") -> None:
    """Both as shares: of bins between the 1 % and 99 % points of numbers and dates, or of each value if they are few.

    Of other values than numbers and dates the most frequent ones of the data are shown.
    """
    axes.set_yticks([])
    if not len(data) or not len(anew):
        axes.text(0.5, 0.5, "all missing", transform=axes.transAxes, ha="center", va="center")
        axes.set_xticks([])
        return
    values = {*data.unique(), *anew.unique()}
    kind = data.dtype.kind if isinstance(data.dtype, np.dtype) else "O"
    if len(values) > MOST_VALUES and kind in "iufM":
        _bins(axes, *(each.to_numpy() for each in (data, anew)))
        return
    order = list(data.value_counts().index[:MOST_VALUES]) if len(values) > MOST_VALUES else list(values)
    try:
        order = sorted(order)
    except TypeError:
        order = sorted(order, key=str)
    places = np.arange(len(order))
    for column, shift, color, name in ((data, -0.2, GREY, "data"), (anew, 0.2, BLUE, "drawn")):
        shares = column.value_counts(normalize=True).reindex(order, fill_value=0).to_numpy()
        axes.bar(places + shift, shares, 0.4, color=color, label=name)
    axes.set_xticks(places, [_short(value) for value in order], rotation=45 if len(order) > 4 else 0)


def _bins(axes: Axes, data: np.ndarray, anew: np.ndarray) -> None:
    dates = data.dtype.kind == "M"
    if dates:
        data, anew = (each.astype("datetime64[s]").astype(np.int64) / 86_400 for each in (data, anew))
    low, high = np.quantile(np.concatenate([data, anew]), [0.01, 0.99])
    bins = np.linspace(low, high, 25)
    for column, color, name in ((data, GREY, "data"), (anew, BLUE, "drawn")):
        shares = np.histogram(column, bins)[0] / len(column)
        axes.stairs(shares, bins, color=color, fill=color == GREY, alpha=0.6 if color == GREY else 1, label=name)
    if dates:  # in days since 1970-01-01, which is what matplotlib counts from
        axes.xaxis_date()
        axes.xaxis.set_major_locator(AutoDateLocator(maxticks=4))
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator(), show_offset=False))


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value).removesuffix(" 00:00:00")
    return text if len(text) <= 8 else f"{text[:7]}…"
