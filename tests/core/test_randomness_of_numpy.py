"""Programs and data may draw from numpy and from Python: their states are seeded, kept, and part of a checkpoint."""

import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from support.fits import DEFAULTS, ROWS, killed_before, outcome
from torch import Tensor

from ppl_vae.core.randomness import kept, of_numpy_and_python, restore_numpy_and_python
from ppl_vae.data import Data, open_data
from ppl_vae.data.protocol import Batch, Split
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.run import Run


def drawn() -> tuple[object, ...]:
    numpy = np.random.rand(3).tolist(), np.random.randn(1).tolist(), np.random.randint(9)  # noqa: NPY002
    return torch.rand(2).tolist(), numpy, random.random(), random.gauss(0, 1)


@pytest.mark.parametrize("before", [0, 1, 623, 624])
def test_both_states_come_back_with_a_normal_draw_that_is_left_over(before):
    np.random.rand(before), np.random.randn(1), random.gauss(0, 1)  # noqa: NPY002
    states = of_numpy_and_python()
    first = drawn()[1:]
    restore_numpy_and_python(states)
    assert drawn()[1:] == first
    restore_numpy_and_python({"rng": torch.get_rng_state()})  # as of an earlier version: nothing is restored
    assert drawn()[1:] != first


def test_another_generator_of_numpy_is_left_to_the_user():
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(3))
    try:
        assert of_numpy_and_python().keys() == {"rng.python"}
        with kept():
            pass
    finally:
        np.random.set_bit_generator(before)


def test_what_is_kept_is_as_before_and_seeded_inside():
    states, torchs = of_numpy_and_python(), torch.get_rng_state()
    inside = []
    for seed in (7, 7, 7 + 2**32):
        with kept(seed):
            inside.append(drawn())
    assert inside[0] == inside[1] != inside[2]
    assert all(torch.equal(x, y) for x, y in zip(states.values(), of_numpy_and_python().values(), strict=True))
    assert torch.equal(torchs, torch.get_rng_state())


@dataclass
class Jittered(Data):
    """The rows of an array, each time with other noise, half of it of numpy and half of Python."""

    inner: Data

    def __post_init__(self) -> None:
        for name in ("name", "fields", "shapes", "dtypes", "lengths", "columns", "image", "binarize", "sha256"):
            setattr(self, name, getattr(self.inner, name))

    def rows(self, split: Split, indices: Tensor) -> Batch:
        (x,) = self.inner.rows(split, indices)
        noise = np.random.randn(*x.shape) + random.gauss(0, 1)  # noqa: NPY002
        return (x + 0.1 * torch.as_tensor(noise, dtype=x.dtype),)


def jittered(out: object, **options: object) -> Run:
    return fit("gaussian", "diagonal_normal", Jittered(open_data(ROWS)), out, **DEFAULTS | options)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [1, 2, 5, 6, 9])
def test_a_run_whose_data_draw_from_both_goes_on_bit_for_bit(tmp_path, at):
    whole = jittered(tmp_path / "whole", checkpoint_every=1)
    random.seed(99), np.random.seed(99)  # noqa: NPY002
    assert outcome(jittered(tmp_path / "again", checkpoint_every=1)) == outcome(whole)
    with killed_before(at):
        jittered(tmp_path / "cut", checkpoint_every=1)
    random.seed(98), np.random.seed(98)  # noqa: NPY002
    assert outcome(fit(data=Jittered(open_data(ROWS)), out=tmp_path / "cut", resume=True)) == outcome(whole)
