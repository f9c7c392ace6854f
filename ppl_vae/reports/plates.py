"""A program as a plate diagram: which site depends on which, and what is repeated for every row."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Wedge
from matplotlib.path import Path
from pyro.distributions import ImproperUniform
from pyro.distributions.constraints import real
from pyro.infer.inspect import get_model_relations
from torch import Tensor

from ppl_vae.programs.notation import PARTS
from ppl_vae.programs.state import evaluating
from ppl_vae.reports.style import BLACK, GREY, figure, styled

Batch = Tensor | tuple[Tensor, ...]
Point = tuple[float, float]

FIELD = "field "
RADIUS, ROW, COLUMN, MARGIN = 0.27, 1.0, 1.0, 0.2  # inches


@dataclass(frozen=True)
class Graph:
    """The nodes and arrows of a program.

    Args:
        families: of each node, in the order of the program, the name of its distribution; "given" of a field.
        edges: pairs (from, to).
        plates: of each plate the nodes in it.
        shaded: how much of a node is known: 1 if it is observed or given, 0 if it is latent, ½ if it is for some rows.
    """

    families: dict[str, str]
    edges: set[tuple[str, str]]
    plates: dict[str, set[str]]
    shaded: dict[str, float]

    def parents(self, node: str) -> list[str]:
        return [a for a in self.families if (a, node) in self.edges]


@styled()
def plates(program: Callable[..., Any], batch: Batch, guide: Callable[..., Any] | None = None) -> Figure:
    """Draw a model or a guide, or a model beside its guide.

    White circles are latent, grey ones observed or given, and half grey ones known for some rows. An arrow goes from a
    draw to what depends on it. A rectangle is a plate: what is in it is repeated for every row. The distributions stand
    below.

    Args:
        batch: the tensors that the programs get, one for each field of the data. Their values do not count.
    """
    panels = [_Panel(graph_of(each, batch)) for each in (program, guide) if each is not None]
    lines = max(len(panel.lines) for panel in panels)
    height = max(panel.height for panel in panels)
    drawing = figure(sum(panel.width for panel in panels), height + 0.22 * lines + MARGIN)
    drawing.set_layout_engine("none")
    axes = drawing.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, drawing.get_figwidth()), ylim=(-0.22 * lines - MARGIN, height))
    axes.axis("off")
    left = 0.0
    for panel in panels:
        panel.draw(axes, left, height)
        left += panel.width
    return drawing


def graph_of(program: Callable[..., Any], batch: Batch) -> Graph:
    """What Pyro's `get_model_relations` finds; what the program is given is a node too where something reads it.

    So x is a node of q(z|x), and a label y one of p(x|z, y). A model reads no more of its first field than its size.
    The two parts of a site that is known for some rows (`obs_mask=`) are one node.
    """
    batch = tuple(x[:2] for x in (batch if isinstance(batch, tuple) else (batch,)))
    names = _fields(program, len(batch))
    with pyro.get_param_store().scope(), evaluating(program):
        first = 1 if get_model_relations(program, batch)["observed"] else 0

        def given(*batch: Tensor) -> None:
            program(*batch[:first], *map(_given, names[first:], batch[first:]))

        found = get_model_relations(given, batch)
    edges = {(_node(a), _node(b)) for b, behind in found["sample_sample"].items() for a in behind}
    edges = {(a, b) for a, b in edges if a != b}
    read = {a for a, _ in edges}
    parts: dict[str, list[str]] = {}
    for name in found["sample_sample"]:
        if not name.startswith(FIELD) or _node(name) in read:
            parts.setdefault(_node(name), []).append(name)
    families, shaded = {}, {}
    inside = {plate: {*map(_node, names)} for plate, names in found["plate_sample"].items()}
    for node, names in parts.items():
        sites = [name for name in names if not name.startswith(FIELD)]
        families[node] = found["sample_dist"][sites[0]] if sites else "given"
        known = [name in found["observed"] for name in names]
        shaded[node] = 1.0 if all(known) else 0.5 if any(known) else 0.0
        if not sites:  # a field stands where all that reads it does
            children = {b for a, b in edges if a == node}
            inside = {plate: nodes | ({node} if children <= nodes else set()) for plate, nodes in inside.items()}
    return Graph(families, edges, inside, shaded)


def _given(name: str, x: Tensor) -> Tensor:
    return pyro.sample(FIELD + name, ImproperUniform(real, (), x.shape), obs=x)


def _node(site: str) -> str:
    return PARTS.sub("", site.removeprefix(FIELD))


def _fields(program: Callable[..., Any], count: int) -> list[str]:
    """The fields of the data by the names of the program's parameters, or where it takes `*batch`, x, y and others."""
    program = getattr(program, "forward", program)
    program = getattr(getattr(program, "__self__", None), "fn", [program])[0]  # a function in a `Program`
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(program).parameters.values() if p.kind in kinds]
    return [*names, *["x", "y", *(f"field {i + 1}" for i in range(2, count))][len(names) :]][:count]


