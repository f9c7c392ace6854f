"""Each example runs as a notebook too, in a kernel, at settings that take a second: its text, its code, its figure."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import pytest
from support.examples import ROOT

QUICK = {
    "anomaly_scores": ["--splits", "1", "--epochs", "2", "--only", "IsolationForest", "VAE, 2 latents, one"],
    "auto_guide": ["--epochs", "1", "--seeds", "1", "--only", "categorical"],
    "collapse_and_cures": ["--epochs", "1", "--samples", "2", "--only", "default"],
    "compare_elbos": ["--epochs", "1", "--draws", "3"],
    "counts": ["--rows", "300", "--epochs", "1"],
    "first_vae": ["--epochs", "2", "--out", "first"],
    "gap_parts": ["--epochs", "1", "--rows", "2", "--samples", "50"],
    "how_many_latents": ["--dims", "1", "2", "--epochs", "1", "--seeds", "1", "--rows", "4"],
    "images": ["--epochs", "1", "--columns", "3"],
    "impute_table": ["--seeds", "0", "--epochs", "2", "--samples", "50"],
    "interpolation": ["--epochs", "1", "--pairs", "10", "--out", "between"],
    "out_of_distribution": ["--epochs", "1", "--rows", "10", "--out", "ood"],
    "priors_and_guides": ["--epochs", "1", "--seeds", "1", "--samples", "2", "--only", "VampPrior"],
    "semi_supervised": ["--epochs", "1"],
    "svi": ["--epochs", "1"],
    "swap_the_likelihood": ["--epochs", "1", "--draws", "2"],
    "swap_the_prior": ["--epochs", "1", "--draws", "2"],
    "synthetic_rows": ["--seeds", "1", "--epochs", "1", "--only", "columns alone"],
    "theory": ["--steps", "5"],
    "which_estimator": ["--draws", "40"],
    "why_reparameterize": ["--draws", "100", "--epochs", "1", "--compare-draws", "2"],
}
IN_CI = ("first_vae", "images", "which_estimator")
"""Of the others CI runs the code (tests/test_examples.py), and `pytest -m docs` the notebooks."""
PATHS = [
    pytest.param(path, id=path.stem, marks=() if path.stem in IN_CI else pytest.mark.docs)
    for path in sorted(ROOT.glob("examples/*.py"))
]


@pytest.fixture(scope="module")
def kernel() -> Iterator[tuple[Any, Any]]:
    """One kernel for all, so that torch is imported once."""
    pytest.importorskip("nbclient", reason="nbclient, of the extra docs, is not installed")
    manager_module = pytest.importorskip("jupyter_client.manager", reason="jupyter_client is not installed")
    manager, client = manager_module.start_new_kernel(kernel_name="python3")
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_every_example_has_settings_that_take_a_second() -> None:
    assert sorted(QUICK) == [path.id for path in PATHS]


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_an_example_is_a_notebook(path: Path, kernel: tuple[Any, Any], tmp_path: Path) -> None:
    from nbclient import NotebookClient

    notebook = jupytext.read(path)
    first, *codes, call, last = notebook.cells
    assert [first.cell_type, call.cell_type, last.cell_type] == ["markdown", "code", "markdown"]
    assert call.source.count("main([]") == 1
    call.source = call.source.replace("main([]", f"main({QUICK[path.stem]}")
    codes[0].source = f"%reset -f\n%cd -q {tmp_path}\n{codes[0].source}"
    manager, client = kernel
    running = NotebookClient(notebook, km=manager, timeout=120)
    running.kc = client
    running.execute(reset_kc=False, cleanup_kc=False)
    outputs = call.outputs
    assert all(output["output_type"] != "error" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
