"""The loop alone: it writes nothing, tells its callbacks what happens, and takes any step and any noise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_vae.data import open_data
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import resolve_pair
from ppl_vae.programs.scores import Batch
from ppl_vae.runs.fitting import fit
from ppl_vae.training.callback import Callback
from ppl_vae.training.config import FitConfig
from ppl_vae.training.loop import Loop
from ppl_vae.training.noise import TorchNoise
from ppl_vae.training.prepare import isolated
from ppl_vae.training.schedule import SCHEDULES, schedule
from ppl_vae.training.step import Step, Trainer

ROWS = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
SET = {"hidden": 8, "latent_dim": 2}
CONFIG = FitConfig(epochs=3, batch_size=10, lr=0.01)


@dataclass
class Noted(Callback):
    """A callback that keeps what it is told."""

    lines: list[Mapping[str, Any]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def assessed(self, loop: Loop, line: Mapping[str, Any]) -> None:
        self.lines.append(line)

    def stepped(self, loop: Loop) -> None:
        self.steps.append(loop.state.step)


def trainer(**options: Any) -> Trainer:
    pair = resolve_pair("gaussian", "diagonal_normal", open_data(ROWS).train, SET)
    return Trainer(pair, Trace_ELBO(), CONFIG.lr, **options)


def without_times(lines: list[Any]) -> list[Any]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_it_trains_without_a_folder_and_gives_the_numbers_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", epochs=3, batch_size=10, lr=0.01, set=SET)
    place = tmp_path / "empty"
    place.mkdir()
    monkeypatch.chdir(place)
    noted = Noted()
    with isolated(0):
        loop = Loop(trainer(), open_data(ROWS), CONFIG, [noted])
        loop.assess()
        loop.run()
    assert not list(place.iterdir())
    assert noted.steps == list(range(1, 16))
    assert without_times(noted.lines) == without_times(run.metrics)
    assert loop.done()


def test_it_goes_on_from_any_step() -> None:
    with isolated(0):
        whole = Loop(trainer(), open_data(ROWS), CONFIG)
        whole.run()

    class Stop(Exception):
        pass

    class Stopping(Noted):
        def stepped(self, loop: Loop) -> None:
            if loop.state.step == 7:
                raise Stop

    with isolated(0):
        first = Loop(trainer(), open_data(ROWS), CONFIG, [Stopping()])
        with pytest.raises(Stop):
            first.run()
        kept = {name: tensor.clone() for name, tensor in first.stepper.tensors().items()}
    with isolated(1):
        second = Loop(trainer(), open_data(ROWS), CONFIG, state=first.state)
        second.stepper.load(kept)
        second.run()
    wanted, found = whole.stepper.tensors(), second.stepper.tensors()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


@dataclass
class Counting:
    """A step that does not train: what the loop asks of a step is all here."""

    pair: Any
    objective: Any
    learning_rate: float = 0.0
    rate_weight: float = 1.0
    sizes: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def step(self, batch: Batch) -> Step:
        self.sizes.append(len(batch[0]))
        self.rates.append(self.learning_rate)
        return Step(-1.0, -1.0, 0.25, 0.75, 2.0)

    def settle(self) -> None:
        pass

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        pass


def test_another_step_may_stand_in_its_place() -> None:
    real, noted = trainer(), Noted()
    stepper = Counting(real.pair, real.objective)
    config = FitConfig(epochs=2, batch_size=10, lr=0.5, schedule="cosine")
    Loop(stepper, open_data(ROWS), config, [noted]).run()
    assert stepper.sizes == [10, 10, 10, 10, 8] * 2
    assert stepper.rates == [schedule("cosine", 0.5, 10)(step) for step in range(10)]
    assert [line["train"] for line in noted.lines] == [
        {"elbo": -5 / 48, "rate": 1.25 / 48, "distortion": 3.75 / 48} for _ in range(2)
    ]
    assert noted.lines[0]["gradient_norm"] == 2.0


@dataclass
class Seeded:
    """Noise that is a function of how many steps were taken."""

    taken: int = 0

    def begin(self) -> None:
        self.taken += 1
        torch.manual_seed(self.taken)

    def state(self) -> dict[str, Tensor]:
        return {"taken": torch.tensor(self.taken)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.taken = int(state["taken"])


def test_another_source_of_noise_may_stand_in_its_place() -> None:
    batch = open_data(ROWS).train
    values = []
    for _ in range(2):
        torch.manual_seed(5)
        one = trainer(noise=Seeded())
        torch.randn(len(values))  # what the global generator has drawn before is of no matter
        values.append(one.step(batch).elbo)
    assert values[0] == values[1]
    torch.manual_seed(5)
    assert trainer(noise=TorchNoise()).step(batch).elbo != values[0]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_begins_at_the_learning_rate(name: str) -> None:
    rate = schedule(name, 0.3, 50)
    assert rate(0) == 0.3
    assert all(0 < rate(step) <= 0.3 for step in range(50))
