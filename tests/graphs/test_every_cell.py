"""Prior × likelihood × guide × network × objective: the captured pass is that of the programs, in float64.

By default some cells run, in which every two of prior, guide and objective that go together meet, with the likelihoods
and networks in turn; `pytest -m matrix` runs every prior, likelihood and guide, with networks and objectives in turn.
No cell of the palette is refused.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cells import EVERY_OBJECTIVE, Cell, balanced, covering, every_cell, pairs_of
from support.palette import data_for
from torch import Tensor, fx, nn

from ppl_vae import objectives
from ppl_vae.graphs.captured import Captured
from ppl_vae.programs.state import buffers_kept
from ppl_vae.training.prepare import isolated
from ppl_vae.training.step import Trainer

ROUNDING = 1e-10
ROWS = (12, 7)
CELLS = every_cell(EVERY_OBJECTIVE)
PRODUCT = balanced(CELLS, lambda cell: cell[:3])


def core(cell: Cell) -> tuple[str, str, str]:
    return cell.prior, cell.guide, cell.objective


def some() -> list[Cell]:
    cores = set(map(core, covering(c for c in CELLS if (c.likelihood, c.network) == ("bernoulli", "mlp"))))
    return balanced((c for c in CELLS if core(c) in cores), core)


SOME = some()


@contextmanager
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def distance(cell: Cell, change: Callable[[fx.GraphModule], object] = lambda module: None) -> float:
    """How far one graph is from the programs for two numbers of rows: the largest, over the numbers and each gradient.

    Args:
        change: what is done to the graph first.
    """
    with isolated(1):
        x = data_for(cell.likelihood, ROWS[0]).double()
        with float64():
            pair, objective = cell.pair(x), objectives.get(cell.objective)()
            pair.model.double()
            pair.guide.double()
            captured, trainer = Captured(pair, objective, compile=False), Trainer(pair, objective)
            captured.graph_for((x,))
            change(captured.graphs[0][0].module)
            found = []
            for rows in ROWS:
                torch.manual_seed(2)
                with buffers_kept(pair.model, pair.guide):
                    seen = trainer.backward((x[:rows],))
                torch.manual_seed(2)
                numbers, gradients = captured((x[:rows],))
                theirs = torch.tensor(seen)
                found.append(((numbers - theirs).abs() / theirs.abs().clamp(min=1)).max())
                floor = 1e-5 * max(1.0, seen.gradient_norm)  # that of a bias before a BatchNorm is all rounding
                found += [apart(p, g, floor) for p, g in zip(trainer.parameters.values(), gradients, strict=True)]
            assert [graph.rows for graph, _ in captured.graphs] == [None], "one graph for every number of rows"
            return torch.stack(found).max().item()


def apart(p: nn.Parameter, ours: Tensor, floor: float) -> Tensor:
    """The distance of two gradients, as a share of the norm."""
    theirs = torch.zeros_like(p) if p.grad is None else p.grad
    assert ours.dtype == theirs.dtype == torch.float64
    return (ours - theirs).norm() / theirs.norm().clamp(min=floor)


@pytest.mark.parametrize("cell", SOME, ids=str)
def test_the_graph_of_a_cell_equals_its_programs(cell: Cell) -> None:
    assert distance(cell) < ROUNDING


@pytest.mark.matrix
@pytest.mark.parametrize("cell", PRODUCT, ids=str)
def test_the_graph_of_every_cell_equals_its_programs(cell: Cell) -> None:
    assert distance(cell) < ROUNDING


def pairs(cells: list[Cell], factors: set[int]) -> set[Any]:
    return {pair for cell in cells for pair in pairs_of(cell) if {i for i, _ in pair} <= factors}


def test_some_cells_hold_every_two_of_prior_guide_and_objective() -> None:
    assert pairs(SOME, {0, 2, 4}) == pairs(CELLS, {0, 2, 4})
    assert [set(levels) for levels in zip(*SOME, strict=True)] == [set(levels) for levels in zip(*CELLS, strict=True)]


def test_the_product_holds_every_two_levels() -> None:
    assert pairs(PRODUCT, {*range(5)}) == pairs(CELLS, {*range(5)})


def test_the_page_counts_what_there_is() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "palette.md").read_text().split())
    assert f"The same {len(PRODUCT)}, with" in text
    assert f"do so with {len(SOME)} cells" in text


# ---- can it fail? ----

PLAIN = Cell("standard_normal", "bernoulli", "diagonal_normal")


def test_a_constant_that_is_wrong_in_its_ninth_digit_is_found_out() -> None:
    def wrong(module: fx.GraphModule) -> None:
        nodes = [
            node for node in module.graph.nodes if any(isinstance(a, float) and a not in (0, 1) for a in node.args)
        ]
        nodes[0].args = tuple(a * (1 + 1e-8) if isinstance(a, float) else a for a in nodes[0].args)
        module.recompile()

    assert distance(PLAIN) < ROUNDING < distance(PLAIN, wrong)


def test_a_gradient_that_is_lost_is_found_out() -> None:
    def lost(module: fx.GraphModule) -> None:
        (output,) = module.graph.find_nodes(op="output")
        numbers, first, *others = output.args[0]
        with module.graph.inserting_before(output):
            output.args = ([numbers, module.graph.call_function(torch.zeros_like, (first,)), *others],)
        module.recompile()

    assert distance(PLAIN, lost) == pytest.approx(1)
