"""The folder of a reader of docs/write_your_own.md, who has saved its files and run its commands."""

import contextlib
import io
import shutil
from pathlib import Path

import pytest
from support.own import PAGE
from support.pages import DOCS, run_command


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("write_your_own")
    PAGE.write(place)
    shutil.copy(DOCS / "vae.py", place)
    return place


@pytest.fixture(scope="session")
def printed(folder: Path) -> dict[str, str]:
    """Every command of the page, in its order, and what it printed."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        for command in PAGE.commands:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                run_command(command)
            found[command] = out.getvalue()
    return found


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is where the reader is, who has named the files for the runs."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
