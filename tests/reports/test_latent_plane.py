"""The latent plane: what is decoded where, what a page of it weighs, and what pointer, touch and keyboard do in it."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import browser

from ppl_vae.core.errors import InputError
from ppl_vae.reports import vega
from ppl_vae.reports.latent_plane import Plane, latent_plane
from ppl_vae.reports.sheets import sheet

N, SIZE = 40, 5


def numbered(count: int, colors: tuple[int, ...] = ()) -> np.ndarray:
    """Pictures of 8 × 8 pixels whose first pixels, in the numeral system of base 16, are the picture's number."""
    pictures = np.zeros((count, 8, 8, *colors))
    for place in range(3):
        pictures[:, 0, place] = ((np.arange(count) // 16**place % 16) / 15).reshape(-1, *[1] * len(colors))
    return pictures


def codes(dim: int = 2) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N, dim)) * np.linspace(2, 1, dim)


def figure(**kwargs: Any) -> str:
    plane = Plane.of(codes(), SIZE)
    given = {"labels": np.arange(N) % 3, "rows": 100 + np.arange(N)} | kwargs
    return latent_plane(plane, numbered(N), numbered(N) / 2, numbered(SIZE**2), **given)


def test_the_plane_of_two_latents_is_the_latents() -> None:
    z = codes()
    plane = Plane.of(z, SIZE)
    np.testing.assert_allclose(plane.points, z)
    # the first node is at the left of the highest line, the last at the right of the lowest
    np.testing.assert_allclose(plane.nodes[0], [plane.lines[0, 0], plane.lines[1, -1]])
    np.testing.assert_allclose(plane.nodes[-1], [plane.lines[0, -1], plane.lines[1, 0]])
    np.testing.assert_allclose(plane.nodes[1], [plane.lines[0, 1], plane.lines[1, -1]])
    assert (plane.points >= plane.lines[:, 0] - 1e-9).all()
    assert (plane.points <= plane.lines[:, -1] + 1e-9).all()
    np.testing.assert_allclose(*np.diff(plane.lines, axis=1))  # the same units on both axes


def test_the_plane_of_more_latents_is_that_of_their_components() -> None:
    z = codes(5) @ np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0] + 3
    plane = Plane.of(z, SIZE)
    values, vectors = np.linalg.eigh(np.cov(z.T))
    for i in (1, 2):
        np.testing.assert_allclose(np.abs(plane.points[:, i - 1]), np.abs((z - z.mean(0)) @ vectors[:, -i]), atol=1e-9)
    others = (plane.nodes - z.mean(0)) @ vectors[:, :-2]
    np.testing.assert_allclose(others, 0, atol=1e-9)
    assert f"{values[-2:].sum() / values.sum():.0%} of its variance" in plane.note
    # a point's own place decodes to the point, less its other components
    across = np.stack([plane.nodes[0] - plane.nodes[-1]]) @ vectors[:, -2:]
    assert np.linalg.norm(across) == pytest.approx(np.linalg.norm(np.ptp(plane.lines, axis=1)))


