"""How the time of a step grows with the size of the work, and that of an epoch of `fit` with the number of rows.

Batch, draws K, hidden width and latent dimensions are doubled from 784-200-20 with 100 rows and one draw, one at a
time. For each: milliseconds, medians of rounds in turn, and the slope of log time over log size by least squares: 1 is
proportional, 0 is no growth. An epoch is that of `metrics.jsonl`, with its evaluation of the validation rows.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from work import SMALL, Timed, Work, in_turn, ours, timed

import ppl_vae
from ppl_vae.core.files import write_json

BASE = Work(100, SMALL)
SIZES = {
    "batch": [50, 100, 200, 400],
    "K": [1, 2, 4, 8],
    "hidden": [100, 200, 400, 800],
    "latent_dim": [10, 20, 40, 80],
    "rows": [4000, 8000, 16000, 32000],
}
HOW = {"compiled": True, "as it is": False}


def work(what: str, size: int) -> Work:
    """The work with one size changed."""
    if what == "batch":
        return replace(BASE, batch=size)
    if what == "K":
        return replace(BASE, particles=size)
    return replace(BASE, settings=BASE.settings | {what: size})


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Of log seconds over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def steps_of(what: str, sizes: list[int], compiled: bool, rounds: int, steps: int) -> list[float]:
    """Median seconds of a step for each size."""
    candidates: dict[str, Timed] = {}
    for size in sizes:
        each = work(what, size)
        x = each.rows()
        candidates[str(size)] = timed(ours(each, x, compiled), x, each.batch, steps)
    return [statistics.median(times) for times in in_turn(candidates, rounds).values()]


def epochs_of(sizes: list[int], compiled: bool, rounds: int) -> list[float]:
    """Median seconds of an epoch of `fit` for each number of rows; the first epoch is not counted."""
    x = (torch.rand(max(sizes), 784) < 0.2).float()
    found = []
    for size in sizes:
        run = ppl_vae.fit(
            "bernoulli", "diagonal_normal", x[:size], set=SMALL, epochs=rounds + 1,
            compile="on" if compiled else "off",
        )  # fmt: skip
        found.append(statistics.median(line["seconds"] for line in run.metrics[2:]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of steps, and epochs of fit")
    parser.add_argument("--steps", type=int, default=20, help="per round and size")
    parser.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--json", type=Path, help="write the medians here")
    args = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    for what in args.only:
        sizes, found[what] = SIZES[what], {}
        for how, compiled in HOW.items():
            if what == "rows":
                taken = epochs_of(sizes, compiled, args.rounds)
            else:
                taken = steps_of(what, sizes, compiled, args.rounds, args.steps)
            found[what][how] = taken
            each = ", ".join(f"{size}: {1e3 * seconds:.2f}" for size, seconds in zip(sizes, taken, strict=True))
            print(f"{what:10} {how:9} slope {slope(sizes, taken):5.2f}   ms at {each}", flush=True)
    if args.json:
        write_json(args.json, {"sizes": SIZES, "seconds": found})


if __name__ == "__main__":
    main()
