"""`torchrun -m ppl_vae`, by real processes: killed, stopped, started again, and what they say."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.torchrun import (
    FIT,
    ROWS,
    SMALL,
    WITHIN,
    bare,
    both,
    ended,
    free_port,
    kill,
    launch,
    listens,
    outcome,
    start,
    under_way,
    until,
)

import ppl_vae
from ppl_vae.reports.repeat import command

pytestmark = pytest.mark.slow
EPOCHS = 30


def fit(folder: Path, out: str, torchrun: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return start(folder, *SMALL, "--epochs", str(EPOCHS), "--compile", "off", "--out", out, torchrun=torchrun)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run by two processes that nothing has stopped."""
    folder = tmp_path_factory.mktemp("torchrun")
    np.save(folder / "rows.npy", ROWS)
    code, out, told = ended(fit(folder, "whole"))
    assert code == 0, told
    assert out.count("best step") == 1
    return folder


def test_one_of_two_processes_writes_the_run(whole: Path) -> None:
    run = ppl_vae.Run(whole / "whole")
    assert [line["epoch"] for line in run.metrics] == list(range(EPOCHS + 1))
    assert run.record["step"] == {"captured": False, "processes": 2}
    assert run.metrics[-1]["valid"]["elbo"] > run.metrics[0]["valid"]["elbo"] + 0.1
    assert not (run.folder / ".lock").exists()
    assert command(run).startswith("torchrun --nproc-per-node=2 -m ppl_vae fit --model gaussian")
    with pytest.raises(ppl_vae.InputError, match="trained by 2 processes, and rerun is done by one"):
        ppl_vae.rerun(run)


def test_killed_processes_are_started_again_and_the_run_ends_with_the_same_bits(whole: Path) -> None:
    process = fit(whole, "again", torchrun=("--max-restarts=2",))
    under_way(whole / "again", process)
    kill(process, 0)
    under_way(whole / "again", process, EPOCHS // 2)
    kill(process, 1)
    code, _, told = ended(process)
    assert (code, told.count("objective: ")) == (0, 3), told
    assert outcome(whole / "again") == outcome(whole / "whole")


def test_a_job_that_ends_by_a_kill_or_is_stopped_goes_on_later(whole: Path) -> None:
    process = fit(whole, "killed")
    under_way(whole / "killed", process)
    kill(process, 1)
    began = time.monotonic()
    code, _, told = ended(process)
    assert time.monotonic() - began < 60
    assert code == 1
    assert "another process of this job has ended" in told or "error: terminated" in told  # as the launcher comes to it
    assert "(SIGKILL)" in told
    process = start(whole, "resume", "killed")
    under_way(whole / "killed", process, EPOCHS // 2)
    process.send_signal(signal.SIGTERM)
    code, _, told = ended(process)
    assert code != 0
    assert told.count("stopped at step") == 1, told
    code, _, told = ended(start(whole, "resume", "killed"))
    assert code == 0, told
    assert outcome(whole / "killed") == outcome(whole / "whole")


def test_another_number_of_processes_goes_on_only_if_it_is_asked_for(whole: Path) -> None:
    shutil.copytree(whole / "whole", whole / "copy")
    with pytest.raises(ppl_vae.InputError, match=r"was trained by 2 processes, not by 1.*--force"):
        ppl_vae.resume(whole / "copy", epochs=EPOCHS + 1)
    with pytest.warns(UserWarning, match="noise is other than it would have been"):
        run = ppl_vae.resume(whole / "copy", epochs=EPOCHS + 1, force=True)
    assert [line["epoch"] for line in run.metrics] == list(range(EPOCHS + 2))
    assert run.record["step"]["processes"] == 1


def test_an_error_is_told_once_and_is_one_again_after_a_restart(whole: Path) -> None:
    before = outcome(whole / "whole")
    code, out, told = ended(start(whole, *SMALL, "--lr", "1", "--out", "whole", torchrun=("--max-restarts=1",)))
    assert (code, out) == (1, "")
    assert told.count("error: whole exists: choose another --out") == told.count("error:") == 2, told
    assert "exitcode  : 2" in told
    assert outcome(whole / "whole") == before


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["fit", "--model", "gaussian", "--guide", "diagonal_normal", "--data", "none.npy", "--out", "x"], "none.npy"),
        (["compare", "whole"], "compare is done by one process"),
        ([*SMALL, "--out", "x", "--seeds", "2"], "leave out torchrun"),
    ],
)
def test_an_error_is_told_once(whole: Path, typed: list[str], said: str) -> None:
    codes, out, told = both(bare(whole, *typed))
    assert (codes, out) == ([2, 2], "")
    assert told.count("error:") == 1
    assert said in told.partition("error:")[2].splitlines()[0]
    assert not (whole / "x").exists()


@pytest.mark.parametrize(
    ("rank", "signum", "code", "said"),
    [(0, signal.SIGTERM, 143, "terminated"), (1, signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_ends_a_process_that_waits_for_the_others_to_come(
    whole: Path, rank: int, signum: int, code: int, said: str
) -> None:
    port = free_port()
    told = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    with contextlib.ExitStack() as opened:
        if rank == 1:
            first = opened.enter_context(socket.create_server(("localhost", port)))  # which never answers
        process = launch(whole, "-m", "ppl_vae", *SMALL, "--out", "waiting", **told)
        if rank == 1:
            opened.enter_context(first.accept()[0])
        else:
            until(lambda: listens(port), process)
        time.sleep(0.5)
        process.send_signal(signum)
        found, _, error = ended(process)
    assert (found, error) == (code, f"error: {said}\n")
    assert not (whole / "waiting").exists()


def test_rows_are_shared_and_come_back_in_their_order(whole: Path) -> None:
    alone = ppl_vae.encode(whole / "whole", out=whole / "alone.npz")
    for verb in (["encode", "whole", "--out", "two.npz"], ["score", "whole", "--out", "two.csv"]):
        codes, _, told = both(bare(whole, *verb))
        assert codes == [0, 0], told
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
