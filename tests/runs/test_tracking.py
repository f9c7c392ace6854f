"""A run told to a tracker: what `metrics.jsonl` holds, each step once, also after a stop; and never a broken fit."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
from support.fits import ROWS, STEPS, Killed, killed_before, small

from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.runs import tracking
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.history import flat
from ppl_vae.runs.run import Run
from ppl_vae.runs.trackers import TRACKERS, Tracked
from ppl_vae.runs.trackers.tensorboard import TensorBoard
from ppl_vae.training.config import Track

Points = dict[str, list[tuple[int, float]]]
"""By name the steps and values that a tracker shows."""

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def recorded(run: Run) -> Points:
    """What `metrics.jsonl` holds."""
    points: Points = {}
    for line in run.metrics:
        for name, value in flat(line, "/"):
            if name != "step":
                points.setdefault(name, []).append((line["step"], value))
    return points


def assert_alike(shown: Points, run: Run, ends: list[int]) -> None:
    """The metrics are there, each step once; the numbers of the best step stand where training ended."""
    wanted = recorded(run)
    assert {name for name in shown if not name.startswith("best/")} == set(wanted)
    for name, points in wanted.items():
        assert [step for step, _ in shown[name]] == [step for step, _ in points], name
        if name != "seconds":
            np.testing.assert_allclose([x for _, x in shown[name]], [x for _, x in points], rtol=1e-6, err_msg=name)
    assert [step for step, _ in shown["best/elbo"]] == ends
    assert shown["best/step"][-1][1] == run.checkpoints.manifest["best"]
    assert run.fresh is not None
    assert np.isclose(shown["best/elbo"][-1][1], run.fresh["elbo"])


def in_tensorboard(run: Run) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    return {tag: [(each.step, each.value) for each in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def in_mlflow(run: Run) -> Points:
    import mlflow

    client, id = mlflow.MlflowClient(), run.record["tracked"]["mlflow"]
    told = client.get_run(id).data
    assert told.params["lr"] == "0.01"
    return {name: [(each.step, each.value) for each in client.get_metric_history(id, name)] for name in told.metrics}


def in_wandb(run: Run) -> Points:
    from support.offline_wandb import history, summary, wait_for

    id = run.record["tracked"]["wandb"]
    files = sorted((run.folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime_ns)
    assert {file.name for file in files} == {f"run-{id}.wandb"}, "one run, also when it goes on"
    points: Points = {}
    ends = {}
    for file in files:
        wait_for(file)
        for step, name, value in history(file):
            points.setdefault(name, []).append((step, value))
        if best := summary(file):
            ends[max(step for each in points.values() for step, _ in each)] = best
    for step, best in ends.items():
        for name, value in best.items():
            points.setdefault(name, []).append((step, value))
    return points


READ: dict[str, Callable[[Run], Points]] = {"tensorboard": in_tensorboard, "mlflow": in_mlflow, "wandb": in_wandb}


@pytest.fixture(params=READ)
def tracker(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracker that is installed, with a store on this disk."""
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return request.param


def test_it_shows_what_the_metrics_hold(tracker: str, tmp_path: Path) -> None:
    run = small(tmp_path / "run", track=tracker, warmup=1, epochs=3)
    assert run.config.track == (tracker,)
    assert_alike(READ[tracker](run), run, [3 * STEPS])
    assert {"train/elbo", "valid/rate", "lr", "rate_weight", "seconds", "gradient_norm"} <= set(recorded(run))


@pytest.mark.parametrize("every", [1000, 7])
def test_a_run_that_goes_on_shows_each_step_once(tracker: str, every: int, tmp_path: Path) -> None:
    """It was killed after the line of the second epoch, and goes on before it: from step 0, or from step 7."""
    with killed_before(2 * STEPS + 2):
        small(tmp_path / "run", track=[tracker], epochs=3, checkpoint_every=every)
    run = fit(data=ROWS, out=tmp_path / "run", resume=True)
    assert_alike(READ[tracker](run), run, [3 * STEPS])
    again = fit(data=ROWS, out=tmp_path / "run", resume=True)
    assert_alike(READ[tracker](again), again, [3 * STEPS])
    more = fit(data=ROWS, out=tmp_path / "run", resume=True, epochs=4)
    assert_alike(READ[tracker](more), more, [3 * STEPS, 4 * STEPS])


