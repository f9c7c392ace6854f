# %% [markdown]
"""A model file and a guide file in plain Pyro: SVI, Adam and Trace_ELBO, and nothing of this project's training.

Run `python examples/svi.py --epochs 5`. Prints the ELBO in nats per datum; `train` is the mean over an epoch in which
the parameters moved, `test` is at the epoch's end. Both are estimates from one draw of z per datum. Drawn beside it:
the ELBO of the same rows as `ppl_vae.fit` reports it, with the same settings and seed.
"""

# %%
import argparse
from collections.abc import Sequence
from pathlib import Path

import pyro
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

import ppl_vae
from ppl_vae.data import open_data
from ppl_vae.guides.diagonal_normal import Guide
from ppl_vae.models.bernoulli import Model
from ppl_vae.reports.labels import name_ends
from ppl_vae.reports.style import BLACK, BLUE, GREY, figure, show, styled


@styled()
def draw(curves: dict[str, list[float]], theirs: dict[str, list[float]], path: Path) -> None:
    """By split: plain Pyro as a line, `fit` as crosses."""
    drawn = figure(height=3.0)
    axes = drawn.subplots()
    ends = {}
    for (name, curve), color in zip(curves.items(), (BLUE, GREY), strict=True):
        epochs = range(1, len(curve) + 1)
        axes.plot(epochs, curve, "-o", color=color, ms=4)
        axes.plot(epochs, theirs[name], "x", color=BLACK, ms=8, mew=1.5)
        ends[name] = (curve[-1], color)
    axes.set(xlabel="epoch", ylabel="ELBO, nats per datum", title="lines: SVI of Pyro; crosses: ppl_vae.fit")
    axes.set_xticks(epochs)
    name_ends(axes, ends)
    show(drawn, path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("svi.png"), help="the figure")
    args = parser.parse_args(argv)

    data = open_data("mnist-5k")  # pixels in {0, 1}: binarized once
    (train,), (valid,), (test,) = data.train, data.valid, data.test
    curves: dict[str, list[float]] = {"validation": [], "training": []}
    with pyro.get_param_store().scope():  # the parameters live in Pyro's store, and only until this block ends
        pyro.set_rng_seed(args.seed)
        model, guide = Model(data.data_shape), Guide(data.data_shape)
        # ppl_vae.objectives.AnalyticKL_ELBO() can stand in the place of Trace_ELBO(): it is a pyro.infer.ELBO too.
        svi = SVI(model, guide, Adam({"lr": 1e-3}), loss=Trace_ELBO())
        for epoch in range(args.epochs):
            loss = sum(svi.step(x) for (x,) in data.batches("train", 100, epoch=epoch, seed=args.seed))
            train_elbo, test_elbo = -loss / len(train), -svi.evaluate_loss(test) / len(test)
            print(f"epoch {epoch + 1}  train {train_elbo:8.2f}  test {test_elbo:8.2f}")
            curves["validation"].append(-svi.evaluate_loss(valid) / len(valid))
            curves["training"].append(train_elbo)
    run = ppl_vae.fit("bernoulli", "diagonal_normal", "mnist-5k", epochs=args.epochs, seed=args.seed, batch_size=100)
    theirs = run.history[["valid_elbo", "train_elbo"]].iloc[-args.epochs :]
    draw(curves, dict(zip(curves, theirs.to_numpy().T.tolist(), strict=True)), args.out)


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows that nothing of `ppl_vae` is needed to train its models and guides: they are Pyro programs, and what
# Pyro's own `SVI` makes of them is what `fit` does.
