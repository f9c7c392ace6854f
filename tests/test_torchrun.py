"""`torchrun -m ppl_vae`, by real processes: killed, stopped, started again, and what they say."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import ppl_vae
from ppl_vae.reports.repeat import command

pytestmark = pytest.mark.slow
ROWS = np.random.default_rng(0).normal(size=(101, 4)).astype("float32")
FIT = ["fit", "--model", "gaussian", "--guide", "diagonal_normal", "--set", "latent_dim=2", "--set", "hidden=8"]
WITHIN = 120


def start(folder: Path, *typed: str, torchrun: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", *torchrun]
    return subprocess.Popen(
        [*launcher, "-m", "ppl_vae", *typed], cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, told = process.communicate(timeout=WITHIN)
    finally:
        process.kill()
    return process.returncode, out, told


def fit(folder: Path, out: str, epochs: int, *more: str, torchrun: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    typed = [*FIT, "--data", "rows.npy", "--batch-size", "10", "--checkpoint-every", "7", "--epochs", str(epochs)]
    return start(folder, *typed, "--compile", "off", "--out", out, *more, torchrun=torchrun)


def outcome(run: Path) -> tuple[Any, ...]:
    """The lines of a run without their times, and its last state."""
    opened = ppl_vae.Run(run)
    lines = [{name: x for name, x in line.items() if name != "seconds"} for line in opened.metrics]
    return lines, (run / f"checkpoints/step-{opened.step('last')}/state.safetensors").read_bytes()


def under_way(run: Path, process: subprocess.Popen[str], lines: int = 3) -> None:
    """Wait until a run has so many lines of metrics."""
    began = time.monotonic()
    while not (run / "metrics.jsonl").is_file() or (run / "metrics.jsonl").read_text().count("\n") < lines:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - began < WITHIN
        time.sleep(0.02)


def kill(process: subprocess.Popen[str], rank: int) -> None:
    """Kill the process of a rank, as the kernel does where memory runs out."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            here = f"RANK={rank}\0".encode() in (folder / "environ").read_bytes().replace(b"_RANK=", b"_OF=")
        except OSError:
            continue
        if parent == process.pid and here:
            os.kill(int(folder.name), signal.SIGKILL)
            return
    raise AssertionError(f"no process of rank {rank}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run by two processes that nothing has stopped."""
    folder = tmp_path_factory.mktemp("torchrun")
    np.save(folder / "rows.npy", ROWS)
    code, out, told = ended(fit(folder, "whole", 60))
    assert code == 0, told
    assert out.count("best step") == 1
    return folder


def test_one_of_two_processes_writes_the_run(whole: Path) -> None:
    run = ppl_vae.Run(whole / "whole")
    assert [line["epoch"] for line in run.metrics] == list(range(61))
    assert run.record["step"] == {"captured": False, "processes": 2}
    assert run.metrics[-1]["valid"]["elbo"] > run.metrics[0]["valid"]["elbo"] + 0.1
    assert not (run.folder / ".lock").exists()
    assert command(run).startswith("torchrun --nproc-per-node=2 -m ppl_vae fit --model gaussian")
    with pytest.raises(ppl_vae.InputError, match="trained by 2 processes, and rerun is done by one"):
        ppl_vae.rerun(run)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_started_again_and_the_run_ends_with_the_same_bits(whole: Path, rank: int) -> None:
    process = fit(whole, f"again-{rank}", 60, torchrun=("--max-restarts=1",))
    under_way(whole / f"again-{rank}", process)
    kill(process, rank)
    code, _, told = ended(process)
    assert code == 0, told
    assert outcome(whole / f"again-{rank}") == outcome(whole / "whole")


def test_where_one_is_killed_the_job_ends_with_a_reason_and_goes_on_later(whole: Path) -> None:
    process = fit(whole, "killed", 60)
    under_way(whole / "killed", process)
    kill(process, 1)
    began = time.monotonic()
    code, _, told = ended(process)
    assert time.monotonic() - began < 60
    assert code == 1
    assert "another process of this job has ended" in told or "error: terminated" in told  # as the launcher comes to it
    assert "(SIGKILL)" in told
    code, _, told = ended(start(whole, "resume", "killed"))
    assert code == 0, told
    assert outcome(whole / "killed") == outcome(whole / "whole")


def test_sigterm_to_the_launcher_saves_the_state_once(whole: Path) -> None:
    process = fit(whole, "stopped", 60)
    under_way(whole / "stopped", process)
    process.send_signal(signal.SIGTERM)
    code, _, told = ended(process)
    assert code != 0
    assert told.count("stopped at step") == 1, told
    code, _, told = ended(start(whole, "resume", "stopped"))
    assert code == 0, told
    assert outcome(whole / "stopped") == outcome(whole / "whole")


def test_another_number_of_processes_goes_on_only_if_it_is_asked_for(whole: Path) -> None:
    shutil.copytree(whole / "whole", whole / "copy")
    with pytest.raises(ppl_vae.InputError, match=r"was trained by 2 processes, not by 1.*--force"):
        ppl_vae.resume(whole / "copy", epochs=61)
    with pytest.warns(UserWarning, match="noise is other than it would have been"):
        run = ppl_vae.resume(whole / "copy", epochs=61, force=True)
    assert [line["epoch"] for line in run.metrics] == list(range(62))
    assert run.record["step"]["processes"] == 1


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["fit", "--model", "gaussian", "--guide", "diagonal_normal", "--data", "none.npy", "--out", "x"], "none.npy"),
        (["compare", "whole"], "compare is done by one process"),
        ([*FIT, "--data", "rows.npy", "--out", "x", "--seeds", "2"], "leave out torchrun"),
    ],
)
def test_an_error_is_told_once(whole: Path, typed: list[str], said: str) -> None:
    code, out, told = ended(start(whole, *typed))
    assert code == 1
    assert not out
    assert told.count("error:") == 1
    assert said in told.partition("error:")[2].splitlines()[0]
    assert "exitcode  : 2" in told
    assert not (whole / "x").exists()


