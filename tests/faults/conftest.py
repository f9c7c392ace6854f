"""One process for all trials of a session, and one small fit of which most are made."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fitting_trials import OFTEN, SMALL, Fit
from support.trials import Trials


@pytest.fixture(scope="session")
def trials() -> Iterator[Trials]:
    with tempfile.TemporaryDirectory(prefix="trials-") as folder:
        os.chmod(folder, 0o755)
        found = Trials(Path(folder).resolve())
        yield found
        found.close()


@pytest.fixture(scope="session")
def small_fit(trials: Trials) -> Fit:
    return Fit(trials, [*SMALL, *OFTEN])
