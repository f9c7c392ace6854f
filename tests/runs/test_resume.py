"""A run that is stopped at will goes on bit for bit as if it had not been stopped."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from support.fits import DEFAULTS, ROWS, SET, STEPS, FromData, Killed, contents, killed_before, outcome, small
from torch import Tensor, nn

import ppl_vae
from ppl_vae.core.errors import InputError
from ppl_vae.runs.checkpoint import Checkpoints
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.run import Run
from ppl_vae.training.interrupt import Interrupted
from ppl_vae.training.step import Trainer

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


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
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(tasks)],
        cwd=folder, env=os.environ | threads, stdout=subprocess.PIPE, check=True,
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


def test_what_resume_refuses_it_leaves_as_it_was(tmp_path):
    run = small(tmp_path / "run")
    before = contents(run.folder)
    with pytest.raises(InputError, match="its hash differs"):
        fit(data=ROWS + 1, out=run.folder, resume=True, epochs=4)
    with pytest.raises(InputError, match="is not what"):
        fit("linear_gaussian", data=ROWS, out=run.folder, resume=True, epochs=4)
    assert contents(run.folder) == before


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        place = int(float(how) * (len(content) - 1))
        file.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["missing", "cut", "0", "0.003", "0.2", "0.5", "1"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_is_gone_on_from(
    how: str, name: str, tmp_path: Path
) -> None:
    whole = small(tmp_path / "whole", epochs=3)
    cut = small(tmp_path / "cut", epochs=2, checkpoint_every=3)
    *_, before, last = cut.checkpoints.steps
    damage(cut.folder / "checkpoints" / f"step-{last}" / name, how)
    with pytest.warns(UserWarning, match=f"{name} .*: the run goes on from step {before}, the last that is whole"):
        done = ppl_vae.resume(cut.folder, epochs=3, data=ROWS)
    assert outcome(done)[2:] == outcome(whole)[2:]


def test_a_damaged_best_checkpoint_is_trained_again(tmp_path: Path) -> None:
    options = {"epochs": 12, "lr": 0.2, "keep_every": 5}
    whole = small(tmp_path / "whole", **options)
    best = whole.step("best")
    assert 0 < best < whole.step("last")
    damage(whole.folder / "checkpoints" / f"step-{best}" / "state.safetensors", "0.5")
    expected = outcome(small(tmp_path / "again", **options))
    with pytest.warns(UserWarning, match="goes on from step"):
        assert outcome(ppl_vae.resume(whole.folder, data=ROWS)) == expected


def test_no_whole_checkpoint_and_changed_options_are_refused(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    ppl_vae.resume(run.folder, epochs=3, lr=0.02, data=ROWS)
    for step in run.checkpoints.steps[1:]:
        damage(run.folder / "checkpoints" / f"step-{step}" / "state.json", "cut")
    before = contents(run.folder)
    with pytest.raises(InputError, match="after step 0, the last whole one, options were changed: fit anew"):
        ppl_vae.resume(run.folder, data=ROWS)
    damage(run.folder / "checkpoints" / "step-0" / "state.json", "cut")
    with pytest.raises(InputError, match="is missing or not what was written"):
        ppl_vae.resume(run.folder, data=ROWS)
    assert contents(run.folder).keys() == before.keys()