def test_a_sheet_holds_every_picture_in_its_place() -> None:
    found = sheet(numbered(50), columns=7)
    whole = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.uri.partition(",")[2]))).convert("L"))
    assert (found.rows, found.columns, *whole.shape) == (8, 7, 64, 56)
    for i in range(50):
        pixels = whole[i // 7 * 8, i % 7 * 8 : i % 7 * 8 + 3]
        assert ((255 - pixels) / 17 @ [1, 16, 256]).round() == i
    assert (whole[56:, 8:] == 255).all()  # white paper where there is no picture


def test_a_sheet_of_colours_and_one_of_what_is_missing() -> None:
    red = np.zeros((4, 8, 8, 3))
    red[..., 0] = 1
    whole = Image.open(io.BytesIO(base64.b64decode(sheet(red, 2).uri.partition(",")[2]))).convert("RGB")
    assert whole.size == (16, 16)
    assert whole.getpixel((5, 5)) == (255, 0, 0)
    nothing = Image.open(io.BytesIO(base64.b64decode(sheet(np.full((1, 8, 8), np.nan), 1).uri.partition(",")[2])))
    assert nothing.convert("L").getextrema() == (255, 255)


def test_large_pictures_are_shrunk() -> None:
    assert (sheet(np.zeros((2, 128, 64)), 1).height, sheet(np.zeros((2, 128, 64)), 1).width) == (32, 16)


@pytest.mark.parametrize(
    ("labels", "domain"),
    [
        ([10, 9, 9, 10], ["9", "10"]),
        ([True, False, True, True], ["False", "True"]),
        (["b", None, float("nan"), "a"], ["a", "b", "–"]),
        (np.arange(12) / 4, [0.0, 2.75]),
        ([f"k{i:02}" for i in range(11)] + ["k10"], [*(f"k{i:02}" for i in (*range(8), 10)), "other"]),
    ],
)
def test_labels_of_any_kind(labels: Any, domain: list[Any]) -> None:
    n = len(labels)
    plane = Plane.of(np.random.default_rng(0).normal(size=(n, 2)), 3)
    html = latent_plane(plane, numbered(n), numbered(n), numbered(9), labels=labels)
    spec = json.loads(html.partition('<script type="application/json">')[2].partition("</script>")[0])
    (scale,) = (scale for scale in spec["scales"] if scale["name"] == "color")
    assert scale["domain"] == domain


def test_a_page_of_500_digits_weighs_less_than_a_megabyte() -> None:
    from ppl_vae.data.builtin.mnist_5k import Mnist5k

    digits = Mnist5k.read()[::10].reshape(-1, 28, 28) / 255
    blurred = (digits + np.roll(digits, 1, 1) + np.roll(digits, 1, 2) + np.roll(digits, -1, 1)) / 4
    plane = Plane.of(np.random.default_rng(0).normal(size=(500, 2)))
    html = latent_plane(plane, digits, blurred, blurred[:225], labels=Mnist5k.labels()[::10])
    assert len(vega.library()) + len(html) < 1e6


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"codes": np.zeros((4, 1))}, "two latents or more"),
        ({"codes": np.full((4, 2), np.nan)}, "not finite"),
        ({"again": numbered(3)}, r"again has shape \(3, 8, 8\); the plane asks for \(4, 8, 8\)"),
        ({"decoded": numbered(4)}, "decoded has shape"),
        ({"labels": [1, 2]}, "2 labels for 4 data"),
        ({"rows": [1]}, "1 rows for 4 data"),
        ({"x": np.zeros((4, 8, 8, 2))}, "pictures are"),
        ({"x": np.zeros((4, 3)), "again": np.zeros((4, 3)), "decoded": np.zeros((9, 3))}, "name each"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any], says: str) -> None:
    given = {"x": numbered(4), "again": numbered(4), "decoded": numbered(9), "codes": np.eye(4)[:, :2]} | wrong
    with pytest.raises(InputError, match=says):
        latent_plane(Plane.of(given.pop("codes"), 3), **given)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.chromium() as launched:
        yield launched


def place(shown: Any, x: float, y: float) -> tuple[float, float]:
    """A place of the plane, in pixels of the page."""
    box = shown.locator("#latent-plane .cells").bounding_box()
    side, plane = browser.signals(shown, "latent-plane", "side")[0], Plane.of(codes(), SIZE)
    half = (plane.lines[:, 1] - plane.lines[:, 0]) / 2
    low, high = plane.lines[:, 0] - half, plane.lines[:, -1] + half
    return box["x"] + side * (x - low[0]) / (high - low)[0], box["y"] + side * (high[1] - y) / (high - low)[1]


def picture(shown: Any, kind: str) -> int:
    """The number of the picture that is shown, from the pixels on the screen."""
    box = shown.locator(f"#latent-plane .{kind} path.background").first.bounding_box()
    seen = np.asarray(Image.open(io.BytesIO(shown.screenshot(clip=box))).convert("L")).astype(float)
    cell = seen.shape[0] / 8
    middles = [seen[round(cell / 2), round((i + 0.5) * cell)] for i in range(3)]
    return int(((255 - np.array(middles)) / 17).round() @ [1, 16, 256])


