"""A step of `fit`, with all threads and with one, alone and beside a process that keeps one core busy.

Milliseconds, the median over rounds; each round takes all steps alone, and then all beside the neighbour. The ratio
is the median over rounds of beside/alone.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from work import WORK, Timed, Work, ours, timed

from ppl_vae.core.files import write_json
from ppl_vae.core.threads import fastest


@contextlib.contextmanager
def neighbours(number: int) -> Iterator[list[subprocess.Popen]]:
    """So many busy processes."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield busy
    finally:
        for process in busy:
            process.kill()
            process.wait()


def by_threads(work: Work, steps: int, counts: list[int]) -> dict[str, Timed]:
    """The step, compiled and as it is, for each number of threads, for which it is compiled too."""
    x, made = work.rows(), {}

    def candidate(threads: int, compiled: bool) -> Timed:
        torch.set_num_threads(threads)
        seconds = timed(ours(work, x, compiled), x, work.batch, steps)

        def counted() -> float:
            torch.set_num_threads(threads)
            seconds()  # not counted: the threads start
            return seconds()

        return counted

    for compiled in (True, False):
        for threads in counts:
            made[f"{'compiled' if compiled else 'as it is'}, threads: {threads}"] = candidate(threads, compiled)
    return made


def measure(work: Work, rounds: int, steps: int, counts: list[int], busy: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of a step by round, of each candidate, `alone` and `beside` so many busy processes."""
    made = by_threads(work, steps, counts)
    taken: dict[str, dict[str, list[float]]] = {name: {"alone": [], "beside": []} for name in made}
    for _ in range(rounds):
        for where, number in (("alone", 0), ("beside", busy)):
            with neighbours(number):
                for name, seconds in made.items():
                    taken[name][where].append(seconds())
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="per round and candidate")
    parser.add_argument("--work", nargs="+", choices=WORK, default=["large", "small"])
    parser.add_argument("--neighbours", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the times here")
    args = parser.parse_args()
    counts = [torch.get_num_threads(), 1]
    print(f"{os.cpu_count()} cores; milliseconds of a step, alone and beside {args.neighbours} busy process(es)")
    for where, number in (("alone", 0), ("beside", args.neighbours)):
        with neighbours(number):
            print(f"  --threads auto takes {fastest(counts[0])} {where}")
    found = {}
    for name in args.work:
        found[name] = measure(WORK[name], args.rounds, args.steps, counts, args.neighbours)
        for each, times in found[name].items():
            alone, beside = (1e3 * statistics.median(times[where]) for where in ("alone", "beside"))
            ratio = statistics.median(b / a for a, b in zip(times["alone"], times["beside"], strict=True))
            print(f"  {name}, {each:22} {alone:7.2f} alone {beside:7.2f} beside   ratio {ratio:.2f}", flush=True)
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    main()
