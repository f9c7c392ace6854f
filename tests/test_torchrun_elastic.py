"""A job whose number of machines may change: one joins, and one is lost, while it trains."""

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.torchrun import ROWS, SMALL, WITHIN, ended, free_port, launch, lines_of, until

import ppl_vae

pytestmark = pytest.mark.slow
EPOCHS = 450
QUICK = "--rdzv-conf=last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=3"


def machine(folder: Path, port: int) -> subprocess.Popen[str]:
    """One of one or two machines, both of which are this one."""
    job = ["--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=3", "--rdzv-backend=c10d"]
    typed = [*job, f"--rdzv-endpoint=localhost:{port}", QUICK, "-m", "ppl_vae", *SMALL]
    typed += ["--epochs", str(EPOCHS), "--compile", "off", "--quiet", "--out", "run"]
    return launch(folder, "-m", "torch.distributed.run", *typed, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")


def workers(of: subprocess.Popen[str]) -> list[int]:
    return [int(each) for each in Path(f"/proc/{of.pid}/task/{of.pid}/children").read_text().split()]


def test_a_machine_joins_and_is_lost_and_the_run_goes_on(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    run, port = tmp_path / "run", free_port()

    def processes() -> int:
        return ppl_vae.Run(run).processes

    first = machine(tmp_path, port)
    second = None
    try:
        until(lambda: lines_of(run) > 1, first)
        assert processes() == 1
        second = machine(tmp_path, port)
        until(lambda: processes() == 2, first, second)
        together = lines_of(run)
        until(lambda: lines_of(run) >= together + 3, first, second)
        for each in (second.pid, *workers(second)):
            os.kill(each, signal.SIGKILL)
        code, _, told = ended(first)
    finally:
        for process in filter(None, (first, second)):
            process.terminate()
            process.communicate(timeout=WITHIN)
    assert code == 0, told
    assert processes() == 1
    assert [line["epoch"] for line in ppl_vae.Run(run).metrics] == list(range(EPOCHS + 1))
    errors = [line.split()[1] for line in told.splitlines() if line.startswith("error: ")]
    assert errors == ["stopped", "another"], told  # for the second machine, and since that has gone
    for before, now in (("1 process", 2), ("2 processes", 1)):
        assert f"was trained by {before}, not by {now}: from here on its noise is other" in told
