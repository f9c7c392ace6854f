"""How long a process takes to its answer, and `fit` to its first step, with the peak memory of each.

Medians over process starts in turn, with the least and the largest. The data are 125 random rows of 784 bits, so that
an epoch of `fit` is one step, and the first step is there when the line of epoch 1 is in the metrics, which holds an
evaluation of 13 rows too. Memory is that of the whole process, with the figure that `fit` draws, and of the largest
process that it starts, such as the C++ compiler. Cold: nothing is in Inductor's cache; warm: the code is. `make bench`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppl_vae.core.files import write_json

VERB = str(Path(sys.executable).with_name("ppl-vae"))
PAIR = ("--model", "bernoulli", "--guide", "diagonal_normal")


@dataclass(frozen=True)
class Start:
    """What is started, and the most seconds that it should take.

    Args:
        cache: Inductor's folder, `cold` or `warm`; empty where nothing is compiled.
    """

    command: tuple[str, ...]
    aim: float | None = None
    cache: str = ""


def fitted(compile: str) -> tuple[str, ...]:
    return (VERB, "fit", *PAIR, "--epochs", "1", "--compile", compile)


STARTS = {
    "import torch, pyro": Start((sys.executable, "-c", "import torch, pyro")),
    "import ppl_vae": Start((sys.executable, "-c", "import ppl_vae")),
    "ppl-vae --help": Start((VERB, "--help"), 0.3),
    "ppl-vae check": Start((VERB, "check", *PAIR)),
    "fit, not compiled": Start(fitted("off")),
    "fit, compiled, warm": Start(fitted("on"), 5, "warm"),
    "fit, compiled, cold": Start(fitted("on"), 20, "cold"),
}


def measured(command: list[str], environment: Mapping[str, str], ready: Callable[[], bool]) -> tuple[float, float]:
    """Seconds until `ready` or the end, and the peak memory at the end, in MiB, of one process."""
    seconds, ended, began = 0.0, 0, time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        while not ended:
            time.sleep(0.002)
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if not seconds and (ended or ready()):
                seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read().decode()}")
    return seconds, used.ru_maxrss / 1024


def once(start: Start, folder: Path, number: int) -> tuple[float, float]:
    """One start, with `folder` for the data, the runs and Inductor's caches."""
    command, out = list(start.command), folder / f"run-{number}"
    if command[0] == VERB and command[1] in ("check", "fit"):
        command += ["--data", str(folder / "rows.npy")]
    if "fit" in command:
        command += ["--out", str(out)]
    cache = folder / (f"cold-{number}" if start.cache == "cold" else "warm")
    metrics = out / "metrics.jsonl"

    def ready() -> bool:
        return metrics.is_file() and metrics.read_bytes().count(b"\n") > 1

    return measured(command, os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)}, ready)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=STARTS, default=list(STARTS), metavar="NAME")
    parser.add_argument("--json", type=Path, help="write all times here")
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in args.only}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.save(folder / "rows.npy", (np.random.default_rng(0).random((125, 784)) < 0.2).astype(np.float32))
        for i in range(args.rounds + 1):
            for j, name in enumerate(args.only):
                if i or STARTS[name].cache != "cold":  # the first round fills the caches, and is not counted
                    taken = once(STARTS[name], folder, len(STARTS) * i + j)
                    found[name] += [taken] if i else []
    print(f"{'':22} {'seconds':>8}  {'least–largest':15} {'aim':>5}  {'peak MiB':>8}")
    for name, each in found.items():
        seconds, peak = zip(*each, strict=True)
        aim = "" if STARTS[name].aim is None else f"{STARTS[name].aim:g}"
        spread = f"{min(seconds):.2f}–{max(seconds):.2f}"
        print(f"{name:22} {statistics.median(seconds):8.2f}  {spread:15} {aim:>5}  {statistics.median(peak):8.0f}")
    if args.json:
        write_json(args.json, {name: {"seconds_and_MiB": each} for name, each in found.items()})


if __name__ == "__main__":
    main()
