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
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import ppl_vae
from ppl_vae.data import open_data
from ppl_vae.objectives import AnalyticKL_ELBO, Objective, Trace_ELBO
from ppl_vae.programs import Pair, parameters, resolve_pair
from ppl_vae.reports.figures import estimator_color
from ppl_vae.reports.style import BLACK, figure, show, styled


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


def report(title: str, pair: Pair, x: Tensor, draws: int, seed: int) -> dict[str, tuple[Tensor, dict[str, float]]]:
    print(f"{title}: {len(x)} rows, {draws} draws, nats per datum")
    print("estimator           ELBO    ± s.e.   gradient variance: model     guide")
    found = {}
    for name, objective in (("trace", Trace_ELBO()), ("analytic-kl", AnalyticKL_ELBO())):
        values, gradient = found[name] = repeat(pair, objective, x, draws, seed)
        se = (values.var() / draws).sqrt()
        print(f"{name:12}{values.mean():12.4f}{se:10.2g}{gradient['model']:27.3g}{gradient['guide']:10.3g}")
    difference = found["trace"][0] - found["analytic-kl"][0]
    se = (difference.var() / draws).sqrt()
    print(f"trace − analytic-kl = {difference.mean():.5f} ± {se:.5f}, z = {difference.mean() / se:.2f}\n")
    return found


@styled()
def draw(pairs: dict[str, dict[str, tuple[Tensor, dict[str, float]]]], path: Path) -> None:
    """A row for each pair: the estimates of all draws, with their mean, and the variance of the gradients."""
    drawn = figure(height=1.7 * len(pairs) + 0.4)
    for (left, right), (title, found) in zip(
        drawn.subplots(len(pairs), 2, width_ratios=[1.6, 1]), pairs.items(), strict=True
    ):
        for place, (name, (values, gradient)) in enumerate(found.items()):
            heights = place + 0.3 * torch.linspace(-1, 1, len(values))[torch.randperm(len(values))]
            left.plot(values, heights, ".", color=estimator_color(name), ms=4, alpha=0.5)
            left.plot([values.mean()] * 2, [place - 0.4, place + 0.4], color=BLACK)
            parts = [part for part in ("model", "guide") if found["analytic-kl"][1][part]]  # those with parameters
            for part, height in zip(parts, (place - 0.2, place + 0.2), strict=False):
                right.barh(height, gradient[part], 0.3, color=estimator_color(name))
                right.text(gradient[part], height, f"  {part} {round(gradient[part], 12):.3g}", va="center", size=8)
        left.set(yticks=range(len(found)), yticklabels=found, ylim=(len(found) - 0.5, -0.5), title=title)
        right.set(yticks=[], ylim=(len(found) - 0.5, -0.5), title="variance of the gradient")
        right.margins(x=0.35)
    left.set_xlabel("ELBO by one draw of each row, and their mean; nats per datum")
    show(drawn, path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("compare_elbos.png"), help="the figure")
    args = parser.parse_args(argv)
    rest = args.draws, args.seed

    run = ppl_vae.fit("bernoulli", "diagonal_normal", "mnist-5k", epochs=args.epochs, seed=args.seed)
    x = run.data().first(100, "test")[0]
    fitted = report(f"bernoulli and diagonal_normal after {args.epochs} epochs", run.pair(), x, *rest)

    torch.manual_seed(args.seed)
    x = open_data("digits").test[0][:100].double()
    pair = resolve_pair("linear_gaussian", "linear_gaussian", (x,))
    pair.model.double()
    exact = report("linear_gaussian and its exact posterior", pair, x, *rest)
    draw({"a fitted guide": fitted, "the exact posterior as a guide": exact}, args.out)


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows one value and two noises. With a fitted pair the analytic KL has the quieter gradient of the guide;
# with the exact posterior `trace` has no noise at all, and the analytic KL has. z is as large as chance makes it.
