"""A VAE of one latent z and one number x as a figure with sliders, in which everything is exact.

p(z) = N(0, 1), p(x|z) = N(x; f(z), σ²), q(z|x) = N(z; m, s²). Vega's dataflow computes it all anew when a slider moves:
integrals over z by the trapezoidal rule, on a grid that no density leaves. The signals of the figure are the numbers,
in nats: `log_px`, `elbo`, `rate`, `distortion`, `gap`, `best_beta_elbo` and `divergence`, KL(q(z) ‖ p(z)).
"""

import math
from typing import Any

from ppl_vae.reports import vega
from ppl_vae.reports.one_dimension_panels import BARS, panels, places

Spec = dict[str, Any]

STEP, END = 0.02, 20.0  # of the grid: the narrowest guide has a width of 2.5 steps, and the ends are 6 widths away
DATA = (-2.2, -1.9, -1.6, -1.2, -0.7, -0.2, 0.3, 0.8, 1.3, 1.7, 1.9, 2.1)
SLIDERS = {  # signal: label, value, least, most, step
    "x": ("observed x", 1.5, -3, 3, 0.05),
    "sigma": ("likelihood's σ", 0.6, 0.2, 2, 0.05),
    "m": ("guide's mean m", 0.3, -3, 3, 0.05),
    "s": ("guide's width s", 0.6, 0.05, 2, 0.05),
    "beta": ("weight β of the rate", 1, 0.25, 8, 0.25),
    "a": ("encoder's slope a", 0.2, -1, 1, 0.05),
}
DECODERS = {  # f(z), as it is written, and for Vega, which has no tanh
    "line": ("z", "{z}"),
    "bend": ("2 tanh(1.5 z)", "2 - 4 / (1 + exp(3 * {z}))"),
    "wave": ("2 sin(1.5 z)", "2 * sin(1.5 * {z})"),
}


def one_dimension(name: str = "one-dimension") -> str:
    """The HTML of the figure; `vega.library()` stands before it in the page."""
    bars = [{"i": i, "name": bar.name} for i, bar in enumerate(BARS)]
    spec = {
        "padding": 4,
        "signals": [*_inputs(), *_numbers(), *places()],
        "data": [*_integrals(), *_bells(), {"name": "data", "values": list(DATA)}, {"name": "bars", "values": bars}],
        "scales": [{"name": "z", "domain": [-4, 4], "range": [0, {"signal": "across"}]}],
        "marks": panels(),
    }
    caption = (
        "Densities over the latent z: the prior, the guide, the true posterior, and the q that is best when the rate "
        "counts β times. Then log p(x) as a sum, line by line; the decoder's curve with the noise around it and the "
        "observed x; and all guides together, q(z), the mean of q(z|x) over twelve data, beside the prior."
    )
    return vega.figure(name, spec, "A VAE of one latent and one number", caption)


def _inputs() -> list[Spec]:
    choice = {"input": "radio", "name": "decoder", "options": list(DECODERS)}
    box = {"input": "checkbox", "name": "move the guide to the best bell"}
    sliders: list[Spec] = [
        {"name": name, "value": value, "bind": {"input": "range", "name": label, "min": a, "max": b, "step": step}}
        for name, (label, value, a, b, step) in SLIDERS.items()
    ]
    for slider in sliders:
        if slider["name"] in ("m", "s"):
            best = f"hold ? bell.{slider['name']} : {slider['name']}"
            slider["on"] = [{"events": [{"signal": "bell"}, {"signal": "hold"}], "update": best}]
    return [
        {"name": "formulas", "value": {kind: formula for kind, (formula, _) in DECODERS.items()}},
        {"name": "decoder", "value": "bend", "bind": choice},
        *sliders,
        {"name": "hold", "value": False, "bind": box},
        {"name": "bell", "update": "data('best')[0].bell"},
    ]


