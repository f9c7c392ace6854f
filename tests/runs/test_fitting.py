"""`fit`: the best by validation, loud where it can't go on, and nothing left of bad input."""

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from support.fits import DEFAULTS, ROWS, SET, STEPS, contents, killed_before, outcome, small
from torch import Tensor, nn

from ppl_vae.core.errors import InputError, NumericalError
from ppl_vae.data import open_data
from ppl_vae.guides import diagonal_normal
from ppl_vae.models import gaussian
from ppl_vae.programs import owned
from ppl_vae.programs.find import sha256_of
from ppl_vae.programs.scores import batches
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.run import Run
from ppl_vae.training.evaluation import evaluate
from ppl_vae.training.step import Trainer

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def test_patience_best_and_their_resumption(tmp_path):
    options: dict[str, Any] = {"epochs": 60, "patience": 3, "lr": 0.1}
    run = small(tmp_path / "run", **options)
    elbos = [line["valid"]["elbo"] for line in run.metrics]
    best = int(np.argmax(elbos))
    assert 0 < best < len(elbos) - 1
    assert len(elbos) - 1 - best == 3, "stops three epochs after the best"
    assert all(max(elbos[i + 1 : i + 4]) > max(elbos[: i + 1]) for i in range(best)), "and not before"
    assert run.checkpoints.manifest["best"] == best * STEPS
    assert run.checkpoints.steps[-1] == (best + 3) * STEPS

    pairs = {name: run.pair(checkpoint=name) for name in ("best", "last", "first", best * STEPS, str(best * STEPS))}
    steps = {"best": best * STEPS, "last": (best + 3) * STEPS, "first": 0}
    weights = {name: run.checkpoints.load(step)[0] for name, step in steps.items()}
    for name, pair in pairs.items():
        for key, tensor in owned(pair.model, pair.guide, pair.borrower):
            assert torch.equal(tensor, weights[name if name in weights else "best"][key])
    dataset = run.data(ROWS)
    again = evaluate(run.pair(), run.objective(), batches(dataset.valid, 10), 20_131_220).summary()
    assert again["elbo"] == elbos[best]

    with killed_before((best + 2) * STEPS + 2):  # after two epochs of waiting
        small(tmp_path / "cut", **options, checkpoint_every=1)
    assert outcome(fit(data=ROWS, out=tmp_path / "cut", resume=True)) == outcome(run)


@pytest.mark.parametrize("step", ["median", 3, "1.5"])
def test_no_such_checkpoint(tmp_path, step):
    run = small(tmp_path / "run")
    with pytest.raises(InputError, match=r"it has 0, 5, 10|give a step, best, last, first or middle|it has 0, 10"):
        run.pair(checkpoint=step)


def finite(run: Run) -> bool:
    tensors, _ = run.checkpoints.load(run.checkpoints.steps[-1])
    return all(t.isfinite().all() for t in tensors.values())


@pytest.mark.filterwarnings("ignore:site '[xz]'. its log-probability is not finite at the first parameters")
def test_an_overflow_stops_with_step_epoch_site_and_rows(tmp_path):
    with pytest.raises(NumericalError) as stop:
        small(tmp_path / "run", lr=1e4, epochs=50)
    run = Run(tmp_path / "run")
    step = run.checkpoints.steps[-1]
    text = str(stop.value)
    assert f"step {step + 1} (epoch {step // STEPS + 1}, batch {step % STEPS + 1}): " in text
    named = re.search(r"site '[xz]' is not finite in rows ([\d, ]+)", text)
    assert named is not None
    train = open_data(ROWS).numbers("train").tolist()
    assert {int(row) for row in named[1].split(",")} <= set(train), "numbers of rows of the data, not of the batch"
    assert str(run.folder) in text
    assert finite(run)
    with pytest.raises(NumericalError) as again:
        fit(data=ROWS, out=run.folder, resume=True)
    assert str(again.value) == text


class Fragile(gaussian.Model):
    """NaN for one row while `broken`; a BatchNorm then carries it to its running statistics."""

    broken = False

    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 2, normed: bool = False) -> None:
        super().__init__(data_shape, latent_dim, 8)
        self.norm = nn.BatchNorm1d(latent_dim) if normed else nn.Identity()

    def likelihood(self, z: Tensor) -> dist.Distribution:
        poison = torch.zeros(len(z), 1)
        poison[3:] = math.nan if type(self).broken else 0.0
        return super().likelihood(self.norm(z + poison))


