"""A disk that is full, has a limit or can't be written: told in words, nothing is lost, and the run goes on exactly."""

import contextlib
import errno
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fitting_trials import Fit
from support.trials import Ended

from ppl_vae.runs.run import Run


def assert_told(ended: Ended, words: str) -> None:
    """One error, without a traceback, with exit code 2."""
    assert ended.code == 2, ended.told
    assert words in ended.told
    assert "Traceback" not in ended.told


def assert_told_to_go_on(ended: Ended, run: Path, words: str) -> None:
    assert_told(ended, words)
    assert f"ppl-vae resume {run}" in ended.told


def half_done(fit: Fit) -> Path:
    """A run that was killed at its 70th operation, which has two checkpoints or three."""
    run = fit.folder("half")
    fit.trials(fit.fit(run, fault={"kind": "kill", "at": 70}))
    assert len(Run(run).checkpoints.steps) > 1
    return run


def full_at(fit: Fit, number: int, operations: range) -> int:
    """The disk is full from one operation on; how often the run was there by then."""
    begun, rng = 0, random.Random(2)
    for at in operations:
        run = fit.folder("full")
        fault = {"kind": "fail", "at": at, "number": number, "share": rng.random()}
        (ended,) = fit.trials(fit.fit(run, fault=fault))
        if not (run / "config.json").exists():
            assert ended.code == 2, ended.told
            continue
        begun += 1
        if ended.code:  # a figure that is not drawn is no error
            assert_told_to_go_on(ended, run, os.strerror(number))
            assert not [*run.glob("*.part"), *run.glob("checkpoints/.*")], "halves take no room"
        fit.assert_sound(run)
        fit.assert_ends_exactly(run)
    return begun


def test_full_at_a_few_operations(small_fit):
    assert full_at(small_fit, errno.ENOSPC, range(10, 230, 43)) > 3


@pytest.mark.faults
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_full_at_every_third_operation(small_fit, capsys, number):
    begun = full_at(small_fit, number, range(1, 230, 3))
    with capsys.disabled():
        print(f"\n{os.strerror(number)} at {begun} operations: 0 lost, {begun} ended with the same bits")


@pytest.mark.parametrize("most", [300, 19_000])
def test_a_limit_of_the_system_on_the_size_of_files(small_fit, most):
    """The first checkpoint has 17 kB, the others 21 kB; two lines of the metrics have more than 300 bytes."""
    run = half_done(small_fit) if most == 300 else small_fit.folder("limited")
    which = small_fit.resume if most == 300 else small_fit.fit
    (ended,) = small_fit.trials(which(run, fault={"kind": "size", "most": most}))
    assert_told_to_go_on(ended, run, "File too large")
    small_fit.assert_sound(run)
    small_fit.assert_ends_exactly(run)


@contextlib.contextmanager
def disk_of(size: str, at: Path) -> Iterator[None]:
    """A disk of its own, which is small. Skips where it can't be mounted."""
    at.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(at)], capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root only")
    try:
        yield
    finally:
        subprocess.run(["umount", str(at)], check=True)


@pytest.mark.parametrize("room", [40, 60, 100, 120])
def test_a_disk_that_is_full(small_fit, room):
    """There is room for so many kB beside a file that is then removed; the run takes about 140."""
    place = small_fit.folder("disk")
    with disk_of("1m", place):
        (place / "other").write_bytes(bytes((1024 - room) * 1024))
        run = place / "run"
        (ended,) = small_fit.trials(small_fit.fit(run))
        assert_told(ended, "No space left on device")
        (place / "other").unlink()
        small_fit.assert_sound(run)
        small_fit.assert_ends_exactly(run)
    place.rmdir()


@pytest.mark.parametrize("which", ["", "checkpoints"])
def test_a_folder_that_may_not_be_written(small_fit, which):
    run = half_done(small_fit)
    (run / which).chmod(0o555)
    before = (run / "manifest.json").read_bytes()
    try:
        (ended,) = small_fit.trials(small_fit.resume(run, fault={"kind": "modes"}))
        assert_told(ended, "Permission denied")
        assert (run / "manifest.json").read_bytes() == before
        (new,) = small_fit.trials(small_fit.fit(run / which / "new", fault={"kind": "modes"}))
        assert_told(new, "new can't be made: Permission denied")
    finally:
        (run / which).chmod(0o755)
    small_fit.assert_sound(run)
    small_fit.assert_ends_exactly(run)
