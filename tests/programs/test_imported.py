"""A program's own imports are recorded by their hashes, and a run refuses a program that imports another file."""

import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from support.fits import DEFAULTS, ROWS

from ppl_vae.cli import main
from ppl_vae.programs.imported import own_imports
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.run import Run

MODEL = """
import math
import torch
import layers_of_mine as layers
from package_of_mine import deep
from package_of_mine.wide import widths
from ppl_vae.models.gaussian import Model as Gaussian


class Model(Gaussian):
    pass
"""
FILES = {
    "layers_of_mine.py": "import numpy\nimport further_of_mine\n",
    "further_of_mine.py": "import layers_of_mine\n",
    "package_of_mine/__init__.py": "",
    "package_of_mine/deep.py": "from . import wide\n",
    "package_of_mine/wide.py": "widths = (1, 2)\n",
    "model_of_mine.py": MODEL,
}
OWN = ["further_of_mine", "layers_of_mine", "package_of_mine", "package_of_mine.deep", "package_of_mine.wide"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "package_of_mine").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if "of_mine" in name]:
        del sys.modules[name]


def test_what_a_file_imports_is_found_without_running_it(place: Path) -> None:
    found = own_imports(place / "model_of_mine.py")
    assert list(found) == OWN
    wide = (place / "package_of_mine" / "wide.py").read_bytes()
    assert found["package_of_mine.wide"] == sha256(wide).hexdigest()
    assert "layers_of_mine" not in sys.modules
    assert own_imports(place / "package_of_mine" / "deep.py", "package_of_mine").keys() == {
        "package_of_mine",
        "package_of_mine.wide",
    }
    assert own_imports(Path(sys.modules["ppl_vae.models.gaussian"].__file__ or "")) == {}
    (place / "broken.py").write_text("def (")
    assert own_imports(place / "broken.py") == {}


@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_a_run_knows_when_one_of_them_has_changed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(place / "rows.npy", ROWS)
    own = place / "model_of_mine.py"
    run = fit(own, "diagonal_normal", place / "rows.npy", place / "run", **DEFAULTS)
    assert list(Run(run.folder).record["programs"]["model"]["imports"]) == OWN
    assert run.record["programs"]["guide"]["imports"] == {}
    encode = ["encode", str(run.folder), "--quiet", "--model", str(own)]
    assert main(encode) == 0
    (place / "package_of_mine" / "wide.py").write_text("widths = (1, 3)\n")
    capsys.readouterr()
    assert main(encode) == 2
    assert "imports package_of_mine.wide, which is not what" in capsys.readouterr().err
    assert main(["encode", str(run.folder), "--quiet", "--trust"]) == 2, "it would import the same"
    assert main([*encode, "--force"]) == 0