@pytest.mark.filterwarnings("ignore:the pair fails with 3 samples per row", "ignore:.* in training mode .BatchNorm")
@pytest.mark.parametrize("normed", [False, True])
def test_resume_after_a_nan_goes_on_from_the_state_before_it(tmp_path, monkeypatch, normed):
    options = {"model": Fragile, "set": {"latent_dim": 2, "normed": normed}}
    whole = small(tmp_path / "whole", **options)
    original, taken = Trainer.step, 0

    def breaking(self: Trainer, batch: Any) -> Any:
        nonlocal taken
        taken += 1
        Fragile.broken = taken == 7
        return original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Fragile, "broken", False)
        patch.setattr(Trainer, "step", breaking)
        with pytest.raises(NumericalError, match=r"step 7 \(epoch 2, batch 2\): log p of site 'x'") as stop:
            small(tmp_path / "cut", **options)
    dataset = open_data(ROWS)
    second = list(dataset.batches("train", 10, epoch=1, seed=0))[1][0]
    numbers = dataset.numbers("train")[dataset.parts("train", 10, epoch=1, seed=0)[1]]
    assert torch.equal(torch.as_tensor(ROWS)[numbers].to(second), second)
    broken = numbers if normed else numbers[3:]
    assert f"in rows {', '.join(map(str, broken[:5].tolist()))} and {len(broken) - 5} more of the data" in str(
        stop.value
    )
    cut = Run(tmp_path / "cut")
    assert cut.checkpoints.steps == [0, 5, 6] or cut.checkpoints.steps == [0, 6]
    assert finite(cut)
    assert outcome(fit(Fragile, data=ROWS, out=cut.folder, resume=True)) == outcome(whole)


class Picky(diagonal_normal.Guide):
    """For the row that begins with 7 its z is so far out that p(z) is 0, except in an evaluation."""

    def posterior(self, x: Tensor) -> dist.Distribution:
        q = super().posterior(x)
        far = 1e30 * (x[:, :1] == 7) * self.training
        return dist.Normal(q.mean + far, q.stddev).to_event(1)


def poisoned(row: int) -> np.ndarray:
    """Rows of which one is refused by `Picky`."""
    rows = ROWS.copy()
    rows[row, 0] = 7
    return rows


@pytest.mark.filterwarnings("ignore:site 'x'. its log-probability is not finite")
def test_a_batch_that_is_not_finite_is_kept_with_its_rows_and_the_reason(tmp_path: Path) -> None:
    dataset = open_data(ROWS)
    row = int(dataset.numbers("train")[dataset.order("train", 0, 0)[0]])
    data = poisoned(row)
    with pytest.raises(
        NumericalError, match=rf"step 1 .* site 'z' is not finite in rows {row} of the data; the largest parameter is "
    ) as stop:
        fit("gaussian", Picky, data, tmp_path / "run", **DEFAULTS)
    largest, size = re.findall(r"the largest parameter is (\S+), up to (\S+);", str(stop.value))[0]
    numbers = Run(tmp_path / "run").checkpoints.load(0)[0]
    assert f"{numbers[largest].abs().max().item():.3g}" == size
    with np.load(tmp_path / "run" / "not_finite.npz") as kept:
        assert kept["row_of_the_data"].tolist()[0] == row
        assert np.array_equal(kept["x"], data[kept["row_of_the_data"]])
        assert str(stop.value).startswith(str(kept["what"]))


