"""What importing costs, and what it leaves alone. Each test asks a fresh interpreter."""

import subprocess
import sys
from pathlib import Path

import pytest

import ppl_vae

HEAVY = ("torch", "pyro", "matplotlib", "arviz", "xarray", "pandas", "sklearn", "safetensors")
LOADED = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"


def fresh(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    assert fresh(f"import ppl_vae, ppl_vae.cli; dir(ppl_vae); {LOADED}", tmp_path).strip() == "[]"


@pytest.mark.parametrize(
    "args", [["--help"], ["fit", "--help"], ["compare", "--help"], ["frobnicate"], ["fit", "--x"], ["--version"]]
)
def test_help_and_usage_errors_need_no_torch(args: list[str], tmp_path: Path) -> None:
    code = f"""
from ppl_vae.cli import main
try:
    code = main({args!r})
except SystemExit as end:
    code = end.code
assert code == {0 if {"--help", "--version"} & set(args) else 2}, code
{LOADED}
"""
    assert fresh(code, tmp_path).splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ppl_vae.__all__)
def test_every_public_name_is_there_twice(name: str) -> None:
    """Twice: a submodule of the same name would hide it once it has been imported."""
    first = getattr(ppl_vae, name)
    assert callable(first)
    assert getattr(ppl_vae, name) is first
    assert name in dir(ppl_vae)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'frobnicate'"):
        ppl_vae.frobnicate  # noqa: B018


WORLD = """
import numpy, pyro, torch, matplotlib

def world():
    return {
        "dtype": str(torch.get_default_dtype()),
        "torch": torch.get_rng_state().tolist(),
        "numpy": numpy.random.get_state()[1].tolist(),
        "validation": torch.distributions.Distribution._validate_args,
        "pyro": {k: str(v) for k, v in pyro.settings.get().items()},
        "params": list(pyro.get_param_store()),
        "threads": torch.get_num_threads(),
        "rc": {k: str(v) for k, v in dict.items(matplotlib.rcParams)},
    }

before = world()
import ppl_vae.cli, ppl_vae.reports.arviz, ppl_vae.reports.figures, ppl_vae.diagnostics.on_runs
for name in ppl_vae.__all__: getattr(ppl_vae, name)
from ppl_vae.models import bernoulli, gaussian, linear_gaussian
from ppl_vae.guides import diagonal_normal
after = world()
for name in before:
    assert before[name] == after[name], name
import sys
assert "matplotlib.pyplot" not in sys.modules
"""


def test_importing_all_of_it_changes_no_global(tmp_path: Path) -> None:
    fresh(WORLD, tmp_path)
