"""Figures, drawn without pyplot: no global state is touched."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ppl_vae.diagnostics.advice import group_of
from ppl_vae.diagnostics.results import Estimator, SideBySide
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
    VIOLET,
    YELLOW,
    figure,
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
MOST_ROWS, MOST_COLUMNS = 16, 24  # of images in one figure
LABEL = 16  # the height of a name beside a point, in pixels


def estimator_color(name: str) -> str:
    """One colour, one estimator, in every picture: by its name, whatever its settings but the baseline's."""
    base = "score-function:baseline=False" if "baseline=False" in name else name.partition(":")[0]
    return ESTIMATORS.get(base, GREY)


@styled()
def learning_curves(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """ELBO, rate and distortion over epochs, on training and validation rows."""
    drawn = figure(10.5, 3.4)
    for axes, name in zip(drawn.subplots(1, 3), ("elbo", "rate", "distortion"), strict=True):
        for split, color in (("train", GREY), ("valid", BLUE)):
            lines = [line for line in metrics if split in line and line["epoch"] > 0]
            axes.plot([m["epoch"] for m in lines], [m[split][name] for m in lines], color=color, label=split, lw=1.6)
        label = {"elbo": "ELBO", "rate": "rate, KL(q ‖ p(z))", "distortion": "distortion, −E log p(x|z)"}[name]
        axes.set(xlabel="epoch", title=label)
    drawn.axes[0].set_ylabel("nats per datum")
    drawn.axes[0].legend(["training (as it moves)", "validation"], frameon=False)
    return drawn


@styled()
def image_grid(images: np.ndarray, title: str, columns: int = 8) -> Figure:
    """The first of the images `(N, H, W)` or `(N, H, W, 3)`, in a grid."""
    images = images[: MOST_ROWS * columns]
    count, height, width, *colors = images.shape
    rows = math.ceil(count / columns)
    cells = np.full((rows * columns, height + 2, width + 2, *colors), np.nan)
    cells[:count, 1:-1, 1:-1] = images
    grid = cells.reshape(rows, columns, height + 2, width + 2, *colors).swapaxes(1, 2)
    grid = grid.reshape(rows * (height + 2), columns * (width + 2), *colors)
    drawn = figure(columns * 0.75, rows * 0.75 * height / width + 0.4)
    _show(drawn.subplots(), grid, images)
    drawn.suptitle(title, fontsize=10)
    return drawn


@styled()
def reconstructions(data: np.ndarray, again: np.ndarray, label: str) -> Figure:
    """The first rows of the data above what a draw of the guide makes of them, each `(N, H, W)`."""
    data, again = data[:MOST_COLUMNS], again[:MOST_COLUMNS]
    drawn = figure(len(data) * 0.75 + 0.8, 1.8)
    for row, images in zip(drawn.subplots(2, len(data), squeeze=False), (data, again), strict=True):
        for axes, image in zip(row, images, strict=True):
            _show(axes, image, data)
    for axes, name in zip(drawn.axes[:: len(data)], ("x", f"{label}\nz ~ q(z|x)"), strict=True):
        axes.text(-0.15, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=9)
    return drawn


@styled()
def latent_scatter(z: np.ndarray, labels: np.ndarray | None = None) -> Figure:
    """The guide's means `(N, D)` along their first two principal components; with D = 2, the dimensions themselves."""
    plane, names = z[:, :2], ("z₁", "z₂")
    if z.shape[1] > 2:
        centred = z - z.mean(0)
        plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
        names = ("first principal component of E[z|x]", "second")
    drawn = figure(5.6, 4.8)
    axes = drawn.subplots()
    for label in [None] if labels is None else np.unique(labels):
        chosen = plane if label is None else plane[labels == label]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=7, alpha=0.8, lw=0, label=label)
    if labels is not None:
        axes.legend(title="label", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    axes.set(xlabel=names[0], ylabel=names[1])
    return drawn


@styled()
def comparison(results: Mapping[int, SideBySide]) -> Figure:
    """By checkpoint a row: each estimator's value, and for each target the gradient's variance against time.

    An estimator has one colour and one marker throughout. Those of one target share a panel, unless there is only one;
    further down and to the left is better. Along the dashed line variance × time, which is 1/efficiency, is that of the
    best: a point above it needs more work for the same noise.
    """
    first = next(iter(results.values()))
    each = [e.target for e in first.estimators.values()]
    targets = [target for target in dict.fromkeys(each) if each.count(target) > 1]
    styles = {name: _style(name, i) for i, name in enumerate(first.estimators)}
    height = max(3.2, 1.2 + 0.3 * len(styles))
    drawn = figure(5.2 + 3.9 * len(targets), height * len(results))
    panels = drawn.subplots(len(results), 1 + len(targets), squeeze=False)
    for row, (step, result) in zip(panels, results.items(), strict=True):
        _values(row[0], result.estimators, styles)
        if len(results) > 1:
            row[0].set_ylabel(f"step {step}")
        for axes, target in zip(row[1:], targets, strict=True):
            rivals = {name: e for name, e in result.estimators.items() if e.target == target}
            _variance_against_time(axes, rivals, styles)
            axes.set_title(f"estimators of {target}")
    advice = "\n".join(textwrap.wrap(f"Advice: {first.advice}", 55 + 45 * len(targets)))
    drawn.supxlabel(advice if len(results) == 1 else "", fontsize=9)
    return drawn


def _style(name: str, place: int) -> dict[str, Any]:
    """Open markers of falling size, so that one does not hide another at the same point."""
    marker = MARKERS[place % len(MARKERS)]
    return {"color": estimator_color(name), "marker": marker, "ms": 11 - 1.5 * (place % 4), "mfc": "none", "mew": 1.6}


def _values(axes: Axes, estimators: Mapping[str, Estimator], styles: Mapping[str, Any]) -> None:
    for place, (name, e) in enumerate(estimators.items()):
        axes.errorbar(e.value.value, place, xerr=2 * e.value.se, ls="none", capsize=4, **styles[name])
    axes.set(yticks=range(len(estimators)), yticklabels=list(estimators), ylim=(len(estimators) - 0.5, -0.5))
    axes.set(title="value ± 2 s.e. over draws", xlabel="nats per datum")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.15)
    low, high = axes.get_xlim()
    least = 1e-4 * max(abs(low), abs(high))  # closer together the labels would be an offset and a remainder
    if high - low < least:
        axes.set_xlim((low + high - least) / 2, (low + high + least) / 2)
    axes.ticklabel_format(axis="x", useOffset=False)


