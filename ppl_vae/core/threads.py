"""How many threads torch takes: by measurement, since beside other work many of them are slower than one.

Torch's threads wait for each other by spinning, at the end of each of the many short loops of a pass. Where another
process has one of their cores, all of them wait for the one that is not running.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Literal, TypeAlias

Threads: TypeAlias = int | Literal["auto"] | None
MOST = 1024
"""Many more threads end a process without a word."""
ROUNDS, LEAST_ROUNDS, ROWS = 20, 3, 128
LONGEST = 0.3
"""Seconds that measuring takes, about."""
BETTER = 0.9
"""More threads are taken where they need less than so much of the time of fewer."""


@contextmanager
def threads_of(threads: Threads) -> Iterator[int]:
    """Let torch have so many threads in here: those that are fastest now with `auto`, its own number with None."""
    import torch  # here, so that help is quick

    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(fastest(before) if threads == "auto" else threads)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def fastest(most: int) -> int:
    """How many threads are fastest now: 1, 2, 4, … or `most`, by a small network's passes in turn.

    Torch has as many threads afterwards as it had before, and its random state is not touched.
    """
    import torch

    before = torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(size, generator=generator) for size in ((ROWS, 512), (512, 512)))
    counts = sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})
    taken: dict[int, list[float]] = {count: [] for count in counts}
    began = time.perf_counter()
    try:
        for done in range(ROUNDS + 1):
            if done > LEAST_ROUNDS and time.perf_counter() - began > LONGEST:
                break
            for count in counts:
                torch.set_num_threads(count)
                start = time.perf_counter()
                y = x
                for _ in range(8):
                    y = torch.nn.functional.softplus(y @ w).sub_(1.0)
                taken[count].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    seconds = {count: fmean(times[1:]) for count, times in taken.items()}  # a mean: a few long waits are what hurts
    best = counts[0]
    for count in counts[1:]:
        best = count if seconds[count] < BETTER * seconds[best] else best
    return best
