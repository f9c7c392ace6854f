"""SIGTERM and Ctrl-C at any moment: the state is saved, the exit code is 143 or 130, and the run goes on exactly."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.fits import outcome
from support.fitting_trials import Fit

from ppl_vae.runs.run import Run

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
WITHIN = 60.0  # seconds until a process must have ended


def stopped(fit: Fit, signum: signal.Signals, times: int) -> int:
    """Stop fits at random moments; how many signals came in time."""
    rng, came = random.Random(3), 0
    for _ in range(times):
        run = fit.folder("stopped")
        for _ in range(rng.randint(1, 3)):
            ended = fit.go(run, signum=signum, seconds=rng.uniform(0.03, fit.seconds))
            assert ended.code in (0, CODES[signum]), ended.told
            assert "Traceback" not in ended.told
            if "saved" in ended.told:
                step = int(ended.told.partition("stopped at step ")[2].partition(",")[0])
                assert Run(run).checkpoints.steps[-1] == step
                assert f"go on with ppl-vae resume {run}" in ended.told
            came += ended.code > 0
            fit.assert_sound(run)
        fit.assert_ends_exactly(run)
    return came


@pytest.mark.parametrize("signum", CODES)
def test_a_few_signals(small_fit, signum):
    assert stopped(small_fit, signum, 2)


@pytest.mark.faults
@pytest.mark.parametrize("signum", CODES)
def test_a_hundred_signals(small_fit, capsys, signum):
    came = stopped(small_fit, signum, 50)
    with capsys.disabled():
        print(f"\n{signum.name} {came} times: exit code {CODES[signum]} each time, 50 runs ended with the same bits")


def command(*args: object) -> subprocess.Popen[str]:
    """A process from its very start, as a scheduler starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "ppl_vae", *map(str, args)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def preempted(fit: Fit, run: Path, seconds: float, signum: signal.Signals = signal.SIGTERM) -> int:
    """A fresh process that begins the run or goes on with it, and its exit code after a signal."""
    begin = not (run / "config.json").is_file()
    process = command(*(fit.fit(run).args if begin else fit.resume(run).args))
    metrics, lines = run / "metrics.jsonl", 0
    if not begin:
        lines = metrics.read_bytes().count(b"\n")
    started = time.monotonic()
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") > lines) and process.poll() is None:
        assert time.monotonic() - started < WITHIN
        time.sleep(0.002)
    time.sleep(seconds)
    process.send_signal(signum)
    _, told = process.communicate(timeout=WITHIN)
    assert "Traceback" not in told
    return process.returncode


def in_fresh_processes(fit: Fit, times: int, *signums: signal.Signals) -> int:
    rng, came = random.Random(4), 0
    for _ in range(times):
        run = fit.folder("fresh")
        for signum in signums:
            code = preempted(fit, run, rng.uniform(0.0, 0.3), signum)
            assert code in (0, 143 if signum == signal.SIGTERM else -9)
            came += code != 0
            fit.assert_sound(run)
        process = command(*fit.resume(run).args)
        _, told = process.communicate(timeout=WITHIN)
        assert process.returncode == 0, told
        assert outcome(Run(run)) == fit.whole
    return came


def test_a_fit_in_fresh_processes(small_fit):
    in_fresh_processes(small_fit, 1, signal.SIGTERM)


@pytest.mark.faults
def test_ten_fits_in_fresh_processes(small_fit, capsys):
    came = in_fresh_processes(small_fit, 10, signal.SIGTERM, signal.SIGKILL)
    with capsys.disabled():
        print(f"\n10 runs in fresh processes, {came} times stopped or killed: 0 lost, 10 ended with the same bits")


@pytest.mark.faults
def test_sigterm_from_the_start_of_a_process(small_fit, capsys):
    """While it imports what it needs. Python's own start ends by the signal, which a shell tells as 143 too."""
    codes = []
    for n in range(12):
        run = small_fit.folder("early")
        process = command(*small_fit.fit(run).args)
        time.sleep(0.8 + 0.2 * n)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=WITHIN)
        assert "Traceback" not in told
        codes.append(process.returncode)
        if (run / "config.json").is_file():
            small_fit.assert_sound(run)
            small_fit.assert_ends_exactly(run)
    with capsys.disabled():
        print(f"\nSIGTERM 0.8 to 3 s after the start: exit codes {codes}")
    assert set(codes) <= {143, -signal.SIGTERM, 0}


@pytest.mark.faults
def test_ctrl_c_from_the_start_of_a_process(small_fit, capsys):
    """While it imports what it needs, which may pass over an exception or end in a traceback."""
    rng, codes = random.Random(5), []
    for _ in range(30):
        process = command(*small_fit.fit(small_fit.folder("early")).args, "--epochs", "3000")
        time.sleep(rng.uniform(0.3, 3.0))
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=WITHIN)
        assert process.returncode == 130, told
        assert "Traceback" not in told
        assert told.splitlines()[-1].startswith(("error: interrupted", "error: stopped at step ")), told
        codes.append(process.returncode)
    with capsys.disabled():
        print(f"\nSIGINT 0.3 to 3 s after the start: exit code 130 in {len(codes)} processes of {len(codes)}")
