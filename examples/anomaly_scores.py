# %% [markdown]
"""Rows unlike those of a fit: tumours that are malignant, by a density of benign ones.

Run `python examples/anomaly_scores.py`. Scikit-learn's breast cancer data, 30 numbers a row. In each split half of the
357 benign rows are fitted; the other half and the 212 malignant rows are ranked by −log p(x). No malignant row and no
label is used in a fit or in a choice: what to prefer is told by log p(x) of the benign rows held out, and what it is
worth by the ROC AUC. Columns are standardized by the fitted rows for all alike. ± is the standard error over splits.
"""

# %%
import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
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

from ppl_vae.sklearn import VAEDensity

Scores = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""From rows to fit, rows to score and a seed to scores; high for rows like those that were fitted."""


def splits(count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows to fit, rows to rank, and which of these are malignant."""
    X, benign = load_breast_cancer(return_X_y=True)
    for seed in range(count):
        order = np.random.default_rng(seed).permutation(np.flatnonzero(benign))
        fitted, held_out = order[: len(order) // 2], order[len(order) // 2 :]
        yield X[fitted], np.concatenate([X[held_out], X[benign == 0]]), np.arange(len(held_out) + 212) >= len(held_out)


def forest(fitted: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    return IsolationForest(random_state=seed).fit(fitted).score_samples(rows)


def mixture(fitted: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Components, covariances and their floor by cross-validated log p(x), as the VAE's are chosen."""
    grid = {"n_components": [1, 2, 3], "covariance_type": ["full", "diag"], "reg_covar": [1e-4, 1e-3, 1e-2]}
    scale = StandardScaler().fit(fitted)
    search = GridSearchCV(GaussianMixture(random_state=seed), grid).fit(scale.transform(fitted))
    return search.score_samples(scale.transform(rows))


def vae(latent_dim: int, sigma: str, floor: float, epochs: int, method: Any, members: int = 1) -> Scores:
    """log p(x) of a VAE, or of several that differ by their seed: the log of the mean of their densities.

    Args:
        floor: of σ, in units of each column's spread. Some columns hold many zeros, on which a σ would shrink.
    """

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


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--members", type=int, default=5, help="of the ensemble")
    parser.add_argument("--only", nargs="*", help="the beginnings of the rows to show")
    parser.add_argument("--fitted", action="store_true", help="a proposal for each row where the guide is not reliable")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore", ".*log p.x. is a lower bound|.*come down to its floor")  # both are said here
    rest = args.epochs, None if args.fitted else "importance"
    kinds: dict[str, Scores] = {
        "IsolationForest": forest,
        "GaussianMixture, cross-validated": mixture,
        "VAE, 2 latents, one σ": vae(2, "shared", 0.001, *rest),
        "VAE, 2 latents, σ by column": vae(2, "dimension", 0.001, *rest),
        "VAE, 2 latents, σ by the decoder": vae(2, "datum", 0.001, *rest),
        "VAE, 8 latents, σ by the decoder": vae(8, "datum", 0.001, *rest),
        "the same, σ at least 0.03": vae(8, "datum", 0.03, *rest),
        "the same, σ at least 0.1": vae(8, "datum", 0.1, *rest),
        f"{args.members} VAEs, σ at least 0.03": vae(8, "datum", 0.03, *rest, args.members),
    }
    how = "log p(x)" if args.fitted else "IWAE_1000"
    print(f"{'':36}{'ROC AUC':>16}   {how + ' of benign rows':>26}")
    for name, scores in kinds.items():
        if args.only and not name.startswith(tuple(args.only)):
            continue
        aucs, densities = [], []
        for seed, (fitted, rows, malignant) in enumerate(splits(args.splits)):
            found = scores(fitted, rows, seed)
            aucs.append(roc_auc_score(malignant, -found))
            densities.append(found[~malignant].mean())
        shown = "" if scores is forest else with_se(densities, 2)
        print(f"{name:36}{with_se(aucs, 4):>16}   {shown:>26}".rstrip(), flush=True)


def with_se(values: Sequence[float], digits: int) -> str:
    se = f" ± {np.std(values, ddof=1) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{se}"


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The table shows that σ decides: with one σ for all columns the VAE ranks worse than both others, with a σ that the
# decoder says it ranks better, and several seeds together are the best density (docs/palette.md has five splits).
