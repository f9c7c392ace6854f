"""The wheel and the sdist: what they hold, and that what is installed from them runs without the repository."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.runs import binary_rows

ROOT = Path(__file__).parent.parent
SOURCES = ("ppl_vae", "models", "guides", "setup.py", "pyproject.toml", "README.md", "LICENSE")
NETLESS = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": ""}


def run(*args: object, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, args)], cwd=cwd, env=os.environ | NETLESS | env, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from an sdist, in a copy of the sources, without the network."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, tree / name)
    run("-m", "build", "--no-isolation", "--outdir", tree / "dist", cwd=tree)
    return tree / "dist"


def source_files() -> set[str]:
    """The modules as they are installed."""
    files = {p.relative_to(ROOT).as_posix() for p in (ROOT / "ppl_vae").rglob("*.py")}
    return files | {f"ppl_vae/{kind}/{p.name}" for kind in ("models", "guides") for p in (ROOT / kind).glob("*.py")}


def test_the_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    (info,) = {name.partition("/")[0] for name in names} - {"ppl_vae"}
    assert info.endswith(".dist-info")
    assert {name for name in names if name.endswith(".py")} == source_files()
    assert {"ppl_vae/models/bernoulli.py", "ppl_vae/guides/diagonal_normal.py"} <= set(names)
    assert any(name.endswith("LICENSE") for name in names)
    assets = {p.relative_to(ROOT).as_posix() for p in (ROOT / "ppl_vae" / "reports" / "assets").iterdir()}
    assert "ppl_vae/reports/assets/vega-6.4.0.min.js" in assets
    assert assets <= set(names)


def test_the_sdist_holds_the_same_sources(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    expected = {
        name.removeprefix("ppl_vae/") if name.startswith(("ppl_vae/models", "ppl_vae/guides")) else name
        for name in source_files()
    }
    assert expected | {"pyproject.toml", "README.md", "LICENSE"} <= names


def test_what_is_installed_runs_on_its_own(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    target, place = tmp_path / "target", tmp_path / "elsewhere"
    place.mkdir()
    run("-m", "pip", "install", "--no-deps", "--no-compile", "--target", target, wheel, cwd=place)
    assert {p.name for p in target.iterdir() if not p.name.endswith(".dist-info")} <= {"ppl_vae", "bin"}
    np.save(place / "rows.npy", binary_rows(30))
    # -P: no folder but the target and the dependencies is searched
    cli = ["-P", "-m", "ppl_vae.cli"]
    assert "usage: ppl-vae" in run(*cli, "--help", cwd=place, PYTHONPATH=str(target))
    args = ["--model", "bernoulli", "--guide", "diagonal_normal", "--data", "rows.npy", "--out", "r"]
    run(*cli, "fit", *args, "--set", "hidden=4", "--epochs", "1", "--json", cwd=place, PYTHONPATH=str(target))
    programs = json.loads((place / "r" / "config.json").read_text())["programs"]
    assert programs["model"]["path"] == str(target / "ppl_vae" / "models" / "bernoulli.py")
    assert programs["guide"]["path"] == str(target / "ppl_vae" / "guides" / "diagonal_normal.py")
    assert programs["model"]["shipped"]
