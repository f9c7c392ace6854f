"""Seconds from the start of a process to a validation ELBO: `fit --compile on`, Pyro's recipe, NumPyro's jit and scan.

`python tests/benchmarks/time_to_quality.py --data MNIST.npz --numpyro PYTHON`. MNIST.npz has grey values from 0 to 255
under `train` and `valid`, `(rows, 784)`, and is binarized once, alike for everybody; PYTHON has numpyro, flax and
optax.

Everybody trains the VAE 784-400-50 with softplus layers and a Bernoulli likelihood, on batches of 256, by Adam at
0.001 and one draw, from weights uniform on ±1/√inputs. Each training is a process. Its clock starts with the process,
so that imports, reading, binarizing, `fit`'s check and records, and compiling count; evaluations do not. A fit that is
compiled comes twice: with nothing in Inductor's cache, as the first time, and with the code in it, as ever after.

The ELBO is measured alike for everybody, here, from the weights after each epoch: closed-form KL and the same DRAWS
draws for every validation row. The two thresholds are those that Pyro reaches after E1 and E2 epochs, the median over
seeds. All train a quarter longer than E2.

What differs: NumPyro leaves out the last 80 of 50 000 rows of an epoch, as its batches have one size, and its biases
start at 0; Pyro's recipe takes its batches by index, since the loader of its example would make it slower.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, linear, softplus
from trainings import binarized

from ppl_vae.core.files import write_json

TRAININGS = Path(__file__).with_name("trainings.py")
OURS, AGAIN, PYRO, NUMPYRO = "fit, the first time", "fit, compiled before", "Pyro", "NumPyro, jit and scan"
DRAWS = 4
Curve = list[tuple[float, float]]
"""Seconds and ELBO after each epoch, in nats per validation row."""


@torch.no_grad()
def elbo(weights: list[Tensor], x: Tensor) -> float:
    """The ELBO of rows x, in nats per row, with the closed-form KL and the mean of DRAWS draws of a fixed seed."""
    w1, b1, w2, b2, w3, b3, w4, b4 = weights
    loc, raw = linear(softplus(linear(x, w1, b1)), w2, b2).chunk(2, -1)
    scale = softplus(raw) + 1e-4
    rate = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
    generator, log_lik = torch.Generator().manual_seed(0), torch.zeros(len(x))
    for _ in range(DRAWS):
        z = loc + scale * torch.randn(loc.shape, generator=generator)
        logits = linear(softplus(linear(z, w3, b3)), w4, b4)
        log_lik -= binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1) / DRAWS
    return (log_lik - rate).double().mean().item()


def curve(folder: Path, valid: Tensor) -> Curve:
    """What a training that left its weights in `folder` had reached, and when."""
    found = []
    for path in sorted(folder.glob("*.npz"), key=lambda path: int(path.stem)):
        with np.load(path) as read:
            weights = [torch.from_numpy(read[f"arr_{i}"]) for i in range(8)]
            found.append((float(read["seconds"]), elbo(weights, valid)))
    return found


def trained(python: str, who: str, data: Path, seed: int, epochs: int, cache: Path, valid: Tensor) -> Curve:
    """The curve of one training, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        told = map(str, (data, folder, seed, epochs, time.time()))
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
        subprocess.run([python, TRAININGS, who, *told], check=True, env=environment, stdout=subprocess.DEVNULL)
        return curve(Path(folder), valid)


def reached(found: Curve, threshold: float) -> tuple[float, float]:
    """Seconds and epoch when the ELBO was first at the threshold; infinite if it never was."""
    first = ((seconds, i + 1) for i, (seconds, value) in enumerate(found) if value >= threshold)
    return next(first, (math.inf, math.inf))


def table(curves: dict[str, list[Curve]], epochs: list[int]) -> dict[str, list[dict[str, float]]]:
    """For each candidate and threshold: medians over seeds of seconds, epoch, and ratio to Pyro's seconds."""
    thresholds = [statistics.median(found[epoch - 1][1] for found in curves[PYRO]) for epoch in epochs]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in curves}
    for name, runs in curves.items():
        for threshold in thresholds:
            seconds, epoch = zip(*(reached(found, threshold) for found in runs), strict=True)
            pyro = [reached(found, threshold)[0] for found in curves[PYRO]]
            ratio = statistics.median(ours / theirs for ours, theirs in zip(seconds, pyro, strict=True))
            spread = {"least": min(seconds), "largest": max(seconds)}
            told = {"seconds": statistics.median(seconds), "epoch": statistics.median(epoch), "ratio": ratio}
            rows[name].append({"elbo": threshold, **told, **spread})
    return rows


def all_curves(data: Path, numpyro: str | None, seeds: int, epochs: int) -> dict[str, list[Curve]]:
    """The curves of every candidate, one for each seed."""
    valid = torch.from_numpy(binarized(data)[1])
    who = {OURS: "ppl_vae", AGAIN: "ppl_vae", PYRO: "pyro"} | ({NUMPYRO: "numpyro"} if numpyro else {})
    curves: dict[str, list[Curve]] = {name: [] for name in who}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as cache:  # of Inductor, empty at first
            for name, which in who.items():
                python = numpyro if numpyro and which == "numpyro" else sys.executable
                found = trained(python, which, data, seed, epochs, Path(cache), valid)
                curves[name].append(found)
                (first, _), (last, value) = found[0], found[-1]
                told = f"epoch 1 at {first:.1f} s, {epochs} at {last:.1f} s: {value:.2f}"
                print(f"seed {seed}, {name:22} {told}", flush=True)
    return curves


def show(found: dict[str, list[dict[str, float]]], epochs: list[int]) -> None:
    for i, epoch in enumerate(epochs):
        print(f"\nvalidation ELBO {found[PYRO][i]['elbo']:.2f}, that of Pyro after {epoch} epochs; medians over seeds")
        for name, rows in found.items():
            at = rows[i]
            seconds = f"{at['seconds']:7.1f} s ({at['least']:.1f}–{at['largest']:.1f}), epoch {at['epoch']:g}"
            print(f"  {name:22} {seconds:36} {at['ratio']:5.2f} of Pyro's seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MNIST.npz")
    parser.add_argument("--numpyro", metavar="PYTHON", help="a Python that has numpyro, flax and optax")
    parser.add_argument("--epochs", type=int, nargs=2, default=[20, 95], metavar=("E1", "E2"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the curves and the table here")
    args = parser.parse_args()
    curves = all_curves(args.data, args.numpyro, args.seeds, args.epochs[1] + args.epochs[1] // 4)
    found = table(curves, args.epochs)
    show(found, args.epochs)
    if args.json:
        write_json(args.json, {"epochs": args.epochs, "table": found, "curves": curves})


if __name__ == "__main__":
    main()
