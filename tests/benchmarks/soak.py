"""A day of training in a minute: does a fit of 20,000 steps with a checkpoint every 50 grow in memory, files or size?

The fit is a process of its own, which is watched from outside: resident memory, file descriptors, threads, and what its
folder holds. Growth is that of the largest value in the last tenth of the steps against that in the second tenth.

    python tests/benchmarks/soak.py [--steps 20000] [--every 50] [--compile on]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROWS, BATCH = 2000, 100
PER_EPOCH = 16  # of 1600 training rows


@dataclass(frozen=True)
class Seen:
    """What is seen of the process and of its run at a moment; memory in MB, sizes in kB."""

    step: int
    memory: float
    descriptors: int
    threads: int
    checkpoints: int
    size: float
    metrics: float


def look(pid: int, run: Path) -> Seen | None:
    """None where the process has ended or not begun to train, or a file was replaced meanwhile."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        manifest = json.loads((run / "manifest.json").read_text())
        sizes = {path: path.stat().st_size / 1e3 for path in run.rglob("*") if path.is_file()}
        metrics = sizes.pop(run / "metrics.jsonl")
        return Seen(
            step=max(int(name.removeprefix("step-")) for name in manifest["checkpoints"]),
            memory=int(status["VmRSS"].split()[0]) / 1e3,
            descriptors=len(os.listdir(f"/proc/{pid}/fd")),
            threads=int(status["Threads"]),
            checkpoints=len(list((run / "checkpoints").iterdir())),
            size=sum(sizes.values()),
            metrics=metrics,
        )
    except (OSError, KeyError):
        return None


def watched(folder: Path, steps: int, every: int, options: list[str]) -> list[Seen]:
    """A fit of so many steps, looked at some ten times a second."""
    rng = np.random.default_rng(0)
    np.save(folder / "rows.npy", (rng.normal(size=(ROWS, 4)) @ rng.normal(size=(4, 20))).astype("float32"))
    run, seen = folder / "run", list[Seen]()
    command = [
        sys.executable,
        "-m",
        "ppl_vae.cli",
        "fit",
        "--model",
        "gaussian",
        "--guide",
        "diagonal_normal",
        "--quiet",
    ]
    command += ["--data", str(folder / "rows.npy"), "--out", str(run), "--batch-size", str(BATCH)]
    command += ["--epochs", str(-(-steps // PER_EPOCH)), "--checkpoint-every", str(every), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if (found := look(process.pid, run)) is not None:
            seen.append(found)
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"the fit ended with {process.returncode}")
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=50)
    arguments, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = watched(Path(folder), arguments.steps, arguments.every, options)
    seen = [each for each in seen if each.step < seen[-1].step]  # then it evaluates the best state and draws a figure
    first = [each for each in seen if 0.1 < each.step / arguments.steps <= 0.2]
    last = [each for each in seen if each.step / arguments.steps > 0.9]
    print(f"{arguments.steps} steps, a checkpoint every {arguments.every}; looked at {len(seen)} times")
    print(f"{'':28}{'second tenth':>14}{'last tenth':>14}{'growth':>9}")
    for name, unit in (("memory", "MB"), ("descriptors", ""), ("threads", ""), ("checkpoints", ""), ("size", "kB")):
        before, after = (float(np.max([getattr(each, name) for each in part])) for part in (first, last))
        print(f"{f'{name} {unit}':28}{before:14.2f}{after:14.2f}{after / before - 1:9.2%}")
    lines = last[-1].metrics / last[-1].step * PER_EPOCH * 1e3
    print(f"metrics.jsonl, which has a line for each epoch, is no part of size: {lines:.0f} bytes an epoch")


if __name__ == "__main__":
    main()
