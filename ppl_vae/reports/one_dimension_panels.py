"""What `one_dimension` draws: four panels in two columns, or one below the other on a phone."""

from typing import Any, NamedTuple

Spec = dict[str, Any]

BLUE, GREEN, ORANGE, PURPLE, BROWN, GREY = "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#A0892C", "#7F7F7F"
SOLID = [1, 0]
CURVES = {  # over z: field, colour, dashes
    "prior p(z)": ("prior", GREY, [6, 3]),
    "guide q(z|x)": ("q", BLUE, SOLID),
    "posterior p(z|x)": ("posterior", GREEN, SOLID),
    "best q for β": ("optimum", PURPLE, [2, 3]),
}


class Bar(NamedTuple):
    """A line of the sum: a bar between two signals, and the number beside it."""

    name: str
    begin: str
    end: str
    value: str
    color: str


BARS = (
    Bar("− distortion", "0", "-distortion", "-distortion", GREY),
    Bar("− rate", "-distortion", "elbo", "-rate", PURPLE),
    Bar("= ELBO", "0", "elbo", "elbo", BLUE),
    Bar("+ gap", "elbo", "log_px", "gap", ORANGE),
    Bar("= log p(x)", "0", "log_px", "log_px", GREEN),
)
LINE = 26  # pixels, from bar to bar
LOW = "lowest > -5 ? -5 : lowest > -10 ? -10 : lowest > -25 ? -25 : lowest > -100 ? -100 : -1000"


def places() -> list[Spec]:
    """Signals that say where the panels are, from the width of the page."""
    said = {
        "wide": "outer >= 760",
        "across": "wide ? min(0.55 * outer, 600) - 48 : outer - 62",
        "along": "wide ? min(outer - across - 230, 340) : outer - 168",
        "bars_x": "wide ? across + 170 : 112",
        "bars_y": "wide ? 0 : 228",
        "decoder_y": "wide ? 252 : 500",
        "aggregate_y": "decoder_y + 230",
        "lowest": "min(-distortion, elbo, log_px)",
        "low": LOW,
    }
    return [
        {"name": "outer", "init": "containerSize()[0]",
         "on": [{"events": "container:resize", "update": "containerSize()[0]"}]},
        *({"name": name, "update": update} for name, update in said.items()),
        {"name": "width", "value": 300, "update": "across"},
        {"name": "height", "value": 300, "update": "aggregate_y + 80"},
    ]  # fmt: skip


def panels() -> list[Spec]:
    return [_densities(), _sum(), _decoder(), _aggregate()]


def _densities() -> Spec:
    highest = "max(0.8, 1.05 * max(data('highest')[0].q, data('highest')[0].posterior, data('highest')[0].optimum))"
    _, colors, dashes = zip(*CURVES.values(), strict=True)
    legend = {
        "orient": "top", "direction": "horizontal", "columns": {"signal": "across > 480 ? 4 : 2"},
        "stroke": "color", "strokeDash": "dash",
        "symbolType": "stroke", "symbolSize": 500, "symbolStrokeWidth": 2.5,
    }  # fmt: skip
    return _panel(
        "densities", "0", 170, [0, {"signal": highest}],
        [_area("posterior", GREEN), *(_line(*curve) for curve in CURVES.values())],
        legends=[legend],
        scales=[
            {"name": "color", "type": "ordinal", "domain": list(CURVES), "range": colors},
            {"name": "dash", "type": "ordinal", "domain": list(CURVES), "range": dashes},
        ],
    )  # fmt: skip


def _decoder() -> Spec:
    """f(z) with a σ on each side, the observed x across it, and the data as ticks on the left."""
    z, y = {"scale": "z", "field": "z"}, {"scale": "y", "signal": "x"}
    ticks = {"x": {"value": 0}, "x2": {"value": 10}, "y": {"scale": "y", "field": "data"}}
    observed = {"x": {"value": 0}, "x2": {"signal": "across"}, "y": y}
    title = {"text": {"signal": "'f(z) = ' + formulas[decoder] + ', and σ on each side; on the left, data'"}}
    return _panel("decoder", "decoder_y", 150, [-4, 4], [
        _mark("area", "shown", {"fill": GREY, "fillOpacity": 0.25}, {
            "x": z, "y": {"scale": "y", "field": "above"}, "y2": {"scale": "y", "field": "below"}}),
        _line("f", GREY, SOLID),
        _mark("rule", "data", {"stroke": BROWN, "strokeWidth": 2}, ticks),
        _mark("rule", None, {"stroke": ORANGE, "strokeWidth": 2}, observed),
        _text("'observed x'", {"x": {"value": 16}, "y": y, "dy": {"value": -5}}),
    ], title=title)  # fmt: skip


