"""The Vega spec of the latent plane: the plane, and what is shown of a place in it: beside it, or below on a phone.

Its signals: `point`, 1 to N, is the datum shown; `across` and `up`, 1 to `size` from the left and from the bottom, the
node of the grid.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ppl_vae.reports.sheets import Sheet

Spec = dict[str, Any]

# of Okabe & Ito 2008 and Paul Tol: told apart by colour-blind readers with their shapes, and seen on white and on black
COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#A0892C", "#8172B3", "#7F7F7F", "#44AA99"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]
CHOSEN = "#E0115F"  # also seen on the grey of pictures
PICTURE = 140  # pixels, beside the plane
KINDS = ("x", "again", "decoded")
PLACE = dict(zip(KINDS, ("point - 1", "point - 1", "(size - up) * size + across - 1"), strict=True))
SAID = dict(
    zip(
        KINDS,
        (
            "['row ' + data('at')[point - 1].row, data('at')[point - 1].said]",
            "['its', 'reconstruction']",
            "['decoded at', '(' + format(left + (across - 1) * spacing, '.2f') + ', '"
            " + format(bottom + (up - 1) * spacing, '.2f') + ')']",
        ),
        strict=True,
    )
)


def plane_spec(points: list[Spec], lines: np.ndarray, axes: Sequence[str], labels: Sequence[Any] | None) -> Spec:
    """The plane alone.

    Args:
        points: dicts of `x`, `y`, `row`, `label` and `said`, the words for the label.
        lines: `(2, size)`, the coordinates of the grid.
        labels: the texts that are labels, or the least and the largest number; None if there are no labels.
    """
    scale = None if labels is None else "ordinal" if isinstance(labels[0], str) else "linear"
    size, spacing = lines.shape[1], float(lines[0, 1] - lines[0, 0])
    left, bottom = (round(float(line[0]), 6) for line in lines)
    return {
        "signals": [
            {"name": "size", "value": size},
            {"name": "left", "value": left},
            {"name": "bottom", "value": bottom},
            {"name": "spacing", "value": spacing},
            {"name": "outer", "init": "containerSize()[0]", "on": _on("container:resize", "containerSize()[0]")},
            {"name": "wide", "update": "outer - 68 - beside >= 300"},
            {"name": "side", "update": "wide ? min(outer - 68 - beside, 520) : outer - 62"},
            *({"name": name, "value": 300, "update": "side"} for name in ("width", "height")),
            _slider("point", "datum", len(points), 1, "datum.datum.i"),
            _slider("across", "place, to the right", size, (size + 1) // 2, _nearest("x()")),
            _slider("up", "place, upwards", size, (size + 1) // 2, _nearest("side - y()")),
        ],
        "data": [
            {"name": "at", "values": [{"i": i + 1, **point} for i, point in enumerate(points)]},
            {"name": "node", "values": [{}]},
        ],
        "scales": [
            _scale("x", left, spacing, size, [0, {"signal": "side"}]),
            _scale("y", bottom, spacing, size, [{"signal": "side"}, 0]),
            *_label_scales(scale, labels),
        ],
        "axes": [
            {"orient": where, "scale": which, "title": title, "tickCount": 6, "zindex": 1}
            for where, which, title in zip(("bottom", "left"), "xy", axes, strict=True)
        ],
        "legends": _legends(scale, labels),
        "marks": _point_marks(scale),
        "padding": 4,
    }


def with_pictures(spec: Spec, sheets: dict[str, Sheet]) -> Spec:
    """The spec with a datum, its reconstruction and what is decoded as pictures, each a part of a sheet."""
    first = sheets["x"]
    longest = max(first.height, first.width)
    tall, broad = (f"(small * {n / longest:z.4f})" for n in (first.height, first.width))
    signals: list[Spec] = [
        {"name": "beside", "value": PICTURE + 30},
        {"name": "small", "update": f"wide ? min({PICTURE}, (side - 130) / 3) : (outer - 40) / 3"},
        {"name": "behind", "value": False, "bind": {"input": "checkbox", "name": "pictures behind the points"}},
        *({"name": f"sheet_{kind}", "value": sheet.uri} for kind, sheet in sheets.items()),
    ]
    marks = []
    for i, (kind, sheet) in enumerate(sheets.items()):
        x, y = f"{i} * (small + 12) - 36", f"{i} * ({tall} + 55)"
        place = {"x": {"signal": f"wide ? side + 30 : {x}"}, "y": {"signal": f"wide ? {y} : side + 60"}}
        picture = _clipped(kind, sheet, tall, broad)
        marks.append({"type": "group", "encode": {"update": place}, "marks": [_words(SAID[kind]), picture]})
    return _and(spec, signals=signals, marks=marks, behind=[_backdrop()])


def with_values(spec: Spec, texts: dict[str, list[list[str]]], names: Sequence[str]) -> Spec:
    """The spec with a datum, its reconstruction and what is decoded as a table: texts of each kind by row and name."""
    signals: list[Spec] = [
        {"name": "texts", "value": texts},
        {"name": "beside", "value": 430},
        {"name": "column", "update": "wide ? 108 : (outer - 8) / 4"},
    ]
    columns = [("datum.name", "''"), *((f"texts.{kind}[{PLACE[kind]}][datum.i]", SAID[kind]) for kind in KINDS)]
    marks = [
        {
            "type": "group",
            "encode": {"update": {"x": {"signal": f"{i} * column"}}},
            "marks": [_words(said), _cells(kind, text)],
        }
        for i, (kind, (text, said)) in enumerate(zip(("names", *KINDS), columns, strict=True))
    ]
    place = {"x": {"signal": "wide ? side + 30 : -36"}, "y": {"signal": "wide ? 0 : side + 60"}}
    table = {"type": "group", "encode": {"update": place}, "marks": marks}
    data = [{"name": "names", "values": [{"name": name, "i": i} for i, name in enumerate(names)]}]
    return _and(spec, signals=signals, marks=[table], data=data)


def _and(
    spec: Spec, signals: list[Spec], marks: list[Spec], behind: Sequence[Spec] = (), data: Sequence[Spec] = ()
) -> Spec:
    return {
        **spec,
        "signals": [*spec["signals"], *signals],
        "data": [*spec["data"], *data],
        "marks": [*behind, *spec["marks"], *marks],
    }


def _on(events: str, update: str) -> list[Spec]:
    return [{"events": events, "update": update}]


def _slider(name: str, label: str, most: int, value: int, at_pointer: str) -> Spec:
    """A signal from 1 to `most`, that a slider sets, or the pointer over the plane."""
    return {
        "name": name,
        "value": value,
        "bind": {"input": "range", "min": 1, "max": most, "step": 1, "name": label},
        "on": _on("@cells:pointermove, @cells:pointerdown", at_pointer),
    }


def _nearest(pixels: str) -> str:
    return f"clamp(floor(({pixels}) / side * size) + 1, 1, size)"


def _scale(name: str, first: float, spacing: float, size: int, range_: list[Any]) -> Spec:
    """From half a cell of the grid before its first line to half a cell after its last."""
    domain = [first - spacing / 2, first + (size - 0.5) * spacing]
    return {"name": name, "type": "linear", "zero": False, "nice": False, "domain": domain, "range": range_}


def _label_scales(scale: str | None, domain: Sequence[Any] | None) -> list[Spec]:
    if scale == "linear":
        return [{"name": "color", "type": "linear", "domain": domain, "zero": False, "range": {"scheme": "viridis"}}]
    if scale == "ordinal":
        return [
            {"name": "color", "type": "ordinal", "domain": domain, "range": COLORS},
            {"name": "shape", "type": "ordinal", "domain": domain, "range": SHAPES},
        ]
    return []


def _legends(scale: str | None, labels: Sequence[Any] | None) -> list[Spec]:
    if labels is None:
        return []
    if scale == "linear":
        gradient = {"direction": "horizontal", "gradientLength": {"signal": "min(side, 200)"}}
        return [{"orient": "top", "title": "label", "fill": "color", **gradient}]
    width = 28 + min(120, 8 * max(map(len, labels)))
    columns = {"signal": f"max(1, floor(side / {width}))"}
    layout = {"direction": "horizontal", "columns": columns, "labelLimit": 120}
    return [{"orient": "top", "title": "label", "fill": "color", "shape": "shape", **layout}]


def _point_marks(scale: str | None) -> list[Spec]:
    """The points; the cell of each, which the pointer is in; a ring around the datum and a frame around the node."""
    place = {"x": {"scale": "x", "field": "x"}, "y": {"scale": "y", "field": "y"}}
    color = {"value": "steelblue"} if scale is None else {"scale": "color", "field": "label"}
    shape = {"shape": {"scale": "shape", "field": "label"}} if scale == "ordinal" else {}
    chosen = {axis: {"scale": axis, "signal": f"data('at')[point - 1].{axis}"} for axis in "xy"}
    look = {"fill": color, "size": {"value": 36}, "opacity": {"value": 0.8}, **shape}
    return [
        {
            "type": "symbol", "name": "points", "aria": False, "from": {"data": "at"},
            "encode": {"enter": look, "update": place},
        },
        {
            "type": "rect", "aria": False, "from": {"data": "node"}, "encode": {
                "enter": {"stroke": {"value": CHOSEN}, "strokeWidth": {"value": 1.5}},
                "update": {
                    "x": {"signal": "(across - 1) / size * side"}, "width": {"signal": "side / size"},
                    "y": {"signal": "(size - up) / size * side"}, "height": {"signal": "side / size"}},
            },
        },
        {
            "type": "symbol", "aria": False, "from": {"data": "node"}, "encode": {
                "enter": {"stroke": {"value": CHOSEN}, "strokeWidth": {"value": 2.5}, "size": {"value": 160}},
                "update": chosen,
            },
        },
        {
            "type": "path", "name": "cells", "aria": False, "from": {"data": "points"},
            "encode": {"enter": {"fill": {"value": "transparent"}}},
            "transform": [{
                "type": "voronoi", "x": "datum.x", "y": "datum.y",
                "size": [{"signal": "side"}, {"signal": "side"}],
            }],
        },
    ]  # fmt: skip


def _clipped(kind: str, sheet: Sheet, tall: str, broad: str) -> Spec:
    """The sheet behind a window of one picture, moved so that the picture is in the window."""
    image = {
        "url": {"signal": f"sheet_{kind}"},
        "x": {"signal": f"-(({PLACE[kind]}) % {sheet.columns}) * {broad}"},
        "y": {"signal": f"-floor(({PLACE[kind]}) / {sheet.columns}) * {tall}"},
        "width": {"signal": f"{sheet.columns} * {broad}"},
        "height": {"signal": f"{sheet.rows} * {tall}"},
    }
    paper = {"fill": {"value": "white"}, "stroke": {"value": "gray"}, "strokeForeground": {"value": True}}
    window = {"y": {"value": 36}, "width": {"signal": broad}, "height": {"signal": tall}}
    return {
        "type": "group", "name": kind,
        "encode": {"enter": paper, "update": window},
        "marks": [{"type": "image", "aria": False, "clip": True, "encode": {
            "enter": {"aspect": {"value": False}, "smooth": {"value": False}}, "update": image}}],
    }  # fmt: skip


def _backdrop() -> Spec:
    """The sheet of what is decoded lies as the grid does: as one picture it is the whole plane."""
    return {
        "type": "image", "aria": False, "encode": {
            "enter": {"aspect": {"value": False}, "smooth": {"value": False}, "opacity": {"value": 0.6}},
            "update": {"url": {"signal": "behind ? sheet_decoded : ''"},
                       "width": {"signal": "side"}, "height": {"signal": "side"}}},
    }  # fmt: skip


def _words(lines: str) -> Spec:
    return {
        "type": "text",
        "encode": {"enter": {"baseline": {"value": "top"}}, "update": {"text": {"signal": lines}}},
    }


def _cells(kind: str, text: str) -> Spec:
    update = {"y": {"signal": "58 + 22 * datum.i"}, "limit": {"signal": "column - 8"}, "text": {"signal": text}}
    return {"type": "text", "name": kind, "from": {"data": "names"}, "encode": {"update": update}}
