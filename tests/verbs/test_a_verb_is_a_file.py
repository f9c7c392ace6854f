"""A verb is one file: put into a folder, it is on the command line, in `import ppl_vae`, in JSON and in the help."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import stub

import ppl_vae
from ppl_vae import verbs
from ppl_vae.cli import main

COUNT = '''
"""The verb `count`."""

from dataclasses import dataclass
from typing import Annotated

from typing_extensions import Doc

from ppl_vae.core.results import Result
from ppl_vae.verbs import _options as o


@dataclass(frozen=True, repr=False)
class Counted(Result):
    run: str
    checkpoints: int

    def fields(self):
        return {"run": self.run, "checkpoints": self.checkpoints}

    def lines(self):
        yield f"{self.run} has {self.checkpoints} checkpoints"


def count(run: o.RunFolder, *, least: Annotated[int, Doc("Count the steps from this one on.")] = 0) -> Counted:
    """Count the checkpoints of a run."""
    from ppl_vae.runs.run import Run

    found = Run.of(run)
    return Counted(str(found.folder), sum(step >= least for step in found.checkpoints.steps))
'''


@pytest.fixture
def _count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "count.py").write_text(COUNT)
    monkeypatch.setattr(verbs, "__path__", [*verbs.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield
    sys.modules.pop("ppl_vae.verbs.count", None)
    vars(verbs).pop("count", None)


@pytest.mark.usefixtures("_count")
def test_one_file_makes_a_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from support.runs import fitted

    run = fitted(tmp_path)
    steps = len(run.checkpoints.steps)
    capsys.readouterr()
    assert ppl_vae.count(run)["checkpoints"] == steps
    assert str(ppl_vae.count(run, least=1)) == f"{run.folder} has {steps - 1} checkpoints"
    assert "count" in dir(ppl_vae)
    assert main(["count", str(run.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": str(run.folder), "checkpoints": steps}
    assert main(["count", str(run.folder), "--least", "1"]) == 0
    assert capsys.readouterr().out == f"{run.folder} has {steps - 1} checkpoints\n"
    assert main(["count", str(tmp_path)]) == 2
    assert "is no run" in capsys.readouterr().err
    for args, words in ((["--help"], "Count the checkpoints of a run."), (["count", "--help"], "Count the steps from")):
        with pytest.raises(SystemExit):
            main(args)
        assert words in " ".join(capsys.readouterr().out.split())


def test_without_the_file_there_is_no_verb() -> None:
    with pytest.raises(AttributeError):
        ppl_vae.count  # noqa: B018


def test_the_stub_for_editors_is_current() -> None:
    assert stub.STUB.read_text() == stub.written(), "run: python tests/support/stub.py"


def test_an_editor_sees_every_option() -> None:
    """No verb hides its options in `**options`."""
    import inspect

    for name in verbs.names():
        parameters = inspect.signature(verbs.get(name)).parameters.values()
        assert all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters), name


def test_listing_the_verbs_imports_none_of_them() -> None:
    code = "import sys; from ppl_vae import verbs; verbs.names(); print([m for m in sys.modules if '.verbs.' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
