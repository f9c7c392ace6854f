"""One training step: ours, with its checks, beside `pyro.infer.SVI.step` on the same programs.

Interleaved rounds in one process; the median time of a step, and its ratio to SVI's. `make bench`.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import pyro
import torch
from pyro.infer import SVI
from torch import Tensor, nn

from ppl_vae import objectives
from ppl_vae.data import open_data
from ppl_vae.programs import Pair, resolve_pair
from ppl_vae.training.step import Trainer

SIZES = {"large": (400, 50, 256), "small": (200, 20, 100)}


def pair(x: Tensor, hidden: int, latent_dim: int) -> Pair:
    torch.manual_seed(0)
    return resolve_pair("bernoulli", "diagonal_normal", (x,), {"hidden": hidden, "latent_dim": latent_dim})


def svi(x: Tensor, hidden: int, latent_dim: int, *, validate: bool) -> Callable[[Tensor], object]:
    """Pyro's own step, with a parameter store of its own so that every candidate trains."""
    programs, state = pair(x, hidden, latent_dim), {"params": {}, "constraints": {}}
    stepper = SVI(programs.model, programs.guide, pyro.optim.Adam({"lr": 1e-3}), pyro.infer.Trace_ELBO())
    pyro.get_param_store().set_state(state)

    def step(batch: Tensor) -> object:
        with pyro.validation_enabled(validate):
            return stepper.step(batch)

    return step


def module(x: Tensor, hidden: int, latent_dim: int) -> Callable[[Tensor], object]:
    """Pyro's ELBO as a module with one fused torch Adam: validation off, nothing checked, no rate and distortion."""
    programs = pair(x, hidden, latent_dim)
    loss = pyro.infer.Trace_ELBO()(programs.model, programs.guide)
    optimizer = torch.optim.Adam(
        list(programs.model.parameters()) + list(programs.guide.parameters()), 1e-3, fused=True
    )

    def step(batch: Tensor) -> object:
        with pyro.validation_enabled(False):
            optimizer.zero_grad(set_to_none=True)
            value = loss(batch)
            value.backward()
            optimizer.step()
            return value.detach()

    return step


def ours(x: Tensor, hidden: int, latent_dim: int, objective: str) -> Callable[[Tensor], object]:
    """The step that `fit` takes: Pyro's validation off, loss and gradient norm checked before the optimizer moves."""
    trainer = Trainer(pair(x, hidden, latent_dim), objectives.get(objective)())

    def step(batch: Tensor) -> object:
        with pyro.validation_enabled(False):
            return trainer.step((batch,))

    return step


def products(x: Tensor, hidden: int, latent_dim: int, batch: int) -> Callable[[Tensor], object]:
    """The matrix products of one step alone: the floor."""
    sizes = ((x.shape[1], hidden), (hidden, 2 * latent_dim), (latent_dim, hidden), (hidden, x.shape[1]))
    weights = [torch.randn(a, b) for a, b in sizes]
    inputs = [torch.randn(batch, a) for a, _ in sizes]
    gradients = [torch.randn(batch, b) for _, b in sizes]

    def step(batch: Tensor) -> object:
        for i, (w, a, g) in enumerate(zip(weights, inputs, gradients, strict=True)):
            nn.functional.linear(a, w.T)
            a.T @ g
            if i:
                g @ w.T
        return None

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20, help="per round and candidate")
    args = parser.parse_args()
    x = open_data("mnist-5k").train[0]
    print(f"torch {torch.__version__}, pyro {pyro.__version__}, {torch.get_num_threads()} threads")
    for size, (hidden, latent_dim, batch) in SIZES.items():
        scopes: dict[str, dict] = {}
        makers: dict[str, Callable[[], Callable[[Tensor], object]]] = {
            "pyro SVI, validation on (Pyro's default)": lambda: svi(x, hidden, latent_dim, validate=True),  # noqa: B023
            "pyro SVI, validation off": lambda: svi(x, hidden, latent_dim, validate=False),  # noqa: B023
            "pyro ELBO module, fused Adam, unchecked": lambda: module(x, hidden, latent_dim),  # noqa: B023
            "ppl_vae trace, checked": lambda: ours(x, hidden, latent_dim, "trace"),  # noqa: B023
            "ppl_vae analytic-kl, checked": lambda: ours(x, hidden, latent_dim, "analytic-kl"),  # noqa: B023
            "matrix products alone": lambda: products(x, hidden, latent_dim, batch),  # noqa: B023
        }
        steps, times = {}, {name: [] for name in makers}
        for name, maker in makers.items():
            with pyro.get_param_store().scope() as scopes[name]:
                steps[name] = maker()
                for _ in range(5):
                    steps[name](x[:batch])
        for _ in range(args.rounds):
            rows = [x[i] for i in torch.randperm(len(x)).split(batch)[: args.steps] if len(i) == batch]
            for name, step in steps.items():
                with pyro.get_param_store().scope(scopes[name]) as scopes[name]:
                    start = time.perf_counter()
                    for row in rows:
                        step(row)
                    times[name].append((time.perf_counter() - start) / len(rows))
        print(f"\n{size}: 784-{hidden}-{latent_dim}, batch {batch}")
        base = times["pyro SVI, validation on (Pyro's default)"]
        for name, taken in times.items():
            ratio = statistics.median(t / b for t, b in zip(taken, base, strict=True))
            print(f"  {name:42} {1e3 * statistics.median(taken):7.2f} ms   {ratio:.2f}")


if __name__ == "__main__":
    main()