@pytest.mark.filterwarnings("ignore:site 'x'. its log-probability is not finite")
def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path: Path) -> None:
    """One step of each epoch; all others are those of a loop that has never seen its batch, and a resume knows it."""
    row = int(open_data(ROWS).numbers("train")[0])
    data = poisoned(row)
    options = DEFAULTS | {"on_nan": "skip", "epochs": 3}
    with pytest.warns(UserWarning, match=rf"in rows {row} of the data.* the step was not taken but skipped") as told:
        run = fit("gaussian", Picky, data, tmp_path / "run", **options)
    assert sum("skipped" in str(warning.message) for warning in told) == 3
    assert [line.get("skipped") for line in run.metrics] == [None, 1, 1, 1]
    assert list(run.history["skipped"][1:]) == [1, 1, 1]
    tensors = run.checkpoints.load(15)[0]
    assert {int(tensor) for name, tensor in tensors.items() if name.startswith("optimizer.step.")} == {12}
    assert finite(run)
    with killed_before(8), warnings.catch_warnings(action="ignore"):
        fit("gaussian", Picky, data, tmp_path / "cut", **options)
    with warnings.catch_warnings(action="ignore"):
        assert outcome(fit(guide=Picky, data=data, out=tmp_path / "cut", resume=True)) == outcome(run)


@pytest.mark.filterwarnings("ignore:site 'x'. its log-probability is not finite", "ignore:step .* but skipped")
def test_so_many_are_skipped_and_no_more(tmp_path: Path) -> None:
    data, options = poisoned(int(open_data(ROWS).numbers("train")[0])), {"on_nan": "skip", "epochs": 1}
    with pytest.raises(NumericalError, match=r"step 1 .* the step was not taken; of this epoch 0 were skipped"):
        fit("gaussian", Picky, data, tmp_path / "one", **DEFAULTS | options | {"batch_size": 48})
    data[open_data(ROWS).numbers("train")[:24], 0] = 7
    with pytest.raises(NumericalError, match=r"step .* the step was not taken; of this epoch 10 were skipped"):
        fit("gaussian", Picky, data, tmp_path / "run", **DEFAULTS | options | {"batch_size": 2})


class SquareRoot(gaussian.Model):
    """√|b| at b = 0: a finite value without a derivative."""

    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 2) -> None:
        super().__init__(data_shape, latent_dim, 8)
        self.b = nn.Parameter(torch.zeros(data_shape))

    def likelihood(self, z: Tensor) -> dist.Distribution:
        return dist.Normal(self.decoder(z) + self.b.abs().sqrt(), 1.0).to_event(1)


@pytest.mark.filterwarnings("ignore:the loss does not depend on model.log_sigma")
def test_gradient_nan_at_a_finite_loss_names_the_parameter(tmp_path):
    with pytest.raises(NumericalError, match=r"step 1 .*the gradient of model\.b is not finite"):
        small(tmp_path / "run", SquareRoot, set={"latent_dim": 2})
    assert finite(Run(tmp_path / "run"))


class FarValidation(gaussian.Model):
    """Its validation ELBO is NaN until the weights have moved."""

    def likelihood(self, z: Tensor) -> dist.Distribution:
        self.start = getattr(self, "start", self.log_sigma.item())
        first = not self.training and self.log_sigma.item() == self.start
        return dist.Normal(self.decoder(z) + (math.nan if first else 0.0), self.log_sigma.exp()).to_event(1)


