"""Names beside what they name: in order, none on another, and each where it belongs."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from support.figures import beyond, overlapping

from ppl_vae.reports.labels import name_ends, name_points, shortened, wrapped
from ppl_vae.reports.style import figure, styled


@styled()
def ended(ys: list[float]) -> Figure:
    drawn = figure(5, 2)
    axes = drawn.subplots()
    axes.set_ylim(0, 10)
    name_ends(axes, {f"line {i}" + "\nin two" * (i % 3 == 2): (y, "#000000") for i, y in enumerate(ys)})
    return drawn


@pytest.mark.parametrize(
    "ys", [[5.0], [1.0, 9.0], [5.0, 5.01, 4.99, 5.02], [0.2, 0.1, 0.0], [10.0, 9.9, 9.8], [5.0, float("nan")]]
)
def test_ends_keep_their_order_and_their_place_where_there_is_room(ys: list[float]) -> None:
    drawn = ended(ys)
    assert overlapping(drawn) == []
    assert beyond(drawn) < 1
    texts = drawn.axes[0].texts
    heights = {int(text.get_text()[5]): Text.get_window_extent(text).y0 for text in texts}
    assert sorted(heights, key=lambda i: -heights[i]) == sorted(heights, key=lambda i: -np.nan_to_num(ys[i]))
    if len(ys) < 3:
        assert [text.xyann[1] for text in texts] == pytest.approx([0.0] * len(ys))


@styled()
def pointed(points: dict[str, tuple[float, float]]) -> Figure:
    drawn = figure(4, 3)
    axes = drawn.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    name_points(axes, points)
    return drawn


def test_a_lone_point_has_its_name_to_its_right_and_at_the_edge_to_its_left() -> None:
    for x, side in ((0.2, "left"), (0.99, "right")):
        (text,) = pointed({"name": (x, 0.5)}).axes[0].texts
        assert text.get_ha() == side
        assert text.xy == (x, 0.5)


def test_many_points_at_one_place() -> None:
    drawn = pointed({f"point {i}": (0.5, 0.5) for i in range(30)})
    assert overlapping(drawn) == []
    assert beyond(drawn) < 1
    assert 10 < len(drawn.axes[0].texts) <= 30


def test_long_names() -> None:
    assert shortened("short", 24) == "short"
    assert len(shortened("x" * 100, 24)) <= 24
    name = "mine.py:MyVeryLongObjectiveName,alpha=0.25,K=50"
    assert wrapped(name).replace("\n", "") == name
    assert max(map(len, wrapped(name).split("\n"))) <= 36
    assert max(map(len, wrapped("x" * 100).split("\n"))) <= 38
