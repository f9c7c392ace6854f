# %% [markdown]
"""log p(x) = ELBO + KL(q(z|x) ‖ p(z|x)), in exact numbers while a linear Gaussian VAE is trained.

Run `python examples/theory.py --out docs/images/theory.png`. Simulated data, probabilistic PCA in float64, a diagonal
normal guide, trained by `AnalyticKL_ELBO`. All terms are closed forms; the identity is asserted for each datum to 1e-8.
Below, the gap in two: what the best diagonal normal leaves, and the rest, amortization: one network for all x.
"""

# %%
import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ppl_vae.distributions.kl import kl
from ppl_vae.guides.diagonal_normal import Guide
from ppl_vae.guides.linear_gaussian import Guide as Posterior
from ppl_vae.models.linear_gaussian import Model
from ppl_vae.objectives import AnalyticKL_ELBO
from ppl_vae.reports.labels import name_ends
from ppl_vae.reports.style import BLACK, BLUE, GREEN, GREY, RED, figure, log_scale, show, styled


@torch.no_grad()
def exact(model: Model, guide: Guide, x: Tensor) -> list[float]:
    """Means over x of log p(x), ELBO, gap, the family's part of the gap, and the largest |log p(x) − ELBO − gap|."""
    q, posterior = guide.posterior(x), Posterior((x.shape[1],), model).posterior(x)
    # E_q log p(x|z) = log N(x; Wμ + b, σ²I) − Σ_d Var_q(z_d) ‖W_d‖² / 2σ²
    spread = q.variance @ model.W.square().sum(0) / (2 * (2 * model.log_sigma).exp())
    elbo = model.likelihood(q.mean).log_prob(x) - spread - kl(q, model.prior(x))
    log_px, gap = model.log_px(x), kl(q, posterior)
    Λ = posterior.precision_matrix  # the best diagonal normal has p(z|x)'s mean and the precisions Λ_dd
    family = (Λ.diagonal(dim1=-2, dim2=-1).log().sum(-1) - torch.logdet(Λ)) / 2
    return [t.mean().item() for t in (log_px, elbo, gap, family)] + [(log_px - elbo - gap).abs().max().item()]


@styled()
def picture(rows: dict[int, list[float]], top: float, out: str) -> None:
    log_px, elbo, gap, family, _ = zip(*rows.values(), strict=True)
    steps, amortization = list(rows), [g - f for g, f in zip(gap, family, strict=True)]
    drawn = figure(height=5.0)
    above, below = drawn.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    above.axhline(top, color=GREY, lw=0.9, ls=":")
    above.fill_between(steps, elbo, log_px, color=GREY, alpha=0.25, lw=0)
    above.text(0.2, 0.8 * log_px[0] + 0.2 * elbo[0], "the gap, KL(q(z|x) ‖ p(z|x))", va="center")
    for panel, y, dashes, color in (
        (above, log_px, "-", BLACK), (above, elbo, "--", BLUE), (below, gap, "-", BLACK), (below, family, "--", GREEN),
        (below, amortization, "-.", RED),
    ):  # fmt: skip
        panel.plot(steps, y, dashes, color=color)
        panel.set_ylabel("nats per datum")
    log_scale(below, "y")
    below.set(xlabel="training step", xlim=(0, steps[-1]))
    below.set_xscale("symlog", linthresh=1, linscale=0.3)
    below.xaxis.set_major_formatter("{x:g}")
    name_ends(above, {"largest log p(x)": (top, GREY), "log p(x)": (log_px[-1], BLACK), "ELBO": (elbo[-1], BLUE)})
    parts = {"the gap": (gap[-1], BLACK), "the family's": (family[-1], GREEN), "amortization": (amortization[-1], RED)}
    name_ends(below, parts)
    show(drawn, Path(out))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="theory.png")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    W, z, ε = (torch.randn(size).double() for size in ((6, 8), (500, 6), (500, 8)))
    x = z @ W + 0.3 * ε
    model, guide = Model((8,), latent_dim=6).double(), Guide((8,), latent_dim=6, hidden=64).double()
    optimizer = torch.optim.Adam([*model.parameters(), *guide.parameters()], lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    logged, rows = {round((args.steps + 1) ** (i / 60)) - 1 for i in range(61)}, {}
    print("  step    log p(x)        ELBO         gap      family")
    for step in range(args.steps + 1):
        if step in logged:
            rows[step] = exact(model, guide, x)
            assert rows[step][-1] < 1e-8, "log p(x) is not ELBO + KL"
            print(f"{step:6}" + "".join(f"{value:12.4f}" for value in rows[step][:4]))
        optimizer.zero_grad()
        (AnalyticKL_ELBO().differentiable_loss(model, guide, x) / len(x)).backward()
        optimizer.step()
        schedule.step()
    λ = torch.linalg.eigvalsh(x.T.cov(correction=0))  # the best 6 columns of W span the last 6 eigenvectors
    top = -0.5 * (λ[2:].log().sum() + 2 * λ[:2].mean().log() + 8 * math.log(2 * math.pi * math.e)).item()
    print(f"largest log p(x) {top:.4f}; largest |log p(x) − ELBO − gap| {max(row[-1] for row in rows.values()):.1e}")
    picture(rows, top, args.out)


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows that training raises log p(x) and closes the gap, and that the identity holds at every step. What
# remains of the gap is the family's part, which no longer training of this guide can close.
