# %% [markdown]
"""Why reparameterize: the same ELBO by the slope along the draw, and by the score function of the draw.

Run `python examples/why_reparameterize.py --out docs/images/why_reparameterize.png`. Left, E‖z‖² for z ~ N(μ, I) in d
dimensions, the variance of ∂/∂μ₁ as measured, beside the formulas of docs/theory.md, section 8. Right, a Bernoulli VAE
on `mnist-5k`, trained by each gradient, at the same seed. Printed: the ratio of the variances of the guide's gradient
at the parameters that `trace` has reached.
"""

# %%
import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

import ppl_vae
from ppl_vae.reports.figures import estimator_color
from ppl_vae.reports.labels import name_ends
from ppl_vae.reports.style import figure, log_scale, show, styled

DIMENSIONS = [1, 2, 4, 8, 16, 32, 64, 128]
ESTIMATORS: dict[str, dict[str, Any]] = {
    "trace": {"objective": "trace"},
    "score-function": {"objective": "score-function"},
    "score-function:baseline=False": {"objective": "score-function", "set": ("objective.baseline=False",)},
}


def gradients(d: int, draws: int) -> dict[str, Tensor]:
    """Draws of three estimates of ∂/∂μ₁ E‖z‖² = 2μ₁ at μ = (1, …, 1), `(R,)` each."""
    ε = torch.randn(draws, d, dtype=torch.float64)
    z = 1 + ε
    f = z.square().sum(-1)
    return {"reparameterized": 2 * z[:, 0], "score function": f * ε[:, 0], "with baseline E f": (f - 2 * d) * ε[:, 0]}


def variances(d: int) -> dict[str, float]:
    """Their variances, exactly: with f = Σ_i (1 + ε_i)², E f = 2d and Var f = 6d."""
    return {"reparameterized": 4, "score function": 4 * d**2 + 14 * d + 12, "with baseline E f": 6 * d + 12}


@styled()
def draw(measured: dict[str, list[float]], elbos: dict[str, list[float]]) -> Figure:
    """Left the variances as formulas (lines) and as measured (points); right the validation ELBO over epochs."""
    drawn = figure(height=3.2)
    left, right = drawn.subplots(1, 2)
    colors, dashes = [estimator_color(name) for name in ESTIMATORS], ("-", "--", "-.")
    for (name, points), color, dash in zip(measured.items(), colors, dashes, strict=True):
        left.plot(DIMENSIONS, [variances(d)[name] for d in DIMENSIONS], dash, color=color)
        left.plot(DIMENSIONS, points, "o", color=color, ms=4)
    for values, color, dash in zip(elbos.values(), colors, dashes, strict=True):
        right.plot(range(1, len(values) + 1), values, dash, color=color)
    left.set(title="∂/∂μ₁ of E‖z‖², z ~ N(μ, I)", xlabel="dimensions of z", ylabel="variance of one draw")
    log_scale(left, "xy")
    right.set(title="a VAE of mnist-5k, trained by each", xlabel="epoch", ylabel="validation ELBO, nats per datum")
    right.xaxis.get_major_locator().set_params(integer=True)
    for panel, lines in ((left, measured), (right, elbos)):
        names = [name.replace(":", ":\n") for name in lines]
        ends = zip((values[-1] for values in lines.values()), colors, strict=True)
        name_ends(panel, dict(zip(names, ends, strict=True)))
    return drawn


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100_000, help="of each estimate of the toy")
    parser.add_argument("--compare-draws", type=int, default=50, help="of each estimator of the VAE")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="why_reparameterize.png")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    measured = {
        name: [gradients(d, args.draws)[name].var().item() for d in DIMENSIONS]
        for name in ("reparameterized", "with baseline E f", "score function")
    }
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, ppl_vae.Run] = {}
        elbos: dict[str, list[float]] = {}
        for name, options in ESTIMATORS.items():
            place = Path(folder) / str(len(runs))
            runs[name] = run = ppl_vae.fit(
                "bernoulli", "diagonal_normal", "mnist-5k", place, epochs=args.epochs, seed=args.seed, **options
            )
            lines = run.metrics[1:]
            elbos[name] = [line["valid"]["elbo"] for line in lines]
            print(f"trained by {name:30} validation ELBO {lines[-1]['valid']['elbo']:9.2f}")
        found = ppl_vae.compare(runs["trace"], objectives=list(ESTIMATORS), draws=args.compare_draws)["estimators"]
    for name, e in found.items():
        ratio = e["gradient_variance"]["guide"] / found["trace"]["gradient_variance"]["guide"]
        print(f"{name:30} variance of the guide's gradient {ratio:9.1f} times that of trace, SNR", end=" ")
        print(f"{e['gradient_snr']['guide']:.3f}")
    drawn = draw(measured, elbos)
    show(drawn, Path(args.out))


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows on the left that the score function's variance grows with the dimension, and the path's does not;
# on the right what this does to a VAE at the same number of steps. A baseline helps, and does not make up for it.
