"""The figure of estimators side by side: their values, and what a gradient costs with each."""

import math
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ppl_vae.diagnostics.advice import group_of
from ppl_vae.diagnostics.results import Estimator, SideBySide
from ppl_vae.reports.labels import name_points, wrapped
from ppl_vae.reports.style import (
    BLACK,
    BLUE,
    BROWN,
    GREEN,
    GREY,
    MARKERS,
    NAVY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SMALL,
    VIOLET,
    WIDTH,
    YELLOW,
    figure,
    log_scale,
    styled,
)  # fmt: skip

ESTIMATORS = {
    "trace": BLUE,
    "analytic-kl": ORANGE,
    "mean-field": SKY,
    "score-function": RED,
    "score-function:baseline=False": BROWN,
    "sticking-the-landing": GREEN,
    "iwae": PURPLE,
    "dreg": BLACK,
    "renyi": YELLOW,
    "beta": VIOLET,
    "free-bits": GREY,
    "trace-enum": NAVY,
}
LETTERS = 118  # of advice, in one line as wide as the figure
LINE = 0.17  # inches, of a line of text


def estimator_color(name: str) -> str:
    """One colour, one estimator, in every picture: by its name, whatever its settings but the baseline's."""
    base = "score-function:baseline=False" if "baseline=False" in name else re.split("[: ]", name)[0]
    return ESTIMATORS.get(base, GREY)


@styled()
def comparison(results: Mapping[int, SideBySide]) -> Figure:
    """By checkpoint: each estimator's value, and for each target the gradient's variance against time.

    An estimator has one colour and one marker throughout. Those of one target share a panel, unless there is only one;
    further down and to the left is better. Along the dashed line variance × time, which is 1/efficiency, is that of the
    best: a point above it needs more work for the same noise. Bars are ± 2 standard errors over draws.
    """
    first = next(iter(results.values()))
    each = [e.target for e in first.estimators.values()]
    targets = [target for target in dict.fromkeys(each) if each.count(target) > 1]
    styles = {name: _style(name, i) for i, name in enumerate(first.estimators)}
    tall = 0.9 + 1.2 * LINE * len(styles) * max(wrapped(name).count("\n") + 1 for name in styles)
    heights = [max(1.6 + len(targets), tall)] if len(targets) < 2 else [tall] + [2.8] * math.ceil(len(targets) / 2)
    advice = [_advice(step, result, len(results)) for step, result in results.items()]
    lines = sum(text.count("\n") + 1 for text in advice)
    drawn = figure(WIDTH, sum(heights) * len(results) + lines * LINE)
    grid = drawn.add_gridspec(len(heights) * len(results), 2 if targets else 1, height_ratios=heights * len(results))
    named = []
    for place, (step, result) in enumerate(results.items()):
        top = place * len(heights)
        values = drawn.add_subplot(grid[top, :] if len(heights) > 1 else grid[top, 0])
        _values(values, result.estimators, styles, 3 if len(targets) == 1 else 6)
        when = f"step {step}: " if len(results) > 1 else ""
        values.set_title(f"{when}value ± 2 s.e. over draws")
        for cell, target in enumerate(targets, 2 if len(heights) > 1 else 1):
            axes = drawn.add_subplot(grid[top + cell // 2, cell % 2])
            axes.set_title(f"{when}estimators of {target}")
            rivals = {name: e for name, e in result.estimators.items() if e.target == target}
            named.append((axes, _variance_against_time(axes, rivals, styles)))
    drawn.supxlabel("\n".join(advice), fontsize=9, x=0.01, ha="left")
    for axes, points in named:  # now that all panels have found their places
        name_points(axes, points)
    return drawn


def _advice(step: int, result: SideBySide, steps: int) -> str:
    text = f"Advice{f' at step {step}' if steps > 1 else ''}: {result.advice}"
    return "\n".join(textwrap.wrap(text, LETTERS))


def _style(name: str, place: int) -> dict[str, Any]:
    """Open markers of falling size, so that one does not hide another at the same point."""
    marker = MARKERS[place % len(MARKERS)]
    return {"color": estimator_color(name), "marker": marker, "ms": 10 - 1.5 * (place % 4), "mfc": "none", "mew": 1.6}


def _values(axes: Axes, estimators: Mapping[str, Estimator], styles: Mapping[str, Any], ticks: int) -> None:
    for place, (name, e) in enumerate(estimators.items()):
        axes.errorbar(e.value.value, place, xerr=2 * e.value.se, ls="none", **styles[name])
    axes.set(yticks=range(len(estimators)), yticklabels=map(wrapped, estimators), ylim=(len(estimators) - 0.5, -0.5))
    axes.set_xlabel("nats per datum")
    axes.xaxis.set_major_locator(MaxNLocator(ticks))
    axes.margins(x=0.15)
    low, high = axes.get_xlim()
    least = 1e-4 * max(abs(low), abs(high))  # closer together the labels would be an offset and a remainder
    if high - low < least:
        axes.set_xlim((low + high - least) / 2, (low + high + least) / 2)


def _variance_against_time(
    axes: Axes, rivals: Mapping[str, Estimator], styles: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """Draws them, and returns the points, to be named."""
    group = group_of(rivals.values())
    seen = {name: e for name, e in rivals.items() if not e.exact(group)}  # 0 is on no log scale
    points = {name: (1e3 * e.seconds_per_step, e.gradient_variance[group].value) for name, e in seen.items()}
    axes.set(xlabel="ms per step", ylabel=f"variance of the\n{group}'s gradient")
    log_scale(axes, "y")
    if silent := [name for name in rivals if name not in seen]:
        text = textwrap.fill(f"exact: {', '.join(silent)}", 40)
        axes.text(0.03, 0.03, text, transform=axes.transAxes, fontsize=SMALL)
    for name, e in seen.items():
        se = e.gradient_variance[group].se
        axes.errorbar(*points[name], 2 * se if math.isfinite(se) else 0.0, ls="none", **styles[name])
    if seen:
        longest = 1.15 * max(ms for ms, _ in points.values())
        times = np.geomspace(longest / 10, longest)
        axes.plot(times, min(ms * v for ms, v in points.values()) / times, "--", color=GREY, lw=0.9, zorder=0)
        axes.set_xlabel("ms per step\n(dashed: variance × time of the best)")
        axes.set_xlim(0, longest)
        axes.margins(y=0.2)
    return points
