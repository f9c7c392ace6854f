"""Importance sampling of log p(x) beside the matrix products of its decoder alone, K = 5000, 50-200-200-784.

`make bench`. Microseconds per row and draw, as it is and compiled, and the ratio to the products, by torch's own or by
oneDNN's, whichever is faster; compiling is not counted; k-hat's time apart; the peak memory of the process.
"""

import argparse
import resource
import time
from itertools import pairwise
from unittest import mock

import pyro
import torch
from torch import Tensor, nn

from ppl_vae.evidence import importance as module
from ppl_vae.graphs.calls import compiling
from ppl_vae.graphs.products import WAYS
from ppl_vae.programs import Pair, resolve_pair

SIZES = (50, 200, 200, 784)
K, PRODUCTS_OF = 5000, 5000


def pair(x: Tensor) -> Pair:
    made = resolve_pair("bernoulli", "diagonal_normal", (x,), {"hidden": SIZES[1], "latent_dim": SIZES[0]})
    for program in (made.model, made.guide):
        program.eval()
    layers = [nn.Linear(a, b) for a, b in pairwise(SIZES)]
    made.model.decoder = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
    return made


def products(rows: int, way: str) -> float:
    """Seconds of the decoder's matrix products alone, of K draws of each row."""
    weights = [torch.randn(a, b) for a, b in pairwise(SIZES)]
    inputs = [torch.randn(PRODUCTS_OF, size) for size in SIZES[:-1]]
    began = time.perf_counter()
    for _ in range(rows * K // PRODUCTS_OF):
        for x, w in zip(inputs, weights, strict=True):
            WAYS[way](None, x, w)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    x = torch.bernoulli(torch.full((options.rows, SIZES[-1]), 0.3))
    made, in_khat = pair(x[:10]), [0.0]

    def timed(log_w: Tensor, khat=module.khat) -> Tensor:  # type: ignore[no-untyped-def]
        began = time.perf_counter()
        found = khat(log_w)
        in_khat[0] += time.perf_counter() - began
        return found

    def seconds() -> float:
        in_khat[0], began = 0.0, time.perf_counter()
        module.importance(made.model, made.guide, x, K)
        return time.perf_counter() - began - in_khat[0]

    module.importance(made.model, made.guide, x[:10], 100)  # ArviZ is imported here
    each = 1e6 / (options.rows * K)
    with pyro.validation_enabled(False), mock.patch.object(module, "khat", timed), compiling("on") as calls:
        for _ in range(2):  # it is compiled here
            module.importance(made.model, made.guide, x[: min(100, options.rows)], K)
        for _ in range(options.rounds):
            floor = {way: products(options.rows, way) for way in WAYS}
            best = min(floor.values())
            compiled = seconds()
            with mock.patch.object(calls, "how", "off"):
                plain = seconds()
            print(
                f"µs per row and draw: importance {each * plain:.2f}, compiled {each * compiled:.2f}; products "
                f"{', '.join(f'{way} {each * took:.2f}' for way, took in floor.items())}; ratios to the faster "
                f"{plain / best:.2f} and {compiled / best:.2f}; k-hat {1e3 * in_khat[0] / options.rows:.2f} ms a row; "
                f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
