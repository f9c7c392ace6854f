"""Figures of a run: how it learned, images, and where the guide puts the rows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ppl_vae.reports.comparison_figures import comparison, estimator_color
from ppl_vae.reports.labels import name_ends, name_points, shortened, wrapped
from ppl_vae.reports.style import BLACK, BLUE, GREY, MARKERS, PALETTE, WIDTH, figure, styled

__all__ = [
    "as_images",
    "comparison",
    "estimator_color",
    "image_grid",
    "image_rows",
    "latent_scatter",
    "learning_curves",
    "reconstructions",
]
MOST_ROWS, MOST_COLUMNS = 8, 16  # of images in one figure
MOST_NAMES, LONGEST = 12, 16  # names and their letters in the latent plane; more stand beside it
FEW, MANY = 8, 2000  # epochs that are marked one by one; points that an SVG holds as an image
COLORS = tuple(color for color in PALETTE if color != BLACK)  # points that are an image stay black on a dark page
PANELS = {"elbo": "ELBO", "rate": "rate, KL(q ‖ p(z))", "distortion": "distortion, −E log p(x|z)"}


@styled()
def learning_curves(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """ELBO, rate and distortion over epochs, on training and validation rows; those with their s.e. over data."""
    drawn = figure(WIDTH, 2.6)
    for axes, (name, title) in zip(drawn.subplots(1, 3), PANELS.items(), strict=True):
        ends: dict[str, tuple[float, str]] = {}
        for split, label, color, dashes in (("train", "training", GREY, "--"), ("valid", "validation", BLUE, "-")):
            lines = [line for line in metrics if split in line and line["epoch"] > 0]
            epochs = [line["epoch"] for line in lines]
            values, errors = (
                np.array([line[split].get(key) for line in lines], float) for key in (name, f"{name}_se_data")
            )
            axes.plot(epochs, values, dashes, color=color, marker="o" if len(lines) < FEW else None, ms=3)
            if not np.isnan(errors).all():
                axes.fill_between(epochs, values - errors, values + errors, color=color, alpha=0.25, lw=0)
            if np.isfinite(values[-1:]).any():
                ends[label] = (values[-1], color)
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    drawn.axes[0].set_ylabel("nats per datum")
    name_ends(drawn.axes[-1], ends)
    return drawn


@styled()
def image_grid(images: np.ndarray, title: str) -> Figure:
    """The first of the images `(N, H, W)` or `(N, H, W, 3)`, in a grid as wide as the page."""
    columns = _columns(images)
    rows = min(MOST_ROWS, math.ceil(len(images) / columns))
    drawn = figure(WIDTH, 0.35 + rows * _cell(images, columns))
    axes = drawn.subplots()
    _show(axes, _grid(images[: rows * columns], rows, columns), images)
    axes.set_title(title)
    return drawn


def reconstructions(data: np.ndarray, again: np.ndarray, label: str) -> Figure:
    """The first rows of the data above what a draw of the guide makes of them, each `(N, H, W)`."""
    return image_rows({"x": data, f"{label}\nz ~ q(z|x)": again})


@styled()
def image_rows(rows: Mapping[str, np.ndarray]) -> Figure:
    """The first images of each row, `(N, H, W)` or `(N, H, W, 3)`, one row below another, with its name."""
    each = list(rows.values())
    columns = min(len(each[0]), _columns(each[0]))
    images = np.concatenate([row[:columns] for row in each])
    drawn = figure(WIDTH, 0.2 + len(rows) * min(0.8, 0.9 * _cell(images, columns)))
    axes = drawn.subplots()
    _show(axes, _grid(images, len(rows), columns), each[0])
    for place, name in enumerate(rows):
        height = 1 - (place + 0.5) / len(rows)
        axes.text(-0.01, height, name, transform=axes.transAxes, ha="right", va="center")
    return drawn


def _columns(images: np.ndarray) -> int:
    """How many images stand side by side: as many as can be made out."""
    return max(2, min(MOST_COLUMNS, 512 // images.shape[2]))


def _cell(images: np.ndarray, columns: int) -> float:
    """The height of an image, in inches, where so many of them fill the page."""
    return WIDTH / columns * (images.shape[1] + 2) / (images.shape[2] + 2)


def _grid(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The images as one, with a gap of NaN around each."""
    count, height, width, *colors = images.shape
    cells = np.full((rows * columns, height + 2, width + 2, *colors), np.nan)
    cells[:count, 1:-1, 1:-1] = images
    grid = cells.reshape(rows, columns, height + 2, width + 2, *colors).swapaxes(1, 2)
    return grid.reshape(rows * (height + 2), columns * (width + 2), *colors)


def _show(axes: Axes, image: np.ndarray, like: np.ndarray) -> None:
    """The image in the colours of those that it is like, and the page where it is NaN."""
    axes.axis("off")
    low, high = min(0.0, float(np.nanmin(like))), max(1.0, float(np.nanmax(like)))
    if image.ndim == 3:  # colours, which matplotlib takes from 0 to 1, and how opaque they are
        there = ~np.isnan(image[..., :1])
        image = np.concatenate([np.nan_to_num(np.clip((image - low) / (high - low), 0, 1)), there], -1)
    axes.imshow(image, cmap="gray_r", vmin=low, vmax=high)


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


@styled()
def latent_scatter(z: np.ndarray, labels: np.ndarray | None = None) -> Figure:
    """The guide's means `(N, D)` along their first two principal components; with D = 2, the dimensions themselves.

    Each label has a colour and stands at the median of its rows; rows whose label is empty are grey.
    """
    plane, names = z[:, :2], ("z₁", "z₂")
    if z.shape[1] > 2:
        centred = z - z.mean(0)
        plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
        names = ("first principal component of E[z|x]", "second")
    of_rows = np.zeros(len(z), str) if labels is None else labels.astype(str)
    shown = {label: wrapped(shortened(label, 48), 24) for label in np.unique(of_rows[of_rows != ""]).tolist()}
    inside = len(shown) <= MOST_NAMES and max(map(len, shown), default=0) <= LONGEST
    columns = 1 + len(shown) // 24
    lines = 0 if inside else sum(text.count("\n") + 1.3 for text in shown.values()) / columns
    drawn = figure(0.75 * WIDTH, max(4.8, 0.15 * lines + 0.6))
    axes = drawn.subplots()
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_rasterization_zorder(len(z) > MANY)  # the points, which lie below
    middles, colors = {}, {}
    for place, label in enumerate([*shown, ""]):
        x, y = plane[of_rows == label].T
        color = COLORS[place % len(COLORS)] if label else GREY if place else BLUE
        mark = MARKERS[place // len(COLORS) % len(MARKERS)] if label else "o"
        name = shown.get(label, "")
        axes.scatter(x, y, s=7, color=color, marker=mark, alpha=0.7, lw=0, label=name, zorder=0.5 * (label != ""))
        if label:
            middles[label], colors[label] = (np.median(x).item(), np.median(y).item()), color
    if inside:
        name_points(axes, middles, colors)
    else:
        axes.legend(title="label", loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2, ncols=columns)
    return drawn
