"""Processes find each other in a store that torchrun keeps, and know a run that their launcher's processes began."""

import threading
from functools import partial
from pathlib import Path

import pytest
import torch.distributed as dist
from support.fits import ROWS, small

import ppl_vae
from ppl_vae.core.errors import InputError
from ppl_vae.training.distributed import launched, world


def started(store: dist.Store, size: int) -> list[str]:
    found = [""] * size

    def be(rank: int) -> None:
        found[rank] = launched._start(store, rank, size)

    threads = [threading.Thread(target=be, args=(rank,)) for rank in reversed(range(size))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return found


def test_each_start_has_a_name_that_all_its_processes_have_and_no_other_start() -> None:
    store = dist.HashStore()
    names = [started(store, size) for size in (3, 2, 3)]  # which find what the earlier ones said
    assert [len(set(each)) for each in names] == [1, 1, 1]
    assert len({each[0] for each in names}) == 3


def test_who_does_not_come_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launched, "TIMEOUT", launched.TIMEOUT * 0)
    with pytest.raises(RuntimeError, match="not all of the 2 processes have come"):
        launched._start(dist.HashStore(), 0, 2)


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Be a process that a torchrun has started, of its first attempt."""
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "/logs/none_a/attempt_0/0/error.json")
    return monkeypatch


def test_a_launcher_has_the_same_name_in_each_of_its_attempts(torchrun: pytest.MonkeyPatch) -> None:
    names = [world().launchers]
    for path in ("none_a/attempt_1/1/error.json", "none_b/attempt_1/0/error.json"):
        torchrun.setenv("TORCHELASTIC_ERROR_FILE", f"/logs/{path}")
        names.append(world().launchers)
    assert names[0] == names[1] != names[2]
    for path in ("error.json", ""):
        torchrun.setenv("TORCHELASTIC_ERROR_FILE", path)
        assert world().launchers == []


def test_fit_goes_on_with_a_run_of_its_own_launcher_alone(tmp_path: Path, torchrun: pytest.MonkeyPatch) -> None:
    fit = partial(small, tmp_path / "run")
    run = fit(epochs=1)
    before = run.launchers
    torchrun.setenv("TORCHELASTIC_ERROR_FILE", "/logs/none_a/attempt_1/0/error.json")
    assert fit(epochs=1).metrics == run.metrics, "it has ended, and is not trained again"
    with pytest.raises(InputError, match="run exists"):
        fit(epochs=1, lr=0.1)
    torchrun.setenv("TORCHELASTIC_ERROR_FILE", "/logs/none_b/attempt_1/0/error.json")
    torchrun.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(InputError, match="run exists"):
        fit(epochs=1)
    assert ppl_vae.resume(run, data=ROWS).launchers == world().launchers != before
    torchrun.delenv("TORCHELASTIC_ERROR_FILE")
    assert ppl_vae.resume(run, data=ROWS).launchers == []
