"""How all figures look: colours, sizes and fonts; and a figure as files, or as a part of a page.

A function that draws is decorated with `@styled()`, begins with `figure(width, height)` and returns what it drew;
`save` and `as_svg` do the rest. The user's own settings of matplotlib neither change a figure nor are changed.
"""

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from ppl_vae.core.files import write_bytes

# Okabe & Ito 2008, which colour-blind readers tell apart, and three more that they tell from these
BLACK, ORANGE, SKY, GREEN, YELLOW = "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PURPLE, BROWN, VIOLET, NAVY = "#0072B2", "#D55E00", "#CC79A7", "#7A4100", "#7830F0", "#204060"
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, YELLOW, BROWN, VIOLET, NAVY)
GREY = "#777777"  # of what is there to compare with; seen on a white page and on a dark one
MARKERS = "osD^vP*Xhp<>"

WIDTH = 8.0  # inches, of every figure that is not a grid of images
SMALL = 8  # points, of ticks and of labels inside of a panel
RC: Any = {
    "figure.dpi": 150,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "figure.titlesize": 9,
    "figure.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.prop_cycle": f"cycler('color', {list(PALETTE)})",
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "errorbar.capsize": 3,
    "image.interpolation": "none",
    "text.parse_math": False,  # a $ in the name of a column is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "ppl_vae",
}
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
ROOT = "http://www.w3.org/2000/svg"


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The style, as a decorator of a function that draws, or in a `with`."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def figure(width: float = WIDTH, height: float = 3.0) -> Figure:
    """An empty figure, in inches, whose panels make room for their labels. No pyplot: nothing has to be closed."""
    return Figure((width, height), layout="constrained")


class _Powers(LogFormatter):
    """0.01, 50, 2000, and from there 10⁵ and 2·10⁵."""

    def _num_to_string(self, x: float, vmin: float, vmax: float) -> str:
        if 1e-3 <= x < 1e4:
            return f"{x:g}"
        digits, power = f"{x:.0e}".split("e")
        return ("" if digits == "1" else f"{digits}·") + "10" + str(int(power)).translate(RAISED)


def log_scale(axes: Axes, which: Literal["x", "y", "xy"]) -> None:
    """Logarithmic axes, whose numbers are text without formulas."""
    for letter in which:
        axes.set(**{f"{letter}scale": "log"})
        axis = axes.xaxis if letter == "x" else axes.yaxis
        axis.set_major_formatter(_Powers())
        axis.set_minor_formatter(_Powers())


def save(figure: Figure, path: Path) -> None:
    """Write the figure as `path`, a `.png`, and beside it under the same stem as `.svg`. Each is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for kind in ("svg", "png"):
        write_bytes(path.with_suffix(f".{kind}"), _rendered(figure, kind))


def show(figure: Figure, path: Path | None = None) -> None:
    """Show the figure below the cell of a notebook, and nowhere else; with a path, `save` it too."""
    if path is not None:
        save(figure, path)
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        ipython.display.display_png(_rendered(figure, "png"), raw=True)


@styled()
def _rendered(figure: Figure, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    if kind == "svg":  # many points are an image in it, whose size matters
        options |= {"metadata": {"Date": None}, "dpi": 110}
    figure.savefig(content, format=kind, **options)
    return content.getvalue()


def as_svg(figure: Figure, title: str, description: str) -> str:
    """The figure as an `<svg>` that stands in an HTML page, where it is as wide as there is room, up to its own size.

    Text is text, in the font of the page. What is black takes the colour of the page's text, and what is white its
    background, `--paper` or else the `Canvas` of its colour scheme, so that a dark page can be read too. Its ids are
    those of no other figure. The same figure gives the same text.

    Args:
        title: what a screen reader says first.
        description: what is seen in it, in a sentence.
    """
    return inline(_rendered(figure, "svg", facecolor="none"), title, description)


def inline(source: bytes, title: str, description: str) -> str:
    """What `save` wrote as `.svg`, likewise; the arguments are those of `as_svg`."""
    prefix = "f" + sha256(source + f"{title}\n{description}".encode()).hexdigest()[:10]
    drawn = ElementTree.fromstring(source)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', source.decode()))
    for element in drawn.iter():
        _for_a_page(element, used, prefix)
    parts = [part for part in drawn if part.tag in ("g", "defs") and part.find("style") is None]
    width = 96 / 72 * float(drawn.attrib["viewBox"].split()[2])
    root = ElementTree.Element("svg", {
        "xmlns": ROOT, "role": "img", "aria-labelledby": f"{prefix}-title {prefix}-desc",
        "viewBox": drawn.attrib["viewBox"], "width": "100%",
        "style": f"max-width: {width:z.0f}px; height: auto; fill: currentColor; "
        "stroke-linejoin: round; stroke-linecap: butt",
    })  # fmt: skip
    for name, text in (("title", title), ("desc", description)):
        ElementTree.SubElement(root, name, {"id": f"{prefix}-{name}"}).text = text
    root.extend(parts)
    return ElementTree.tostring(root, encoding="unicode")


def _for_a_page(element: ElementTree.Element, used: set[str], prefix: str) -> None:
    """Names without namespaces, ids of this figure alone, the page's font and its two colours."""
    old = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    if old.get("id") not in used:
        old.pop("id", None)
    if "id" in old:
        old["id"] = f"{prefix}-{old['id']}"
    if "d" in old:  # hundredths of a point are enough
        old["d"] = re.sub(r"(\.\d\d)\d+", r"\1", " ".join(old["d"].split()))
    if "href" in old:
        old["href"] = re.sub("^#", f"#{prefix}-", old["href"]).replace("\n", "")
    if "clip-path" in old:
        old["clip-path"] = old["clip-path"].replace("#", f"#{prefix}-")
    if "style" in old:
        style = re.sub(r"font-family: [^;]*(; )?", "", old["style"])
        old["style"] = style.replace(BLACK, "currentColor").replace("#ffffff", "var(--paper, Canvas)")
    element.tag = element.tag.rpartition("}")[2]
    element.attrib.clear()
    element.attrib.update(old)
    if element.tag not in ("text", "tspan"):
        element.text = None
    element.tail = None