def _variance_against_time(axes: Axes, rivals: Mapping[str, Estimator], styles: Mapping[str, Any]) -> None:
    group = group_of(rivals.values())
    points = {name: (1e3 * e.seconds_per_step, e.gradient_variance[group].value) for name, e in rivals.items()}
    seen = {name: point for name, point in points.items() if not rivals[name].exact(group)}  # 0 is on no log scale
    axes.set(xlabel="ms per step", yscale="log")
    axes.set_ylabel(f"variance of the {group}'s gradient")
    for name, point in seen.items():
        axes.plot(*point, ls="none", **styles[name])
    if silent := [name for name in points if name not in seen]:
        axes.text(0.03, 0.03, f"exact: {', '.join(silent)}", transform=axes.transAxes, fontsize=8, wrap=True)
    if seen:
        longest = 1.15 * max(ms for ms, _ in seen.values())
        times = np.geomspace(longest / 10, longest)
        line = min(ms * v for ms, v in seen.values()) / times
        axes.plot(times, line, "--", color="0.6", lw=0.9, zorder=0)
        axes.set_xlabel("ms per step; dashed: variance × time of the best")
        axes.set_xlim(0, longest)
        axes.margins(y=0.2)
        _name_points(axes, seen)


def _name_points(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """The name of each point beside it: to its left in the right half of the panel; one below another where they
    would lie on top of each other."""
    drawn = axes.get_figure(root=True)
    assert drawn is not None
    drawn.draw_without_rendering()  # the limits are settled, so that points have a place on the page
    right = axes.bbox.x0 + 0.5 * axes.bbox.width
    taken: list[tuple[float, float]] = []
    for name, point in sorted(points.items(), key=lambda item: -item[1][1]):
        x, y = axes.transData.transform(point)
        shift = 0.0
        while any(abs(y + shift - other) < LABEL and abs(x - place) < axes.bbox.width / 2 for place, other in taken):
            shift -= LABEL
        taken.append((x, y + shift))
        side = -1 if x > right else 1
        axes.annotate(
            name, point, (9 * side, 72 * shift / drawn.dpi), textcoords="offset points", fontsize=8,
            ha="right" if side < 0 else "left", va="center", color=estimator_color(name),
        )  # fmt: skip


def as_images(x: np.ndarray, image: Sequence[int] | None) -> np.ndarray | None:
    """`(N, ...)` as `(N, H, W)` or `(N, H, W, 3)`, if a datum has as many numbers as the picture `image`; else None.

    Args:
        image: `(H, W)`, or with 1, 3 or 4 channels first or last; of 4, the first 3 are shown.
    """
    if image is None or math.prod(x.shape[1:]) != math.prod(image):
        return None
    images = x.reshape(len(x), *image)
    first, last = (n if len(image) == 3 and n in (1, 3, 4) else math.inf for n in (image[0], image[-1]))
    if first < math.inf and first <= last:
        images = np.moveaxis(images, 1, -1)
    if images.ndim == 4:
        images = images[..., 0] if images.shape[-1] == 1 else images[..., :3]
    return images


def _show(axes: Axes, image: np.ndarray, like: np.ndarray) -> None:
    axes.axis("off")
    low, high = min(0.0, float(like.min())), max(1.0, float(like.max()))
    if image.ndim == 3:  # colours, which matplotlib takes from 0 to 1; white where there is nothing
        image = np.nan_to_num(np.clip((image - low) / (high - low), 0, 1), nan=1.0)
    axes.imshow(image, cmap="gray_r", vmin=low, vmax=high)
