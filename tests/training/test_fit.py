"""`fit`: Pyro's own steps, bit for bit again, stopped at will, best by validation, and loud where it can't go on."""

import contextlib
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from torch import Tensor, nn

from ppl_vae.core.errors import InputError, NumericalError
from ppl_vae.data import open_data
from ppl_vae.guides import diagonal_normal
from ppl_vae.models import gaussian, linear_gaussian
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import owned, resolve_pair
from ppl_vae.programs.find import sha256_of
from ppl_vae.programs.scores import batches
from ppl_vae.runs.checkpoint import Checkpoints
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.run import Run
from ppl_vae.training.evaluation import evaluate
from ppl_vae.training.interrupt import Interrupted
from ppl_vae.training.setup import isolated
from ppl_vae.training.step import Trainer

ROWS = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")  # 48 to train: five steps of 10 and a rest of 8
SET = {"hidden": 8, "latent_dim": 2}
STEPS = 5
DEFAULTS: dict[str, Any] = {"epochs": 2, "batch_size": 10, "lr": 1e-2, "set": SET}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def small(out: Path, model: Any = "gaussian", guide: Any = "diagonal_normal", **options: Any) -> Run:
    return fit(model, guide, ROWS, out, **DEFAULTS | options)


def without_times(metrics: str) -> str:
    lines = [json.loads(line) for line in metrics.splitlines()]
    return "\n".join(json.dumps({k: v for k, v in line.items() if k != "seconds"}) for line in lines)


def contents(folder: Path) -> dict[str, Any]:
    """Every file's bytes, but for the seconds in the metrics."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return files | {"metrics.jsonl": without_times((folder / "metrics.jsonl").read_text())}


def outcome(run: Run) -> tuple[Any, ...]:
    """What must not depend on where a run was stopped: the last state, the best and the metrics."""
    last, best = run.checkpoints.steps[-1], run.checkpoints.manifest["best"]
    places = [run.folder / "checkpoints" / f"step-{step}" for step in (last, best)]
    states = [(place / name).read_bytes() for place in places for name in ("state.safetensors", "state.json")]
    return last, best, states, without_times((run.folder / "metrics.jsonl").read_text())


# ---- the same as Pyro ----


def test_follows_svi_step_for_step(tmp_path):
    dataset = open_data(ROWS)
    epochs = 10
    batches = [batch for epoch in range(epochs) for batch in dataset.batches("train", 10, epoch=epoch, seed=3)]
    assert len(batches) == 50

    with isolated(3):
        trainer = Trainer(resolve_pair("gaussian", "diagonal_normal", dataset.train, SET), Trace_ELBO(), lr=1e-2)
        ours = [trainer.step(batch).elbo for batch in batches]

    def mean(program: nn.Module) -> Any:
        return lambda x: poutine.scale(program, 1 / len(x))(x)

    with isolated(3):
        pair = resolve_pair("gaussian", "diagonal_normal", dataset.train, SET)
        svi = SVI(mean(pair.model), mean(pair.guide), pyro.optim.Adam({"lr": 1e-2}), pyro.infer.Trace_ELBO())
        theirs = [-svi.step(*batch) for batch in batches]

    sizes = [len(batch[0]) for batch in batches]
    assert [e / n for e, n in zip(ours, sizes, strict=True)] == pytest.approx(theirs, rel=1e-5)

    metrics = small(tmp_path / "run", epochs=epochs, seed=3).metrics[1:]
    of_epochs = [sum(ours[i : i + STEPS]) / 48 for i in range(0, 50, STEPS)]
    assert [line["train"]["elbo"] for line in metrics] == of_epochs
    gaps = [m["train"]["rate"] + m["train"]["distortion"] + m["train"]["elbo"] for m in metrics]
    assert all(0 < abs(gap) < 1 for gap in gaps), "the rate is a closed form: the ELBO's in expectation alone"


# ---- the same again ----


CHILD = """
import json, os, signal, sys
import numpy as np
import torch._dynamo  # which torch.optim imports when it is first used
from ppl_vae.training import step as trainer
from ppl_vae.runs.fitting import fit

def child(out, signum, at, options):
    step, taken = trainer.Trainer.step, 0

    def counted(self, batch):
        nonlocal taken
        taken += 1
        if taken == at:
            os.kill(os.getpid(), signum)
        return step(self, batch)

    trainer.Trainer.step = counted
    try:
        fit("gaussian", "diagonal_normal", np.load("rows.npy"), out, **options)
    except KeyboardInterrupt as stop:
        return stop.exit_code
    return 0