def _aggregate() -> Spec:
    highest = {"signal": "max(0.5, 1.05 * data('highest')[0].aggregate)"}
    title = "'q(z), mean of twelve guides: KL(q(z) ‖ p(z)) = ' + format(divergence, '.2f')"
    return _panel("aggregate", "aggregate_y", 80, [0, highest], [
        _area("aggregate", BROWN), _line("prior", GREY, [6, 3]), _line("aggregate", BROWN, SOLID),
    ], title={"text": {"signal": title}})  # fmt: skip


def _sum() -> Spec:
    """log p(x) = −distortion − rate + gap, as bars that begin where the one before ends."""
    rows = []
    for i, bar in enumerate(BARS):
        y = {"value": i * LINE}
        span = {"x": {"scale": "nats", "signal": bar.begin}, "x2": {"scale": "nats", "signal": bar.end}}
        rows += [
            _mark("rect", None, {"fill": bar.color, "height": LINE - 8}, span | {"y": y}),
            _text(f"'{bar.name}'", {"x": {"value": -148}, "y": {"value": i * LINE + 14}}),
            _text(f"format({bar.value}, '.3f')", {
                "x": {"value": -10}, "align": {"value": "right"}, "y": {"value": i * LINE + 14}}),
        ]  # fmt: skip
    height = len(BARS) * LINE
    zero = {"x": {"scale": "nats", "value": 0}, "y": {"value": -4}, "y2": {"value": height}}
    more = [
        "'With β = ' + beta + ', training raises −distortion − β rate:'",
        "'it is ' + format(beta_elbo, '.3f') + ', and ' + format(best_beta_elbo, '.3f') + ' for the best q.'",
    ]
    below = [_text(words, {"x": {"value": -148}, "y": {"value": height + 58 + 18 * i}}) for i, words in enumerate(more)]
    place = {
        "x": {"signal": "bars_x"},
        "y": {"signal": "bars_y"},
        "width": {"signal": "along"},
        "height": {"value": height},
    }
    return {
        "type": "group", "name": "sum", "encode": {"update": place},
        "scales": [{"name": "nats", "domain": [{"signal": "low"}, 1], "range": [0, {"signal": "along"}]}],
        "axes": [{"orient": "bottom", "scale": "nats", "title": "nats", "tickCount": 5}],
        "marks": [*rows, _mark("rule", None, {"strokeWidth": 1}, zero), *below],
    }  # fmt: skip


def _panel(name: str, y: str, height: int, domain: list[Any], marks: list[Spec], **more: Any) -> Spec:
    """A part of the figure over z."""
    axes = [
        {"orient": "bottom", "scale": "z", "title": "z", "tickCount": 9, "zindex": 1},
        {"orient": "left", "scale": "y", "tickCount": 4, "zindex": 1},
    ]
    scale = {"name": "y", "domain": domain, "range": [height, 0]}
    place = {"y": {"signal": y}, "width": {"signal": "across"}, "height": {"value": height}}
    return {
        "type": "group", "name": name, "encode": {"update": place}, "axes": axes, "marks": marks,
        **more, "scales": [scale, *more.get("scales", [])],
    }  # fmt: skip


def _line(field: str, color: str, dash: list[int]) -> Spec:
    place = {"x": {"scale": "z", "field": "z"}, "y": {"scale": "y", "field": field}}
    return _mark("line", "shown", {"stroke": color, "strokeWidth": 2.5, "strokeDash": dash}, place)


def _area(field: str, color: str) -> Spec:
    place = {"x": {"scale": "z", "field": "z"}, "y": {"scale": "y", "field": field}, "y2": {"scale": "y", "value": 0}}
    return _mark("area", "shown", {"fill": color, "fillOpacity": 0.25}, place)


def _text(words: str, place: Spec) -> Spec:
    return {"type": "text", "encode": {"update": {**place, "text": {"signal": words}}}}


def _mark(kind: str, data: str | None, look: dict[str, Any], place: Spec) -> Spec:
    """A mark whose look stays and whose place moves; screen readers are told the numbers, which stand as text."""
    enter = {name: {"value": value} for name, value in look.items()}
    source = {} if data is None else {"from": {"data": data}}
    return {"type": kind, "aria": False, "clip": kind != "rule", **source, "encode": {"enter": enter, "update": place}}
