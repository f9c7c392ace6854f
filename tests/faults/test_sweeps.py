"""A sweep of several processes that is stopped or killed: the same command goes on with it to the same bits."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.fits import ROWS, outcome

from ppl_vae.runs.run import Run

WITHIN, SOON = 120.0, 5.0  # seconds until a sweep must have ended, and its processes after it
OPTIONS = ["--seeds", "2", "--jobs", "2", "--set", "latent_dim=2", "--sweep", "hidden=4,8", "--batch-size", "10"]


def start(folder: Path, out: str, every: int) -> subprocess.Popen[str]:
    pair = ["--model", "gaussian", "--guide", "diagonal_normal", "--data", str(folder / "rows.npy")]
    command = [sys.executable, "-m", "ppl_vae", "fit", *pair, *OPTIONS, "--epochs", "30", "--quiet"]
    return subprocess.Popen(
        [*command, "--checkpoint-every", str(every), "--out", str(folder / out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a sweep and what it told; soon nothing is left of its processes, however it has ended."""
    try:
        _, told = process.communicate(timeout=WITHIN)
        until = time.monotonic() + SOON
        while left := of_session(process.pid):
            assert time.monotonic() < until, left
            time.sleep(0.02)
    finally:
        for pid in of_session(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with process:  # closes its pipe
            pass
    return process.returncode, told


def of_session(session: int) -> list[int]:
    """The processes of a session that have not ended; each sweep is given one of its own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, _, of, *_ = path.read_text().rpartition(")")[2].split()
            if int(of) == session and state != "Z":
                found.append(int(path.parent.name))
    return found


def runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/seed-*/manifest.json"))


def outcomes(folder: Path) -> dict[str, object]:
    return {str(run.relative_to(folder)): outcome(Run(run)) for run in runs(folder)}


def stop(folder: Path, out: str, signum: signal.Signals, seconds: float, every: int, group: bool = False) -> int:
    """Begin the sweep or go on with it, and stop it some seconds after a further run has begun; its exit code.

    Args:
        group: its processes get the signal too, as those of a terminal do.
    """
    begun = len(runs(folder / out))
    process, started = start(folder, out, every), time.monotonic()
    while len(runs(folder / out)) == begun and process.poll() is None:
        assert time.monotonic() - started < WITHIN
        time.sleep(0.01)
    time.sleep(seconds)
    if group and process.poll() is None:
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    code, told = ended(process)
    assert "Traceback" not in told
    return code


@pytest.mark.faults
def test_a_sweep_that_is_stopped_is_saved(tmp_path):
    """There is no checkpoint but the first, the last and those of a signal."""
    np.save(tmp_path / "rows.npy", ROWS)
    code = stop(tmp_path, "cut", signal.SIGTERM, 0.3, 10**6)
    assert code == 143
    steps = [Run(run).checkpoints.steps[-1] for run in runs(tmp_path / "cut")]
    assert all(steps), "each was saved where it stood"
    for out in ("cut", "whole"):
        code, told = ended(start(tmp_path, out, 10**6))
        assert code == 0, told
    assert outcomes(tmp_path / "cut") == outcomes(tmp_path / "whole")
    assert len(outcomes(tmp_path / "whole")) == 4


@pytest.mark.faults
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_whose_processes_have_nothing_left_to_do(tmp_path, signum):
    """They wait for more jobs until the sweep's own process has ended."""
    np.save(tmp_path / "rows.npy", ROWS)
    process, started = start(tmp_path, "out", 20), time.monotonic()
    while not (tmp_path / "out/sweep.json").is_file():
        assert time.monotonic() - started < WITHIN
        time.sleep(0.001)
    process.send_signal(signum)
    assert ended(process)[0] in (0, {9: -9, 15: 143}[signum])


@pytest.mark.faults
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_sweeps_that_are_stopped_at_random(tmp_path, capsys, signum):
    """By a signal to the sweep alone, or to all its processes at once."""
    np.save(tmp_path / "rows.npy", ROWS)
    assert ended(start(tmp_path, "whole", 20))[0] == 0
    rng, codes = random.Random(6), list[int]()
    for n in range(5):
        for _ in range(2):
            codes.append(stop(tmp_path, f"cut{n}", signum, rng.uniform(0.0, 1.5), 20, group=bool(n % 2)))
        assert ended(start(tmp_path, f"cut{n}", 20))[0] == 0
        assert outcomes(tmp_path / f"cut{n}") == outcomes(tmp_path / "whole")
    assert set(codes) <= {0, {2: 130, 9: -9, 15: 143}[signum]}
    with capsys.disabled():
        print(f"\n{signum.name} to sweeps, exit codes {codes}: 5 sweeps of 4 runs ended with the same bits")
