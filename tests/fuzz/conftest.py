"""A small run, fitted once, of which each test gets what it may break."""

from pathlib import Path

import pytest
from support.runs import fitted

pytest.importorskip("hypothesis")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, fitted to 16 columns of 0 and 1, and its `rows.npy`."""
    place = tmp_path_factory.mktemp("fuzz")
    fitted(place, epochs=2)
    return place
