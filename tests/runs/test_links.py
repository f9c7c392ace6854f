"""Symbolic links: what they lead to is used; what leads nowhere, or to itself, is refused in words."""

from pathlib import Path

import numpy as np
import pytest
from support.fits import ROWS, outcome, small
from support.fuzzing import called

from ppl_vae.runs.run import Run

FIT = ["fit", "--model", "gaussian", "--guide", "diagonal_normal", "--set", "hidden=8", "--epochs", "2", "--quiet"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows, a link to nowhere and a loop of two, under the names of files of several kinds."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS)
    for ending in ("", ".npy", ".csv", ".h5ad", ".py"):
        Path(f"nowhere{ending}").symlink_to("none")
        Path(f"loop{ending}").symlink_to(f"other{ending}")
        Path(f"other{ending}").symlink_to(f"loop{ending}")
    return tmp_path


@pytest.mark.parametrize("link", ["nowhere", "loop"])
def test_links_that_lead_nowhere_are_refused(place: Path, link: str) -> None:
    for ending in ("", ".npy", ".csv", ".h5ad"):
        assert called(*FIT, "--data", f"{link}{ending}", "--out", "r", names=("a link that leads nowhere",)).code == 2
    assert called("describe", f"{link}.csv", names=("a link that leads nowhere",)).code == 2
    assert called(*FIT, "--data", "rows.npy", "--out", link, names=(link,)).code == 2
    assert called(*FIT[:1], "--model", f"{link}.py", *FIT[3:], "--data", "rows.npy", "--out", "r").code == 2
    for command in (["sample", link, "--num", "2", "--out", "s.npz"], ["resume", link]):
        assert called(*command, names=("is no run",)).code == 2
    assert not Path("r").exists()


def test_links_to_data_and_to_a_run(place: Path) -> None:
    Path("link.npy").symlink_to("rows.npy")
    Path("empty").mkdir()
    Path("link").symlink_to("empty")
    for data, out in (("rows.npy", "plain"), ("link.npy", "link")):
        assert called(*FIT, "--data", data, "--out", out).code == 0
    assert Path("link").is_symlink()
    assert outcome(Run(Path("link"))) == outcome(Run(Path("empty"))) == outcome(Run(Path("plain")))
    for run in ("link", "plain"):
        assert called("resume", run, "--epochs", "3", "--quiet").code == 0
    assert outcome(Run(Path("empty"))) == outcome(Run(Path("plain")))


def test_checkpoints_that_are_links_out_of_the_run(place: Path) -> None:
    """They are read, by their hashes, and written; what a link in a checkpoint leads to stays when the link goes."""
    for out in ("r", "whole"):
        assert called(*FIT, "--data", "rows.npy", "--out", out).code == 0
    run, away = place / "r", place / "away"
    (run / "checkpoints").rename(away)
    (run / "checkpoints").symlink_to(away)
    last = away / f"step-{Run(run).checkpoints.steps[-1]}" / "state.safetensors"
    last.rename(place / "state")
    last.symlink_to(place / "state")
    for out in ("r", "whole"):
        assert called("resume", out, "--epochs", "5", "--quiet").code == 0
    assert outcome(Run(run)) == outcome(Run(place / "whole"))
    assert (place / "state").is_file()


@pytest.mark.parametrize("target", ["none", "checkpoints", "state.safetensors", "config.json"])
def test_a_run_of_which_a_part_leads_nowhere(place: Path, target: str) -> None:
    run = small(place / "r").folder
    part = {"state.safetensors": f"checkpoints/step-{Run(run).step('best')}/state.safetensors", "config.json": target}
    broken = run / part.get(target, "checkpoints")
    broken.rename(place / "moved")
    broken.symlink_to(target)
    found = called("sample", run, "--num", "2", "--out", "s.npz", names=(str(run),))
    assert found.code == 2
    assert "is missing or not what was written" in found.err or "is no run" in found.err
