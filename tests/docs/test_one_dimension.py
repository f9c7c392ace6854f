"""docs/one_dimension.html: its numbers are exact wherever the sliders are, and what its text says of them is true."""

import itertools
import math
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, special, stats
from support import browser

from ppl_vae.evidence.quadrature import quadrature
from ppl_vae.reports.one_dimension import DATA, SLIDERS

DOCS = Path(__file__).parents[2] / "docs"
FIGURE = "one-dimension"
START = {"decoder": "bend", **{name: value for name, (_, value, *_) in SLIDERS.items()}}
NUMBERS = ("log_px", "elbo", "rate", "distortion", "gap", "best_beta_elbo", "divergence")
DECODERS = {"line": lambda z: z, "bend": lambda z: 2 * np.tanh(1.5 * z), "wave": lambda z: 2 * np.sin(1.5 * z)}
PLACES = [
    {},
    {"decoder": "wave", "x": 1, "sigma": 0.2, "m": 0.35, "s": 0.05, "beta": 0.25},
    {"decoder": "line", "x": -3, "sigma": 2, "m": 3, "s": 2, "beta": 8, "a": 1},
    {"decoder": "line", "x": 3, "sigma": 0.2, "m": -3, "s": 0.05, "beta": 0.25, "a": -1},
    {"decoder": "wave", "x": 3, "sigma": 0.2, "m": -3, "s": 2, "beta": 4, "a": 1},
    {"decoder": "bend", "x": -3, "sigma": 0.2, "m": 3, "s": 2, "beta": 2, "a": -1},
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.chromium() as launched:
        yield launched


def shown_numbers(page: Any, **moved: Any) -> dict[str, float]:
    """The numbers of the figure at a place of its sliders; those that are not named are at the start."""
    page.evaluate(
        "([id, moved]) => { const view = document.getElementById(id).view;"
        " for (const [name, value] of Object.entries(moved)) view.signal(name, value); }",
        [FIGURE, {**START, **moved}],
    )
    return dict(zip(NUMBERS, browser.signals(page, FIGURE, *NUMBERS), strict=True))


def log_normal(at: Any, mean: Any, width: float) -> Any:
    return stats.norm.logpdf(at, mean, width)


def exact(decoder: str, x: float, sigma: float, m: float, s: float, beta: float, a: float) -> dict[str, float]:
    """By Simpson's rule on a wider grid, twice as fine; the rate in closed form."""
    z = np.linspace(-25, 25, 5001)
    log_prior, log_q = log_normal(z, 0, 1), log_normal(z, m, s)
    log_lik = log_normal(x, DECODERS[decoder](z), sigma)
    means = np.array([m + a * (datum - x) for datum in DATA])
    log_aggregate = special.logsumexp(log_normal(z[:, None], means, s), axis=1) - math.log(len(DATA))

    def integral(density: np.ndarray) -> float:
        return float(integrate.simpson(density, x=z))

    log_px = math.log(integral(np.exp(log_prior + log_lik)))
    distortion, rate = -integral(np.exp(log_q) * log_lik), (m**2 + s**2 - 1) / 2 - math.log(s)
    return {
        "log_px": log_px,
        "elbo": -distortion - rate,
        "rate": rate,
        "distortion": distortion,
        "gap": log_px + distortion + rate,
        "best_beta_elbo": beta * math.log(integral(np.exp(log_prior + log_lik / beta))),
        "divergence": integral(np.exp(log_aggregate) * (log_aggregate - log_prior)),
    }


def by_evidence(decoder: str, x: float, sigma: float, m: float, s: float, **others: float) -> float:
    """log p(x) as `ppl-vae evaluate` finds it."""

    def model(data: torch.Tensor) -> None:
        with pyro.plate("data", data.shape[0]):
            z = pyro.sample("z", dist.Normal(data.new_zeros(data.shape[0]), 1.0))
            f = {"line": z, "bend": 2 * (1.5 * z).tanh(), "wave": 2 * (1.5 * z).sin()}[decoder]
            pyro.sample("x", dist.Normal(f, sigma), obs=data)

    def guide(data: torch.Tensor) -> None:
        with pyro.plate("data", data.shape[0]):
            pyro.sample("z", dist.Normal(data.new_full((data.shape[0],), m), s))

    return quadrature(model, guide, torch.tensor([x], dtype=torch.float64)).log_px.item()


def test_the_page_is_what_the_script_writes() -> None:
    written = runpy.run_path(str(DOCS / "one_dimension.py"))["page"]()
    assert (DOCS / "one_dimension.html").read_text(encoding="utf-8") == written, "run python docs/one_dimension.py"


def test_the_numbers_are_exact(chromium: Any) -> None:
    with browser.opened(chromium, DOCS / "one_dimension.html") as page:
        for place in PLACES:
            shown = shown_numbers(page, **place)
            assert shown["log_px"] == pytest.approx(shown["elbo"] + shown["gap"], abs=1e-6)
            assert shown == pytest.approx(exact(**{**START, **place}), abs=1e-6), place


def test_log_px_is_that_of_an_evaluation(chromium: Any) -> None:
    with browser.opened(chromium, DOCS / "one_dimension.html") as page:
        for place in [{}, {"decoder": "line", "x": -3, "sigma": 2}, {"decoder": "wave", "x": 1, "sigma": 0.2}]:
            found = by_evidence(**{**START, **place})
            assert shown_numbers(page, **place)["log_px"] == pytest.approx(found, abs=1e-3), place


def test_the_sliders_move_the_numbers(chromium: Any) -> None:
    moves = {
        "x": {"log_px", "elbo", "gap", "distortion", "best_beta_elbo", "divergence"},
        "sigma": {"log_px", "elbo", "gap", "distortion", "best_beta_elbo"},
        "m": {"elbo", "gap", "rate", "distortion", "divergence"},
        "s": {"elbo", "gap", "rate", "distortion", "divergence"},
        "beta": {"best_beta_elbo"},
        "a": {"divergence"},
    }
    with browser.opened(chromium, DOCS / "one_dimension.html") as page:
        before = shown_numbers(page)
        for name, (label, *_) in SLIDERS.items():
            for _ in range(2):
                page.get_by_label(label).press("ArrowRight")
            after = dict(zip(NUMBERS, browser.signals(page, FIGURE, *NUMBERS), strict=True))
            assert {key for key in NUMBERS if abs(after[key] - before[key]) > 1e-6} == moves[name], name
            said = page.locator(f"#{FIGURE} .vega-plot").text_content()
            assert f"{after['log_px']:.3f}".replace("-", "−") in said
            for _ in range(2):
                page.get_by_label(label).press("ArrowLeft")
        page.get_by_label("wave").check()
        assert browser.signals(page, FIGURE, "decoder") == ["wave"]
        assert "2 sin(1.5 z)" in page.locator(f"#{FIGURE} .vega-plot").text_content()


BEST = {"m": 0.85, "s": 0.4}
WAVE = {"decoder": "wave", "x": 1, "sigma": 0.3}
PRIOR = {"m": 0, "s": 1, "a": 0}
CLAIMS = [  # of the five experiments: sliders, number, what the text says of it
    ({}, "rate", "0.236"), ({}, "distortion", "3.392"),
    ({"s": 0.3}, "rate", "0.794"), ({"s": 0.3}, "distortion", "1.877"),
    (BEST, "gap", "0.123"), ({"decoder": "line", "x": 1, "sigma": 1, "m": 0.5, "s": 0.7}, "gap", "0.000"),
    ({**WAVE, "m": 0.35, "s": 0.1}, "elbo", "−1.952"), ({**WAVE, "m": 1.7, "s": 0.15}, "elbo", "−3.356"),
    ({**WAVE, "m": 1, "s": 0.6}, "elbo", "−4.465"),
    (BEST, "rate", "0.858"), (BEST, "distortion", "0.718"), ({"m": 0.7, "s": 0.6}, "rate", "0.436"),
    ({"m": 0.7, "s": 0.6}, "distortion", "1.625"), ({"m": 0.7, "s": 0.6}, "gap", "0.608"),
    (PRIOR, "rate", "0.000"), (PRIOR, "gap", "5.084"), ({**PRIOR, "sigma": 2}, "gap", "0.146"),
    ({**BEST, "a": 0.6}, "divergence", "0.06"),
]  # fmt: skip


def test_what_the_text_says_is_true(chromium: Any) -> None:
    file = DOCS / "one_dimension.html"
    words = file.read_text(encoding="utf-8").partition("Five things to try")[2]
    with browser.opened(chromium, file) as page:
        for place, number, said in CLAIMS:
            shown = shown_numbers(page, **place)[number]
            digits = len(said.partition(".")[2])
            assert f"{round(shown, digits) + 0.0:.{digits}f}".replace("-", "−") == said, place
            assert re.search(rf"(?<![\d.−]){re.escape(said)}(?!\d)", words), f"the page does not say {said}"
        assert set(re.findall(r"\d\.\d{3}", words)) == {said.lstrip("−") for _, _, said in CLAIMS if len(said) > 4}


def test_no_bell_is_better_than_those_that_the_text_names() -> None:
    """On the sliders' own steps: the best of all for β = 1 and 4, and the peaks of the wave among their neighbours."""
    near = [
        ({}, BEST, 1, 5), ({}, {"m": 0.7, "s": 0.6}, 4, 5),
        (WAVE, {"m": 0.35, "s": 0.1}, 1, 1), (WAVE, {"m": 1.7, "s": 0.15}, 1, 1),
    ]  # fmt: skip
    for place, bell, beta, reach in near:
        values = {}
        for i, j in itertools.product(range(-reach, reach + 1), repeat=2):
            found = exact(**{**START, **place, "m": bell["m"] + 0.05 * i, "s": bell["s"] + 0.05 * j})
            values[i, j] = -found["distortion"] - beta * found["rate"]
        assert max(values, key=values.__getitem__) == (0, 0), bell


def test_the_box_moves_the_guide_to_the_best_bell(chromium: Any) -> None:
    with browser.opened(chromium, DOCS / "one_dimension.html") as page:
        page.get_by_label("best bell").check()
        assert browser.signals(page, FIGURE, "m", "s") == [BEST["m"], BEST["s"]]
        for moved in (
            {"beta": 4},
            {"decoder": "wave", "x": -1.5, "sigma": 0.2},
            {"decoder": "line", "x": 2, "sigma": 1},
        ):
            page.evaluate(
                "([id, moved]) => { const view = document.getElementById(id).view;"
                " for (const [name, value] of Object.entries(moved)) view.signal(name, value); }",
                [FIGURE, {"beta": 1} | moved],
            )
            m, s = browser.signals(page, FIGURE, "m", "s")
            now = dict(zip(START, browser.signals(page, FIGURE, *START), strict=True))
            around = {}
            for i, j in itertools.product((-0.05, 0, 0.05), repeat=2):
                if s + j > 0.04:
                    found = exact(**{**now, "m": m + i, "s": s + j})
                    around[i, j] = -found["distortion"] - now["beta"] * found["rate"]
            assert max(around, key=around.__getitem__) == (0, 0), (moved, m, s)


def test_a_phone_and_assistive_technology(chromium: Any) -> None:
    file = DOCS / "one_dimension.html"
    with browser.opened(chromium, file, width=390, dark=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        drawn = page.locator(f"#{FIGURE} svg").bounding_box()
        assert drawn["x"] + drawn["width"] <= 390
        assert browser.axe(page) == []
    with browser.opened(chromium, file) as page:
        assert browser.axe(page) == []
        page.emulate_media(media="print")
        assert page.locator(f"#{FIGURE} svg").is_visible()
