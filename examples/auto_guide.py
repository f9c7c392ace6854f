# %% [markdown]
"""The guide that is made from the model, `auto`, beside each hand-written guide: which bound on held-out rows?

Run `python examples/auto_guide.py --out runs/auto`. Each model of the palette is fitted with its hand-written guide and
with `auto`, at the same sizes, epochs and seeds, to scikit-learn's digits or, with a tenth of the cells missing, to its
breast cancer table. Printed: the ELBO of the test rows with either guide, at the best epoch by validation ELBO, in nats
per datum, and the difference, paired by row and seed, with its standard error over seeds. Where `auto` is the
hand-written guide in other words, it is 0 to the bit. Runs that are there already are gone on with.
"""

# %%
import argparse
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits

import ppl_vae
from ppl_vae.core.statistics import Estimate
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.reports.dots import dot_figure
from ppl_vae.reports.style import show

PIXELS, LABELS = load_digits(return_X_y=True)
BITS, COUNTS = (PIXELS > 7).astype("float32"), PIXELS.astype("float32")
A_FEW = np.where(np.random.default_rng(0).random(len(LABELS)) < 0.1, LABELS, -1)


def table() -> np.ndarray:
    """Ten measurements, in logarithms, and what was found; a tenth of the cells missing."""
    x, y = load_breast_cancer(return_X_y=True)
    rows = np.column_stack([np.log1p(x[:, :10]), y]).astype("float32")
    return np.where(np.random.default_rng(0).random(rows.shape) < 0.1, np.nan, rows).astype("float32")


class Contest(NamedTuple):
    """A model, a hand-written guide, the data; settings of both, of `auto` alone, and other options of `fit`."""

    model: str
    guide: str
    data: Any
    set: Mapping[str, Any]
    auto: Mapping[str, Any] = MappingProxyType({})
    options: Mapping[str, Any] = MappingProxyType({})


SIZES = {"latent_dim": 10, "hidden": 100}
CONTESTS = [
    Contest("bernoulli", "diagonal_normal", BITS, SIZES),
    Contest("bernoulli", "full_normal", BITS, SIZES, {"guide.family": "full_normal"}),
    Contest("bernoulli", "iaf", BITS, SIZES, {"guide.family": "iaf"}),
    Contest("gaussian", "diagonal_normal", COUNTS, SIZES),
    Contest("linear_gaussian", "diagonal_normal", COUNTS / 16, SIZES),
    Contest("linear_gaussian", "linear_gaussian", COUNTS / 16, {"latent_dim": 10}, {"guide.family": "full_normal"}),
    Contest("vampprior", "diagonal_normal", BITS, SIZES),
    Contest("flow", "diagonal_normal", BITS, SIZES),
    Contest("spherical", "power_spherical", BITS, SIZES),
    Contest("convolutional", "convolutional", BITS, {"latent_dim": 10}),
    Contest("categorical", "categorical", BITS, {"classes": 10, "guide.hidden": 100}, {}, {"objective": "trace-enum"}),
    Contest("relaxed_categorical", "relaxed_categorical", BITS, {"classes": 10, "guide.hidden": 100}),
    Contest("conditional", "conditional", (BITS, LABELS), SIZES),
    Contest("semi_supervised", "semi_supervised", (BITS, A_FEW), SIZES, {}, {"objective": "trace-enum"}),
    Contest("table", "table", table(), SIZES | {"kinds": "real," * 10 + "binary"}, {}, {"missing": "nan"}),
    Contest("counts", "diagonal_normal", COUNTS, SIZES),
    Contest("autoregressive", "diagonal_normal", BITS, SIZES | {"decoder_hidden": 100}),
    *(
        Contest("hierarchical", guide, BITS, SIZES | {"top_dim": 5}, order, warmup)
        for warmup, guide in product(({}, {"warmup": 0.5}), ("bottom_up", "ladder"))
        for order in ({}, {"guide.order": "inverted"})
    ),
]


def rows(contest: Contest, guide: str, own: Mapping[str, Any], seed: int, folder: Path, epochs: int) -> torch.Tensor:
    """The ELBO of each test row."""
    options = {**contest.options, "epochs": epochs, "seed": seed, "lr": 2e-3, "schedule": "cosine"}
    if "warmup" in options:
        options["warmup"] = round(options["warmup"] * epochs)
    out = folder / "-".join(map(str, [contest.model, guide, *own.values(), *contest.options.values(), epochs, seed]))
    if (out / "config.json").is_file():  # if it is done, this changes nothing
        run = ppl_vae.fit(data=contest.data, out=out, resume=True)
    else:
        run = ppl_vae.fit(contest.model, guide, contest.data, out, set={**contest.set, **own}, **options)
    pair, test = run.pair(), run.data(contest.data).whole("test")
    torch.manual_seed(0)
    with torch.no_grad():
        return Trace_ELBO(num_particles=20).estimate(pair.model, pair.guide, test).value


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="models")
    parser.add_argument("--out", type=Path, default=Path("runs/auto"))
    args, drawn = parser.parse_args(argv), {}
    print(f"{'model':20} {'hand-written guide':20} {'with':26} {'its ELBO':>9} {'of auto':>9}   auto less hand-written")
    for contest in (c for c in CONTESTS if args.only is None or c.model in args.only):
        elbos = []
        for seed in range(args.seeds):
            theirs = rows(contest, contest.guide, {}, seed, args.out, args.epochs)
            auto = rows(contest, "auto", contest.auto, seed, args.out, args.epochs)
            elbos.append([float(x.mean()) for x in (theirs, auto, auto - theirs)])
        how = ", ".join(f"{name.removeprefix('guide.')}={x}" for name, x in {**contest.auto, **contest.options}.items())
        hand, made, less = (Estimate.of(each, "seeds") for each in zip(*elbos, strict=True))
        drawn[f"{contest.model}, {contest.guide}" + f" ({how})" * bool(how)] = less
        print(f"{contest.model:20} {contest.guide:20} {how:26} {hand.value:9.2f} {made.value:9.2f}   {less:.2f}")
    show(dot_figure({"gain of auto, nats per datum, ± s.e. over seeds": drawn}), args.out / "auto_guide.png")


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows no difference where a model has one latent: `auto` is then the hand-written guide. With two levels
# it is level or ahead; behind an exact posterior it stays (docs/palette.md).
