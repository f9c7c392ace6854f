"""`torchrun -m ppl_vae` as real processes: started, waited for, killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ppl_vae

TESTS = Path(__file__).parents[1]
ROWS = np.random.default_rng(0).normal(size=(101, 4)).astype("float32")
FIT = ["fit", "--model", "gaussian", "--guide", "diagonal_normal", "--set", "latent_dim=2", "--set", "hidden=8"]
SMALL = [*FIT, "--data", "rows.npy", "--batch-size", "10", "--checkpoint-every", "7"]
WITHIN = 300


def launch(folder: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    ours = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=os.environ | ours | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def start(folder: Path, *typed: str, torchrun: tuple[str, ...] = (), module: str = "ppl_vae") -> subprocess.Popen[str]:
    """Two processes by torchrun, in a folder."""
    return launch(folder, "-m", "torch.distributed.run", "--nproc-per-node=2", *torchrun, "-m", module, *typed)


def bare(folder: Path, *typed: str, module: str = "ppl_vae") -> list[subprocess.Popen[str]]:
    """Two processes that are told who they are as by torchrun, without the time that it takes."""
    told = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    return [launch(folder, "-m", module, *typed, RANK=str(rank), LOCAL_RANK=str(rank), **told) for rank in (0, 1)]


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as found:
        return int(found.getsockname()[1])


def listens(port: int) -> bool:
    """Does a process of this machine answer there?"""
    with socket.socket() as here:
        return here.connect_ex(("localhost", port)) == 0


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, and what it wrote."""
    try:
        out, told = process.communicate(timeout=WITHIN)
    finally:
        process.kill()
    return process.returncode, out, told


def both(processes: list[subprocess.Popen[str]]) -> tuple[list[int], str, str]:
    found = [ended(process) for process in processes]
    return [code for code, _, _ in found], "".join(out for _, out, _ in found), "".join(told for _, _, told in found)


def outcome(run: Path) -> tuple[Any, ...]:
    """The lines of a run without their times, and its last state."""
    opened = ppl_vae.Run(run)
    lines = [{name: x for name, x in line.items() if name != "seconds"} for line in opened.metrics]
    return lines, (run / f"checkpoints/step-{opened.step('last')}/state.safetensors").read_bytes()


def lines_of(run: Path) -> int:
    """How many lines of metrics a run has."""
    return (run / "metrics.jsonl").read_text().count("\n") if (run / "metrics.jsonl").is_file() else 0


def until(condition: Callable[[], bool], *alive: subprocess.Popen[str]) -> None:
    """Wait until it is so, while processes live."""
    began = time.monotonic()
    while not condition():
        for process in alive:
            assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - began < WITHIN
        time.sleep(0.02)


def under_way(run: Path, process: subprocess.Popen[str], lines: int = 3) -> None:
    """Wait until a run has so many lines of metrics."""
    until(lambda: lines_of(run) >= lines, process)


def within_an_epoch(run: Path, process: subprocess.Popen[str], steps: int, after: int = 0) -> None:
    """Wait until the last checkpoint of a run is within an epoch of so many steps, and of a later step than one."""

    def so() -> bool:
        last = max((int(each.name.partition("-")[2]) for each in (run / "checkpoints").glob("step-*")), default=0)
        return last > max(after, steps) and 0 < last % steps < steps - 10

    until(so, process)


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
