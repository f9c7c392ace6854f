"""An objective is a name with settings, a class in a file, a class or an instance; a run knows which it was."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.runs import PAIR_ARGUMENTS, SMALL, binary_rows, fitted, write_rows

import ppl_vae
from ppl_vae import objectives
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.objectives import IWAE_ELBO, Beta_ELBO, Objective, Trace_ELBO

OWN = """
from ppl_vae.objectives import Trace_ELBO

class Half(Trace_ELBO):
    name = "half"
    target = "half"

    def per_example(self, terms):
        value, surrogate = super().per_example(terms)
        return value / 2, surrogate / 2

class Nothing:
    pass
"""


class Third(Trace_ELBO):
    name = "third"
    target = "third"


def test_an_objective_is_found_by_its_file_alone() -> None:
    folder = Path(objectives.__file__).parent
    files = {path.stem for path in folder.glob("*.py") if "    def per_example" in path.read_text()} - {"base"}
    assert {entry.module.rpartition(".")[2] for entry in objectives.OBJECTIVES.entries.values()} == files
    for name, kind in objectives.OBJECTIVES.items():
        assert issubclass(kind, Objective)
        assert kind.name == name
        assert objectives.get(name) is objectives.named(name).kind is getattr(objectives, kind.__name__) is kind
        assert kind.__name__ in objectives.__all__


def test_a_list_of_the_objectives_imports_no_torch() -> None:
    code = "import sys; from ppl_vae.objectives import OBJECTIVES; print(len(OBJECTIVES), 'torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert shown.split() == [str(len(objectives.OBJECTIVES)), "False"]


def metrics(run: ppl_vae.Run) -> list[dict[str, Any]]:
    return [{key: x for key, x in line.items() if key != "seconds"} for line in run.metrics]


def test_a_name_may_hold_settings(tmp_path: Path) -> None:
    by_name = fitted(tmp_path, objective="iwae:K=3", out=tmp_path / "a")
    by_setting = fitted(tmp_path, objective="iwae", set=SMALL | {"objective.num_particles": 3}, out=tmp_path / "b")
    by_instance = fitted(tmp_path, objective=IWAE_ELBO(3), out=tmp_path / "c")
    assert metrics(by_name) == metrics(by_setting) == metrics(by_instance)
    assert by_name.target == by_instance.target == "IWAE_3"
    assert "IWAE_3" in json.dumps(ppl_vae.compare(by_name, objectives=["iwae"], draws=2)["estimators"]["iwae"])


@pytest.mark.parametrize(
    ("objective", "settings", "words"),
    [
        ("iwae:K=3", {"objective.num_particles": 5}, "sets num_particles, and so does objective.num_particles"),
        ("iwea:K=3", {}, "no objective is called 'iwea'.*did you mean 'iwae'"),
        ("iwae:L=3", {}, "iwae has no setting 'L'"),
        (dict, {}, "dict is no objective: derive it"),
        (3, {}, "3 is no objective"),
        (Beta_ELBO(), {"objective.beta": 2.0}, "leave objective.beta out"),
    ],
)
def test_what_is_no_objective_is_refused(tmp_path: Path, objective: Any, settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fitted(tmp_path, objective=objective, set=SMALL | settings)
    assert not (tmp_path / "run").exists()


def test_a_class_of_ones_own_is_recorded_and_resumed_as_a_program_is(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    run = fitted(tmp_path, objective=f"{file}:Half", epochs=1)
    assert run.target == "half"
    assert run.metrics[-1]["valid"]["objective"] == pytest.approx(run.metrics[-1]["valid"]["elbo"] / 2)
    recorded = json.loads((run.folder / "config.json").read_text())["objective"]["program"]
    assert (run.folder / recorded["source"]).read_text() == OWN
    assert any("own" in each for each in run.trusted())
    more = {"out": run.folder, "resume": True, "epochs": 2, "data": tmp_path / "rows.npy"}
    with pytest.raises(InputError, match=r"name it again \(--objective .*own.py:Half"):
        ppl_vae.fit(**more)
    ppl_vae.fit(**more, objective=f"{file}:Half")
    ppl_vae.fit(**more | {"epochs": 3}, trust=True)
    file.write_text(OWN + "# changed\n")
    with pytest.raises(InputError, match="is not what"):
        ppl_vae.fit(**more | {"epochs": 4}, objective=f"{file}:Half")
    with pytest.raises(InputError, match=":Nothing is no objective"):
        fitted(tmp_path, objective=f"{file}:Nothing", out=tmp_path / "other")


@pytest.mark.parametrize("objective", [Third, Third(2)], ids=["class", "instance"])
def test_one_given_from_python_is_given_again(tmp_path: Path, objective: type[Objective] | Objective) -> None:
    run = fitted(tmp_path, objective=objective, epochs=1)
    more: dict[str, Any] = {"out": run.folder, "resume": True, "epochs": 2, "data": tmp_path / "rows.npy"}
    with pytest.raises(InputError, match="given from Python: give it again as objective="):
        ppl_vae.fit(**more)
    assert ppl_vae.fit(**more, objective=objective).metrics[-1]["epoch"] == 2
    assert ppl_vae.compare(run, draws=2)["estimators"]


def test_the_command_line_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, file = write_rows(tmp_path), tmp_path / "own.py"
    file.write_text(OWN)
    common = [*PAIR_ARGUMENTS, "--data", str(rows), "--epochs", "1"]
    assert main(["fit", *common, "--objective", "iwae:K=3", "--out", str(tmp_path / "a")]) == 0
    assert "IWAE_3" in capsys.readouterr().out
    assert main(["fit", *common, "--objective", f"{file}:Half", "--out", str(tmp_path / "b")]) == 0
    assert "half" in capsys.readouterr().out
    assert main(["check", *PAIR_ARGUMENTS, "--data", str(rows), "--objective", f"{file}:Half"]) == 0
    assert ppl_vae.check("bernoulli", "diagonal_normal", binary_rows(), objective=IWAE_ELBO(3), set=SMALL).passed
