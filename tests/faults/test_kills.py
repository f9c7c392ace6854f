"""Processes that are killed at random moments and at every operation on a file: nothing is lost, and all go on exactly.

A few in each run of the tests; by the hundred with `pytest -m faults tests/faults -s`, which takes some minutes.
"""

import pickle
import random
import signal

import pytest
from support.file_faults import WRITES, Operation
from support.fitting_trials import OFTEN, SMALL, Fit
from support.trials import Trials

KILLED = -signal.SIGKILL
DIGITS = ["--set", "hidden=8", "--set", "latent_dim=2", "--batch-size", "10", "--lr", "0.01"]
KINDS = {  # options, model, data
    "cosine and clip": ([*SMALL, "--schedule", "cosine", "--clip", "5"], "gaussian", "rows.npy"),
    "patience": ([*DIGITS, "--epochs", "12", "--lr", "0.2", "--patience", "1"], "gaussian", "rows.npy"),
    "warm-up in cycles": ([*SMALL, "--warmup", "1", "--warmup-cycles", "2"], "gaussian", "rows.npy"),
    "binarized in each epoch": ([*SMALL, "--binarize", "epoch"], "bernoulli", "grey.npy"),
    "several draws": ([*SMALL, "--objective", "iwae:K=3", "--precision", "float64"], "gaussian", "rows64.npy"),
}


def battered(fit: Fit, name: str, rng: random.Random, kills: int) -> int:
    """Kill a fit, and what goes on with it, at random moments; then let it end. How many kills came in time."""
    run, came = fit.folder(name), 0
    for _ in range(kills):
        ended = fit.go(run, seconds=rng.uniform(0.0, 1.1 * fit.seconds))
        assert ended.code in (KILLED, 0), ended.told
        came += ended.code == KILLED
        fit.assert_sound(run)
    fit.assert_ends_exactly(run)
    return came


def killed_at_random(fit: Fit, kills: int) -> tuple[int, int]:
    """Runs and kills until so many kills came in time."""
    rng, runs, came = random.Random(0), 0, 0
    while came < kills:
        came += battered(fit, "battered", rng, rng.randint(1, 3))
        runs += 1
    return runs, came


def killed_at_operations(fit: Fit, every: int, when: str) -> tuple[int, int]:
    """How many operations the fit has, and at how many of them, each by its kind, it was killed."""
    run = fit.folder("counted")
    (ended,) = fit.trials(fit.fit(run, fault={"kind": "count", "into": str(fit.trials.folder / "operations")}))
    assert ended.code == 0, ended.told
    operations: list[Operation] = pickle.loads((fit.trials.folder / "operations").read_bytes())
    rng = random.Random(1)
    chosen = [n for n, (name, _, _) in enumerate(operations, 1) if when != "within" or name in WRITES][::every]
    for n in chosen:
        run = fit.folder("at")
        fault = {"kind": "kill", "at": n, "when": when, "share": rng.random()}
        (ended,) = fit.trials(fit.fit(run, fault=fault))
        assert ended.code == KILLED, (n, operations[n - 1], ended.told)
        fit.assert_sound(run)
        fit.assert_ends_exactly(run)
    return len(operations), len(chosen)


def test_a_few_kills_at_random_moments(small_fit):
    killed_at_random(small_fit, 4)


@pytest.mark.parametrize(("when", "every"), [("before", 45), ("after", 61), ("within", 13)])
def test_a_few_kills_at_operations(small_fit, when, every):
    killed_at_operations(small_fit, every, when)


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_train_goes_on_exactly(trials, kind):
    options, model, data = KINDS[kind]
    fit = Fit(trials, [*options, *OFTEN], (model, "diagonal_normal"), data)
    assert battered(fit, "once", random.Random(len(kind)), 2) >= 0


@pytest.mark.faults
def test_two_hundred_kills_at_random_moments(small_fit, capsys):
    runs, came = killed_at_random(small_fit, 200)
    with capsys.disabled():
        print(f"\n{came} kills at random moments in {runs} runs: 0 lost, {runs} ended with the same bits")


@pytest.mark.faults
@pytest.mark.parametrize("when", ["before", "after", "within"])
def test_kills_at_every_operation(small_fit, capsys, when):
    number, killed = killed_at_operations(small_fit, 1, when)
    with capsys.disabled():
        print(f"\n{killed} kills {when} one of {number} operations on files: 0 lost, {killed} ended with the same bits")


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_kills_of_every_way_to_train(trials, capsys, kind):
    options, model, data = KINDS[kind]
    fit = Fit(trials, [*options, *OFTEN], (model, "diagonal_normal"), data)
    runs, came = killed_at_random(fit, 20)
    with capsys.disabled():
        print(f"\n{kind}: {came} kills at random moments in {runs} runs, {runs} ended with the same bits")


@pytest.mark.faults
def test_kills_of_compiled_fits(trials: Trials, capsys):
    fit = Fit(trials, [*SMALL, *OFTEN, "--epochs", "8", "--compile", "on"])
    runs, came = killed_at_random(fit, 20)
    with capsys.disabled():
        print(f"\ncompiled: {came} kills at random moments in {runs} runs, {runs} ended with the same bits")
