"""Names beside what they name, in place of a legend: at the ends of lines, and at points."""

import math
import textwrap
from collections.abc import Mapping
from itertools import product

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from ppl_vae.reports.style import GREY, SMALL

GAP = 6.0  # points from a mark to its name
LINE = 1.3 * SMALL  # points from one line of text to the next
POINT = 12.0  # points that a marker takes
RINGS = (1.0, 2.0, 3.0, 4.5, 6.0, 8.0)  # how far a name may go from its point, in lines of text
AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))


def shortened(name: str, most: int) -> str:
    """The name, or its beginning and its end if it is longer than that."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def wrapped(name: str, most: int = 36) -> str:
    """The name in lines of at most so many letters, broken after a comma, a colon or an underscore if there is one."""
    words = name.replace(",", ", ").replace(":", ": ").replace("_", "_ ").replace("/", "/ ")
    lines = textwrap.wrap(words, most + 2)
    return "\n".join(line.replace(", ", ",").replace(": ", ":").replace("_ ", "_").replace("/ ", "/") for line in lines)


def name_ends(axes: Axes, ends: Mapping[str, tuple[float, str]]) -> None:
    """The names of lines to the right of the panel, each at the height of its end, or as near as the others let it.

    Args:
        ends: by name the last y and the colour of the line, in which a stroke leads to the name.
    """
    points = 72 / _laid_out(axes).dpi
    low, high = points * axes.bbox.y0, points * axes.bbox.y1
    heights = {name: points * axes.transData.transform((axes.get_xlim()[0], y))[1] for name, (y, _) in ends.items()}
    heights = {name: height if math.isfinite(height) else low for name, height in heights.items()}
    places = _apart(heights, low, high)
    for name, place in places.items():
        at = min(max(heights[name], low), high)
        axes.annotate(
            name, (1, (at - low) / (high - low)), (2.5 * GAP, place - at), xycoords="axes fraction",
            textcoords="offset points", fontsize=SMALL, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": ends[name][1], "lw": 1.2, "shrinkA": 1, "shrinkB": 1,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


def _apart(heights: Mapping[str, float], low: float, high: float) -> dict[str, float]:
    """Heights that are a line of text from each other, moved as little as a push from the top and one back need."""
    names = sorted(heights, key=lambda name: -heights[name])
    half = {name: LINE * (name.count("\n") + 1) / 2 for name in names}
    places: dict[str, float] = {}
    ceiling = high + LINE
    for name in names:
        places[name] = min(max(heights[name], low), high, ceiling - half[name])
        ceiling = places[name] - half[name]
    floor = low - LINE
    for name in reversed(names):
        places[name] = max(places[name], floor + half[name])
        floor = places[name] + half[name]
    return places


def name_points(axes: Axes, points: Mapping[str, tuple[float, float]], boxed: Mapping[str, str] | None = None) -> None:
    """Each name beside its point, inside of the panel, where it lies on no other name and on no point.

    A thin line leads from a name to its point where they are further apart. A name without a place is left out.

    Args:
        boxed: the colour of a box around each name, whose point is then no mark, but the middle of many: the first
            place of the name is there, and that of a name without another.
    """
    pixels = _laid_out(axes).dpi / 72
    half, padding = (0, 0.4 * SMALL * pixels) if boxed else (POINT * pixels / 2, 0)
    marks = [axes.transData.transform(point) for point in points.values()]
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in marks if half]
    places = [(0.0, 0, 0)] * bool(boxed) + [(ring, dx, dy) for ring, (dx, dy) in product(RINGS, AROUND)]
    for name, point in sorted(points.items(), key=lambda item: -item[1][1]):
        color = boxed[name] if boxed else None
        for place in places:
            text = _beside(axes, name, point, *place, color)
            text.get_window_extent()  # which moves it there, and takes the line in
            box = Text.get_window_extent(text).padded(padding)
            if _within(box, axes.bbox) and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
        else:
            if boxed:
                _beside(axes, name, point, *places[0], color)


def _within(box: Bbox, frame: Bbox) -> bool:
    return frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


def _beside(
    axes: Axes, name: str, point: tuple[float, float], ring: float, dx: int, dy: int, box: str | None
) -> Annotation:
    """The name in a direction from its point; further away than next to it, with a line."""
    near = ring <= RINGS[0]
    step = GAP + POINT / 4 if near else LINE * ring
    line = None if near else {"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": POINT / 2}
    paper = {"facecolor": "white", "alpha": 0.85, "edgecolor": box, "boxstyle": "round,pad=0.2"} if box else None
    return axes.annotate(
        wrapped(shortened(name, 60), 36), point, (dx * step, dy * step), textcoords="offset points",
        fontsize=SMALL, arrowprops=line, bbox=paper,
        ha={1: "left", 0: "center", -1: "right"}[dx], va={1: "bottom", 0: "center", -1: "top"}[dy],
        weight="bold" if box else "normal",
    )  # fmt: skip


def _laid_out(axes: Axes) -> Figure:
    """The figure, after its panels have found their places on the page."""
    drawn = axes.get_figure(root=True)
    assert drawn is not None
    drawn.draw_without_rendering()
    return drawn
