# %% [markdown]
"""How the estimators of IWAE_K scale with K, where the truth is known: one latent dimension, log p(x) by quadrature.

Run `python examples/which_estimator.py --out docs/images/which_estimator.png`. A guide wider than the posterior: the
gap log p(x) − E[IWAE_K] falls as 1/K; the signal-to-noise ratio of the guide's gradient falls as K^−½ under `iwae` and
grows as K^½ under `dreg`. A narrower guide: its weights have no finite variance, and none of this holds. The slopes in
log K come with jackknife standard errors. Since E[w̄] = p(x), w̄/p(x) − 1 is a control variate for the gap of the wide
guide.
"""

# %%
import argparse
from collections.abc import Sequence
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.objectives import IWAE_ELBO, DReG_ELBO, Objective
from ppl_vae.reports.figures import estimator_color
from ppl_vae.reports.labels import name_ends
from ppl_vae.reports.style import figure, log_scale, show, styled

W, b, x = torch.tensor([[1.5, -1.0, 0.8, 2.0, -0.5], [0.2, -0.3, 0.1, 0.0, 0.4], [1, 0, 1, 1, 0]], dtype=torch.float64)
SAMPLES = [16, 32, 64, 128, 256, 512, 1024]
BLOCKS, WIDTHS = 20, {"wide": 1.5, "narrow": 0.6}  # the guide's σ over the posterior's


def likelihood(z: Tensor) -> dist.Distribution:
    return dist.Bernoulli(logits=z.unsqueeze(-1) * W + b).to_event(1)


def model(rows: Tensor) -> None:
    with pyro.plate("data", rows.shape[0]):
        z = pyro.sample("z", dist.Normal(rows.new_zeros(()), 1.0))
        pyro.sample("x", likelihood(z), obs=rows)


def truth() -> tuple[Tensor, Tensor, Tensor]:
    """log p(x), and the mean and standard deviation of p(z|x), on a grid."""
    z = torch.linspace(-12, 12, 8001, dtype=torch.float64)
    joint = (dist.Normal(0.0, 1.0).log_prob(z) + likelihood(z).log_prob(x)).exp()
    px, mean, square = (torch.trapezoid(joint * f, z) for f in (1, z, z**2))
    return px.log(), mean / px, (square / px - (mean / px) ** 2).sqrt()


def repeat(objective: Objective, width: float, draws: int) -> tuple[Tensor, Tensor]:
    """Per draw: the value less log p(x), `(R,)`, and the gradient by the guide's (μ, log σ), `(R, 2)`."""
    log_px, mean, sd = truth()
    found = []
    for size in torch.arange(draws).split(max(1, 2**21 // objective.num_particles)):
        rows = x.expand(len(size), -1)  # one datum, as often as there are draws, each with a guide of its own
        μ = (mean + 0.3 * sd).repeat(len(size)).requires_grad_()
        log_σ = (width * sd).log().repeat(len(size)).requires_grad_()

        def guide(rows: Tensor, μ: Tensor = μ, log_σ: Tensor = log_σ) -> None:
            with pyro.plate("data", rows.shape[0]):
                pyro.sample("z", dist.Normal(μ, log_σ.exp()))

        value, surrogate, _ = objective.estimate(model, guide, (rows,))
        found.append((value.detach() - log_px, torch.stack(torch.autograd.grad(surrogate.sum(), (μ, log_σ)), -1)))
    values, gradients = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, gradients


def curves(width: float, draws: int) -> dict[str, Tensor]:
    """Gap, and signal-to-noise of `iwae` and `dreg`: for all draws, then without each block, `(1 + BLOCKS, len(K))`.

    Both gradients have one expectation, so the signal of both is measured by the quieter one, `dreg`.
    """
    without = [torch.ones(draws, dtype=torch.bool), *(torch.arange(draws) % BLOCKS != i for i in range(BLOCKS))]
    columns = []
    for K in SAMPLES:
        (value, iwae), (_, dreg) = (repeat(objective, width, draws) for objective in (IWAE_ELBO(K), DReG_ELBO(K)))
        gap = value.expm1() - value if width > 1 else -value  # of a narrow guide's weights it would be the noise
        signal = [dreg[kept].mean(0).norm() for kept in without]
        noise = [[g[kept].var(0).sum().sqrt() for kept in without] for g in (iwae, dreg)]
        snr = [torch.stack(signal) / torch.stack(n) for n in noise]
        columns.append(torch.stack([torch.stack([gap[kept].mean() for kept in without]), *snr]))
    return dict(zip(("gap", "SNR of iwae", "SNR of dreg"), torch.stack(columns, -1), strict=True))


def slope(curve: Tensor) -> tuple[float, float]:
    """Slope of log y against log K by least squares, and its jackknife standard error over blocks of draws."""
    t = torch.tensor(SAMPLES, dtype=torch.float64).log()
    slopes = curve.log() @ (t - t.mean()) / (t - t.mean()).square().sum()
    return slopes[0].item(), ((BLOCKS - 1) * slopes[1:].var(correction=0)).sqrt().item()


@styled()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="which_estimator.png")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    found = {guide: curves(width, args.draws) for guide, width in WIDTHS.items()}
    drawn = figure(height=3.0)
    for panel, name in zip(drawn.subplots(1, 3), found["wide"], strict=True):
        color, ends = estimator_color("dreg" if name == "SNR of dreg" else "iwae"), {}  # the gap is both's
        for guide, line in (("wide", "o-"), ("narrow", "s--")):
            b, se = slope(curve := found[guide][name])
            print(f"{guide:7}{name:12} slope {b:6.3f} ± {se:.3f}")
            panel.plot(SAMPLES, curve[0], line, color=color, ms=4)
            ends[f"{guide}:\n{b:.3f} ± {se:.3f}".replace("-", "−")] = (curve[0, -1].item(), color)
        panel.set(title=f"{name}, slopes", xlabel="K", ylabel="nats" if name == "gap" else "")
        log_scale(panel, "xy")
        name_ends(panel, ends)
    show(drawn, Path(args.out))


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows −1, −½ and +½ for the guide that is wider than the posterior, and none of it for the narrow one,
# whose weights have no finite variance: make the guide wider before you raise K (docs/estimators.md).
