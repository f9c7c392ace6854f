"""Each test starts from the same seed and an empty parameter store, and leaves the process as it found it."""

import os
import signal
from collections.abc import Iterator

import pyro
import pytest
import torch


def pytest_configure() -> None:
    """One thread in each of several workers and in what it starts: torch's threads wait for each other by spinning.

    And Ctrl-C is heard, which processes in the background of a script are told to ignore, with all that they start.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are not flushed to the disk, which takes most of the time of a small fit."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def _clean_process() -> Iterator[None]:
    before = torch.get_default_dtype(), torch.is_grad_enabled(), pyro.settings.get("module_local_params")
    torch.manual_seed(0)
    with pyro.get_param_store().scope(), pyro.validation_enabled(True):
        yield
        assert pyro.settings.get("validate_distributions_pyro"), "the test left Pyro's validation off"
    after = torch.get_default_dtype(), torch.is_grad_enabled(), pyro.settings.get("module_local_params")
    torch.set_default_dtype(before[0])
    torch.set_grad_enabled(before[1])
    assert after == before, "the test left a global changed (default dtype, grad mode, module_local_params)"
