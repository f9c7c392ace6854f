"""Several processes on one run: one trains it, readers are never in its way, and kills among them lose nothing."""

import random
import threading
import time
from pathlib import Path

import pytest
from support.fitting_trials import SMALL, Fit
from support.trials import Trials

from ppl_vae.core.files import whole
from ppl_vae.runs.run import Run


def raced(fit: Fit, rounds: int, at_once: int = 4) -> dict[int, int]:
    """So many processes go on with a run that was killed, one of which is killed too; the exit codes."""
    rng, codes = random.Random(5), dict[int, int]()
    for _ in range(rounds):
        run = fit.folder("raced")
        fit.trials(fit.fit(run, fault={"kind": "kill", "at": 50}))
        killed = fit.resume(run, seconds=rng.uniform(0.1, 0.5))
        for ended in fit.trials(killed, *(fit.resume(run) for _ in range(at_once - 1))):
            assert ended.code in (0, -9) or (ended.code == 2 and "is being trained by" in ended.told), ended
            codes[ended.code] = codes.get(ended.code, 0) + 1
        fit.assert_sound(run)
        fit.assert_ends_exactly(run)
    return codes


def test_a_few_races(small_fit):
    raced(small_fit, 1)


@pytest.mark.faults
def test_fifty_races(small_fit, capsys):
    codes = raced(small_fit, 50)
    with capsys.disabled():
        print(f"\n50 races of four processes, exit codes {codes}: 0 lost, 50 ended with the same bits")


def read_while_trained(fit: Fit, seconds: float) -> int:
    """How often a run could be read while it was trained, with a checkpoint after each step."""
    run, reads = fit.folder("read"), 0
    ended = list[object]()
    training = threading.Thread(target=lambda: ended.extend(fit.trials(fit.fit(run))))
    training.start()
    started = time.monotonic()
    while training.is_alive() and time.monotonic() - started < seconds:
        if (run / "manifest.json").is_file():
            found = Run(run)
            found.checkpoints.load("last")
            found.checkpoints.load("best")
            assert found.best.step >= 0
            reads += 1
    training.join(timeout=120)
    return reads


def test_it_is_read_while_it_is_trained(trials: Trials):
    fit = Fit(trials, [*SMALL, "--epochs", "6", "--checkpoint-every", "1", "--quiet"])
    assert read_while_trained(fit, 10) > 10


def test_two_writers_of_one_file_and_what_one_leaves_behind(tmp_path: Path):
    path = tmp_path / "a.txt"
    with whole(path) as first:
        first.write_text("first")
        with whole(path) as second:
            assert second != first
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    first.write_text("left by a kill")
    with whole(path) as again:
        assert again == first
        again.write_text("third")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
