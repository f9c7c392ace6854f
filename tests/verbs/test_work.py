"""`--compile` and `--threads` of the verbs that compute: what they say, and that numbers stay."""

import json

import numpy as np
import pytest
import torch

from ppl_vae import encode, evaluate, fit, score
from ppl_vae.cli import main
from ppl_vae.core import threads
from ppl_vae.core.errors import InputError
from ppl_vae.graphs import static

ROWS = (np.random.default_rng(0).random((60, 6)) < 0.4).astype(np.float32)
SMALL = {"num_samples": 40, "gap_rows": 4, "simulations": 0, "calibrations": 0, "statistics": ()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    np.save(folder / "x.npy", ROWS)
    return fit(
        "bernoulli", "diagonal_normal", str(folder / "x.npy"), folder / "run", epochs=1,
        set={"latent_dim": 4, "hidden": 8}, batch_size=2,
    )  # fmt: skip


@pytest.fixture
def traced(monkeypatch):
    monkeypatch.setattr(static, "compiled", lambda module, inputs: module)
    monkeypatch.setattr(static, "faster", lambda module, rows: "mm")


def told(how, found):
    assert (len(found["compiled"]) > 0) == (how == "on")
    assert found["threads"] == torch.get_num_threads()
    return found


def test_compiled_verbs_give_the_same_numbers(run, traced):
    for verb in (
        lambda how: told(how, evaluate(run, compile=how, **SMALL)).found.value.numpy(),
        lambda how: score(run, num_samples=40, rows_only=True, compile=how).frame["log_px"].to_numpy(),
        lambda how: encode(run, compile=how)["z_mean"],
    ):
        assert np.array_equal(verb("on"), verb("off"))


def test_the_command_line_says_how_it_worked(run, traced, monkeypatch, capsys):
    monkeypatch.setattr(threads, "fastest", lambda most: 1)
    before = torch.get_num_threads()
    command = ["score", str(run.folder), "--rows-only", "--num-samples", "40", "--compile", "on"]
    assert main([*command, "--threads", "auto"]) == 0
    said = capsys.readouterr().err
    assert "threads: 1, the fastest now" in said
    assert "compiled: " in said
    assert "log_weights" in said
    assert main([*command, "--threads", "auto", "--json"]) == 0
    out, said = capsys.readouterr()
    assert json.loads(out)
    assert "threads" not in said
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("typed", ["0", "many", "-1", "1025"])
def test_other_threads_are_refused_in_words(run, typed, capsys):
    assert main(["score", str(run.folder), f"--threads={typed}"]) == 2
    assert "from 1 to 1024, or auto" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"compile": "yes"}, {"threads": "2"}, {"threads": 0}])
def test_from_python_too(run, options):
    with pytest.raises(InputError, match="must be"):
        encode(run, **options)
