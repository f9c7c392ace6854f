"""Importance sampling of log p(x) beside the matrix products of its decoder alone, K = 5000, 50-200-200-784.

`make bench`. Seconds per row and draw, and their ratio to the products; k-hat's time apart; the peak memory of the
process.
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
from ppl_vae.programs import Pair, resolve_pair

SIZES = (50, 200, 200, 784)
K, PRODUCTS_OF = 5000, 5000


def pair(x: Tensor) -> Pair:
    made = resolve_pair("bernoulli", "diagonal_normal", (x,), {"hidden": SIZES[1], "latent_dim": SIZES[0]})
    layers = [nn.Linear(a, b) for a, b in pairwise(SIZES)]
    made.model.decoder = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
    return made


def products(rows: int) -> float:
    """Seconds of the decoder's matrix products alone, of K draws of each row."""
    weights = [torch.randn(a, b) for a, b in pairwise(SIZES)]
    inputs = [torch.randn(PRODUCTS_OF, size) for size in SIZES[:-1]]
    began = time.perf_counter()
    for _ in range(rows * K // PRODUCTS_OF):
        for x, w in zip(inputs, weights, strict=True):
            x @ w
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

    module.importance(made.model, made.guide, x[:10], 100)  # ArviZ is imported here
    with pyro.validation_enabled(False), mock.patch.object(module, "khat", timed):
        for _ in range(options.rounds):
            in_khat[0], floor, began = 0.0, products(options.rows), time.perf_counter()
            module.importance(made.model, made.guide, x, K)
            seconds = time.perf_counter() - began - in_khat[0]
            each = 1e6 / (options.rows * K)
            print(
                f"µs per row and draw: importance {each * seconds:.2f}, products {each * floor:.2f}, ratio "
                f"{seconds / floor:.2f}; k-hat {1e3 * in_khat[0] / options.rows:.2f} ms a row; peak "
                f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
            )


if __name__ == "__main__":
    main()