def test_the_pointer_shows_the_datum_and_what_is_decoded(tmp_path: Path, chromium: Any) -> None:
    plane = Plane.of(codes(), SIZE)
    with browser.opened(chromium, browser.written(tmp_path, figure())) as shown:
        for row in (7, 31):
            shown.mouse.move(*place(shown, *plane.points[row]))
            assert browser.signals(shown, "latent-plane", "point") == [row + 1]
            assert picture(shown, "x") == row
            assert f"row {100 + row}" in shown.locator("#latent-plane svg").text_content()
            assert f"label {row % 3}" in shown.locator("#latent-plane svg").text_content()
            nearest = ((plane.nodes - plane.points[row]) ** 2).sum(1).argmin()
            assert picture(shown, "decoded") == nearest
        node = plane.nodes[SIZE + 3]  # the second line from the top, the fourth place
        shown.mouse.down()
        shown.mouse.move(*place(shown, *node), steps=4)
        assert browser.signals(shown, "latent-plane", "across", "up") == [4, SIZE - 1]
        assert picture(shown, "decoded") == SIZE + 3
        said = shown.locator("#latent-plane svg").text_content()
        assert f"({node[0]:.2f}, {node[1]:.2f})".replace("-", "−") in said


def test_the_sliders_show_them_too(tmp_path: Path, chromium: Any) -> None:
    with browser.opened(chromium, browser.written(tmp_path, figure())) as shown:
        assert (picture(shown, "x"), picture(shown, "decoded")) == (0, SIZE**2 // 2)
        for label, key, times in (("datum", "ArrowRight", 18), ("to the right", "ArrowLeft", 1), ("upwards", "End", 1)):
            for _ in range(times):
                shown.get_by_label(label).press(key)
        assert browser.signals(shown, "latent-plane", "point", "across", "up") == [19, 2, SIZE]
        assert (picture(shown, "x"), picture(shown, "decoded")) == (18, 1)
        shown.get_by_label("pictures behind").press(" ")
        assert browser.signals(shown, "latent-plane", "behind") == [True]
        width = shown.locator("#latent-plane .vega-plot image").first.bounding_box()["width"]
        assert width == browser.signals(shown, "latent-plane", "side")[0]


def test_a_finger_on_a_phone(tmp_path: Path, chromium: Any) -> None:
    point = Plane.of(codes(), SIZE).points[12]
    with browser.opened(chromium, browser.written(tmp_path, figure()), width=390, dark=True) as shown:
        shown.touchscreen.tap(*place(shown, *point))
        assert browser.signals(shown, "latent-plane", "point") == [13]
        assert shown.evaluate("document.documentElement.scrollWidth") == 390
        box = shown.locator("#latent-plane .x path.background").first.bounding_box()
        corner = Image.open(io.BytesIO(shown.screenshot(clip=box))).convert("L")
        assert corner.getpixel((round(box["width"] / 2), round(box["height"] * 0.9))) == 255  # white paper in the dark
        shown.set_viewport_size({"width": 1280, "height": 900})
        shown.wait_for_function("document.getElementById('latent-plane').view.signal('wide')")


def test_a_table_says_its_values(tmp_path: Path, chromium: Any) -> None:
    x = np.array([[i / 7, f"kind {i}"] for i in range(N)], object)
    decoded = np.array([["–", f"node {i}"] for i in range(SIZE**2)], object)
    html = latent_plane(
        Plane.of(codes(3), SIZE), x, x[::-1], decoded, labels=np.arange(N) / 3, names=["height", "kind"]
    )
    with browser.opened(chromium, browser.written(tmp_path, html)) as shown:
        said = shown.locator("#latent-plane .vega-plot").text_content()
        assert all(words in said for words in ("height", "kind 0", "kind 39", f"node {SIZE**2 // 2}"))
        shown.get_by_label("datum").press("End")
        assert browser.signals(shown, "latent-plane", "point") == [N]
        assert shown.locator("#latent-plane .x").text_content() == f"{39 / 7:.4g}kind 39"


def test_assistive_technology_can_read_it(tmp_path: Path, chromium: Any) -> None:
    for dark in (False, True):
        with browser.opened(chromium, browser.written(tmp_path, figure()), dark=dark) as shown:
            assert browser.axe(shown) == []
