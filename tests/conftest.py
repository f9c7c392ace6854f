"""Each test starts from the same seed and an empty parameter store, and leaves the process as it found it."""

from collections.abc import Iterator

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


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
