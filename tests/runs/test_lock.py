"""Only one process trains a run; who reads it is not held up, and a killed process holds nothing."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.fits import ROWS, contents, killed_before, outcome, small

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.runs import lock
from ppl_vae.runs.fitting import fit

COMMAND = str(Path(sys.executable).with_name("ppl-vae"))
EPOCHS = 80


def process(*args: object) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [COMMAND, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.fixture
def halted(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A run and the process that trains it, which stands still after some epochs."""
    np.save(tmp_path / "rows.npy", ROWS)
    run = tmp_path / "run"
    settings = ["--set", "hidden=8", "--set", "latent_dim=2", "--epochs", EPOCHS, "--checkpoint-every", "40"]
    pair = ["--model", "gaussian", "--guide", "diagonal_normal", "--data", tmp_path / "rows.npy", "--out", run]
    training, started = process("fit", *pair, *settings), time.monotonic()
    metrics = run / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_text().count("\n") < 4:
        assert training.poll() is None, training.communicate()
        assert time.monotonic() - started < 60
        time.sleep(0.01)
    training.send_signal(signal.SIGSTOP)
    yield run, training
    training.kill()
    training.communicate(timeout=60)


def test_a_running_fit_a_kill_and_two_at_once(halted, capsys):
    run, training = halted
    before = contents(run)
    for args in (["resume", str(run)], ["fit", "--resume", "--out", str(run)]):
        assert main(args) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert f"error: {run} is being trained by process {training.pid} on " in told.err
        assert f"ppl-vae resume {run}" in told.err
        assert len(told.err.splitlines()) == 1
    assert contents(run) == before, "what was refused has written nothing"
    assert main(["sample", str(run), "--num", "2", "--out", str(run.parent / "s.npz"), "--quiet"]) == 0
    assert ppl_vae.Run(run).best.step >= 0

    training.kill()  # -9, also of a process that stands still
    training.communicate(timeout=60)
    assert (run / lock.FILE).exists()
    both = [process("resume", run, "--quiet") for _ in range(2)]
    ended = [(each.communicate(timeout=120), each.returncode) for each in both]
    codes = sorted(code for _, code in ended)
    assert codes in ([0, 2], [0, 0]), ended  # both where the second began when the first had come to its end
    for (_, err), code in ended:
        assert code == 0 or "is being trained by" in err
    steps = [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert Counter(steps) == dict.fromkeys(range(EPOCHS + 1), 1)
    assert steps == sorted(steps)
    assert not (run / lock.FILE).exists()


def test_a_stale_file_is_no_lock_and_no_part_of_the_run(tmp_path):
    whole = small(tmp_path / "whole")
    with killed_before(7):
        small(tmp_path / "cut")
    (tmp_path / "cut" / lock.FILE).write_text("process 1 on nowhere since ever\n")
    cut = fit(data=ROWS, out=tmp_path / "cut", resume=True)
    assert outcome(cut) == outcome(whole)
    assert set(contents(cut.folder)) == set(contents(whole.folder))


def test_the_lock_is_let_go_after_an_error(tmp_path):
    run = small(tmp_path / "run")
    for _ in range(2):
        with pytest.raises(InputError, match="its hash differs"):
            fit(data=ROWS + 1, out=run.folder, resume=True)
        assert not (run.folder / lock.FILE).exists()


def test_each_run_of_a_sweep_has_its_own(tmp_path):
    def again() -> object:
        return ppl_vae.fit("gaussian", "diagonal_normal", ROWS, tmp_path, seeds=2, epochs=1, set={"hidden": 4})

    again()
    with lock.training(tmp_path / "seed-1"):
        again()  # that one is done, and is only read
        (tmp_path / "seed-0" / "best.json").unlink()
        again()
        (tmp_path / "seed-1" / "best.json").unlink()
        with pytest.raises(InputError, match=rf"seed-1 is being trained by process {os.getpid()} on "):
            again()


@pytest.mark.parametrize("number", sorted(lock.NO_LOCKS))
def test_a_file_system_without_locks_is_told_and_trained_on(tmp_path, monkeypatch, number):
    def refused(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.warns(UserWarning, match="has no locks") as told:
        run = small(tmp_path / "run")
    assert len([each for each in told if "locks" in str(each.message)]) == 1
    assert run.fresh is not None
    assert not (run.folder / lock.FILE).exists()


def test_a_lock_that_cannot_be_made(tmp_path):
    run = small(tmp_path / "run")
    (run.folder / lock.FILE).mkdir()
    with pytest.raises(InputError, match=rf"{lock.FILE}, the lock for training, can't be written: Is a directory"):
        fit(data=ROWS, out=run.folder, resume=True)
    assert errno.EISDIR not in lock.NO_LOCKS
