"""The style: colours that are told apart, files that are whole, and a figure as a part of a page."""

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from support.figures import LONG, metrics

from ppl_vae.reports.comparison_figures import ESTIMATORS, estimator_color
from ppl_vae.reports.figures import image_grid, latent_scatter, learning_curves
from ppl_vae.reports.style import GREY, PALETTE, as_svg, figure, log_scale, save, styled

# Machado, Oliveira & Fernandes 2009, table 1, severity 1: linear RGB as it looks to a dichromat
SEEN = {
    "by all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "without red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "without green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "without blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
WHITE = [0.95047, 1.0, 1.08883]


def linear(color: str) -> np.ndarray:
    c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* of linear RGB, white D65."""
    t = np.array(XYZ) @ rgb / WHITE
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_lab_of_what_is_known() -> None:
    np.testing.assert_allclose(lab(linear("#ffffff")), [100, 0, 0], atol=0.01)
    np.testing.assert_allclose(lab(linear("#ff0000")), [53.24, 80.09, 67.20], atol=0.02)


@pytest.mark.parametrize("eyes", SEEN)
def test_colours_are_told_apart(eyes: str) -> None:
    """By 15 at least, where 2.3 is the least difference that is seen; from grey by 10."""
    seen = {color: lab(np.clip(SEEN[eyes] @ linear(color), 0, 1)) for color in (*PALETTE, GREY)}
    for a, b in combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > (10 if GREY in (a, b) else 15), (a, b)


def test_an_estimator_has_a_colour_of_its_own() -> None:
    assert len(set(ESTIMATORS.values())) == len(ESTIMATORS)
    assert estimator_color("iwae:K=5") == estimator_color("iwae:K=50") == ESTIMATORS["iwae"]
    assert estimator_color("trace in bfloat16") == ESTIMATORS["trace"]
    assert estimator_color("score-function:K=2,baseline=False") != estimator_color("score-function:K=2")


def scatter() -> Figure:
    rng = np.random.default_rng(0)
    return latent_scatter(rng.normal(size=(90, 3)), np.array(["a", "<b> & $c$", LONG])[np.arange(90) % 3])


def grid() -> Figure:
    return image_grid(np.random.default_rng(0).random((20, 6, 6)), "x < 1 & z")


FIGURES = {"curves": lambda: learning_curves(metrics(9)), "scatter": scatter, "grid": grid}


@pytest.mark.parametrize("name", FIGURES)
def test_both_files_are_written_and_are_the_same_for_the_same_figure(name: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save(FIGURES[name](), tmp_path / folder / "f.png")
        assert {path.name for path in (tmp_path / folder).iterdir()} == {"f.png", "f.svg"}
    for kind in ("png", "svg"):
        assert (tmp_path / f"a/f.{kind}").read_bytes() == (tmp_path / f"b/f.{kind}").read_bytes()
    assert b"<dc:date>" not in (tmp_path / "a/f.svg").read_bytes()


def test_a_figure_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f.png").write_bytes(b"before")
    drawn = grid()
    monkeypatch.setattr(drawn, "savefig", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(drawn, tmp_path / "f.png")
    assert [path.name for path in tmp_path.iterdir()] == ["f.png"]
    assert (tmp_path / "f.png").read_bytes() == b"before"


@pytest.mark.parametrize("name", FIGURES)
def test_a_part_of_a_page(name: str) -> None:
    made = as_svg(FIGURES[name](), "A <title>", 'Seen & "said"')
    assert made == as_svg(FIGURES[name](), "A <title>", 'Seen & "said"')
    root = ElementTree.fromstring(made)
    ns = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{ns}svg"
    assert root.attrib["role"] == "img"
    assert root.attrib["width"] == "100%"
    assert re.search(r"max-width: \d+px", root.attrib["style"])
    assert len(root.attrib["viewBox"].split()) == 4
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    title, desc = (root.find(f"{ns}{tag}") for tag in ("title", "desc"))
    assert title is not None
    assert desc is not None
    assert (title.text, desc.text) == ("A <title>", 'Seen & "said"')
    assert root.attrib["aria-labelledby"].split() == [title.attrib["id"], desc.attrib["id"]]
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', made)) == set(ids) - {title.attrib["id"], desc.attrib["id"]}
    for left_out in ("<style", "<metadata", "font-family", "#000000", "#ffffff", "<?xml", "DOCTYPE"):
        assert left_out not in made
    words = [element.text for element in root.iter(f"{ns}text")]
    assert {"curves": "epoch", "scatter": "<b> & $c$", "grid": "x < 1 & z"}[name] in words
    if name == "grid":
        (image,) = root.iter(f"{ns}image")
        assert image.attrib["href"].startswith("data:image/png;base64,")
        assert "pixelated" in image.attrib["style"]
        assert (image.attrib["width"], image.attrib["height"]) == ("128", "16"), "a number of x is a pixel"


def test_figures_of_one_page_share_no_id() -> None:
    found = [as_svg(draw(), title, "") for title in ("one", "two") for draw in FIGURES.values()]
    ids = [name for made in found for name in re.findall(r'\bid="([^"]+)"', made)]
    assert len(ids) == len(set(ids))


def test_settings_of_the_user_change_nothing_and_stay(tmp_path: Path) -> None:
    save(FIGURES["curves"](), tmp_path / "plain.png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "lines.linewidth": 9, "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        save(FIGURES["curves"](), tmp_path / "own.png")
        assert dict(mpl.rcParams) == before
    for kind in ("png", "svg"):
        assert (tmp_path / f"plain.{kind}").read_bytes() == (tmp_path / f"own.{kind}").read_bytes()


@styled()
def test_numbers_of_a_logarithmic_axis() -> None:
    axes = figure().subplots()
    axes.set_ylim(1e-5, 1e7)
    log_scale(axes, "y")
    shown = axes.yaxis.get_major_formatter()
    assert [shown(x, None) for x in (0.01, 1, 1000, 1e-5, 1e5)] == ["0.01", "1", "1000", "10⁻⁵", "10⁵"]
