# %% [markdown]
"""A few labels and many rows: what the rows without a label add to a classifier (Kingma, Rezende et al. 2014, M2).

    python examples/semi_supervised.py                      # digits, 100 labels: about a minute

The label is summed over where it is not known (`trace-enum`). The bound alone does not train q(y|x) on the rows whose
label is known, so M2 adds α log q(y|x) there: an objective of a few lines, given to `fit` as a class.
"""

# %%
import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor

import ppl_vae
from ppl_vae.distributions.wrappers import unmasked
from ppl_vae.objectives import TraceEnum_ELBO
from ppl_vae.programs.scores import Terms
from ppl_vae.reports.labels import name_ends
from ppl_vae.reports.style import BLUE, GREY, figure, show, styled


class M2(TraceEnum_ELBO):
    """ELBO + α log q(y|x) on the rows whose label y is known; no bound, for α > 0. `fit` reports the ELBO beside it."""

    name = "m2"

    def __init__(self, alpha: float = 20.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.target = f"M2(α={alpha:g})"

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        elbo, _ = super().per_example(terms)
        classifier: Any = unmasked(terms.q["y_unobserved"])
        known = terms.p["y_observed"].log_prob(terms.observed["y_observed"]) != 0  # masked where it is not known
        value = elbo + self.alpha * (known * classifier.log_prob(terms.observed["y_observed"])).mean(0)
        return value, value


def right(labels: int, epochs: int, alpha: float, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Which rows with a hidden label are right, by M2 and by a logistic regression on the others alone; their labels.

    Args:
        labels: how many rows of each class keep their label.
    """
    grey, y = load_digits(return_X_y=True)
    x = (grey / 16 > 0.5).astype("float32")
    rng = np.random.default_rng(seed)
    known = np.concatenate([rng.choice(np.flatnonzero(y == k), labels, replace=False) for k in range(10)])
    hidden = np.setdiff1d(np.arange(len(y)), known)
    given = np.full(len(y), -1)
    given[known] = y[known]
    settings = {"latent_dim": 5, "hidden": 100, "objective.alpha": alpha}
    with tempfile.TemporaryDirectory() as folder:
        run = ppl_vae.fit(
            "semi_supervised", "semi_supervised", (x, given), Path(folder) / "run",
            objective=M2, epochs=epochs, lr=3e-3, seed=seed, set=settings,
        )  # fmt: skip
        guide: Any = run.pair(checkpoint="last").guide
    with torch.no_grad():
        found = guide.class_posterior(torch.as_tensor(x)).logits.argmax(-1).numpy()
    plain = LogisticRegression(max_iter=5000).fit(x[known], y[known])
    by = {"M2": found, "logistic regression": plain.predict(x)}
    return {name: labels[hidden] == y[hidden] for name, labels in by.items()}, y[hidden]


@styled()
def draw(hits: dict[str, np.ndarray], digits: np.ndarray, path: Path) -> None:
    """For each digit and for all, the share that is right by either, ± its standard error."""
    drawn = figure(height=3.0)
    axes = drawn.subplots()
    ends, rows = {}, [digits == digit for digit in range(10)] + [digits >= 0]
    for (name, hit), color, shift in zip(hits.items(), (BLUE, GREY), (-0.1, 0.1), strict=True):
        share = np.array([hit[which].mean() for which in rows])
        se = np.sqrt(share * (1 - share) / [which.sum() for which in rows])
        axes.errorbar(np.arange(11) + shift, share, se, fmt="o", color=color, ms=5)
        ends[name] = (share[-1], color)
    axes.set_xticks(range(11), [*map(str, range(10)), "all"])
    axes.set(xlabel="digit", ylabel="share that is right, ± s.e.", title=f"{len(digits)} rows whose label was hidden")
    name_ends(axes, ends)
    show(drawn, path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=10, help="rows of each class that keep their label")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--alpha", type=float, default=20.0, help="the weight of the classifier's term")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("semi_supervised.png"), help="the figure")
    options = vars(parser.parse_args(argv))
    out = options.pop("out")
    hits, digits = right(**options)
    for name, hit in hits.items():
        print(f"{name:20} {hit.mean():.3f} of the rows without a label are classified rightly")
    draw(hits, digits, out)


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows what 1697 rows without a label add: at the default settings M2 is right a little more often than a
# logistic regression on the 100 labelled rows alone, by some digits more than by others. One seed: give several before
# you believe a difference of a percent.