def test_mlflow_is_told_what_a_kill_kept_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the line of the metrics was written, and before MLflow was told."""
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    log = mlflow.log_metrics

    def killed(numbers: Mapping[str, float], step: int, run_id: str) -> None:
        if step == 2 * STEPS:
            raise Killed
        log(numbers, step=step, run_id=run_id)

    monkeypatch.setattr(mlflow, "log_metrics", killed)
    with pytest.raises(Killed):
        small(tmp_path / "run", track="mlflow", epochs=3)
    monkeypatch.setattr(mlflow, "log_metrics", log)
    run = fit(data=ROWS, out=tmp_path / "run", resume=True)
    assert_alike(in_mlflow(run), run, [3 * STEPS])


def test_tensorboard_shows_the_options_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = small(tmp_path / "run", track="tensorboard", epochs=1)
    fit(data=ROWS, out=run.folder, resume=True, epochs=2)
    read = EventAccumulator(str(run.folder / "tensorboard"))
    read.Reload()
    (text,) = read.Tensors("config/text_summary")
    assert json.loads(text.tensor_proto.string_val[0]) == json.loads((run.folder / "config.json").read_text())[
        "fit"
    ] | {"epochs": 1}


class Noted:
    """A tracker that fails when it is told to."""

    name: ClassVar[str] = "wandb"
    begun: ClassVar[list[Tracked]] = []
    told: ClassVar[list[int]] = []
    closed: ClassVar[list[bool]] = []
    fails_at: ClassVar[int] = -1

    def __init__(self, about: Tracked) -> None:
        if self.fails_at == 0:
            raise OSError("no network\nat all")
        self.begun.append(about)
        self.id, self.seen = about.id or "abc", about.seen

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise OSError("the disk is full")
        self.told.append(step)

    def best(self, step: int, numbers: Mapping[str, float]) -> None:
        assert {"best/elbo", "best/elbo_se_data", "best/step"} <= set(numbers)

    def close(self, failed: bool) -> None:
        self.closed.append(failed)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> type[Noted]:
    """Stands in the place of W&B."""
    for name in ("begun", "told", "closed"):
        monkeypatch.setattr(Noted, name, [])
    monkeypatch.setattr(tracking, "TRACKERS", {"wandb": Noted})
    for name in ("fitting", "resuming"):
        monkeypatch.setattr(f"ppl_vae.runs.{name}.check_packages", lambda names: None)
    return Noted


def test_each_step_is_told_once(noted: type[Noted], tmp_path: Path) -> None:
    with killed_before(2 * STEPS + 2):
        small(tmp_path / "run", track="wandb", epochs=3)
    fit(data=ROWS, out=tmp_path / "run", resume=True)
    assert noted.told == [0, STEPS, 2 * STEPS, 3 * STEPS]
    assert [about.id for about in noted.begun] == [None, "abc"]
    assert [about.start for about in noted.begun] == [-1, 0]
    assert noted.closed == [True, False]


@pytest.mark.parametrize("fails_at", [0, STEPS])
def test_a_tracker_that_fails_is_left_out_and_the_fit_goes_on(
    fails_at: int, noted: type[Noted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noted, "fails_at", fails_at)
    why = {0: "no network", STEPS: "the disk is full"}[fails_at]
    with pytest.warns(UserWarning, match=rf"^wandb has failed, and is told nothing more: {why}\. .*metrics") as caught:
        run = small(tmp_path / "run", track="wandb", epochs=3)
    assert len(caught) == 1
    assert [line["step"] for line in run.metrics] == [0, STEPS, 2 * STEPS, 3 * STEPS]
    assert run.fresh is not None
    assert noted.closed == ([] if fails_at == 0 else [True])


def test_one_tracker_that_fails_leaves_the_others(tmp_path: Path, noted: type[Noted]) -> None:
    noted.fails_at = STEPS
    tracking.TRACKERS["tensorboard"] = TensorBoard  # type: ignore[index]
    try:
        with pytest.warns(UserWarning, match="wandb has failed"):
            run = small(tmp_path / "run", track=("wandb", "tensorboard"))
    finally:
        noted.fails_at = -1
    assert_alike(in_tensorboard(run), run, [2 * STEPS])


@pytest.mark.parametrize("name", get_args(Track))
def test_a_package_that_is_missing_is_named_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    for module in [each for each in sys.modules if each.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(InputError, match=rf"--track {name}: .*\. Install it by: pip install 'ppl_vae\[{name}\]'"):
        small(tmp_path / "run", track=name)
    assert not (tmp_path / "run").exists()


def test_it_is_chosen_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(TRACKERS) == set(get_args(Track))
    with pytest.raises(InputError, match="track is"):
        small(tmp_path / "run", track="visdom")
    np.save(tmp_path / "rows.npy", ROWS)
    args = ["fit", "--model", "gaussian", "--guide", "diagonal_normal", "--data", str(tmp_path / "rows.npy")]
    args += ["--epochs", "1", "--out", str(tmp_path / "run"), "--track"]
    assert main([*args, "tensorboard", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert main([*args, "visdom"]) == 2
    assert "--track" in capsys.readouterr().err


def test_old_runs_were_not_tracked(tmp_path: Path) -> None:
    run: Any = small(tmp_path / "run")
    record = json.loads((run.folder / "config.json").read_text())
    assert record["fit"].pop("track") == []
    (run.folder / "config.json").write_text(json.dumps(record))
    assert Run(run.folder).config.track == ()
