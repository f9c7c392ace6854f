# %% [markdown]
"""Synthetic rows of a table: can a classifier tell them from real rows, and are they copies of training rows?

Run `python examples/synthetic_rows.py --tables anes96 fair`. Half of a table's rows train a generator, and as many new
rows are set against the other half: a cross-validated classifier has a ROC AUC of 0.5 where it can't tell them apart, 1
where it always can (Lopez-Paz & Oquab 2017). Nearest to training: the share whose nearest real row was trained on, 0.5
if none is copied. Training rows, set beside the generators, are copies. ±: s.e. over seeds and halves.
"""

# %%
import argparse
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import statsmodels.api as sm
import torch
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_predict

import ppl_vae
from ppl_vae.core.statistics import Estimate
from ppl_vae.evidence.copies import copies
from ppl_vae.reports.dots import dot_figure
from ppl_vae.reports.style import show

NOMINAL = ["occupation", "occupation_husb", "vote"]  # codes without an order


def vae(train: pd.DataFrame, rows: int, seed: int, epochs: int = 200) -> pd.DataFrame:
    """The model `table` with a prior of 20 normals, each column by the kind that it is taken for."""
    told = train.astype({name: "category" for name in NOMINAL if name in train})
    options: Any = {"objective": "dreg:K=20", "set": {"prior": "mixture"}, "seed": seed, "split_seed": seed}
    run = ppl_vae.fit(data=told, epochs=epochs, lr=5e-3, patience=30, **options)
    return ppl_vae.sample(run, rows, seed=seed).frame[train.columns].astype(float)


def copula(train: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """Columns as normal scores of their ranks, one correlation matrix, and back by each column's quantiles."""
    ties = (random := np.random.default_rng(seed)).random(train.shape).T
    ranks = np.stack([np.lexsort((u, x)).argsort() for u, x in zip(ties, train.to_numpy().T, strict=True)], 1)
    correlation = np.corrcoef(norm.ppf((ranks + 0.5) / len(train)).T)
    u = norm.cdf(random.multivariate_normal(np.zeros(train.shape[1]), correlation, rows))
    return pd.DataFrame({n: np.quantile(x, u[:, j], method="inverted_cdf") for j, (n, x) in enumerate(train.items())})


def mixture(train: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """A mixture of normals, as many as BIC chooses; each number then moves to the nearest one in its column."""
    x = (train - train.mean()) / train.std()
    fits = [GaussianMixture(k, random_state=seed, reg_covar=1e-3).fit(x) for k in (1, 5, 10, 20)]
    drawn = min(fits, key=lambda fit: fit.bic(x)).sample(rows)[0] * train.std().to_numpy() + train.mean().to_numpy()
    return nearest(drawn, train)


def nearest(drawn: np.ndarray, train: pd.DataFrame) -> pd.DataFrame:
    pairs = zip(map(np.unique, train.to_numpy().T), drawn.T, strict=True)
    return pd.DataFrame(np.stack([v[np.abs(v[:, None] - x).argmin(0)] for v, x in pairs], 1), columns=train.columns)


def tvae(train: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """Xu et al. (2019); columns of at most 10 different numbers are discrete, and others move as those above."""
    from ctgan import TVAE

    pyro.set_rng_seed(seed)
    model = TVAE(epochs=300, enable_gpu=False)
    model.fit(train, [name for name, x in train.items() if x.nunique() <= 10])
    return nearest(model.sample(rows)[train.columns].to_numpy(float), train)


MAKERS: dict[str, Callable[..., pd.DataFrame]] = {
    "VAE": vae, "copula": copula, "normals": mixture, **({"TVAE": tvae} if find_spec("ctgan") else {}),
    "columns alone": lambda train, rows, seed: train.apply(np.random.default_rng(seed).choice, size=rows),
    "training rows": lambda train, rows, seed: train.sample(rows, replace=rows > len(train), random_state=seed),
}  # fmt: skip


def judged(train: pd.DataFrame, real: pd.DataFrame, synthetic: pd.DataFrame, seed: int) -> tuple[float, ...]:
    """AUC on rows that the classifier was not trained with; shares nearest and identical to training rows."""
    a, x, b = (torch.tensor(frame.to_numpy(float)) for frame in (train, synthetic, real))
    order = np.random.default_rng(seed).permutation(len(x) + len(b))
    rows, made = np.concatenate([b, x])[order], np.repeat([0, 1], [len(b), len(x)])[order]
    found = cross_val_predict(HistGradientBoostingClassifier(random_state=seed), rows, made, method="decision_function")
    near = copies(x, a, b, [i for i, name in enumerate(train) if name in NOMINAL])
    return float(roc_auc_score(made, found)), near.with_training.value, near.identical / len(x)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", default=["anes96"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=200, help="of the VAE")
    parser.add_argument("--only", nargs="+", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--out", type=Path, default=Path(), help="the folder of the figures")
    args = parser.parse_args(argv)
    for table in args.tables:
        frame, drawn = getattr(sm.datasets, table).load_pandas().data.drop(columns="logpopul", errors="ignore"), {}
        print(f"{f'{table}, {len(frame)} rows':16}{'told apart (AUC)':>22}{'nearest to training':>22}{'identical':>22}")
        for name in args.only:
            found = []
            for seed in range(args.seeds):
                mixed = frame.sample(frac=1, random_state=seed, ignore_index=True)
                train, real = mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]
                made = MAKERS[name](train, len(real), seed, *[args.epochs] * (name == "VAE"))
                found.append(judged(train, real, made, seed))
            drawn[name] = [Estimate.of(each, "seeds") for each in zip(*found, strict=True)]
            print(f"{name:16}" + "".join(f"{f'{each:.3f}':>22}" for each in drawn[name]), flush=True)
        panels = {of: {n: x[i] for n, x in drawn.items()} for i, of in enumerate(("told apart, AUC", "near training"))}
        show(dot_figure(panels, line=0.5), args.out / f"synthetic_rows_{table}.png")


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows the VAE's rows as the hardest to tell from real ones, and hardly nearer to training rows than to
# others. Training rows are all copies: an AUC near 0.5 alone is no proof of privacy (docs/answers.md).