def _integrals() -> list[Spec]:
    """The densities on the grid and their sums; what needs log p(x) comes in a second pass."""
    guides = [f"exp({_log_normal('datum.z', f'(m + a * ({datum} - x))', 's')})" for datum in DATA]
    first = {
        "f": _f("datum.z"),
        "log_prior": _log_normal("datum.z", "0", "1"),
        "log_lik": _log_normal("x", "datum.f", "sigma"),
        "log_q": _log_normal("datum.z", "m", "s"),
        "prior": "exp(datum.log_prior)",
        "q": "exp(datum.log_q)",
        "aggregate": f"({' + '.join(guides)}) / {len(DATA)}",
        "d_px": "exp(datum.log_prior + datum.log_lik)",
        "d_tempered": "exp(datum.log_prior + datum.log_lik / beta)",
        "d_rate": "datum.q * (datum.log_q - datum.log_prior)",
        "d_distortion": "-datum.q * datum.log_lik",
        "d_divergence": "datum.aggregate > 0 ? datum.aggregate * (log(datum.aggregate) - datum.log_prior) : 0",
    }
    second = {
        "posterior": "exp(datum.log_prior + datum.log_lik - log_px)",
        "optimum": "exp(datum.log_prior + datum.log_lik / beta - log_tempered)",
        "d_gap": "datum.q * (datum.log_q - (datum.log_prior + datum.log_lik - log_px))",
        "above": "datum.f + sigma",
        "below": "datum.f - sigma",
    }
    grid = {"type": "sequence", "start": -END, "stop": END + STEP / 2, "step": STEP, "as": "z"}
    seen = ["q", "posterior", "optimum", "aggregate"]
    highest = {"type": "aggregate", "ops": ["max"] * 4, "fields": seen, "as": seen}
    return [
        {"name": "first", "transform": [grid, *_formulas(first)]},
        _sums("first", first),
        {"name": "second", "source": "first", "transform": _formulas(second)},
        _sums("second", second),
        {"name": "shown", "source": "second", "transform": [{"type": "filter", "expr": "abs(datum.z) < 4.001"}]},
        {"name": "highest", "source": "second", "transform": [highest]},
    ]


def _bells() -> list[Spec]:
    """Every m and s of the sliders, and the best of them for β: its −distortion − β rate, but for a constant.

    The distortion is a sum over places m + t s, t from −5 to 5: the trapezoidal rule again.
    """
    places = [-5 + 0.25 * i for i in range(41)]
    weights = [0.25 * math.exp(-(t**2) / 2) / math.sqrt(2 * math.pi) for t in places]
    errors = [f"{w} * pow(x - ({_f(f'(datum.m + datum.s * {t})')}), 2)" for t, w in zip(places, weights, strict=True)]
    (_, _, low, high, step), (_, _, narrow, wide, _) = SLIDERS["m"], SLIDERS["s"]
    across, up = round((high - low) / step) + 1, round((wide - narrow) / step) + 1
    bells = {
        "m": f"round(100 * ({low} + {step} * (datum.i % {across}))) / 100",
        "s": f"round(100 * ({narrow} + {step} * floor(datum.i / {across}))) / 100",
        "rate": "(datum.m * datum.m + datum.s * datum.s - 1) / 2 - log(datum.s)",
        "score": f"-({' + '.join(errors)}) / (2 * sigma * sigma) - beta * datum.rate",
    }
    number = {"type": "sequence", "start": 0, "stop": across * up, "as": "i"}
    best = {"type": "aggregate", "ops": ["argmax"], "fields": ["score"], "as": ["bell"]}
    return [
        {"name": "bells", "transform": [number, *_formulas(bells)]},
        {"name": "best", "source": "bells", "transform": [best]},
    ]


def _numbers() -> list[Spec]:
    said = {
        "log_px": f"log({_integral('first', 'd_px')})",
        "log_tempered": f"log({_integral('first', 'd_tempered')})",
        "rate": _integral("first", "d_rate"),
        "distortion": _integral("first", "d_distortion"),
        "divergence": _integral("first", "d_divergence"),
        "gap": _integral("second", "d_gap"),
        "elbo": "-distortion - rate",
        "beta_elbo": "-distortion - beta * rate",
        "best_beta_elbo": "beta * log_tempered",
    }
    return [{"name": name, "update": update} for name, update in said.items()]


def _f(z: str) -> str:
    """f(z) of the decoder that is chosen."""
    line, bend, wave = (expression.format(z=z) for _, expression in DECODERS.values())
    return f"decoder == 'line' ? {line} : decoder == 'bend' ? {bend} : {wave}"


def _log_normal(at: str, mean: str, width: str) -> str:
    """log N(at; mean, width²)."""
    return f"-pow(({at} - {mean}) / {width}, 2) / 2 - log({width}) - {math.log(2 * math.pi) / 2}"


def _formulas(expressions: dict[str, str]) -> list[Spec]:
    return [{"type": "formula", "as": name, "expr": expression} for name, expression in expressions.items()]


def _sums(source: str, expressions: dict[str, str]) -> Spec:
    fields = [name for name in expressions if name.startswith("d_")]
    total = {"type": "aggregate", "ops": ["sum"] * len(fields), "fields": fields, "as": fields}
    return {"name": f"{source}_sums", "source": source, "transform": [total]}


def _integral(source: str, field: str) -> str:
    return f"{STEP} * data('{source}_sums')[0].{field}"
