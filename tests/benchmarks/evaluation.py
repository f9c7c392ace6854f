"""Seconds of what an evaluation computes, as it is and compiled, for the pair 784-400-50.

`python tests/benchmarks/evaluation.py`. Each task is done in turn both ways; what compiling took comes apart.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from unittest import mock

import pyro
import torch
from torch import Tensor
from work import LARGE, Work

from ppl_vae.evidence.annealed import annealed
from ppl_vae.evidence.fitted import fitted
from ppl_vae.evidence.gap import refined
from ppl_vae.evidence.importance import importance
from ppl_vae.graphs.calls import compiling
from ppl_vae.programs import Pair

TASKS: dict[str, Callable[[Pair, Tensor], object]] = {
    "importance sampling, 200 rows, K = 1000": lambda pair, x: importance(pair.model, pair.guide, x[:200], 1000),
    "fitted proposals, 100 rows, K = 1000": lambda pair, x: fitted(pair.model, pair.guide, x[:100], 1000),
    "annealing, 100 rows, 100 temperatures": lambda pair, x: annealed(
        pair.model, pair.guide, x[:100], temperatures=100
    ),
    "best q of 100 rows, 200 steps": lambda pair, x: refined(pair.model, pair.guide, x[:100], steps=200),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    work = Work(100, LARGE)
    x = work.rows()
    pair = work.pair(x)
    pair.model.eval()
    pair.guide.eval()
    print(f"{'seconds':45} as it is  compiled  ratio (range)       compiling")
    for name, task in TASKS.items():

        def seconds(task: Callable[[Pair, Tensor], object] = task) -> float:
            began = time.perf_counter()
            task(pair, x)
            return time.perf_counter() - began

        with pyro.validation_enabled(False), compiling("on") as calls:
            first = seconds()
            seconds()  # what the first called once is compiled here
            taken = []
            for _ in range(options.rounds):
                ours = seconds()
                with mock.patch.object(calls, "how", "off"):
                    taken.append((seconds(), ours))
        plain, ours = (statistics.median(each) for each in zip(*taken, strict=True))
        ratios = sorted(b / a for a, b in taken)
        print(
            f"{name:45} {plain:8.2f}  {ours:8.2f}   {statistics.median(ratios):.2f} ({ratios[0]:.2f} to "
            f"{ratios[-1]:.2f})  {max(0.0, first - ours):8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