codes = []
for given in json.loads(sys.argv[1]):
    if (process := os.fork()) == 0:  # a process of its own, without a second import of torch
        os._exit(child(*given))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
print(json.dumps(codes))
"""
PLAIN: dict[str, Any] = {"checkpoint_every": 3, "keep_every": 4}
RESUMABLE: dict[str, Any] = {"epochs": 3, "checkpoint_every": 4, "keep_every": 8, "patience": 2, "clip": 5.0}
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, int, int]]:
    """Fits in processes of their own, by the signal that each sends itself: run, step of the signal, exit code."""
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "rows.npy", ROWS)
    at = {int(signum): random.randrange(1, 3 * STEPS) for signum in SIGNALS}
    tasks = [("0", 0, 0, DEFAULTS | PLAIN), *((str(s), s, at[s], DEFAULTS | RESUMABLE) for s in at)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(tasks)],
        cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    codes = json.loads(done.stdout)
    return {signum: (folder / name, n, code) for (name, signum, n, _), code in zip(tasks, codes, strict=True)}


class Wide(nn.Module):
    """Another program, which leaves every global setting changed."""

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.zeros(data_shape))
        pyro.enable_validation(True)
        pyro.param("left", torch.ones(3))
        torch.manual_seed(99)

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        torch.set_default_dtype(torch.float64)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.b + z[..., :1], 1.0).to_event(1), obs=x)


def test_same_seed_same_bytes(tmp_path, elsewhere):
    first = small(tmp_path / "a", **PLAIN)
    state = torch.get_rng_state(), torch.get_default_dtype(), dict(pyro.get_param_store().items())
    pyro.enable_validation(True)
    small(tmp_path / "between", Wide, set={"latent_dim": 2}, seed=7)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert torch.get_default_dtype() == state[1]
    assert dict(pyro.get_param_store().items()) == state[2]
    assert pyro.settings.get("validate_distributions_pyro")
    assert pyro.settings.get("validate_distributions_torch")
    torch.randn(3)
    second = small(tmp_path / "b", **PLAIN)
    assert contents(second.folder) == contents(first.folder)
    folder, _, code = elsewhere[0]
    assert code == 0
    assert contents(folder) == contents(first.folder)
    other = small(tmp_path / "d", seed=1, **PLAIN)
    assert outcome(other) != outcome(first)


# ---- stop and go on ----


class Killed(BaseException):
    pass


@contextlib.contextmanager
def killed_before(step: int) -> Iterator[None]:
    """A fit inside does not survive this step."""
    taken, original = 0, Trainer.step

    def counted(self: Trainer, batch: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == step:
            raise Killed
        return original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", counted)
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize("signum", SIGNALS)
def test_signals_in_another_process(tmp_path, elsewhere, signum):
    whole = small(tmp_path / "whole", **RESUMABLE)
    folder, at, code = elsewhere[signum]
    assert code == SIGNALS[signum]
    cut = Run(folder)
    assert cut.checkpoints.steps[-1] == (at if signum != signal.SIGKILL else (at - 1) // 4 * 4), at
    fit(data=ROWS, out=cut.folder, resume=True)
    assert outcome(cut) == outcome(whole), at


@pytest.mark.parametrize("objective", ["trace", "analytic-kl"])
def test_killed_before_any_step(tmp_path, objective):
    options = RESUMABLE | {"objective": objective, "schedule": "cosine", "set": SET | {"objective.num_particles": 2}}
    whole = small(tmp_path / "whole", **options)
    for step in range(1, 3 * STEPS + 1, 3):
        with killed_before(step):
            small(tmp_path / f"cut{step}", **options)
        cut = fit(data=ROWS, out=tmp_path / f"cut{step}", resume=True)
        assert outcome(cut) == outcome(whole), step


def test_stopped_again_and_again(tmp_path, monkeypatch):
    whole = small(tmp_path / "whole", **RESUMABLE)
    original = Trainer.step

    def interrupted(self: Trainer, batch: Any) -> Any:
        seen = original(self, batch)
        os.kill(os.getpid(), signal.SIGINT)
        return seen

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(Interrupted, match="stopped at step 1, saved") as stop:
            small(tmp_path / "cut", **RESUMABLE)
        assert stop.value.exit_code == 130
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        for step in range(2, 7):
            with pytest.raises(Interrupted, match=f"stopped at step {step}, saved"):
                fit(data=ROWS, out=tmp_path / "cut", resume=True)
    assert outcome(fit(data=ROWS, out=tmp_path / "cut", resume=True)) == outcome(whole)


class FromData(gaussian.Model):
    """Its constructor looks at the data and draws: a buffer, a parameter, and an attribute that no checkpoint holds."""

    def __init__(self, data_shape: tuple[int, ...], data: Tensor, latent_dim: int = 2) -> None:
        super().__init__(data_shape, latent_dim, 8)
        self.register_buffer("mean", data.mean(0))
        self.scale = nn.Parameter(data.std(0) + 0.1 * torch.rand(data_shape))
        self.fixed = torch.randn(data_shape)
        self.norm = nn.BatchNorm1d(latent_dim)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        z = self.norm(z.reshape(-1, self.latent_dim)).reshape(z.shape)
        loc = self.mean + self.scale * self.decoder(z) + 0.1 * self.fixed
        return dist.Normal(loc, 1.0).to_event(1)


@pytest.mark.filterwarnings(
    "ignore:the loss does not depend on model.log_sigma", "ignore:.* in training mode .BatchNorm"
)
@pytest.mark.parametrize("when", ["no checkpoint", "first checkpoint", "step 7"])
def test_resume_of_a_model_made_from_data(tmp_path, monkeypatch, when):
    options = {"model": FromData, "set": {"latent_dim": 2}}
    whole = small(tmp_path / "whole", **options)
    with killed_before(7 if when == "step 7" else 1), monkeypatch.context() as patch:
        if when == "no checkpoint":
            patch.setattr(Checkpoints, "save", lambda *args, **kwargs: None)
        small(tmp_path / "cut", **options, checkpoint_every=3)
    cut = Run(tmp_path / "cut")
    assert cut.checkpoints.steps == {"no checkpoint": [], "first checkpoint": [0], "step 7": [0, 3, 6]}[when]
    fit(FromData, data=ROWS, out=cut.folder, resume=True)
    assert outcome(cut) == outcome(whole)


def test_killed_before_any_file_operation(tmp_path, monkeypatch):
    """At every rename and removal of a fit: what the manifest lists is whole, and the run goes on to the same end."""
    options: dict[str, Any] = {"epochs": 1, "batch_size": 16, "checkpoint_every": 1}
    whole = small(tmp_path / "whole", **options)
    n, alive = 0, False
    while not alive:
        n += 1
        done = 0

        def dying(operation: Any, last: int = n) -> Any:
            def called(*args: Any, **kwargs: Any) -> Any:
                nonlocal done
                done += 1
                if done >= last:
                    raise Killed
                return operation(*args, **kwargs)

            return called

        cut = tmp_path / f"cut{n}"
        with monkeypatch.context() as patch:
            for module, name in ((os, "replace"), (os, "rename"), (shutil, "rmtree")):
                patch.setattr(module, name, dying(getattr(module, name)))
            try:
                small(cut, **options)
                alive = True
            except Killed:
                pass
        if not (cut / "config.json").exists():
            with pytest.raises(InputError, match="is no run"):
                Run(cut)
            continue
        run = Run(cut)
        for step in run.checkpoints.steps:
            run.checkpoints.load(step)
        if run.checkpoints.steps:
            run.checkpoints.load(run.checkpoints.manifest["best"])
        finished = run.checkpoints.steps[-1:] == [3]
        fit(data=ROWS, out=cut, resume=True)
        assert outcome(run) == outcome(whole), n
        places = {p.name for p in (cut / "checkpoints").iterdir()}
        assert finished or places == set(run.checkpoints.manifest["checkpoints"]), "what a kill has left is removed"
    assert n > 25


def test_resume_of_no_run_and_of_a_finished_one(tmp_path):
    with pytest.raises(InputError, match="is no run"):
        fit(data=ROWS, out=tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    run = small(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    fit(data=ROWS, out=run.folder, resume=True)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_more_epochs_on_resume(tmp_path):
    whole = small(tmp_path / "whole", epochs=4)
    run = small(tmp_path / "run", epochs=2)
    run = fit(data=ROWS, out=run.folder, resume=True, epochs=4)
    assert run.config.epochs == 4
    assert outcome(run) == outcome(whole)
    with pytest.raises(InputError, match="4 epochs, not 3"):
        fit(data=ROWS, out=run.folder, resume=True, epochs=3)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"lr": 0.5}, "lr 0.01, not 0.5"),
        ({"seed": 5}, "seed 0, not 5"),
        ({"clip": 1.0}, "clip None"),
        ({"set": {"hidden": 9}}, "set .*hidden=8"),
        ({"epochs": 7}, "cosine schedule was laid out for 2 epochs"),
    ],
)
def test_other_options_are_refused_on_resume(tmp_path, asked, words):
    run = small(tmp_path / "run", schedule="cosine")
    before = contents(run.folder)
    with pytest.raises(InputError, match=words):
        fit(data=ROWS, out=run.folder, resume=True, **asked)
    assert contents(run.folder) == before


def test_what_resume_refuses_it_leaves_as_it_was(tmp_path):
    run = small(tmp_path / "run")
    before = contents(run.folder)
    with pytest.raises(InputError, match="its hash differs"):
        fit(data=ROWS + 1, out=run.folder, resume=True, epochs=4)
    with pytest.raises(InputError, match="is not what"):
        fit("linear_gaussian", data=ROWS, out=run.folder, resume=True, epochs=4)
    assert contents(run.folder) == before


# ---- early stopping, best, evaluation ----


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


def test_evaluate_weights_every_row_alike():
    rows = torch.randn(23, 5, dtype=torch.float64)
    pair = resolve_pair("linear_gaussian", "linear_gaussian", (rows,), {"latent_dim": 2})
    pair.model.double()
    exact = linear_gaussian.Model.log_px(pair.model, rows).detach()  # type: ignore[arg-type]
    rng = torch.get_rng_state()
    for size in (1, 5, 23, 100):
        torch.set_rng_state(rng)
        seen = evaluate(pair, Trace_ELBO(), batches((rows,), size), seed=1)
        assert torch.equal(torch.get_rng_state(), rng)
        assert seen.elbo.tolist() == pytest.approx(exact.tolist(), rel=1e-9)
        assert seen.summary()["elbo"] == pytest.approx(exact.mean().item(), rel=1e-9)
        assert seen.summary()["elbo_se_data"] == pytest.approx(exact.std().item() / 23**0.5, rel=1e-9)
    assert math.isnan(evaluate(pair, Trace_ELBO(), batches((rows[:1],), 5), seed=1).summary()["elbo_se_data"])


class Narrow(diagonal_normal.Guide):
    """So narrow that its draw is its mean."""

    def posterior(self, x: Tensor) -> dist.Distribution:
        return dist.Normal(super().posterior(x).mean, 1e-9).to_event(1)


def test_evaluate_neither_depends_on_nor_moves_a_batchnorm():
    rows = torch.randn(23, 5)
    torch.manual_seed(1)
    pair = resolve_pair(FromData, Narrow, (rows,), {"guide.hidden": 8, "latent_dim": 2})
    pair.guide.train(False)
    state = {name: tensor.clone() for name, tensor in owned(pair.model, pair.guide)}
    whole = evaluate(pair, Trace_ELBO(), batches((rows,), 23), seed=1).distortion
    parts = evaluate(pair, Trace_ELBO(), batches((rows,), 1), seed=1).distortion
    assert parts.tolist() == pytest.approx(whole.tolist(), rel=1e-5)
    assert pair.model.training
    assert not pair.guide.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in owned(pair.model, pair.guide))


# ---- numbers that are not finite ----


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


# ---- clip and schedule ----


def test_clip_is_that_of_torch():
    dataset = open_data(ROWS)
    pair = resolve_pair("gaussian", "diagonal_normal", dataset.train, SET)
    trainer = Trainer(pair, Trace_ELBO(), clip=0.5)
    trainer.optimizer.step = lambda: None  # type: ignore[assignment, method-assign]
    parameters = list(trainer.parameters.values())

    def gradients(clip: float | None) -> tuple[float, Tensor]:
        trainer.clip = clip
        torch.manual_seed(0)
        norm = trainer.step(dataset.valid).gradient_norm
        return norm, torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])

    norm, plain = gradients(None)
    assert norm == pytest.approx(plain.norm().item())
    assert norm > 0.5
    norm_before, ours = gradients(0.5)
    assert norm_before == norm, "the norm that is reported is that before clipping"
    assert ours.norm().item() == pytest.approx(0.5)
    gradients(None)
    nn.utils.clip_grad_norm_(parameters, 0.5)
    theirs = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=0)
    assert torch.equal(gradients(2 * norm)[1], plain), "a smaller gradient stays as it is"


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


# ---- input ----


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"epochs": 0}, "epochs is 0: it must be at least 1"),
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
        fit("gaussian", "diagonal_normal", data, tmp_path / "run", set=SET)
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