class _Panel:
    """Where the nodes of one graph stand, in inches: a row for each depth, a block of columns for each set of plates.

    An arrow that passes rows holds a place in each of them, so that it goes around what stands there. A guide is drawn
    from below, so that x is at the bottom as in its model.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.blocks = {node: self._block(node) for node in graph.families}
        depth = self._depths()
        rows: list[dict[tuple[str, ...], list[Any]]] = [{} for _ in range(max(depth.values()) + 1)]
        for node in graph.families:
            rows[depth[node]].setdefault(self.blocks[node], []).append(node)
        for a, b in sorted(graph.edges):
            for between in range(depth[a] + 1, depth[b]):
                rows[between].setdefault(self.blocks[b], []).append((a, b, between))
        if all(graph.shaded[node] == 1 and not graph.parents(node) for node in rows[0][next(iter(rows[0]))]):
            rows.reverse()
        self.at = self._places(rows)
        self.ways = {(a, b): self._way(a, b, depth) for a, b in graph.edges}
        self.boxes = {plate: self._box(nodes) for plate, nodes in graph.plates.items() if nodes}
        corners = np.array([*[corner for box in self.boxes.values() for corner in box], *self.at.values()])
        low, high = corners.min(0) - RADIUS - MARGIN, corners.max(0) + RADIUS + MARGIN
        self.lines = [self._line(node) for node in graph.families]
        self.width = max(high[0] - low[0], 0.085 * max(map(len, self.lines)) + 2 * MARGIN)
        self.height, self.top = high[1] - low[1], high[1]
        self.left = low[0] - (self.width - (high[0] - low[0])) / 2

    def _block(self, node: str) -> tuple[str, ...]:
        around = [plate for plate, nodes in self.graph.plates.items() if node in nodes]
        return tuple(sorted(around, key=lambda plate: (-len(self.graph.plates[plate]), plate)))

    def _depths(self) -> dict[str, int]:
        depth: dict[str, int] = {}
        while len(depth) < len(self.graph.families):
            for node in self.graph.families:
                if {*(parents := self.graph.parents(node))} <= depth.keys():
                    depth[node] = 1 + max((depth[a] for a in parents), default=-1)
        return depth

    def _places(self, rows: list[dict[tuple[str, ...], list[Any]]]) -> dict[Any, Point]:
        at, left = {}, 0.0
        for block in sorted({*self.blocks.values()}):
            width = max(len(row.get(block, [])) for row in rows)
            for depth, row in enumerate(rows):
                members = row.get(block, [])
                for place, member in enumerate(members):
                    at[member] = (COLUMN * (left + width / 2 + place - len(members) / 2), -ROW * depth)
            left += width
        return at

    def _way(self, a: str, b: str, depth: dict[str, int]) -> Path:
        """A curve through the places that the arrow holds, from one circle's edge to the other's."""
        points = np.array([self.at[n] for n in (a, *((a, b, row) for row in range(depth[a] + 1, depth[b])), b)])
        for end, towards in ((0, 1), (-1, -2)):
            step = points[towards] - points[end]
            points[end] += step / np.hypot(*step) * (RADIUS + 0.02)
        padded = np.concatenate([points[:1], points, points[-1:]])
        slopes = (padded[2:] - padded[:-2]) / 6
        pieces = zip(points[:-1] + slopes[:-1], points[1:] - slopes[1:], points[1:], strict=True)
        vertices = np.stack([points[0], *(p for piece in pieces for p in piece)])
        return Path(vertices, [Path.MOVETO, *[Path.CURVE4] * (len(vertices) - 1)])

    def _box(self, nodes: Iterable[str]) -> tuple[Point, Point]:
        """Two corners, farther out the more plates are in it, so that none lies on another."""
        nodes = {*nodes}
        within = sum(other < nodes for other in self.graph.plates.values())
        places = [xy for n, xy in self.at.items() if (n if isinstance(n, str) else n[1]) in nodes]
        out = RADIUS + 0.12 + 0.08 * within
        x, y = zip(*places, strict=True)
        return (min(x) - out, min(y) - out - 0.2 * (1 + within)), (max(x) + out, max(y) + out)

    def _line(self, node: str) -> str:
        parents = ", ".join(map(_spelled, self.graph.parents(node)))
        family = self.graph.families[node]
        return f"{_spelled(node)}{' | ' * bool(parents)}{parents} {'' if family == 'given' else '~ '}{family}"

    def draw(self, axes: Axes, left: float, height: float) -> None:
        def moved(x: Any) -> Any:
            return np.add(x, (left - self.left, height - self.top))

        for plate, (low, high) in self.boxes.items():
            (x, y), (width, tall) = moved(low), np.subtract(high, low)
            style = "round,pad=0,rounding_size=0.08"
            axes.add_patch(FancyBboxPatch((x, y), width, tall, style, fill=False, ec=GREY, gid=f"plate {plate}"))
            axes.text(x + width - 0.07, y + 0.06, plate, ha="right", fontsize=8, color=GREY)
        for (a, b), way in self.ways.items():
            path = Path(moved(way.vertices), way.codes)
            axes.add_patch(
                FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=11, color=BLACK, gid=f"{a} → {b}")
            )
        for node, share in self.graph.shaded.items():
            at = moved(self.at[node])
            axes.add_patch(Circle(at, RADIUS, fc="white", ec="none"))
            if share:
                axes.add_patch(Wedge(at, RADIUS, 270, 270 + 360 * share, fc=GREY, alpha=0.4, ec="none"))
            axes.add_patch(Circle(at, RADIUS, fill=False, ec=BLACK, lw=1.3, gid=node))
            size = min(14, 190 * RADIUS / len(_spelled(node)))
            axes.text(at[0], at[1], _spelled(node), ha="center", va="center", fontsize=size, style="italic")
        for place, line in enumerate(self.lines):
            axes.text(left + self.width / 2, -0.22 * place, line, ha="center", va="top", fontsize=10, color=BLACK)


def _spelled(name: str) -> str:
    """`z1` as z₁."""
    stem = name.rstrip("0123456789")
    return stem.replace("_", " ") + name[len(stem) :].translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