def test_a_validation_that_begins_at_nan_does_not_stay_best(tmp_path):
    run = small(tmp_path / "run", FarValidation, patience=2)
    assert run.checkpoints.manifest["best"] > 0
    for line in (run.folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert math.isnan(run.metrics[0]["valid"]["elbo"])
    json.loads((run.folder / "checkpoints/step-0/state.json").read_text(), parse_constant=pytest.fail)


def test_cosine_ends_at_zero(tmp_path, monkeypatch):
    rates, original = [], Trainer.step

    def noted(self: Trainer, batch: Any) -> Any:
        rates.append(self.learning_rate)
        return original(self, batch)

    monkeypatch.setattr(Trainer, "step", noted)
    run = small(tmp_path / "run", schedule="cosine", epochs=4)
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4 * STEPS)
    theirs = []
    for _ in range(4 * STEPS):
        theirs.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(theirs, rel=1e-9)
    assert schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-15), "the step after the last would be of size 0"
    assert [line["lr"] for line in run.metrics[1:]] == rates[STEPS - 1 :: STEPS]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"epochs": 0}, "epochs is 0: it must be at least 1"),
        ({"set": {1: 2}}, "set has the name 1: names of settings are text"),
        ({"epochs": 1.5}, "epochs is 1.5: it must be int"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": "fast"}, "lr is 'fast': it must be float"),
        ({"clip": 0}, "clip is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"rate": 1}, "no option 'rate'"),
        ({"objective": "elbo"}, "no objective is called 'elbo'"),
        ({"device": "abacus"}, "--device abacus"),
        ({"set": "hidden=big"}, "hidden"),
        ({"set": ["nonsense=1"]}, "no setting 'nonsense'|no program has a setting 'nonsense'"),
        ({"binarize": "threshold"}, "binarize"),
        ({"model": "bernoulli"}, "outside the support of Bernoulli"),
        ({"model": "gausian"}, "did you mean 'gaussian'"),
    ],
)
def test_bad_input_leaves_no_folder(tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        small(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("data", [ROWS[:2], np.full((9, 5), math.nan), 5, torch.tensor(1.0), "no.npy", ()])
def test_bad_data_leaves_no_folder(tmp_path, data):
    with pytest.raises(InputError):
        fit("gaussian", Picky, data, tmp_path / "run", set=SET)
    assert not (tmp_path / "run").exists()


def test_what_is_missing_is_named(tmp_path):
    for given, words in (
        ({"guide": "diagonal_normal", "data": ROWS}, "--model"),
        ({"model": "gaussian", "data": ROWS}, "--guide"),
        ({"model": "gaussian", "guide": "diagonal_normal"}, "--data"),
    ):
        with pytest.raises(InputError, match=words):
            fit(**given, out=tmp_path / "run")
    with pytest.raises(InputError, match="fit needs out, the folder of the run to go on with"):
        fit(data=ROWS, resume=True)


def test_settings_may_be_a_dict_a_list_or_text(tmp_path):
    ways: list[Any] = [{"hidden": 8}, ["hidden=8"], "hidden=8", ("hidden=8",)]
    runs = [small(tmp_path / str(i), set=way, epochs=1) for i, way in enumerate(ways)]
    assert all(contents(run.folder) == contents(runs[0].folder) for run in runs)
    assert runs[0].config.set == ("hidden=8",)


def test_grey_data_binarized_in_each_epoch_trains(tmp_path):
    grey = np.random.default_rng(0).uniform(size=(60, 5))
    options = DEFAULTS | {"epochs": 1, "binarize": "epoch"}
    run = fit("bernoulli", "diagonal_normal", grey, tmp_path / "run", **options)
    assert run.metrics[-1]["step"] == STEPS


def test_one_latent_row_of_validation_and_a_guide_that_takes_nothing(tmp_path):
    run = fit("gaussian", diagonal_normal.Guide, ROWS[:6], tmp_path / "run", epochs=1, set=SET)
    assert math.isnan(run.metrics[0]["valid"]["elbo_se_data"])
    assert '"elbo_se_data": null' in (run.folder / "metrics.jsonl").read_text()


def test_a_run_of_another_version_is_refused_in_words(tmp_path):
    run = small(tmp_path / "run")
    state = run.folder / f"checkpoints/step-{run.checkpoints.steps[-1]}/state.json"
    info = json.loads(state.read_text())
    info["best_elbo"] = info.pop("best_value")
    state.write_text(json.dumps(info))
    manifest = json.loads((run.folder / "manifest.json").read_text())
    manifest["checkpoints"][state.parent.name][state.name] = sha256_of(state)
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="was written by another version"):
        fit(data=ROWS, out=run.folder, resume=True, epochs=9)


def test_threads_are_those_asked_for_as_long_as_it_trains(tmp_path):
    """Recorded, so that going on has the same number; and the process has its own again afterwards."""
    seen = []

    class Counting(gaussian.Model):
        def forward(self, x: Tensor) -> None:
            seen.append(torch.get_num_threads())
            super().forward(x)

    before = torch.get_num_threads()
    for threads in (1, 2):
        seen.clear()
        run = small(tmp_path / str(threads), model=Counting, threads=threads, epochs=1)
        assert set(seen) == {threads}
        assert torch.get_num_threads() == before
        seen.clear()
        fit(Counting, data=ROWS, out=run.folder, resume=True, epochs=2)
        assert threads in seen
    with pytest.raises(InputError, match="threads"):
        small(tmp_path / "none", threads=0)
