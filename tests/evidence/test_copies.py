"""Copies of training rows: found where they are planted, not where samples are new or only have less spread."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.copies import Copies, _distances, _units, copies


def split(count: int, held_out: int, columns: int = 3) -> tuple[Tensor, Tensor]:
    x = torch.randn(count + held_out, columns).double()
    return x[:count], x[count:]


def test_new_samples_are_no_copies() -> None:
    training, held_out = split(800, 200)
    found = copies(torch.randn(500, 3), training, held_out)
    assert not found.copied
    assert not found.nearer
    assert found.identical == found.identical_held_out == 0
    assert found.expected == 0.8
    assert "no sign of copies" in str(found)


def test_the_error_is_that_over_the_choice_of_rows() -> None:
    """Over splits of the same rows (share − expected)/se has mean 0 and variance 1, though samples share neighbours."""
    x, samples = torch.randn(90, 2).double(), torch.randn(300, 2)
    z = []
    for _ in range(400):
        order = torch.randperm(len(x))
        found = copies(samples, x[order[:60]], x[order[60:]])
        z.append((found.with_training.value - found.expected) / found.with_training.se)
    assert abs(np.mean(z)) < 4 / 400**0.5
    assert abs(np.var(z) - 1) < 4 * (2 / 400) ** 0.5


def test_planted_copies_are_found() -> None:
    training, held_out = split(400, 100)
    planted = torch.cat([training[:20], training[20:120] + 0.01 * torch.randn(100, 3), torch.randn(180, 3).double()])
    found = copies(planted, training, held_out, numbers=torch.arange(1000, 1400))
    assert found.copied
    assert found.nearer
    assert (found.identical, found.identical_held_out) == (20, 0)
    assert {(sample, row) for sample, row, _ in found.nearest} <= {(i, 1000 + i) for i in range(20)}
    assert "samples copy training rows" in found.verdict
    assert found.asdict()["copied"] is True


def test_samples_with_less_spread_are_told_from_copies() -> None:
    training, held_out = split(800, 200, columns=10)
    found = copies(0.3 * torch.randn(500, 10), training, held_out)
    assert found.nearer
    assert not found.copied
    assert "less spread than the data" in found.verdict


def test_rows_that_recur_by_nature_are_no_copies() -> None:
    def draw(n: int) -> Tensor:
        return (torch.rand(n, 4) < 0.4).double()

    found = copies(draw(300), draw(400), draw(100), categories=range(4))
    assert found.identical > 250
    assert found.identical_held_out > 80
    assert not found.copied
    assert not found.nearer


def test_the_distance_is_gowers() -> None:
    """By hand: numbers by standard deviations, categories by mismatch, over the columns that both rows have."""
    nan = math.nan
    rows = torch.tensor([[1.0, 0.0, 5.0], [3.0, 2.0, nan], [5.0, 1.0, 5.0], [nan, 2.0, 5.0]]).double()
    x = torch.tensor([[2.0, 2.0, 6.0], [nan, 0.0, nan], [nan, nan, nan]]).double()
    sd = np.std([1.0, 3.0, 5.0])
    (got,) = _distances(x, rows, _units(rows, [1]))
    expected = [
        [(1 / sd + 1 + 1) / 3, (1 / sd + 0) / 2, (3 / sd + 1 + 1) / 3, (0 + 1) / 2],
        [0, 1, 1, 1],
        [math.inf] * 4,
    ]
    np.testing.assert_allclose(got, expected)


def test_missing_cells_bring_no_bias() -> None:
    """Samples have none; with the holes of rows held out they are as near as these."""
    training, held_out = (x.masked_fill(torch.rand(x.shape) < 0.3, math.nan) for x in split(800, 200))
    found: Copies = copies(torch.randn(600, 3), training, held_out)
    assert not found.nearer
    assert not found.copied
    assert abs(found.with_training.value - 0.8) < 4 * found.with_training.se


def test_rows_with_missing_cells_are_not_called_identical() -> None:
    rows = torch.tensor([[1.0, 2.0], [1.0, math.nan], [3.0, 4.0], [5.0, -0.0]]).double()
    found = copies(
        torch.tensor([[1.0, 2.0], [1.0, 7.0], [5.0, 0.0]]), rows, torch.tensor([[3.0, 4.0], [1.0, math.nan]])
    )
    assert (found.identical, found.identical_held_out) == (2, 1)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    training, held_out = split(80, 20)
    samples = torch.randn(50, 3)
    whole = copies(samples, training, held_out)
    monkeypatch.setattr("ppl_vae.evidence.copies.AT_ONCE", 300)
    assert copies(samples, training, held_out) == whole


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="the same columns"):
        copies(torch.zeros(3, 2), torch.zeros(3, 3), torch.zeros(3, 2))
    with pytest.raises(InputError, match="there must be some"):
        copies(torch.zeros(0, 2), torch.zeros(3, 2), torch.zeros(3, 2))
