"""Prior × likelihood × guide: every cell that makes sense passes `check` and trains.

By default a covering set runs, which holds every two levels that go together; `pytest -m matrix` runs the product.
"""

from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path

import pytest
import torch
from support.cells import (
    EVERY_OBJECTIVE,
    LEVELS,
    RULES,
    Cell,
    covering,
    every_cell,
    excluded,
    full_product,
    pairs_of,
)
from support.palette import data_for
from torch import Tensor

from ppl_vae import objectives
from ppl_vae.checks.pair import check_pair
from ppl_vae.core.errors import InputError
from ppl_vae.data import open_data
from ppl_vae.programs import Pair, parameters, terms
from ppl_vae.programs.scores import log_weight
from ppl_vae.training.prepare import isolated
from ppl_vae.training.step import Trainer

B, K, STEPS, LOOKS, LR = 400, 10, 20, 4, 3e-2
STANDARD_ERRORS = 4
CELLS = every_cell()


def bound(pair: Pair, x: Tensor) -> Tensor:
    """The ELBO of each row, the mean over K draws whose noise is the same at each call; every term is finite."""
    torch.manual_seed(2)
    with torch.no_grad():
        t = terms(pair.model, pair.guide, x, K)
    for kind in (t.log_prior, t.log_lik, t.log_q):
        for site, log_prob in kind.items():
            assert log_prob.shape == (K, len(x)), site
            assert torch.isfinite(log_prob).all(), site
    return log_weight(t).double().mean(0)


def errors_above_zero(rise: Tensor) -> float:
    """The mean of a paired difference over its standard error.

    The rows are independent and so are their draws; each row's difference is a mean over its own K draws, so that
    the spread over rows holds what both contribute.
    """
    return (rise.mean() / (rise.std() / len(rise) ** 0.5)).item()


def train(cell: Cell, step: Callable[[Trainer, Tensor], object] = lambda trainer, x: trainer.step((x,))) -> float:
    """Check, train on half of the rows; by how many standard errors has the ELBO of the others risen?

    It is looked at every 20 steps, and training ends when it has risen enough, or after 80 steps.
    """
    with isolated(1):
        rows = data_for(cell.likelihood, 2 * B)
        pair, objective = cell.pair(rows[:B]), objectives.get(cell.objective)()
        assert check_pair(pair, open_data(rows, missing="nan"), objective).errors == []
        trained = parameters(pair.model, pair.guide, pair.borrower)
        start = {name: p.detach().clone() for name, p in trained.items()}
        before = bound(pair, rows[B:])
        trainer = Trainer(pair, objective, LR)
        risen = 0.0
        for _ in range(LOOKS):
            for _ in range(STEPS):
                step(trainer, rows[:B])
            risen = errors_above_zero(bound(pair, rows[B:]) - before)
            if risen > STANDARD_ERRORS:
                break
        assert [name for name, p in trained.items() if p.numel() and torch.equal(p, start[name])] == []
        return risen


@pytest.mark.parametrize("cell", covering(CELLS), ids=str)
def test_a_cell_passes_check_and_trains(cell: Cell) -> None:
    assert train(cell) > STANDARD_ERRORS


@pytest.mark.matrix
@pytest.mark.parametrize("cell", full_product(), ids=str)
def test_every_cell_passes_check_and_trains(cell: Cell) -> None:
    assert train(cell) > STANDARD_ERRORS


# ---- the matrix itself ----


def test_the_covering_set_holds_every_pair_and_little_more() -> None:
    """At least as many cells are needed as two factors have pairs of levels."""
    cells = covering(CELLS)
    assert {pair for cell in cells for pair in pairs_of(cell)} == {pair for cell in CELLS for pair in pairs_of(cell)}
    least = max(len({(cell[i], cell[j]) for cell in CELLS}) for i, j in combinations(range(len(LEVELS)), 2))
    assert len(cells) <= 1.1 * least
    assert cells == covering(CELLS), "always the same"


