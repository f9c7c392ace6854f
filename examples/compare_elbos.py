# %% [markdown]
"""The Monte Carlo ELBO and the analytic-KL ELBO side by side: the same parameters, the same rows, the same ε.

Run `python examples/compare_elbos.py --draws 200`. This is what `ppl_vae.compare` does, in the open. Two pairs. A
Bernoulli VAE after a few epochs: the analytic KL quiets the guide's gradient, but not the value. A linear Gaussian
model with its exact posterior for a guide: log p(x, z) − log q(z|x) = log p(x) at every z, so that `trace` has no noise
at all, and the analytic KL has some. The mean is the same everywhere: z, the paired difference over its standard
error, is as large as chance makes it. The guide of the second pair has no parameters of its own.
"""

# %%
import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import ppl_vae
from ppl_vae.data import open_data
from ppl_vae.objectives import AnalyticKL_ELBO, Objective, Trace_ELBO
from ppl_vae.programs import Pair, parameters, resolve_pair


def repeat(pair: Pair, objective: Objective, x: Tensor, draws: int, seed: int) -> tuple[Tensor, dict[str, float]]:
    """The batch mean of the estimate for each draw, `(R,)`; and its gradient's variance, summed over parameters."""
    trained = parameters(pair.model, pair.guide, pair.borrower)
    values, gradients = [], []
    for draw in range(draws):
        torch.manual_seed(seed + draw)  # the same ε for every objective
        estimate = objective.estimate(pair.model, pair.guide, (x,))
        gradient = torch.autograd.grad(estimate.surrogate.mean(), list(trained.values()))
        values.append(estimate.value.detach().double().mean())
        gradients.append(torch.cat([g.flatten() for g in gradient]))
    variance = torch.stack(gradients).var(0).split([p.numel() for p in trained.values()])
    sums = dict.fromkeys(("model", "guide"), 0.0)
    for name, v in zip(trained, variance, strict=True):
        sums[name.partition(".")[0]] += v.sum().item()
    return torch.stack(values), sums


def report(title: str, pair: Pair, x: Tensor, draws: int, seed: int) -> None:
    print(f"{title}: {len(x)} rows, {draws} draws, nats per datum")
    print("estimator           ELBO    ± s.e.   gradient variance: model     guide")
    values = {}
    for name, objective in (("trace", Trace_ELBO()), ("analytic-kl", AnalyticKL_ELBO())):
        values[name], gradient = repeat(pair, objective, x, draws, seed)
        se = (values[name].var() / draws).sqrt()
        print(f"{name:12}{values[name].mean():12.4f}{se:10.2g}{gradient['model']:27.3g}{gradient['guide']:10.3g}")
    difference = values["trace"] - values["analytic-kl"]
    se = (difference.var() / draws).sqrt()
    print(f"trace − analytic-kl = {difference.mean():.5f} ± {se:.5f}, z = {difference.mean() / se:.2f}\n")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    with tempfile.TemporaryDirectory() as folder:
        run = ppl_vae.fit(
            "bernoulli", "diagonal_normal", "mnist-5k", Path(folder) / "run", epochs=args.epochs, seed=args.seed
        )
        pair, x = run.pair(), run.data().first(100, "test")[0]
    report(f"bernoulli and diagonal_normal after {args.epochs} epochs", pair, x, args.draws, args.seed)

    torch.manual_seed(args.seed)
    x = open_data("digits").test[0][:100].double()
    pair = resolve_pair("linear_gaussian", "linear_gaussian", (x,))
    pair.model.double()
    report("linear_gaussian and its exact posterior", pair, x, args.draws, args.seed)


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The tables show one value and two noises: z is as large as chance makes it. With a fitted pair the analytic KL has
# the quieter gradient of the guide; with the exact posterior `trace` has no noise at all, and the analytic KL has.
