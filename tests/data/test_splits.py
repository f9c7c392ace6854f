"""What `open_data` makes of rows: binarization, splits, epochs, a fingerprint and a description."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from support.rows import fails, grey, grid, rows_of
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data.dataset import open_data
from ppl_vae.data.protocol import SPLITS

pytestmark = pytest.mark.usefixtures("untouched")


def test_binarize_needs_unit_interval() -> None:
    x = np.zeros((20, 3))
    x[7, 1] = 17
    for how in ("threshold", "once", "epoch"):
        fails(x, f"field x: binarize {how} needs values in [0, 1], but row 7, column 1 holds 17", binarize=how)
    assert "--scale 255" in fails(x, binarize="once")
    assert "--scale 34000" in fails(x * 2000, binarize="once")
    assert "--scale 17" in fails(x, "holds 1.7", binarize="once", scale=10)
    assert "--scale" not in fails(-x, "holds -17", binarize="once")
    fails(x, "unknown binarize 'one'", "none, threshold, once, epoch", binarize="one")
    assert open_data(x, binarize="once", scale=17).binarize == "once"


def test_threshold() -> None:
    x = np.array([[0.0], [0.5], [0.51], [1.0]], dtype=np.float32)
    data = open_data((x, x), binarize="threshold")
    assert torch.equal(rows_of(data), (rows_of(data, 1) > 0.5).float())
    assert rows_of(data).sum() == 2


def test_once_has_the_right_mean_and_depends_on_the_row_only() -> None:
    x = grey()
    numbers = np.arange(len(x))
    drawn = []
    for options in ({}, {"split_seed": 7}, {"valid": 0.3, "test": 0.2}):
        data = open_data((x, numbers), binarize="once", **options)
        drawn.append(rows_of(data)[rows_of(data, 1).argsort()])
        batches = [torch.cat([b[0] for b in data.batches("train", size, epoch=2, seed=5)]) for size in (7, 64)]
        assert torch.equal(*batches)
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    error = math.sqrt((x * (1 - x)).sum(dtype=np.float64)) / x.size
    assert abs(drawn[0].mean().item() - x.mean(dtype=np.float64)) < 4 * error
    assert set(drawn[0].unique().tolist()) == {0, 1}
    per_column = (drawn[0].numpy() - x).mean(0) / np.sqrt((x * (1 - x)).mean(0) / len(x))
    assert 0.5 < per_column.std() < 1.5


def test_certain_pixels_stay_certain() -> None:
    x = np.tile(np.array([[0.0, 1.0]], dtype=np.float32), (50_000, 1))
    assert torch.equal(rows_of(open_data(x, binarize="once")), torch.from_numpy(x))


def test_epoch_draws_training_rows_anew() -> None:
    x, numbers = grey(), np.arange(400)
    data, once = (open_data((x, numbers), binarize=how) for how in ("epoch", "once"))
    assert torch.equal(data.train[0], torch.from_numpy(x)[data.train[1]])
    assert torch.equal(data.valid[0], once.valid[0])
    assert torch.equal(data.test[0], once.test[0])

    def draw(number: int, seed: int = 3, size: int = 64) -> Tensor:
        batches = list(data.batches("train", size, epoch=number, seed=seed))
        rows = torch.cat([b[1] for b in batches])
        return torch.cat([b[0] for b in batches])[rows.argsort()]

    assert torch.equal(draw(0), draw(0))
    assert torch.equal(draw(0), draw(0, size=9))
    assert not torch.equal(draw(0), draw(1))
    assert not torch.equal(draw(0), draw(0, seed=4))
    mean = sum(draw(n) for n in range(50)) / 50
    p = data.train[0][data.train[1].argsort()]
    z = (mean - p) / (p * (1 - p) / 50).sqrt().clamp(min=1e-3)
    assert abs(z.mean().item()) < 4 / math.sqrt(z.numel())
    assert 0.9 < z.std().item() < 1.1
    tail = list(data.batches("train", 64, epoch=2, seed=3, start=3))
    for got, expected in zip(tail, list(data.batches("train", 64, epoch=2, seed=3))[3:], strict=True):
        assert torch.equal(got[0], expected[0])


@pytest.mark.parametrize("rows", [3, 4, 10, 97])
@pytest.mark.parametrize(("valid", "test"), [(0.1, 0.1), (0.5, 0.49), (1e-9, 1e-9), (0.98, 0.01), (0.01, 0.98)])
def test_splits_are_disjoint_and_cover(rows: int, valid: float, test: float) -> None:
    data = open_data((grid(rows), np.arange(rows)), valid=valid, test=test)
    sizes = [len(split[0]) for split in (data.train, data.valid, data.test)]
    assert min(sizes) >= 1
    assert sorted(rows_of(data, 1).tolist()) == list(range(rows))
    if rows == 97 and valid > 1e-3:
        assert sizes[1:] == [round(97 * valid), round(97 * test)]


def test_split_seed() -> None:
    first, again, other = (open_data(grid(100), split_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(rows_of(first), rows_of(again))
    assert not torch.equal(rows_of(first), rows_of(other))
    assert (first.seed, other.seed) == (1, 2)
    low, high = (open_data(grid(100), split_seed=seed) for seed in (-1, 2**80))
    assert not torch.equal(rows_of(low), rows_of(high))
    assert not torch.equal(rows_of(first), torch.from_numpy(grid(100)))


def test_rows_are_the_numbers_of_the_rows_as_read() -> None:
    x = grid(50)
    data = open_data(x)
    for split, (values,) in zip(SPLITS, (data.train, data.valid, data.test), strict=True):
        assert torch.equal(values, torch.from_numpy(x)[data.numbers(split)])


def test_too_few_rows_and_bad_fractions() -> None:
    fails(grid(1), "1 row cannot be split into train, validation and test: give at least 3")
    fails(grid(2), "2 rows cannot be split into train, validation and test: give at least 3")
    bad: Any
    for bad in (0, -0.1, 1, math.nan, math.inf, "0.1", None):
        fails(grid(), f"valid={bad}", "fractions above 0", valid=bad)
        fails(grid(), f"test={bad}", "fractions above 0", test=bad)
    fails(grid(), "sum below 1", valid=0.5, test=0.5)
    for bad in (1.5, "1", None):
        fails(grid(), "must be an integer", split_seed=bad)


def test_epoch_is_a_permutation() -> None:
    data = open_data((grid(53), np.arange(53)))
    train = sorted(data.train[1].tolist())

    def order(epoch: int, size: int, seed: int, start: int = 0) -> list[int]:
        return [int(i) for batch in data.batches("train", size, epoch=epoch, seed=seed, start=start) for i in batch[1]]

    assert sorted(order(0, 10, 0)) == train
    assert order(0, 10, 0) != data.train[1].tolist()
    assert order(0, 10, 0) == order(0, 10, 0) == order(0, 7, 0)
    assert len({tuple(order(n, 10, s)) for n in range(5) for s in range(5)}) == 25
    sizes = [len(batch[0]) for batch in data.batches("train", 10, epoch=0, seed=0)]
    assert sizes == [10, 10, 10, 10, len(train) - 40]
    assert len(sizes) == data.steps_per_epoch(10) == 5
    assert data.steps_per_epoch(len(train)) == data.steps_per_epoch(10**9) == 1
    for start in range(6):
        assert order(1, 10, 0, start=start) == order(1, 10, 0)[10 * start :]


def test_epoch_arguments_are_checked_at_once() -> None:
    data = open_data(grid())
    bad: Any
    for bad in (0, -1, 2.5, None, "8"):
        with pytest.raises(InputError, match="batch_size"):
            data.batches("train", bad, epoch=0, seed=0)
        with pytest.raises(InputError, match="batch_size"):
            data.steps_per_epoch(bad)
    for bad in (-1, 99, 0.5):
        with pytest.raises(InputError, match="start"):
            data.batches("train", 4, epoch=0, seed=0, start=bad)
    with pytest.raises(InputError, match="must be an integer"):
        data.batches("train", 4, epoch=0.5, seed=0)  # type: ignore[arg-type]


def test_the_global_seed_changes_nothing() -> None:
    results = []
    with torch.random.fork_rng():
        for seed in (0, 1):
            torch.manual_seed(seed)
            data = open_data(grey(), binarize="epoch")
            results.append(torch.cat([rows_of(data), next(data.batches("train", 50, epoch=0, seed=0))[0]]))
    assert torch.equal(*results)


def test_sha256() -> None:
    x = grid()
    base = open_data(x).sha256
    changed = x.copy()
    changed[19, 2] += 1
    others = [changed, x.astype(np.float64), x.reshape(30, 2), x[::-1], (x, x)]
    assert len({base, *(open_data(other).sha256 for other in others)}) == 6
    same = [torch.from_numpy(x), np.asfortranarray(x), x.astype(">f4")]
    assert {open_data(other).sha256 for other in same} == {base}
    assert open_data(x, split_seed=9, scale=60, binarize="once", valid=0.3).sha256 == base


def test_sha256_is_of_shape_dtype_and_bytes() -> None:
    import hashlib

    x = grid()
    assert open_data(x).sha256 == hashlib.sha256(b"(20, 3) torch.float32\n" + x.tobytes()).hexdigest()


def test_describe() -> None:
    data = open_data((grid(), np.arange(20)), scale=2)
    expected = "arrays: 16 train + 2 validation + 2 test rows, x (3,) in [0, 29.5], y (), binarize none"
    assert data.describe() == expected
    assert len(repr(data)) < 300
    with pytest.raises(AttributeError):
        data.name = "other"  # type: ignore[misc]


def test_import_is_cheap() -> None:
    code = "import sys, ppl_vae.data; print([m for m in ('pandas', 'sklearn', 'mlxtend', 'pyro') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
