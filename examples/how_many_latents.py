# %% [markdown]
"""How many latents do the digits need? The held-out bound of each number, and whether differences are more than chance.

Run `python examples/how_many_latents.py --out runs/latents` (six minutes on one core). scikit-learn's digits, black
and white by a threshold; `bernoulli` and `diagonal_normal` with each number of latent dimensions and three seeds, Adam
with a cosine from 3e-3, the best epoch by validation ELBO. Printed: the sweep, on validation rows; then log p(x) of the
*test* rows for the best setting, which no choice has seen. Runs that are there are gone on with. Written: a figure of
the bound and of how many dimensions are active, by their number.
"""

# %%
import argparse
from collections.abc import Sequence
from pathlib import Path

import ppl_vae
from ppl_vae.diagnostics.sweep import Sweep
from ppl_vae.reports.labels import name_ends
from ppl_vae.reports.style import BLUE, GREY, figure, show, styled


@styled()
def draw(found: Sweep, path: Path) -> None:
    """The bound with its error over seeds, and active units, against the number of latents."""
    table = found.table
    dims = table["latent_dim"].astype(int)
    drawn = figure(height=3.0)
    left, right = drawn.subplots(1, 2)
    left.errorbar(dims, table["value"], table["se_seeds"], fmt="o-", color=BLUE)
    left.axhline(table["value"].max(), color=GREY, lw=0.8, zorder=0)
    left.set(xlabel="latent dimensions", ylabel=f"{found.bound} of validation rows, nats", title="± s.e. over seeds")
    right.plot(dims, dims, "--", color=GREY)
    right.plot(dims, table["active_units"], "o-", color=BLUE)
    right.set(xlabel="latent dimensions", title="dimensions")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(dims, [str(d) for d in dims])
    name_ends(right, {"all": (dims.max(), GREY), "active": (table["active_units"].iloc[-1], BLUE)})
    show(drawn, path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dims", type=int, nargs="+", default=[1, 2, 5, 10, 20, 40])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rows", type=int, help="test rows; by default all")
    parser.add_argument("--out", type=Path, default=Path("runs/latents"))
    args = parser.parse_args(argv)
    found = ppl_vae.fit(
        "bernoulli", "diagonal_normal", "digits", args.out, binarize="threshold", epochs=args.epochs, lr=3e-3,
        schedule="cosine", set={"hidden": 100}, seeds=args.seeds, sweep={"latent_dim": args.dims}, jobs=args.jobs,
    )  # fmt: skip
    assert isinstance(found, Sweep)
    print(found)
    draw(found, args.out / "how_many_latents.png")
    tight = ppl_vae.evaluate(found.best, rows=args.rows, gap_rows=0, annealed_rows=0, simulations=0, calibrations=0)
    elbo, log_px = tight.elbo.over_data, tight.log_px.over_data
    print(f"{len(tight.numbers)} test rows, errors over data: ELBO {elbo}, log p(x) {log_px}")


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows a bound that stops rising at five latents and falls after ten, while more dimensions count as
# active: each of them says little. So the number of active dimensions alone is no reason to add latents
# (docs/palette.md).
