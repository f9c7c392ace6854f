"""Figures, drawn without pyplot: no global state is touched."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#4a5568"
MOST_ROWS, MOST_COLUMNS = 16, 24  # of images in one figure


def learning_curves(metrics: Sequence[Mapping[str, Any]], path: Path) -> None:
    """ELBO, rate and distortion over epochs, on training and validation rows."""
    figure = _figure(10.5, 3.4)
    for axes, name in zip(figure.subplots(1, 3), ("elbo", "rate", "distortion"), strict=True):
        for split, color in (("train", GREY), ("valid", BLUE)):
            lines = [line for line in metrics if split in line and line["epoch"] > 0]
            axes.plot([m["epoch"] for m in lines], [m[split][name] for m in lines], color=color, label=split, lw=1.6)
        label = {"elbo": "ELBO", "rate": "rate, KL(q ‖ p(z))", "distortion": "distortion, −E log p(x|z)"}[name]
        axes.set(xlabel="epoch", title=label)
    figure.axes[0].set_ylabel("nats per datum")
    figure.axes[0].legend(["training (as it moves)", "validation"], frameon=False)
    _save(figure, path)


def image_grid(images: np.ndarray, path: Path, title: str, columns: int = 8) -> None:
    """The first of the images `(N, H, W)`, in a grid."""
    images = images[: MOST_ROWS * columns]
    count, height, width = images.shape
    rows = math.ceil(count / columns)
    cells = np.full((rows * columns, height + 2, width + 2), np.nan)
    cells[:count, 1:-1, 1:-1] = images
    grid = cells.reshape(rows, columns, height + 2, width + 2).swapaxes(1, 2).reshape(rows * (height + 2), -1)
    figure = _figure(columns * 0.75, rows * 0.75 * height / width + 0.4)
    _show(figure.subplots(), grid, images)
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def reconstructions(data: np.ndarray, means: np.ndarray, path: Path) -> None:
    """The first rows of the data above E[x|z] at a draw of the guide, each `(N, H, W)`."""
    data, means = data[:MOST_COLUMNS], means[:MOST_COLUMNS]
    figure = _figure(len(data) * 0.75 + 0.8, 1.8)
    for row, images in zip(figure.subplots(2, len(data), squeeze=False), (data, means), strict=True):
        for axes, image in zip(row, images, strict=True):
            _show(axes, image, data)
    for axes, name in zip(figure.axes[:: len(data)], ("x", "E[x|z]\nz ~ q(z|x)"), strict=True):
        axes.text(-0.15, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=9)
    _save(figure, path)


def latent_scatter(z: np.ndarray, path: Path, labels: np.ndarray | None = None) -> None:
    """The guide's means `(N, D)` along their first two principal components; with D = 2, the dimensions themselves."""
    plane, names = z[:, :2], ("z₁", "z₂")
    if z.shape[1] > 2:
        centred = z - z.mean(0)
        plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
        names = ("first principal component of E[z|x]", "second")
    figure = _figure(5.6, 4.8)
    axes = figure.subplots()
    for label in [None] if labels is None else np.unique(labels):
        chosen = plane if label is None else plane[labels == label]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=7, alpha=0.8, lw=0, label=label)
    if labels is not None:
        axes.legend(title="label", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    axes.set(xlabel=names[0], ylabel=names[1])
    _save(figure, path)


def comparison(result: Mapping[str, Any], path: Path) -> None:
    """ELBO with its standard error, variance of the estimate, and of the gradient, by estimator."""
    estimators = result["estimators"]
    names = list(estimators)
    figure = _figure(10.5, 1.5 + 0.55 * len(names))
    value, variance, gradient = figure.subplots(1, 3, sharey=True)
    places = np.arange(len(names))
    elbo = [estimators[n]["elbo"] for n in names]
    value.errorbar(elbo, places, xerr=[2 * estimators[n]["elbo_se"] for n in names], fmt="o", color=BLUE, capsize=4)
    value.set(title="ELBO ± 2 s.e. over draws", xlabel="nats per datum", yticks=places, yticklabels=names)
    value.margins(x=0.4)
    _bars(variance, places, {"": [estimators[n]["variance"] for n in names]})
    variance.set(title="variance of one draw", xlabel="nats²")
    kinds = {kind: [estimators[n]["gradient_variance"][kind] for n in names] for kind in ("model", "guide")}
    _bars(gradient, places, kinds)
    gradient.set(title="variance of the gradient", xlabel="summed over parameters")
    gradient.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    if result["pairs"]:
        first = result["pairs"][0]
        paired = f"{first['a']} − {first['b']} = {first['difference']:.4f} ± {first['se']:.4f} (paired draws)"
        figure.supxlabel(paired, fontsize=9)
    value.set_ylim(len(names) - 0.5, -0.5)
    _save(figure, path)


def _bars(axes: Axes, places: np.ndarray, groups: Mapping[str, Sequence[float]]) -> None:
    height = 0.6 / len(groups)
    for i, (name, widths) in enumerate(groups.items()):
        at = places + (i - (len(groups) - 1) / 2) * height
        bars = axes.barh(at, widths, height=height * 0.9, color=(BLUE, ORANGE)[i], label=name)
        axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
    axes.margins(x=0.25)


def as_images(x: np.ndarray) -> np.ndarray | None:
    """`(N, ...)` as `(N, H, W)`, if a datum is a grey image or a vector of square length; else None."""
    shape = tuple(n for n in x.shape[1:] if n != 1)
    if len(shape) == 1 and math.isqrt(shape[0]) ** 2 == shape[0] and shape[0] >= 16:
        shape = (math.isqrt(shape[0]),) * 2
    return x.reshape(len(x), *shape) if len(shape) == 2 else None


def _show(axes: Axes, image: np.ndarray, like: np.ndarray) -> None:
    axes.axis("off")
    axes.imshow(image, cmap="gray_r", vmin=min(0.0, float(like.min())), vmax=max(1.0, float(like.max())))


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part.png")
    figure.savefig(beside)
    beside.replace(path)
