"""The plane of two latent coordinates as a figure that answers to the pointer: data at E[z|x], and what is decoded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.reports import vega
from ppl_vae.reports.plane_spec import plane_spec, with_pictures, with_values
from ppl_vae.reports.sheets import sheet

MOST_LABELS, MOST_VALUES = 10, 12
OTHER = "other"


@dataclass(frozen=True)
class Plane:
    """Where the points are in a plane of latent space, and the nodes of a grid over it.

    Args:
        points: `(N, 2)`, E[z|x] of each datum in the plane.
        nodes: `(size², D)`, the latents to decode: line by line, the highest line first.
        lines: `(2, size)`, the coordinates of the grid's columns from the left and of its lines from the bottom.
        names: of the two coordinates.
        note: a sentence that says which plane it is.
    """

    points: np.ndarray
    nodes: np.ndarray
    lines: np.ndarray
    names: tuple[str, str]
    note: str

    @staticmethod
    def of(codes: np.ndarray, size: int = 15) -> "Plane":
        """The plane of the two latents, or of the first two principal components of the codes `(N, D)`.

        The other components are at their mean. The grid covers all points, and both coordinates have the same units.

        Raises:
            InputError: fewer than two latents, or a code that is not finite.
        """
        if codes.ndim != 2 or codes.shape[1] < 2 or not len(codes):
            raise InputError(f"codes of shape {codes.shape}: a plane needs rows of two latents or more")
        if not np.isfinite(codes).all():
            raise InputError("a code is not finite, and has no place in the plane")
        codes = codes.astype(float)
        center, directions, names = np.zeros(2), np.eye(2), ("z₁", "z₂")
        note = "The plane is that of the two latents."
        if codes.shape[1] > 2:
            center = codes.mean(0)
            scales, directions = np.linalg.svd(codes - center, full_matrices=False)[1:]
            directions, names = directions[:2], ("first principal component of E[z|x]", "second")
            share = (scales[:2] ** 2).sum() / max((scales**2).sum(), np.finfo(float).tiny)
            note = (
                f"The plane is that of the first two principal components of E[z|x], which hold {share:.0%} of its "
                "variance; what is decoded there has all other components at their mean."
            )
        points = (codes - center) @ directions.T
        middle, half = (points.max(0) + points.min(0)) / 2, max(np.ptp(points, axis=0).max() / 2, 1e-3)
        lines = middle[:, None] + half * np.linspace(-1, 1, size)
        across, up = np.meshgrid(lines[0], lines[1][::-1])
        nodes = center + np.stack([across.ravel(), up.ravel()], 1) @ directions
        return Plane(points, nodes, lines, names, note)


def latent_plane(
    plane: Plane,
    x: np.ndarray,
    again: np.ndarray,
    decoded: np.ndarray,
    labels: Sequence[Any] | np.ndarray | None = None,
    rows: Sequence[int] | np.ndarray | None = None,
    names: Sequence[str] | None = None,
    name: str = "latent-plane",
) -> str:
    """The HTML of the figure; `vega.library()` stands before it in the page.

    The pointer over the plane shows the nearest datum, its reconstruction, and what is decoded at the nearest node of
    the grid. Three sliders do the same by the keyboard. The nearest node, since a mean of several pictures is not what
    the model decodes between them.

    Args:
        plane: `Plane.of(codes)`; its nodes are what `decoded` is decoded from.
        x: pictures `(N, H, W)` or `(N, H, W, 3)`, or the values of `names`, `(N, P)`: numbers or texts.
        again: the reconstructions, as x.
        decoded: `(size², …)`, as x: of each node, in their order.
        labels: of each datum. Up to ten kinds are told by colour and shape; more numbers than that, by a scale of
            colours; of more texts, the most frequent, and the others together.
        rows: the number of each datum in its data set; by default from 0.
        names: of the values of a table, twelve at most.

    Raises:
        InputError: arrays that do not fit each other.
    """
    _check(plane, x, again, decoded, labels, rows, names)
    shown, domain = _labels(labels, len(x))
    numbers = range(len(x)) if rows is None else rows
    points = [
        {"x": round(across, 4), "y": round(up, 4), "row": int(row), "label": label, "said": said}
        for (across, up), row, (label, said) in zip(plane.points.tolist(), numbers, shown, strict=True)
    ]
    spec = plane_spec(points, plane.lines, plane.names, domain)
    size = plane.lines.shape[1]
    arrays = {"x": x, "again": again, "decoded": decoded}
    if x.ndim == 2:
        texts = {kind: [[_text(value) for value in row] for row in array] for kind, array in arrays.items()}
        spec = with_values(spec, texts, list(names or []))
    else:
        low, high = min(0.0, float(np.nanmin(x))), max(1.0, float(np.nanmax(x)))
        columns = {"x": 25, "again": 25, "decoded": size}
        spec = with_pictures(spec, {kind: sheet(array, columns[kind], low, high) for kind, array in arrays.items()})
    caption = (
        f"Each of the {len(x)} points is a datum x, at the guide's mean E[z|x]. Move the pointer over the plane, or "
        f"the sliders, to see a datum, its reconstruction, and what the model decodes at a place. {plane.note} It was "
        f"decoded on a grid of {size} × {size} places, and the nearest one is shown: a mean of several would not be "
        "what the model decodes between them."
    )
    return vega.figure(name, spec, "The latent plane", caption)


def _check(
    plane: Plane, x: np.ndarray, again: np.ndarray, decoded: np.ndarray, labels: Any, rows: Any, names: Any
) -> None:
    if x.ndim not in (2, 3, 4) or (x.ndim == 4 and x.shape[3] != 3):
        raise InputError(f"x has shape {x.shape}: pictures are (N, H, W) or (N, H, W, 3), values of a table (N, P)")
    count = len(plane.points)
    for what, array, expected in (("x", x, count), ("again", again, count), ("decoded", decoded, len(plane.nodes))):
        if array.shape != (expected, *x.shape[1:]):
            raise InputError(f"{what} has shape {array.shape}; the plane asks for {(expected, *x.shape[1:])}")
    for what, values in (("labels", labels), ("rows", rows)):
        if values is not None and len(values) != count:
            raise InputError(f"there are {len(values)} {what} for {count} data")
    if x.ndim == 2 and (names is None or len(names) != x.shape[1] or len(names) > MOST_VALUES):
        raise InputError(f"a datum has {x.shape[1]} values: name each of them, and {MOST_VALUES} at most")


def _labels(labels: Any, count: int) -> tuple[list[tuple[Any, str]], list[Any] | None]:
    """Each label as it is drawn and as it is said; all that are drawn, in order, or the least and the largest."""
    if labels is None:
        return [(None, "")] * count, None
    values = np.asarray(labels)
    said = [_text(value) for value in values.tolist()]
    numbers = values.dtype.kind in "iuf"
    in_order = list(dict.fromkeys(map(_text, np.unique(values).tolist()))) if numbers else sorted(set(said))
    if len(in_order) > MOST_LABELS and numbers and np.isfinite(values).all():
        drawn: list[Any] = values.tolist()
        return [(v, f"label {text}") for v, text in zip(drawn, said, strict=True)], [min(drawn), max(drawn)]
    if len(in_order) > MOST_LABELS:
        frequent = {text for text, _ in Counter(said).most_common(MOST_LABELS - 1)}
        in_order = [*(text for text in in_order if text in frequent), OTHER]
    return [(text if text in in_order else OTHER, f"label {text}") for text in said], in_order


def _text(value: Any) -> str:
    """A number in four digits, a date without a time; a missing one as a dash."""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if np.isfinite(value) else "–"
    return "–" if value is None else str(value).removesuffix(" 00:00:00")
