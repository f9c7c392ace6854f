# %% [markdown]
"""Rows unlike those of a fit: tumours that are malignant, by a density of benign ones.

Run `python examples/anomaly_scores.py`. Scikit-learn's breast cancer data, 30 numbers a row, standardized. In each
split half of the 357 benign rows are fitted; the other half and the 212 malignant rows are ranked by −log p(x). No
malignant row and no label is used in a fit or a choice: log p(x) of the benign rows held out tells what to prefer, and
the ROC AUC what it is worth. ± is the standard error over splits.
"""

# %%
import argparse
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ppl_vae.core.statistics import Estimate
from ppl_vae.reports.dots import dots
from ppl_vae.reports.style import BLUE, RED, figure, show, styled
from ppl_vae.sklearn import VAEDensity


def splits(count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows to fit, rows to rank, and which of these are malignant."""
    X, benign = load_breast_cancer(return_X_y=True)
    for seed in range(count):
        order = np.random.default_rng(seed).permutation(np.flatnonzero(benign))
        fitted, held_out = order[: len(order) // 2], order[len(order) // 2 :]
        yield X[fitted], np.concatenate([X[held_out], X[benign == 0]]), np.arange(len(held_out) + 212) >= len(held_out)


def mixture(fitted: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Components, covariances and their floor by cross-validated log p(x), as the VAE's are chosen."""
    grid = {"n_components": [1, 2, 3], "covariance_type": ["full", "diag"], "reg_covar": [1e-4, 1e-3, 1e-2]}
    search = make_pipeline(StandardScaler(), GridSearchCV(GaussianMixture(random_state=seed), grid))
    return search.fit(fitted).score_samples(rows)


def vae(latent_dim: int, sigma: str, floor: float, epochs: int, method: Any, members: int = 1) -> Any:
    """Scores by log p(x). The floor of σ, in units of a column's spread, is for columns that hold many zeros."""

    def scores(fitted: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
        found = []
        for member in range(members):
            density = VAEDensity(
                model="vae", guide="amortized", latent_dim=latent_dim, epochs=epochs, method=method,
                set={"likelihood": "gaussian", "likelihood.scale": sigma, "likelihood.floor": floor, "hidden": 64},
                random_state=100 * seed + member,
            )  # fmt: skip
            found.append(make_pipeline(StandardScaler(), density).fit(fitted).score_samples(rows))
        return logsumexp(found, axis=0) - np.log(members)

    return scores


@styled()
def draw(aucs: dict[str, Estimate], name: str, scores: np.ndarray, malignant: np.ndarray, path: Path) -> None:
    left, right = (drawn := figure(height=3.2)).subplots(1, 2)
    dots(left, aucs)
    left.set(xlabel="ROC AUC ± s.e. over splits")
    edges = np.r_[-np.geomspace(30_000, 30, 31), np.arange(-27, 31, 3), np.geomspace(30, 60, 4)[1:]]
    for place, (kind, which, color) in enumerate((("benign", ~malignant, BLUE), ("malignant", malignant, RED))):
        right.hist(scores[which].clip(edges[0], edges[-1]), edges, color=color, alpha=0.6)
        right.text(0.03, 0.95 - 0.08 * place, f"{which.sum()} {kind}", color=color, transform=right.transAxes)
    right.set_xscale("symlog", linthresh=30)
    right.set_xticks([-10_000, -1000, -100, 0], ["−10⁴", "−10³", "−10²", "0"])
    right.set(xlim=(-30_000, 60), xlabel="log p(x), nats", ylabel="rows", title=f"one split, {name}")
    show(drawn, path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--members", type=int, default=5, help="of the ensemble")
    parser.add_argument("--only", nargs="*", help="the beginnings of the rows to show")
    parser.add_argument("--fitted", action="store_true", help="a proposal for each row where the guide is not reliable")
    parser.add_argument("--out", type=Path, default=Path("anomaly_scores.png"), help="the figure")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore", ".*log p.x. is a lower bound|.*come down to its floor")  # both are said here
    rest = args.epochs, None if args.fitted else "importance"
    kinds: dict[str, Any] = {
        "IsolationForest": lambda fit, rows, seed: IsolationForest(random_state=seed).fit(fit).score_samples(rows),
        "GaussianMixture, cross-validated": mixture,
        "VAE, 2 latents, one σ": vae(2, "shared", 0.001, *rest),
        "VAE, 2 latents, σ by column": vae(2, "dimension", 0.001, *rest),
        "VAE, 2 latents, σ by the decoder": vae(2, "datum", 0.001, *rest),
        "VAE, 8 latents, σ by the decoder": vae(8, "datum", 0.001, *rest),
        "the same, σ at least 0.03": vae(8, "datum", 0.03, *rest),
        "the same, σ at least 0.1": vae(8, "datum", 0.1, *rest),
        f"{args.members} VAEs, σ at least 0.03": vae(8, "datum", 0.03, *rest, args.members),
    }
    print(f"{'':36}{'ROC AUC':>16}   {'log p(x)' if args.fitted else 'IWAE_1000':>9} of benign rows")
    drawn = {}
    for name in (name for name in kinds if args.only is None or name.startswith(tuple(args.only))):
        aucs, densities = [], []
        for seed, (fitted, rows, malignant) in enumerate(splits(args.splits)):
            found = kinds[name](fitted, rows, seed)
            aucs.append(roc_auc_score(malignant, -found))
            densities.append(found[~malignant].mean())
        drawn[name] = Estimate.of(aucs, "seeds")
        shown = "" if name == "IsolationForest" else Estimate.of(densities, "seeds")
        print(f"{name:36}{drawn[name]!s:>16}   {shown!s:>24}".rstrip(), flush=True)
    draw(drawn, name, found, malignant, args.out)


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows that σ decides: with one σ for all columns the VAE ranks worse than both others, with a σ that the
# decoder says it ranks better; most malignant rows lie far below every benign one (docs/palette.md).
