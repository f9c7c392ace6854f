"""What can't fit into the memory of the machine is refused in a sentence before it is tried."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.runs import fitted, write_rows

from ppl_vae.cli import main
from ppl_vae.core import memory


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("memory")
    fitted(place, epochs=1)
    return place


@pytest.fixture(autouse=True)
def _in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


PAIR = ["--model", "bernoulli", "--guide", "diagonal_normal", "--data", "rows.npy"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sample", "run", "--num", "1000000000000"], "1000000000000 samples: they take at least "),
        (["sample", "run", "--num", "100000000000", "--like", "rows.npy"], "for each of 300 rows"),
        (["score", "run", "--num-samples", "1000000000"], "the weights of 1000000000 draws for each of 100 rows take"),
        (["evaluate", "run", "--num-samples", "1000000000"], "the weights of 1000000000 draws"),
        (["compare", "run", "--num-samples", "1000000000"], "1000000000 draws for each of 30 rows"),
        (["encode", "run", "--draws", "1000000000"], "1000000000 draws for each of 100 rows"),
        (["export", "run", "--draws", "1000000000"], "1000000000 draws for each of 30 rows"),
        (["check", *PAIR, "--set", "hidden=1000000000000"], "there is not enough memory for it"),
        (["fit", *PAIR, "--out", "much", "--set", "objective.num_particles=1000000000"], "1000000000 draws for each"),
    ],
)
def test_what_does_not_fit_into_memory(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err
    assert len(told.err.splitlines()) <= 2
    assert not Path("much").exists()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 byte")]
)
def test_memory_that_runs_out_is_told_in_words(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def out_of_it(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(torch, "zeros", out_of_it)
    assert main(["sample", "run", "--num", "2"]) == 2
    assert "there is not enough memory for this; ask for less at a time" in capsys.readouterr().err


def test_a_container_may_have_less_than_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    whole = memory.available_memory()
    assert 0 < whole < np.inf
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_memory() > 1000
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 500\nactive_file 20\ninactive_file 30\n")
    assert memory.available_memory() == 450, "pages of files that were read are given back"


def test_few_draws_are_not_refused(tmp_path: Path) -> None:
    write_rows(tmp_path)
    assert main(["sample", "run", "--num", "5000", "--out", str(tmp_path / "s.npz")]) == 0
