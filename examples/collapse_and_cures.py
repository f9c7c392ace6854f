# %% [markdown]
"""A decoder that can do without z collapses the posterior; what does each cure change?

Run `python examples/collapse_and_cures.py --out runs/collapse`. The model is `autoregressive`, on `digits`: each pixel
sees all those before it. It is fitted by default, and once with each cure: a warm-up of the rate, once or in cycles;
free bits; a posterior whose rate can't vanish (δ-VAE), or whose means are batch-normalized; a decoder of which each
pixel sees only the 8 before it. Printed, of the test rows at the best epoch by validation ELBO, in nats per datum: the
ELBO, the IWAE bound, the rate, a lower bound of I(x; z), and how many dimensions are active, Var_x(E_q[z|x]) > 0.01.
More information is no better fit by itself: see whether the bounds rise too. Runs that are there already are kept.
"""

# %%
import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ppl_vae
from ppl_vae.evidence.collapse import Collapse, collapse
from ppl_vae.evidence.mean import mean
from ppl_vae.objectives import IWAE_ELBO, Trace_ELBO
from ppl_vae.reports.dots import dots
from ppl_vae.reports.style import BLACK, BLUE, figure, show, styled

SIZES = {"latent_dim": 10, "hidden": 100, "decoder_hidden": 400}
CURES: dict[str, dict[str, Any]] = {
    "default": {},
    "warm-up": {"warmup": 0.5},
    "warm-up in 3 cycles": {"warmup": 1 / 6, "warmup_cycles": 3},
    "free bits, 0.2 a dimension": {"objective": "free-bits:floor=0.2"},
    "δ-VAE, 0.2 a dimension": {"set": {"family": "delta_normal", "family.rate": 0.2}},
    "batch norm, γ = 0.6": {"set": {"family": "batch_norm_normal", "family.gamma": 0.6}},
    "decoder of 8 pixels": {"set": {"window": 8}},
}
"""By name: the options of `fit`. The epochs of a warm-up are a share of all."""


def fitted(name: str, folder: Path, epochs: int, seed: int, lr: float) -> ppl_vae.Run:
    options = dict(CURES[name])
    place = folder / f"{'-'.join(''.join(c if c.isalnum() else ' ' for c in name).split())}-{seed}"
    if (place / "config.json").is_file():
        run = ppl_vae.Run(place)
        if run.config.epochs != epochs:
            raise SystemExit(f"{place} was fitted for {run.config.epochs} epochs, not {epochs}: give another --out")
        return run if run.metrics[-1]["epoch"] == epochs else ppl_vae.fit(out=place, resume=True)
    if "warmup" in options:
        options["warmup"] = max(1, round(options["warmup"] * epochs))
    options["set"] = SIZES | options.get("set", {})
    return ppl_vae.fit(
        "autoregressive", "amortized", "digits", place,
        epochs=epochs, seed=seed, lr=lr, binarize="threshold", **options,
    )  # fmt: skip


@torch.no_grad()
def judged(run: ppl_vae.Run, K: int) -> tuple[Collapse, Tensor, Tensor]:
    """What the latent carries; the ELBO and IWAE_K of each test row."""
    pair, (x, *_) = run.pair(), run.data().whole("test")
    torch.manual_seed(0)
    found = collapse(pair.model, pair.guide, x)
    elbo, iwae = (bound.estimate(pair.model, pair.guide, (x,)).value for bound in (Trace_ELBO(K), IWAE_ELBO(K)))
    return found, elbo, iwae


def line(found: Collapse, elbo: Tensor, iwae: Tensor) -> str:
    units = found.verdict.active_units["covariance"]
    values = f"{f'{mean(elbo).over_data:.2f}':>16}{iwae.mean():9.2f}{found.rate.value:8.2f}{information(found):8.2f}"
    return f"{values}{units['active']:5} of {units['of']}   {found.verdict.text.partition(':')[0]}"


def information(found: Collapse) -> float:
    return max(found.information.lower.value, 0)


@styled()
def draw(judged: dict[str, tuple[Collapse, Tensor, Tensor]], K: int, path: Path) -> None:
    """The rate of each dimension, one beside the other, with I(x; z); and what a cure gains of the bound."""
    drawn = figure(height=0.36 * len(judged) + 1)
    left, right = drawn.subplots(1, 2, width_ratios=[1.5, 1])
    for place, (found, *_) in enumerate(judged.values()):
        rates = found.rate_by_dimension[found.by_rate()].numpy()
        left.barh(place, rates, 0.6, rates.cumsum() - rates, color=BLUE, edgecolor="white", lw=0.7)
        left.plot([information(found)] * 2, [place - 0.4, place + 0.4], color=BLACK, lw=2)
    left.set(yticks=range(len(judged)), yticklabels=judged, ylim=(len(judged) - 0.5, -0.5))
    left.set(xlabel="nats per datum", title="rate of each dimension; black: I(x; z), at least")
    first = next(iter(judged.values()))[2]
    dots(right, {name: mean(iwae - first).over_data for name, (*_, iwae) in judged.items()}, line=0, names=False)
    right.set(xlabel="nats per datum", title=f"IWAE_{K} less the first's, ± s.e. by row")
    show(drawn, path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=200, help="K of the importance-weighted bound")
    parser.add_argument("--only", nargs="*", default=list(CURES))
    parser.add_argument("--out", type=Path, default=Path("runs/collapse"))
    args = parser.parse_args(argv)
    print(f"{'':28}{'ELBO ± s.e.':>16}{f'IWAE_{args.samples}':>9}{'rate':>8}{'I(x; z)':>8}   active units")
    found = {}
    for name in args.only:
        found[name] = judged(fitted(name, args.out, args.epochs, args.seed, args.lr), args.samples)
        print(f"{name:28}{line(*found[name])}", flush=True)
    draw(found, args.samples, args.out / "collapse_and_cures.png")


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows that by default z says nothing, and that every cure makes it say something of x. None raises the
# ELBO: what z says is paid for by the rate. The IWAE bound, nearer to log p(x), rises a little for most, and falls for
# the weaker decoder (docs/palette.md).
