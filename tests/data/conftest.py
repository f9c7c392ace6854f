"""What tests of reading share: a folder of their own, and a watch on global state."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture
def untouched() -> Any:
    """Global generators, default dtype and numpy's error state stay as they were."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), np.geterr()  # noqa: NPY002
    yield
    after = torch.get_rng_state(), np.random.get_state()[1], np.geterr()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]
    assert torch.get_default_dtype() == torch.float32


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
