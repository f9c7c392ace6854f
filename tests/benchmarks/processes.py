"""Two processes of one thread beside one process of two threads, on the same batches, and where the time goes.

Each candidate is started anew in each round, in turn. Of two processes the step is the pass over half of the batch with
its backward pass and Adam, and the exchange: the gradients in one piece of memory, added up. `all_reduce` alone, with
both processes ready, is what the exchange takes at least; the rest of it is a copy and waiting for the other process.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyro
import torch
import torch.distributed as dist
from work import LARGE, SMALL, WORK, Work

from ppl_vae.core.files import write_json
from ppl_vae.data.protocol import Shard
from ppl_vae.graphs.captured import Captured
from ppl_vae.training.captured import CapturedTrainer
from ppl_vae.training.distributed import World
from ppl_vae.training.step import Trainer

SIZES = {
    "small, 100 rows": WORK["small"],
    "small, 1000 rows": Work(1000, SMALL),
    "small, 100 rows, K=50": WORK["small, K=50"],
    "large, 256 rows": WORK["large"],
    "large, 2048 rows": Work(2048, LARGE),
    "wide, 512 rows": Work(512, {"hidden": 1500, "latent_dim": 50}),
}
CANDIDATES = {"one of one thread": (1, 1), "one of two threads": (1, 2), "two of one thread": (2, 1)}
SECONDS, WARM = 4.0, 10


def trainer(work: Work, world: World, compiled: bool) -> tuple[Trainer, torch.Tensor]:
    x = work.rows()[: world.shard.count(work.batch)] if work.batch <= 4000 else work.rows()
    pair, objective, noise = work.pair(x), work.objective(), world.noise("cpu", 0)
    if not compiled:
        return Trainer(pair, objective, noise=noise, world=world), x
    captured = Captured(pair, objective)
    captured.graph_for((x,))
    return CapturedTrainer(pair, objective, noise=noise, world=world, captured=captured), x


def worker(name: str, compiled: bool) -> dict[str, float]:
    """Milliseconds of a step, and of its parts, in one of the processes."""
    size = int(os.environ["WORLD_SIZE"])
    if size > 1:
        dist.init_process_group("gloo")
    world = World(Shard(int(os.environ["RANK"]), size))
    torch.manual_seed(0)
    with pyro.validation_enabled(False):
        stepper, x = trainer(SIZES[name], world, compiled)
        exchange = [0.0]
        reduce = world.reduce

        def timed(*given: Any) -> Any:
            begun = time.perf_counter()
            found = reduce(*given)
            exchange[0] += time.perf_counter() - begun
            return found

        world.reduce = timed  # type: ignore[method-assign]
        share = 1 / size

        def steps(number: int) -> float:
            begun = time.perf_counter()
            for _ in range(number):
                stepper.step((x,), share) if size > 1 else stepper.step((x,))
            return time.perf_counter() - begun

        steps(WARM)
        number = max(20, int(SECONDS / (steps(WARM) / WARM)))
        if size > 1:
            number = world.gathered(number)[0]
        exchange[0] = 0.0
        seconds = steps(number)
        found = {"step": 1e3 * seconds / number, "exchange": 1e3 * exchange[0] / number}
    if size > 1:
        flat = torch.cat([p.detach().flatten() for p in stepper.parameters.values()])
        begun = time.perf_counter()
        for _ in range(100):
            dist.all_reduce(flat)
            flat /= size
        found["all_reduce"] = 1e3 * (time.perf_counter() - begun) / 100
        found["bytes"] = 4 * flat.numel()
        dist.barrier()
        dist.destroy_process_group()
    return found


def measured(name: str, compiled: bool, processes: int, threads: int) -> dict[str, float]:
    """What the first of so many processes says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", name, *(["--compiled"] if compiled else [])],
            env=os.environ | environment | {"RANK": str(rank), "OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(processes)
    ]  # fmt: skip
    told = [process.communicate()[0] for process in started]
    found: dict[str, float] = json.loads(told[0])
    return found


def compared(name: str, compiled: bool, rounds: int) -> dict[str, Any]:
    """Medians over rounds of each candidate, and of the ratio of rows per second, with its least and largest."""
    runs = [{each: measured(name, compiled, *how) for each, how in CANDIDATES.items()} for _ in range(rounds)]
    found: dict[str, Any] = {
        each: {part: statistics.median(run[each][part] for run in runs) for part in runs[0][each]}
        for each in CANDIDATES
    }
    ratios = sorted(run["one of two threads"]["step"] / run["two of one thread"]["step"] for run in runs)
    return found | {"ratio": [statistics.median(ratios), ratios[0], ratios[-1]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(SIZES), help="Which sizes of the work.")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="Write the numbers as JSON.")
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(worker(given.worker, given.compiled)))
        return
    title = "one of 1 thread | one of 2 | two of 1 | of it exchange | all_reduce | MB | ratio"
    print(f"milliseconds of a step\n{'':32}{title}")
    results = {}
    for name in given.only:
        for compiled in (False, True):
            label = f"{name}, {'compiled' if compiled else 'as it is'}"
            results[label] = found = compared(name, compiled, given.rounds)
            one, more, two = (found[each] for each in CANDIDATES)
            low, high = found["ratio"][1:]
            print(
                f"{label:32}{one['step']:15.2f} | {more['step']:8.2f} | {two['step']:8.2f} | {two['exchange']:14.2f} | "
                f"{two['all_reduce']:10.2f} | {two['bytes'] / 1e6:4.1f} | {found['ratio'][0]:.2f} "
                f"({low:.2f}–{high:.2f})",
                flush=True,
            )
    if given.out:
        write_json(given.out, results)


if __name__ == "__main__":
    main()
