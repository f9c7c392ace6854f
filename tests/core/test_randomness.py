"""Torch's random numbers: no two seeds are one, and a device's state is kept beside that of the CPU."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ppl_vae
from ppl_vae.core.errors import NumericalError
from ppl_vae.core.randomness import random_state, restore_random_state, seed_torch
from ppl_vae.data import open_data
from ppl_vae.diagnostics.compare import compare_estimators
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import resolve_pair
from ppl_vae.programs.scores import batches
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.recording import Recording, load
from ppl_vae.runs.run import Run
from ppl_vae.training.evaluation import evaluate
from ppl_vae.training.loop import Loop
from ppl_vae.training.noise import TorchNoise
from ppl_vae.training.step import Trainer

ROWS = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 10, "set": {"hidden": 4, "latent_dim": 2}}
WRAP = 2**32


@pytest.mark.parametrize("seed", [0, 1, 20_131_220, WRAP - 1])
def test_a_seed_below_32_bits_is_torchs_own(seed):
    seed_torch(seed)
    ours = torch.rand(8)
    torch.manual_seed(seed)
    assert torch.equal(ours, torch.rand(8))


def test_no_two_seeds_that_differ_by_a_power_of_two_are_one():
    drawn = []
    for seed in (5, *(5 + 2**power for power in range(32, 63))):
        seed_torch(seed)
        drawn.append(tuple(torch.rand(4).tolist()))
    assert len(set(drawn)) == len(drawn)


def test_runs_and_draws_of_seeds_that_differ_above_32_bits_differ(tmp_path):
    runs = [fit("gaussian", "diagonal_normal", ROWS, tmp_path / str(s), seed=s, **SMALL) for s in (1, 1 + WRAP)]
    first, second = (run.checkpoints.load(0)[0]["model.decoder.0.weight"] for run in runs)
    assert not torch.equal(first, second)
    draws = [ppl_vae.sample(runs[0], num=3, seed=s)["z"] for s in (1, 1 + WRAP)]
    assert not np.array_equal(*draws)


def test_evaluations_and_comparisons_of_seeds_that_differ_above_32_bits_differ():
    rows = open_data(ROWS).train
    pair = resolve_pair("gaussian", "diagonal_normal", rows, SMALL["set"])
    values = [evaluate(pair, Trace_ELBO(), batches(rows, 10), s).value for s in (1, 1 + WRAP)]
    assert not torch.equal(*values)

    def mean(seed: int) -> float:
        found = compare_estimators(pair, {"trace": Trace_ELBO()}, rows, batch_size=64, draws=2, seed=seed)
        return found["estimators"]["trace"]["value"]

    assert mean(0) != mean(WRAP)


# ---- the state of a device ----


class Device:
    """What torch has of a device: here a counter in place of a generator."""

    def __init__(self) -> None:
        self.state = torch.tensor([7], dtype=torch.uint8)

    def get_rng_state(self, device: torch.device) -> Tensor:
        assert device.type == "cuda"
        return self.state.clone()

    def set_rng_state(self, state: Tensor, device: torch.device) -> None:
        assert device.type == "cuda"
        self.state = state.clone()

    def device_count(self) -> int:
        return 0  # so that torch.random.fork_rng leaves it alone

    def draw(self) -> None:
        self.state = self.state + 1


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    fake = Device()
    monkeypatch.setattr(torch, "get_device_module", lambda device: fake)
    return fake


def test_the_state_of_the_cpu_and_of_a_device_come_back(device):
    states = random_state("cuda:0")
    assert states.keys() == {"rng", "rng.cuda"}
    drawn = torch.rand(3)
    device.draw()
    restore_random_state(states, "cuda:0")
    assert torch.equal(torch.rand(3), drawn)
    assert device.state.item() == 7
    assert random_state("cpu").keys() == {"rng"}
    restore_random_state(random_state("cpu"), "cuda:0")
    assert device.state.item() == 7, "a device whose state was not saved keeps its own"


def on_device(run: Run) -> tuple[Loop, Recording]:
    """A loop that believes that it trains on a device, and whose tensors lie on the CPU."""
    trainer = Trainer(run.pair(checkpoint="last"), Trace_ELBO(), noise=TorchNoise("cuda:0"))
    return Loop(trainer, run.data(ROWS), run.config), Recording(run)


def test_a_checkpoint_holds_the_state_of_the_runs_device(tmp_path, device):
    run = fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", **SMALL)
    loop, recording = on_device(run)
    load(loop, run)  # from a checkpoint without a state of the device
    assert device.state.item() == 7
    loop.state.step += 1
    recording.save(loop)
    device.draw()
    loop, _ = on_device(run)
    load(loop, run)
    assert device.state.item() == 7


def test_a_step_that_fails_leaves_the_state_of_the_device_before_it(tmp_path, device, monkeypatch):
    run = fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", **SMALL)
    loop, recording = on_device(run)
    load(loop, run)
    before = torch.get_rng_state()

    def failing(self: Trainer, batch: Any) -> Any:
        device.draw()
        torch.rand(1)
        raise NumericalError("not finite")

    monkeypatch.setattr(Trainer, "backward", failing)
    loop.state.epoch, loop.state.batch = 0, 0
    with pytest.raises(NumericalError, match="not finite"):
        loop.step(loop.data.first(10))
    assert device.state.item() == 7
    assert torch.equal(torch.get_rng_state(), before)
    loop.state.step += 1
    recording.save(loop)
    assert run.checkpoints.load(run.checkpoints.steps[-1])[0]["rng.cuda"].item() == 7
