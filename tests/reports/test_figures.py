"""Figures of a run and of a comparison: what is drawn are the numbers, inside of the frame, and no name on another."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.figures import LONG, beyond, estimator, metrics, overlapping, side_by_side

from ppl_vae.reports.comparison_figures import comparison
from ppl_vae.reports.figures import image_grid, latent_scatter, learning_curves, reconstructions
from ppl_vae.reports.report_figures import learning

TWELVE = (
    "trace", "analytic-kl", "mean-field", "score-function", "score-function:baseline=False", "sticking-the-landing",
    "trace-enum", "beta:beta=4", "free-bits", "mine.py:AnObjectiveWithALongName,alpha=0.25,K=50", "trace in bfloat16",
    "analytic-kl in bfloat16",
)  # fmt: skip
ADVICE = "ELBO: sticking-the-landing, 2.6 times as efficient as analytic-kl for the guide's gradient; " * 4


def several(names: Sequence[str], targets: Sequence[str] = ("ELBO",), near: bool = False) -> dict[str, object]:
    made = {}
    for i, name in enumerate(names):
        spread = 0 if near else i
        numbers = {"variance": 100.0 * 3**spread, "error": 5.0, "seconds_per_step": 1e-3 * (5 + spread)}
        made[name] = estimator(targets[i % len(targets)], -100 + 0.1 * i, **numbers)
    return made


def scattered(rows: int, labels: Sequence[str], dims: int = 2) -> Figure:
    rng = np.random.default_rng(rows)
    return latent_scatter(rng.normal(size=(rows, dims)), np.array(labels)[np.arange(rows) % len(labels)])


def images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, *shape))


FIGURES: dict[str, Callable[[], Figure]] = {
    "no epoch": lambda: learning_curves(metrics(0)),
    "one epoch": lambda: learning_curves(metrics(1)),
    "many epochs": lambda: learning_curves(metrics(300)),
    "no validation rows": lambda: learning_curves(metrics(9, ["train"])),
    "digits": lambda: scattered(300, [str(i) for i in range(10)], dims=5),
    "long labels": lambda: scattered(100, [f"{LONG} {i}" for i in range(12)]),
    "many labels": lambda: scattered(900, [f"{i}, a label of its own" for i in range(40)]),
    "missing labels": lambda: scattered(90, ["", "a", "$5-$10"]),
    "no labels": lambda: latent_scatter(images(50, 2)),
    "one image": lambda: image_grid(images(1, 28, 28), "x"),
    "large images": lambda: image_grid(images(3, 256, 200, 3), "x ~ p(x|z), z ~ p(z)"),
    "many images": lambda: image_grid(images(500, 8, 8), "x"),
    "one reconstruction": lambda: reconstructions(images(1, 28, 28), images(1, 28, 28), "x ~ p(x|z)"),
    "reconstructions": lambda: reconstructions(images(40, 9, 30), images(40, 9, 30), "E[x|z]"),
    "one estimator": lambda: comparison({5: side_by_side(several(["trace"]), ADVICE)}),
    "twelve": lambda: comparison({5: side_by_side(several(TWELVE), ADVICE)}),
    "twelve at one place": lambda: comparison({5: side_by_side(several(TWELVE, near=True), ADVICE)}),
    "three targets": lambda: comparison({5: side_by_side(several(TWELVE, ["ELBO", "IWAE_5", "β-ELBO(β=4)"]), ADVICE)}),
    "checkpoints": lambda: comparison({i: side_by_side(several(TWELVE[:4]), ADVICE) for i in (5, 100, 20_000)}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_all_of_it_is_inside_of_the_frame_and_no_name_on_another(name: str) -> None:
    drawn = FIGURES[name]()
    assert beyond(drawn) < 1
    assert overlapping(drawn) == []


def test_curves_are_the_numbers_and_their_errors() -> None:
    lines = metrics(20)
    panels = learning_curves(lines).axes
    for axes, name in zip(panels, ("elbo", "rate", "distortion"), strict=True):
        train, valid = (line.get_ydata() for line in axes.lines)
        np.testing.assert_allclose(train, [m["train"][name] for m in lines[1:]])
        np.testing.assert_allclose(valid, [m["valid"][name] for m in lines[1:]])
        if name == "distortion":
            assert not axes.collections
            continue
        corners = axes.collections[0].get_paths()[0].vertices
        for m in lines[1:]:
            low, *_, high = np.unique(corners[corners[:, 0] == m["epoch"]][:, 1])[[0, -1]]
            value, se = m["valid"][name], m["valid"][f"{name}_se_data"]
            assert (low, high) == pytest.approx((value - se, value + se))
    assert [text.get_text() for text in panels[-1].texts] == ["validation", "training"], "as the lines end"


def test_a_number_that_is_not_defined_is_not_drawn() -> None:
    lines = metrics(3)
    lines[2]["valid"] |= {"elbo": None, "elbo_se_data": None}
    valid = learning_curves(lines).axes[0].lines[1].get_ydata()
    assert np.isnan(valid).tolist() == [False, True, False]


def test_points_are_the_codes_and_labels_stand_at_their_medians() -> None:
    z = np.random.default_rng(0).normal(size=(60, 2)) + 10 * np.arange(60)[:, None] % 30
    labels = np.array(["a", "b", ""])[np.arange(60) % 3]
    (axes,) = latent_scatter(z, labels).axes
    for points, label in zip(axes.collections, ("a", "b", ""), strict=True):
        np.testing.assert_array_equal(points.get_offsets(), z[labels == label])
    for text in axes.texts:
        assert text.xy == pytest.approx(tuple(np.median(z[labels == text.get_text()], 0)))
    colors = {tuple(points.get_facecolor()[0]) for points in axes.collections}
    assert len(colors) == 3


def test_principal_components() -> None:
    z = np.random.default_rng(0).normal(size=(500, 4)) * [1, 5, 0.1, 3]
    (points,) = latent_scatter(z).axes[0].collections
    plane = points.get_offsets().data
    assert abs(np.corrcoef(plane[:, 0], z[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(plane[:, 1], z[:, 3])[0, 1]) > 0.99


@pytest.mark.parametrize("colors", [(), (3,)])
def test_images_stand_in_their_places(colors: tuple[int, ...]) -> None:
    x = images(20, 5, 4, *colors)
    (shown,) = image_grid(x, "").axes[0].images
    grid = np.asarray(shown.get_array())[..., :3] if colors else np.asarray(shown.get_array().filled(np.nan))
    np.testing.assert_allclose(grid[1:6, 7:11], x[1])
    np.testing.assert_allclose(grid[8:13, 1:5], x[16])
    (shown,) = reconstructions(x[:6], x[6:12], "").axes[0].images
    grid = np.asarray(shown.get_array())[..., :3] if colors else np.asarray(shown.get_array().filled(np.nan))
    np.testing.assert_allclose(grid[8:13, 7:11], x[7])


def test_values_variances_and_their_errors() -> None:
    found = several(["trace", "iwae:K=5", "analytic-kl", "dreg:K=5"], ["ELBO", "IWAE_5"])
    values, elbo, iwae = comparison({7: side_by_side(found)}).axes
    for place, (bars, e) in enumerate(zip(values.containers, found.values(), strict=True)):
        point, _, (error,) = bars.lines
        assert point.get_xydata()[0] == pytest.approx((e.value.value, place))
        assert error.get_segments()[0][:, 0] == pytest.approx([e.value.value - 0.2, e.value.value + 0.2])
    for axes, target in ((elbo, "ELBO"), (iwae, "IWAE_5")):
        of_target = [e for e in found.values() if e.target == target]
        for bars, e in zip(axes.containers, of_target, strict=True):
            point, _, (error,) = bars.lines
            variance = e.gradient_variance["guide"]
            assert point.get_xydata()[0] == pytest.approx((1e3 * e.seconds_per_step, variance.value))
            assert error.get_segments()[0][:, 1] == pytest.approx([variance.value - 10, variance.value + 10])
        x, y = axes.lines[-1].get_data() if axes.lines[-1].get_linestyle() == "--" else (None, None)
        assert x is not None
        best = min(1e3 * e.seconds_per_step * e.gradient_variance["guide"].value for e in of_target)
        np.testing.assert_allclose(x * y, best)
    assert [text.get_text() for text in values.get_yticklabels()] == list(found)


def test_an_exact_gradient_and_an_undefined_value() -> None:
    silent = estimator(variance=0.0, error=0.0, gradient_snr={"model": math.nan, "guide": math.nan})
    found = {"trace": estimator(), "silent": silent, "lost": estimator(value=math.nan, se=math.nan, error=math.nan)}
    drawn = comparison({0: side_by_side(found)})
    assert "exact: silent" in [text.get_text() for text in drawn.axes[1].texts]
    assert beyond(drawn) < 1


def test_learning_of_several_runs() -> None:
    names = [f"runs/{LONG}/seed-{seed}" for seed in range(6)]
    drawn = learning({name: metrics(5 * i) for i, name in enumerate(names)})
    (axes,) = drawn.axes
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [m["valid"]["elbo"] for m in metrics(5)[1:]])
    assert len(axes.texts) == 5, "a run without an epoch has no line"
    assert beyond(drawn) < 1
    assert overlapping(drawn) == []


@pytest.mark.parametrize("draw", [learning_curves, lambda lines: learning({"run": lines})])
@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 12, 300])
def test_epochs_are_whole_numbers(draw: Callable[[list[dict[str, object]]], Figure], epochs: int) -> None:
    drawn = draw(metrics(epochs))
    drawn.draw_without_rendering()
    for axes in drawn.axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)