def test_rows_are_shared_and_come_back_in_their_order(whole: Path) -> None:
    alone = ppl_vae.encode(whole / "whole", out=whole / "alone.npz")
    for verb in (["encode", "whole", "--out", "two.npz"], ["score", "whole", "--out", "two.csv"]):
        code, _, told = ended(start(whole, *verb))
        assert code == 0, told
    with np.load(whole / "two.npz") as two:
        for name in ("z_mean", "z_sd"):
            np.testing.assert_allclose(two[name], alone[name], rtol=1e-5, atol=1e-6)
    scores = np.genfromtxt(whole / "two.csv", delimiter=",", names=True)
    theirs = ppl_vae.score(whole / "whole", out=whole / "alone.csv").arrays
    np.testing.assert_allclose(scores["log_px"], theirs["log_px"], rtol=1e-4, atol=1e-4)
    code, out, told = ended(start(whole, "evaluate", "whole", "--simulations", "0", "--calibrations", "0", "--json"))
    assert code == 0, told
    assert out.count('"log_px"') == 1


SRUN = """#!/bin/bash
for node in 1 2; do "$@" & jobs_of_all+=($!); done
for each in "${jobs_of_all[@]}"; do wait "$each" || failed=1; done
exit "${failed:-0}"
"""
"""Two nodes, both of which are this machine."""


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The environment of a job, with commands of a cluster that start everything here."""
    commands = {
        "torchrun": f'#!/bin/bash\nexec {sys.executable} -m torch.distributed.run "$@"\n',
        "scontrol": "#!/bin/bash\necho localhost\n",
        "srun": SRUN,
    }
    for name, text in commands.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    np.save(tmp_path / "rows.npy", ROWS)
    slurm = {"SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "x"}
    ours = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PROCESSES": "1", "OMP_NUM_THREADS": "1"}
    return dict(os.environ) | slurm | ours


def job(folder: Path, environment: dict[str, str], *command: str) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=WITHIN)
    assert done.returncode == 0, done.stderr


def test_the_job_of_slurm_works_as_it_is_and_goes_on(tmp_path: Path, cluster: dict[str, str]) -> None:
    script = str(Path(__file__).parents[1] / "docs/jobs/slurm.sh")
    job(tmp_path, cluster, "bash", script, *FIT[1:], "--data", "rows.npy", "--epochs", "2", "--compile", "off")
    run = ppl_vae.Run(tmp_path / "run")
    assert run.record["step"]["processes"] == 2
    assert len(run.metrics) == 3
    job(tmp_path, cluster, "bash", script)
    assert len(run.metrics) == 3, "a job that is queued again goes on with the run"


def test_the_job_of_kubernetes_runs(tmp_path: Path, cluster: dict[str, str]) -> None:
    service, described = yaml.safe_load_all((Path(__file__).parents[1] / "docs/jobs/kubernetes.yaml").read_text())
    assert (service["kind"], described["kind"]) == ("Service", "Job")
    pod = described["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = {each["name"]: each["value"] for each in container["env"]}
    assert int(told["NODES"]) == described["spec"]["completions"] == described["spec"]["parallelism"]
    assert told["FIRST"] == f"{described['metadata']['name']}-0.{pod['subdomain']}"
    assert pod["subdomain"] == service["metadata"]["name"]
    here = cluster | told | {"NODES": "1", "PROCESSES": "2", "FIRST": "localhost"}
    job(tmp_path, here, *container["command"], *FIT[1:], "--data", "rows.npy", "--epochs", "1", "--compile", "off")
    assert ppl_vae.Run(tmp_path / "run").record["step"]["processes"] == 2
