"""Named numbers with their errors, one below another, and each number as text beside its row."""

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_vae.core.statistics import Estimate
from ppl_vae.reports.style import BLUE, GREY, SMALL, WIDTH, figure, styled


def dots(
    axes: Axes,
    values: Mapping[str, Estimate],
    colors: Mapping[str, str] | None = None,
    line: float | None = None,
    names: bool = True,
) -> None:
    """A row for each name, from the top: a dot at its number, a bar of ± one standard error, the number at the right.

    A number whose error is not defined, or 0, has no bar; one that is NaN has a dash.

    Args:
        colors: of a row; by default blue.
        line: a grey line is drawn at this number, with which others are compared.
        names: are the names written at the left? Not where a panel beside this one has them.
    """
    if line is not None:
        axes.axvline(line, color=GREY, lw=0.8, zorder=0)
    for place, (name, x) in enumerate(values.items()):
        color = (colors or {}).get(name, BLUE)
        axes.errorbar(x.value, place, xerr=x.se if 0 < x.se < math.inf else None, fmt="o", color=color, ms=5)
        text = (str(x) if x.se else f"{x.value:g}").replace("-", "−")
        axes.annotate(
            text, (1, place), (4, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
            fontsize=SMALL, va="center", color=color, annotation_clip=False,
        )  # fmt: skip
    axes.set_yticks(range(len(values)), list(values) if names else [""] * len(values))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.tick_params(axis="y", length=0, labelsize=9)


@styled()
def dot_figure(
    panels: Mapping[str, Mapping[str, Estimate]], colors: Mapping[str, str] | None = None, line: float = 0.0
) -> Figure:
    """A figure of such rows alone, in one panel or several side by side.

    Args:
        panels: the rows, by what they are: the numbers with their unit, and what their errors are over.
    """
    count = max(map(len, panels.values()))
    drawn = figure(WIDTH, 0.25 * count + 0.8)
    for place, (label, values) in enumerate(panels.items()):
        axes = drawn.add_subplot(1, len(panels), place + 1)
        dots(axes, values, colors, line, names=not place)
        axes.set_xlabel(label)
    return drawn
