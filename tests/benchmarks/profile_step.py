"""Where the time of a compiled step goes: matrix products, elementwise loops, noise, the optimizer, and Python.

Inductor's loops are compiled with marks, and torch's profiler adds up the time that each operation takes by itself.
An operation's kind follows from its name. What is left of the median step without the profiler is Python: the step's
own, the call of the compiled code, and what the profiler does not name. `make bench`.
"""

import argparse
import statistics
import time
from pathlib import Path

import pyro
from torch._inductor import config as inductor
from torch.profiler import ProfilerActivity, profile
from work import WORK, Work, trainer

from ppl_vae.core.files import write_json

KINDS = {
    "elementwise": ("cpp_fused", "aten::copy_"),
    "products": ("_linear_pointwise", "aten::mm", "aten::addmm", "aten::bmm", "convolution"),
    "noise": ("aten::normal", "aten::rand", "aten::uniform", "aten::bernoulli", "aten::exponential"),
    "optimizer": ("_fused_adam_", "_foreach_", "aten::add_"),
}
"""Parts of the names of operations, the first that fits; copies are those of a transposed factor of a product."""
PYTHON = "Python and the rest"


def kind(name: str) -> str:
    """The kind of an operation."""
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), PYTHON)


def measure(work: Work, steps: int) -> dict[str, float]:
    """Seconds of a step by kind, and the whole `step`, its median without the profiler."""
    x = work.rows()
    with inductor.patch({"cpp.enable_kernel_profile": True}), pyro.validation_enabled(False):
        taking = trainer(work, x, True)
        batch = (x[: work.batch],)
        times = []
        for _ in range(2 * steps):
            start = time.perf_counter()
            taking.step(batch)
            times.append(time.perf_counter() - start)
        taking.taken = 2**20  # no comparison with the programs, at steps 2ⁿ, is in the profile
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            for _ in range(steps):
                taking.step(batch)
    found = dict.fromkeys([*KINDS, PYTHON], 0.0)
    for event in seen.key_averages():
        found[kind(event.key)] += 1e-6 * event.self_cpu_time_total / steps
    whole = statistics.median(times[steps:])
    found[PYTHON] = whole - sum(found[name] for name in KINDS)
    return {"step": whole} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50, help="per round")
    parser.add_argument("--work", nargs="+", choices=WORK, default=["large", "small"])
    parser.add_argument("--json", type=Path, help="write the times here")
    args = parser.parse_args()
    found = {name: [measure(WORK[name], args.steps) for _ in range(args.rounds)] for name in args.work}
    for name, rounds in found.items():
        middle = {part: 1e3 * statistics.median(each[part] for each in rounds) for part in rounds[0]}
        told = ", ".join(f"{part} {ms:.2f}" for part, ms in middle.items())
        print(f"{name}, milliseconds, medians of {args.rounds} rounds: {told}")
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    main()
