"""What docs/cells.md shows runs from its file to its latents; where anndata is not installed, a stand-in writes it."""

import inspect
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
from support.h5ad import AnnData, read_h5ad
from support.pages import Page, run_command

import ppl_vae

PAGE = Page("cells.md")
EPOCHS = 3


@pytest.fixture
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PAGE.write(tmp_path)
    if find_spec("anndata") is None:
        monkeypatch.setitem(sys.modules, "anndata", SimpleNamespace(AnnData=AnnData, read_h5ad=read_h5ad))


@pytest.mark.slow
@pytest.mark.usefixtures("_in_its_folder")
@pytest.mark.filterwarnings("ignore:.*not reliable:UserWarning")
def test_its_commands_run(capsys: pytest.CaptureFixture[str]) -> None:
    for line in PAGE.commands:
        run_command(line.replace("--rows 50 --gap-rows 10", "--rows 5 --gap-rows 0"), EPOCHS)
    with h5py.File("encoded.h5ad") as store:
        assert store["obsm/X_ppl_vae"].shape == store["obsm/X_ppl_vae_sd"].shape == (100, 10)
    alike, drawn = pd.read_csv("alike.csv"), pd.read_csv("drawn.csv")
    assert len(alike) == 100
    assert (drawn["library"] == 2000).all()
    assert "ELBO" in capsys.readouterr().out
    assert PAGE.words.count("X_ppl_vae") >= 2


@pytest.mark.usefixtures("_in_its_folder")
@pytest.mark.filterwarnings("ignore:the latent has collapsed")
def test_its_lines_of_python_run() -> None:
    run_command("python make_cells.py")
    names: dict = {}
    exec(compile(PAGE.files["from_python.py"], "from_python.py", "exec"), names)
    assert names["adata"].obsm["X_ppl_vae"].shape == (500, 10)
    assert names["run"].record["cells"]["labels"] == ["d1", "d2"]
    assert np.isfinite(names["adata"].obsm["X_ppl_vae"]).all()


def test_its_options_are_those_of_fit() -> None:
    options = {cell.strip("`").split()[0].removeprefix("--") for cell, *_ in PAGE.table("Option")}
    assert options == {"layer", "library", "batch"}
    assert options <= set(inspect.signature(ppl_vae.fit).parameters)
