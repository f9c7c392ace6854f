"""Steps that begin before the numbers of the steps before them are read, as on a GPU: the training is the same.

Here on the CPU, where the same kernels leave out a step that is stopped.
"""

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from support.fits import ROWS, SET, STEPS, FromData, contents
from torch import Tensor

import ppl_vae
from ppl_vae.core.errors import NumericalError
from ppl_vae.data import open_data
from ppl_vae.graphs.captured import Captured, Seen
from ppl_vae.guides import diagonal_normal
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import resolve_pair
from ppl_vae.training import stepping
from ppl_vae.training.callback import Callback
from ppl_vae.training.captured import CapturedTrainer
from ppl_vae.training.config import FitConfig
from ppl_vae.training.loop import Loop
from ppl_vae.training.prepare import isolated

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
BAD = {7, 18}


class Picky(diagonal_normal.Guide):
    """For a row that begins with 7 its z is so far out that p(z) is 0, except in an evaluation."""

    def posterior(self, x: Tensor) -> dist.Distribution:
        q = super().posterior(x)
        far = 1e30 * (x[:, :1] == 7) * self.training
        return dist.Normal(q.mean + far, q.stddev).to_event(1)


class Noted(Callback):
    def __init__(self) -> None:
        self.lines: list[Mapping[str, Any]] = []

    def assessed(self, loop: Loop, line: Mapping[str, Any]) -> None:
        self.lines.append({name: x for name, x in line.items() if name != "seconds"})


def poisoned() -> Any:
    """Rows of which those in two batches of the first epoch are refused by `Picky`."""
    data, rows = open_data(ROWS), ROWS.copy()
    parts = data.parts("train", 10, epoch=0, seed=0)
    for batch in (1, 3):
        rows[data.numbers("train")[parts[batch][2]], 0] = 7
    return rows


def trained(
    ahead: int, *, model: Any = "vae", guide: Any = "diagonal_normal", data: Any = ROWS, fails: str = "", **options: Any
) -> Any:
    """All that is left of a training: tensors, state, what was told, warnings and the error, if there was one."""
    config = FitConfig(epochs=3, batch_size=10, lr=0.01, schedule="cosine", warmup=1, clip=1.0, **options)
    noted = Noted()
    with isolated(0), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        settings = {"guide.hidden": 8, "latent_dim": 2} if model is FromData else SET
        pair = resolve_pair(model, guide, open_data(data).train, settings)
        objective = Trace_ELBO()
        trainer = CapturedTrainer(
            pair, objective, config.lr, config.clip, captured=Captured(pair, objective, weighted=True, compile=False),
            ahead=ahead, falls_back=True,
        )  # fmt: skip
        loop = Loop(trainer, open_data(data), config, [noted])
        error = ""
        try:
            loop.run()
        except NumericalError as raised:
            error = str(raised)
        tensors = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    said = [str(warning.message) for warning in told]
    assert trainer.begun == []
    assert bool(error) == bool(fails)
    assert fails in error
    return tensors, asdict(loop.state), noted.lines, said, error, (trainer.taken, trainer.eager_from)


def equal(ours: Any, theirs: Any) -> bool:
    return ours[1:] == theirs[1:] and all(torch.equal(ours[0][name], x) for name, x in theirs[0].items())


@pytest.mark.parametrize("ahead", [2, 4, 50])
@pytest.mark.parametrize("guide", ["diagonal_normal", "amortized"])
def test_numbers_are_the_same_when_they_are_read_later(ahead: int, guide: str) -> None:
    assert equal(trained(ahead, guide=guide), trained(1, guide=guide))


@pytest.mark.parametrize("ahead", [2, 4, 50])
def test_a_step_that_is_not_finite_stops_those_begun_after_it(ahead: int) -> None:
    """Weights, moments, noise, position and message are those of a training that looks at each step."""
    theirs = trained(1, guide=Picky, data=poisoned(), fails="step 2 (epoch 1, batch 2): log p of site 'z'")
    assert theirs[1]["step"] == 1
    ours = trained(ahead, guide=Picky, data=poisoned(), fails="step 2")
    assert equal(ours, theirs)


@pytest.mark.parametrize("ahead", [2, 3, 50])
def test_it_is_skipped_and_those_after_it_are_taken_again(ahead: int) -> None:
    theirs = trained(1, guide=Picky, data=poisoned(), on_nan="skip")
    assert sum("but skipped" in each for each in theirs[3]) > 2
    assert sum(line.get("skipped", 0) for line in theirs[2]) > 2
    assert equal(trained(ahead, guide=Picky, data=poisoned(), on_nan="skip"), theirs)


@pytest.mark.parametrize("ahead", [2, 50])
def test_a_batch_normalization_does_not_see_what_is_stopped(ahead: int) -> None:
    options: Any = {"model": FromData, "guide": Picky, "data": poisoned(), "on_nan": "skip"}
    theirs = trained(1, **options)
    assert sum(line.get("skipped", 0) for line in theirs[2]) > 2
    assert all(tensor.isfinite().all() for name, tensor in theirs[0].items() if "norm.running" in name)
    assert equal(trained(ahead, **options), theirs)


def test_a_captured_pass_that_differs_is_given_up_at_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that is not finite where that of the programs is: found some steps late, and mended as if at once."""
    own = Captured.__call__

    def broken(self: Captured, batch: Any, rate_weight: float = 1.0, stopped: Tensor | None = None) -> Seen:
        numbers, gradients = own(self, batch, rate_weight)
        if len(batch[0]) == 8:  # the last batch of each epoch
            numbers = torch.full_like(numbers, torch.nan)
        if stopped is not None:
            stopped.logical_or_(~numbers.isfinite().all())
        return Seen(numbers, gradients)

    monkeypatch.setattr(Captured, "__call__", broken)
    monkeypatch.setattr(CapturedTrainer, "compare", lambda *_: None)
    theirs = trained(1)
    assert theirs[-1] == (3 * STEPS, STEPS - 1)
    assert equal(trained(4), theirs)


@pytest.mark.slow
def test_a_run_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With checkpoints amid the steps that have begun, and resumed from one of them."""
    options: Any = {
        "compile": "on", "epochs": 3, "batch_size": 10, "set": SET, "on_nan": "skip", "checkpoint_every": 4,
        "keep_every": 4,
    }  # fmt: skip
    data = poisoned()
    with warnings.catch_warnings(action="ignore"):
        whole = ppl_vae.fit("gaussian", Picky, data, tmp_path / "whole", **options)
        monkeypatch.setitem(stepping.AHEAD, "cpu", 3)
        ahead = ppl_vae.fit("gaussian", Picky, data, tmp_path / "ahead", **options)
    ours, theirs = contents(ahead.folder), contents(whole.folder)
    assert {name for name in theirs if ours.get(name) != theirs[name]} <= {"learning.png"}
