"""The plate diagram of a program: what Pyro says of it, and a picture on which nothing lies on anything else."""

import itertools
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch
from pyro.infer.inspect import get_model_relations
from support.pairs import Case, every_pair
from torch import Tensor

from ppl_vae.programs import Program
from ppl_vae.reports.plates import RADIUS, graph_of, plates
from ppl_vae.reports.style import as_svg


def four_latents(x: Tensor) -> None:
    """Arrows that pass one, two and three rows, and a latent that all rows share."""
    top = pyro.sample("top", dist.Normal(0.0, 1.0))
    with pyro.plate("data", x.shape[0]):
        z4 = pyro.sample("z4", dist.Normal(top, 1.0))
        z3 = pyro.sample("z3", dist.Normal(z4, 1.0))
        z2 = pyro.sample("z2", dist.Normal(z3 + z4, 1.0))
        z1 = pyro.sample("z1", dist.Normal(z2 + z3, 1.0))
        pyro.sample("x", dist.Normal(z1 + z2 + z4 + top, 1.0), obs=x[:, 0])


def nested_plates(x: Tensor) -> None:
    mean, scale = pyro.sample("mean", dist.Normal(0.0, 1.0)), pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", x.shape[0], dim=-2):
        z = pyro.sample("z", dist.Normal(mean, scale))
        with pyro.plate("columns", x.shape[1], dim=-1):
            w = pyro.sample("weight", dist.Normal(z, 1.0))
            pyro.sample("x", dist.Normal(z * w, scale), obs=x)


def wide(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        latents = [pyro.sample(f"latent{i}", dist.Normal(0.0, 1.0)) for i in range(4)]
        pyro.sample("x", dist.Normal(sum(latents), 1.0), obs=x[:, 0])


DRAWN_BY_HAND = {"four latents": four_latents, "nested plates": nested_plates, "wide": wide}
every_drawing = pytest.mark.parametrize("program", DRAWN_BY_HAND.values(), ids=DRAWN_BY_HAND.keys())


def by_name(figure: Figure, kind: type[Patch]) -> dict[str, Any]:
    return {
        str(patch.get_gid()): patch for patch in figure.axes[0].patches if isinstance(patch, kind) and patch.get_gid()
    }


def assert_tidy(figure: Figure) -> None:
    """No two circles or texts touch, no arrow crosses a circle, a plate holds its nodes alone, all is in the frame."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    assert as_svg(figure, "a model", "its sites").startswith("<svg")
    axes = figure.axes[0]
    circles = [patch for patch in axes.patches if isinstance(patch, Circle) and patch.get_gid()]
    for a, b in itertools.combinations(circles, 2):
        assert np.hypot(*np.subtract(a.center, b.center)) > 2 * RADIUS
    for arrow in (patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)):
        way = curve(arrow._path_original.vertices)  # type: ignore[attr-defined]
        assert all(np.hypot(*(way - circle.center).T).min() > RADIUS for circle in circles)
    texts = [text for text in axes.texts if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    for (a, first), (b, second) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        assert not first.overlaps(second), (a, b)
    for artist in (*axes.patches, *texts):
        box = artist.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


def curve(points: np.ndarray) -> np.ndarray:
    """Points along Bézier curves, one after another."""
    t = np.linspace(0, 1, 50)[:, None]
    pieces = [points[i : i + 4] for i in range(0, len(points) - 1, 3)]
    return np.concatenate(
        [(1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d for a, b, c, d in pieces]
    )


@every_pair
def test_shipped_programs_are_drawn_as_pyro_says(case: Case) -> None:
    pair, data = case.pair(), case.data()
    figure = plates(pair.model, data, pair.guide)
    assert_tidy(figure)
    assert figure.get_figwidth() < 8
    for program, more in ((pair.model, set(range(1, len(data)))), (pair.guide, set(range(len(data))))):
        with pyro.get_param_store().scope():
            said = get_model_relations(program, tuple(x[:2] for x in data))
        graph = graph_of(program, data)
        merged = {name: name.removesuffix("_observed").removesuffix("_unobserved") for name in said["sample_sample"]}
        given = {node for node, family in graph.families.items() if family == "given"}
        assert graph.families.keys() - given == {*merged.values()}
        assert len(given) <= len(more)
        edges = {(merged[a], merged[b]) for b, behind in said["sample_sample"].items() for a in behind}
        assert {(a, b) for a, b in graph.edges if a not in given} == {(a, b) for a, b in edges if a != b}
        assert graph.plates["data"] == graph.families.keys()
        assert all(graph.shaded[node] == 1 and not graph.parents(node) for node in given)
    circles = [patch for patch in figure.axes[0].patches if isinstance(patch, Circle) and patch.get_gid()]
    both = (graph_of(pair.model, data), graph_of(pair.guide, data))
    assert sorted(str(c.get_gid()) for c in circles) == sorted(node for graph in both for node in graph.families)


@every_drawing
def test_every_node_and_arrow_is_drawn_once(program: Any) -> None:
    x = torch.zeros(5, 3)
    said, graph, figure = get_model_relations(program, (x,)), graph_of(program, x), plates(program, x)
    assert graph.edges == {(a, b) for b, behind in said["sample_sample"].items() for a in behind}
    assert graph.families == said["sample_dist"]
    assert graph.plates == {plate: {*nodes} for plate, nodes in said["plate_sample"].items()}
    assert [node for node, share in graph.shaded.items() if share] == said["observed"]
    assert by_name(figure, Circle).keys() == graph.families.keys()
    assert by_name(figure, FancyArrowPatch).keys() == {f"{a} → {b}" for a, b in graph.edges}
    assert_tidy(figure)
    for plate, box in by_name(figure, FancyBboxPatch).items():
        low = np.array([box.get_x(), box.get_y()])
        high = np.add(low, (box.get_width(), box.get_height()))
        for name, circle in by_name(figure, Circle).items():
            inside = bool((low < circle.center).all() and (circle.center < high).all())
            whole = bool(
                (low < np.subtract(circle.center, RADIUS)).all() and (np.add(circle.center, RADIUS) < high).all()
            )
            assert inside == whole == (name in graph.plates[plate.removeprefix("plate ")])


def test_what_is_known_for_some_rows_is_half_grey() -> None:
    def model(x: Tensor, y: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            y = pyro.sample("y", dist.Normal(0.0, 1.0), obs=y, obs_mask=y > 0)
            pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    graph = graph_of(model, (torch.zeros(4), torch.ones(4)))
    assert graph.shaded == {"y": 0.5, "x": 1.0}
    assert graph.edges == {("y", "x")}


def test_what_a_function_is_given_goes_by_the_name_of_its_parameter() -> None:
    def guide(pixels: Tensor) -> None:
        with pyro.plate("data", pixels.shape[0]):
            pyro.sample("z", dist.Normal(pixels, 1.0))

    for program in (guide, Program(guide, (torch.zeros(4),))):
        graph = graph_of(program, torch.zeros(4))
        assert graph.edges == {("pixels", "z")}
        assert graph.families == {"pixels": "given", "z": "Normal"}
        assert graph.plates == {"data": {"pixels", "z"}}


def test_it_leaves_no_trace() -> None:
    pyro.clear_param_store()
    layer, x = torch.nn.BatchNorm1d(3), torch.randn(4, 3)

    def guide(x: Tensor) -> None:
        pyro.module("layer", layer)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(layer(x), 1.0).to_event(1))

    program = Program(guide, (x,))
    mean, state = layer.running_mean.clone(), torch.get_rng_state()
    plates(program, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(layer.running_mean, mean)
    assert not pyro.get_param_store()
