"""Every file of a run damaged: refused, or the answer is the one that the whole run gives."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from support.fuzzing import called, damages, few_or, for_all

from ppl_vae.runs.history import METRICS

UNREAD = ("sources", ".png", ".svg")
"""What a run of shipped programs keeps and does not read."""


@pytest.fixture
def broken(place: Path) -> Path:
    """A copy of the run that each case may break."""
    copy = place / "broken"
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(place / "run", copy))


def files(run: Path) -> list[str]:
    found = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    return [name for name in found if not any(part in name for part in UNREAD)]


def sampled(run: Path, checkpoint: str) -> dict[str, np.ndarray] | None:
    """Three samples of the run; None if it is refused, in a sentence that names the run."""
    out = run.parent / "sampled.npz"
    args = ["sample", run, "--num", "3", "--out", out, "--checkpoint", checkpoint]
    if called(*args, names=(str(run), "no such", "is called", "Python module")).code:
        return None
    with np.load(out) as arrays:
        return dict(arrays)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@few_or(1800, few=60)
def test_any_file_damaged(broken: Path, count: int) -> None:
    """Bits flipped, bytes changed, the end cut off: in every file that is read, and at any of its bytes."""
    whole = {checkpoint: sampled(broken, checkpoint) for checkpoint in ("best", "first")}

    def holds(case: tuple[str, bytes, str]) -> None:
        name, damaged, checkpoint = case
        before = (broken / name).read_bytes()
        (broken / name).write_bytes(damaged)
        try:
            found = sampled(broken, checkpoint)
            assert found is None or same(found, whole[checkpoint]), name
            if "checkpoints/" in name and damaged != before:
                step = name.split("/")[1]
                others = {"first": "step-0"}.get(checkpoint)
                assert found is None or step != others, f"{name} is read, and must not be used"
        finally:
            (broken / name).write_bytes(before)

    read = st.sampled_from(files(broken))
    each = read.flatmap(lambda name: st.tuples(st.just(name), damages((broken / name).read_bytes())))
    for_all(st.tuples(each, st.sampled_from(["best", "first"])).map(lambda case: (*case[0], case[1])), holds, count)


@few_or(100, few=10)
def test_any_file_missing_or_swapped(broken: Path, count: int) -> None:
    whole = sampled(broken, "best")

    def holds(case: tuple[str, str]) -> None:
        name, other = case
        before = {each: (broken / each).read_bytes() for each in case}
        (broken / name).unlink()
        if other != name:
            (broken / name).write_bytes(before[other])
            (broken / other).write_bytes(before[name])
        try:
            found = sampled(broken, "best")
            assert found is None or (whole is not None and same(found, whole)), case
        finally:
            for each, content in before.items():
                (broken / each).write_bytes(content)

    read = st.sampled_from(files(broken))
    for_all(st.tuples(read, read), holds, count)


@few_or(60, few=3)
def test_metrics_damaged_under_resume(broken: Path, count: int) -> None:
    """`resume` reads the metrics before it writes: they are refused, or what is left of them is of the right shape.

    A number that became another number can't be told from a true one (docs/reliability.md).
    """
    before = (broken / METRICS).read_bytes()

    def holds(damaged: bytes) -> None:
        (broken / METRICS).write_bytes(damaged)
        if called("resume", broken, "--quiet", names=(METRICS, str(broken))).code == 2:
            assert (broken / METRICS).read_bytes() == damaged, "what was refused has written nothing"
        (broken / METRICS).write_bytes(before)

    for_all(damages(before), holds, count)