@pytest.mark.parametrize("cells", [covering(CELLS), full_product()], ids=["covering", "product"])
def test_every_row_of_every_registry_is_in_a_cell(cells: list[Cell]) -> None:
    assert [set(levels) for levels in zip(*cells, strict=True)] == [set(levels) for levels in LEVELS]


def test_the_product_holds_each_prior_likelihood_and_guide_once() -> None:
    assert sorted(cell[:3] for cell in full_product()) == sorted({cell[:3] for cell in CELLS})


def test_the_page_counts_what_there_is() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "palette.md").read_text().split())
    triples = [excluded(Cell(*levels)) for levels in product(*LEVELS[:3])]
    priors, likelihoods, guides = map(len, LEVELS[:3])
    counts = [triples.count(why) for why in sorted(set(triples) - {None}, reverse=True)]
    assert f"{priors} priors, {likelihoods} likelihoods and {guides} guides make {len(triples)} triples" in text
    assert f"In {counts[0]} of them" in text
    assert f"in {counts[1]} a VampPrior" in text
    assert f"The other {len(full_product())}, with" in text
    assert f"The ordinary tests run {len(covering(CELLS))} cells" in text


def attempt(cell: Cell) -> None:
    with isolated(1):
        rows = data_for(cell.likelihood, 5)
        pair = cell.pair(rows)
        objectives.get(cell.objective)().estimate(pair.model, pair.guide, (rows,))


def test_what_is_excluded_is_refused() -> None:
    some = LEVELS[0], ["bernoulli", "table"], LEVELS[2], ["mlp", "convolutional"], LEVELS[4]
    cells = [Cell(*levels) for levels in product(*some) if levels[1] == "bernoulli" or levels[0] == "standard_normal"]
    cells += [Cell(p, "bernoulli", g, objective=o) for p, g, o in product(LEVELS[0], LEVELS[2], EVERY_OBJECTIVE)]
    refused = [cell for cell in cells if excluded(cell)]
    for cell in refused:
        with pytest.raises(InputError):
            attempt(cell)
    assert set(map(excluded, refused)) == RULES.keys()


# ---- can it fail? ----

PLAIN = Cell("standard_normal", "bernoulli", "diagonal_normal")


def test_steps_downhill_are_found_out() -> None:
    def downhill(trainer: Trainer, x: Tensor) -> None:
        trainer.optimizer.param_groups[0]["maximize"] = True
        trainer.step((x,))

    assert train(PLAIN, downhill) < -STANDARD_ERRORS


def test_steps_of_noise_are_found_out() -> None:
    """Parameters that wander as far as those that learn."""

    def wander(trainer: Trainer, x: Tensor) -> None:
        with torch.no_grad():
            for p in trainer.parameters.values():
                p.add_(LR * torch.randn_like(p).sign())

    assert train(PLAIN, wander) < STANDARD_ERRORS


def test_a_parameter_that_stays_is_found_out() -> None:
    def without_it(trainer: Trainer, x: Tensor) -> None:
        (group,) = trainer.optimizer.param_groups
        group["params"] = [p for p in group["params"] if p is not trainer.parameters["model.decoder.0.bias"]]
        trainer.step((x,))

    with pytest.raises(AssertionError, match=r"model\.decoder\.0\.bias"):
        train(PLAIN, without_it)


@pytest.mark.parametrize(
    "cell", [PLAIN, PLAIN._replace(guide="iaf"), PLAIN._replace(guide="householder_normal")], ids=str
)
def test_an_elbo_that_is_the_same_twice_differs_by_nothing(cell: Cell) -> None:
    """The pairing is by noise: without a step the difference is 0 in each row."""
    with isolated(1):
        rows = data_for(cell.likelihood, B)
        pair = cell.pair(rows)
        assert torch.equal(bound(pair, rows), bound(pair, rows))
