"""The scripts of tests/benchmarks on tiny sizes: what they compute is right, and nothing is timed for its own sake."""

import math
import os
import re
import sys
from pathlib import Path

import beside_others
import numpy as np
import profile_step
import pytest
import scaling
import start_up
import streams
import time_to_quality
import torch
import training_step
import trainings
import work
from support.pages import DOCS, Page
from torch import Tensor

from ppl_vae.objectives import AnalyticKL_ELBO
from ppl_vae.programs import resolve_pair
from ppl_vae.training.evaluation import evaluate

TINY = work.Work(4, {"hidden": 8, "latent_dim": 2})
SCRIPTS = Path(work.__file__).parent


def test_every_script_that_is_run_is_on_a_page_with_options_that_it_has() -> None:
    commands = [line for path in DOCS.glob("*.md") for line in Page(path.name).commands]
    shown = {name: line for line in commands for name in re.findall(r"tests/benchmarks/(\w+\.py)", line)}
    own = {path.name: path.read_text() for path in SCRIPTS.glob("*.py") if "ArgumentParser(" in path.read_text()}
    named = " ".join(path.read_text() for path in DOCS.glob("*.md"))
    for name, text in own.items():
        assert f"tests/benchmarks/{name}" in named
        for option in re.findall(r"--[a-z-]+", shown.get(name, "")):
            assert f'"{option}"' in text, f"{name} {option}"


def test_rounds_are_taken_in_turn_and_the_first_is_not_counted() -> None:
    order = []

    def timed(name: str) -> work.Timed:
        return lambda: order.append(name) or float(len(order))  # type: ignore[func-returns-value]

    assert work.in_turn({"a": timed("a"), "b": timed("b")}, 2) == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert order == ["a", "b"] * 3


def test_a_timed_step_is_given_batches_of_rows() -> None:
    seen: list[Tensor] = []
    x = torch.arange(12.0).reshape(6, 2)
    assert work.timed(seen.append, x, 4, 3)() > 0
    assert [len(batch) for batch in seen] == [4, 4, 4]
    assert all(len(set(batch[:, 0].tolist()) & set(x[:, 0].tolist())) == 4 for batch in seen)


def test_by_hand_and_pyro_do_the_work_of_our_step() -> None:
    """The same loss at the same weights and noise, from all three."""
    x = TINY.rows()[:4]
    ours, by_hand, svi = (
        make(TINY, x, False) if make is not training_step.svi else make(TINY, x)
        for make in (work.ours, training_step.by_hand, training_step.svi)
    )
    found = []
    for step in (ours, by_hand, svi):
        torch.manual_seed(1)
        found.append(step(x))
    expected = -found[0].value / 4  # type: ignore[attr-defined]
    assert float(found[1]) == pytest.approx(expected, rel=1e-5)  # type: ignore[arg-type]
    assert found[2] / 4 == pytest.approx(expected, rel=1e-5)  # type: ignore[operator]


def test_the_elbo_from_weights_is_that_of_the_programs() -> None:
    """Both take the closed-form KL; they differ by the noise of the draws alone."""
    x = (torch.rand(200, 30) < 0.3).float()
    pair = resolve_pair("bernoulli", "diagonal_normal", (x,), TINY.settings)
    weights = [p.detach() for p in [*pair.guide.encoder.parameters(), *pair.model.decoder.parameters()]]
    draws = torch.stack([evaluate(pair, AnalyticKL_ELBO(), [(x,)], seed).elbo.mean() for seed in range(100)])
    noise = draws.std().item() * (1 / 100 + 1 / time_to_quality.DRAWS) ** 0.5
    assert time_to_quality.elbo(weights, x) == pytest.approx(draws.mean().item(), abs=4 * noise)


def test_the_table_says_when_thresholds_were_first_reached() -> None:
    pyro = [(1.0, -130.0), (2.0, -120.0), (3.0, -110.0)]
    curves = {time_to_quality.PYRO: [pyro], "quick": [[(0.5, -119.0), (0.8, -115.0)]]}
    first, second = time_to_quality.table(curves, [2, 3])["quick"]
    assert first == {"elbo": -120.0, "seconds": 0.5, "epoch": 1, "ratio": 0.25, "least": 0.5, "largest": 0.5}
    assert (second["elbo"], second["seconds"]) == (-110.0, math.inf)
    assert time_to_quality.table(curves, [2, 3])[time_to_quality.PYRO][1]["ratio"] == 1


def test_a_training_keeps_its_weights_after_each_epoch(tmp_path: Path) -> None:
    x = (np.random.default_rng(0).random((8, 784)) < 0.3).astype(np.float32)
    trainings.by_pyro(x, x, 0, 2, trainings.Kept(tmp_path, 0.0))
    (first, before), (second, after) = time_to_quality.curve(tmp_path, torch.from_numpy(x))
    assert first < second
    assert -784 < before < after < 0


def test_untimed_seconds_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 17.0])
    monkeypatch.setattr(trainings.time, "time", lambda: next(clock))
    kept = trainings.Kept(tmp_path, 4.0)
    with kept.untimed():
        pass
    assert kept.started == 11.0


def test_a_process_is_measured_and_its_failure_told() -> None:
    seconds, peak = start_up.measured([sys.executable, "-c", "pass"], os.environ, lambda: False)
    assert seconds > 0
    assert peak > 1
    with pytest.raises(SystemExit, match="no such thing"):
        start_up.measured([sys.executable, "-c", "raise SystemExit('no such thing')"], os.environ, lambda: False)


def test_neighbours_are_there_and_gone() -> None:
    with beside_others.neighbours(1) as (busy,):
        assert busy.poll() is None
    assert busy.poll() is not None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mkldnn::_linear_pointwise", "products"),
        ("graph_0_cpp_fused_convolution_backward_silu_8", "elementwise"),
        ("aten::normal_", "noise"),
        ("aten::_fused_adam_", "optimizer"),
        ("aten::empty", profile_step.PYTHON),
    ],
)
def test_an_operation_has_a_kind(name: str, kind: str) -> None:
    assert profile_step.kind(name) == kind


def test_the_slope_of_a_power_is_its_exponent() -> None:
    sizes = [2, 4, 8, 16]
    assert scaling.slope(sizes, [3 * n**0.7 for n in sizes]) == pytest.approx(0.7)
    assert [scaling.work(what, 7) for what in ("batch", "K")] == [
        work.Work(7, work.SMALL), work.Work(100, work.SMALL, particles=7),
    ]  # fmt: skip
    assert scaling.work("hidden", 7).settings == {"hidden": 7, "latent_dim": 20}


def test_a_stream_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    for kind in ("npy", "parquet"):
        path = streams.make(kind, tmp_path, 1000, 8)
        assert (path.stat().st_size == 128 + 4 * 8000) if kind == "npy" else len(list(path.iterdir())) == 1
    found = streams.in_process(tmp_path / "rows.npy", "on", 50, 2 * streams.GIB, 8)
    assert (found["rows"], found["steps"]) == (1000, 16)
    assert 0 < found["waiting"] < 1
    assert math.isfinite(found["elbo"])
    assert "1,000 rows" in streams.told("npy", found | {"growth": 0.0, "resident": 0.0})
