"""The estimators in scikit-learn's company: what they compute against exact answers, pipelines, searches, folders."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.gaussian_table import gaussian_rows, given_the_others

import ppl_vae
from ppl_vae.core.errors import InputError
from ppl_vae.guides.diagonal_normal import Guide
from ppl_vae.models.gaussian import Model
from ppl_vae.sklearn import VAEDensity, VAEImputer, VAETransformer

QUICK: dict[str, Any] = {"epochs": 2, "set": {"hidden": 8}, "random_state": 0}
LINEAR: dict[str, Any] = {"model": "linear_gaussian", "guide": "linear_gaussian", "random_state": 0}


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    torch.manual_seed(1)
    return gaussian_rows(60).numpy()


@pytest.fixture(scope="module")
def frame(X: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=list("abcde"), index=range(100, 160))


def holed(X: np.ndarray) -> np.ndarray:
    """Every third row without one or two of its cells."""
    X = X.copy()
    X[::3, 1], X[::6, 4] = np.nan, np.nan
    return X


# ---- numbers


def test_score_samples_is_the_exact_log_density(X: np.ndarray) -> None:
    density = VAEDensity(**LINEAR, epochs=5).fit(X)
    model = density.run_.model.double()
    W, b, variance = model.W.detach().numpy(), model.b.detach().numpy(), model.log_sigma.mul(2).exp().item()
    exact = multivariate_normal(b, W @ W.T + variance * np.eye(5)).logpdf(X)
    np.testing.assert_allclose(density.score_samples(X), exact, rtol=1e-10)
    assert density.score(X) == pytest.approx(exact.mean())


def test_at_the_optimum_it_is_the_likelihood_of_pca() -> None:
    """Probabilistic PCA by gradient steps comes within 0.01 nats of the closed form, and the optimum is above it."""
    torch.manual_seed(2)
    X = gaussian_rows(200).numpy()
    density = VAEDensity(**LINEAR, epochs=300, batch_size=200, lr=0.1, validation_fraction=None).fit(X)
    pca = PCA(2).fit(X)
    assert pca.score(X) - 0.01 < density.score(X) < pca.score(X) + 5e-3  # PCA estimates with N − 1 in place of N
    assert np.abs(density.score_samples(X) - pca.score_samples(X)).max() < 0.15


def test_quadrature_does_not_depend_on_the_rows_beside(X: np.ndarray) -> None:
    density = VAEDensity(**QUICK, latent_dim=1).fit(X)
    np.testing.assert_allclose(density.score_samples(X)[7:9], density.score_samples(X[7:9]), atol=1e-5, rtol=0)


def test_a_lower_bound_is_said_to_be_one(X: np.ndarray) -> None:
    density = VAEDensity(**QUICK, method="importance", num_samples=20).fit(X)
    with pytest.warns(UserWarning, match="20 of 20 rows: log p.x. is a lower bound"):
        density.score_samples(X[:20])


def test_outliers_are_below_the_quantile_of_the_training_rows(X: np.ndarray) -> None:
    density = VAEDensity(**LINEAR, epochs=5, contamination=0.2)
    assert (density.fit_predict(X) == -1).sum() == 12
    np.testing.assert_array_equal(density.predict(X) == -1, density.score_samples(X) < density.offset_)
    assert density.predict(X + 100).tolist() == [-1] * 60
    assert not hasattr(VAEDensity(), "predict")


def test_samples_have_the_moments_of_the_model(X: np.ndarray) -> None:
    density = VAEDensity(**LINEAR, epochs=5).fit(X)
    drawn, model = density.sample(20_000, random_state=3), density.run_.model
    covariance = (model.W @ model.W.T + model.log_sigma.mul(2).exp() * torch.eye(5)).detach().double().numpy()
    se = np.sqrt((covariance**2 + np.outer(covariance.diagonal(), covariance.diagonal())) / 20_000)
    assert (np.abs(np.cov(drawn.T) - covariance) < 4.5 * se).all()
    np.testing.assert_array_equal(density.sample(3), density.sample(3))


def test_codes_are_the_means_of_the_guide_and_back_the_means_of_the_model(X: np.ndarray) -> None:
    coder = VAETransformer(**LINEAR, epochs=5).fit(X)
    model = coder.run_.model.double()
    W, b, variance = model.W.detach().numpy(), model.b.detach().numpy(), model.log_sigma.mul(2).exp().item()
    exact = np.linalg.solve(W.T @ W + variance * np.eye(2), W.T @ (X - b).T).T
    codes = coder.transform(X)
    np.testing.assert_allclose(codes, exact, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(coder.inverse_transform(codes), exact @ W.T + b, rtol=1e-8, atol=1e-10)
    assert coder.transform(X.astype(np.float32)).dtype == np.float32


def test_codes_of_a_discrete_latent_are_probabilities(X: np.ndarray) -> None:
    bits = (X > 0).astype(float)
    options = {"guide": "categorical", "objective": "trace-enum", "latent_dim": None, "epochs": 2}
    coder = VAETransformer(model="categorical", **options, set={"classes": 3, "guide.hidden": 8}).fit(bits)
    assert coder.get_feature_names_out().tolist() == ["z_prob_0", "z_prob_1", "z_prob_2"]
    np.testing.assert_allclose(coder.transform(bits).sum(1), 1)


def test_guesses_are_the_conditional_means_of_the_fitted_model(X: np.ndarray) -> None:
    """p(x|z) is made linear in z, so that the mean of what is missing given the rest is known."""
    rows = holed(X)
    imputer = VAEImputer(random_state=0, epochs=2, num_samples=4000, set={"network": Line, "guide.hidden": 8}).fit(rows)
    model = imputer.run_.pair(set=imputer.run_.again["set"]).model
    with torch.no_grad():
        at = model.p_x(model.decoder(torch.stack([torch.zeros(2), *torch.eye(2)]).unsqueeze(0))).parts[0]
    b, W = at.mean[0, 0].double().numpy(), (at.mean[0, 1:] - at.mean[0, :1]).double().numpy()
    S = W.T @ W + np.diag(at.variance[0, 0].double().numpy())
    guesses = imputer.transform(rows)
    for row in range(0, 60, 3):
        m, o = np.isnan(rows[row]).nonzero()[0], (~np.isnan(rows[row])).nonzero()[0]
        mean = b[m] + S[np.ix_(m, o)] @ np.linalg.solve(S[np.ix_(o, o)], rows[row, o] - b[o])
        np.testing.assert_allclose(guesses[row, m], mean, atol=0.1)
    np.testing.assert_array_equal(guesses[~np.isnan(rows)], rows[~np.isnan(rows)])


class Line(torch.nn.Linear):
    """A network without a hidden layer."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)


def test_a_trained_imputer_is_nearer_to_the_truth_than_the_column_mean() -> None:
    torch.manual_seed(4)
    X = gaussian_rows(400)
    rows = torch.where(torch.rand(400, 5) < 0.15, torch.nan, X)
    guess = VAEImputer(random_state=0, epochs=200, set={"hidden": 16}, num_samples=200).fit_transform(rows)
    gone = rows.isnan()
    exact = np.stack([_with(x, g) for x, g in zip(X, gone, strict=True)])
    column = np.where(gone, np.nanmean(rows.numpy(), 0), X)
    error = [np.sqrt(((filled - X.numpy())[gone] ** 2).mean()) for filled in (exact, guess, column)]
    assert error[0] < error[1] < error[0] + (error[2] - error[0]) / 3


def _with(x: torch.Tensor, gone: torch.Tensor) -> np.ndarray:
    filled = x.numpy().copy()
    if gone.any():
        filled[gone.numpy()] = given_the_others(x, gone)[0]
    return filled


# ---- rows and seeds


def test_rows_held_out_are_said(X: np.ndarray) -> None:
    some = VAETransformer(**QUICK).fit(X)
    assert (some.n_train_, some.n_valid_) == (54, 6)
    none = VAETransformer(**QUICK, validation_fraction=None).fit(X)
    assert (none.n_train_, none.n_valid_) == (60, 60)
    assert VAETransformer(**QUICK).fit(X[:6]).n_train_ == 5
    with pytest.raises(InputError, match="validation_fraction is 2: it must be between 0 and 1"):
        VAETransformer(**QUICK, validation_fraction=2).fit(X)


def test_a_seed_gives_the_same_numbers_and_another_one_others(X: np.ndarray) -> None:
    first, again, other = (VAETransformer(**QUICK | {"random_state": s}).fit_transform(X) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_programs_of_ones_own_keep_their_weights(X: np.ndarray) -> None:
    model, guide = Model((5,), 2, 8), Guide((5,), 2, 8)
    before = [p.clone() for p in model.parameters()]
    coder = VAETransformer(model=model, guide=guide, latent_dim=None, epochs=2, random_state=0).fit(X)
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
    assert coder.transform(X).shape == (60, 2)


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (
            VAETransformer(model="hierarchical", guide="bottom_up", latent_dim=None, epochs=1),
            "VAETransformer is for models",
        ),
        (VAETransformer(epochs=0), "epochs is 0"),
        (VAETransformer(set={"colour": 3}), "colour"),
        (VAEDensity(contamination=0.7), "contamination is 0.7: it must be above 0"),
        (VAEImputer(kinds=["real", "count"]), "kinds"),
    ],
)
def test_what_is_refused(estimator: Any, words: str, X: np.ndarray) -> None:
    rows = (X > 0).astype(float) if estimator.model == "hierarchical" else X
    with pytest.raises(ValueError, match=words):
        estimator.fit(rows)


def test_a_column_without_a_cell_and_a_row_that_can_not_be(X: np.ndarray) -> None:
    rows = X.copy()
    rows[:, 2] = np.nan
    with pytest.raises(InputError, match="column 2 has no observed cell"):
        VAEImputer(**QUICK).fit(rows)
    bits = VAEDensity(model="bernoulli", **QUICK).fit((X > 0).astype(float))
    with pytest.raises(InputError, match="row 0"):
        bits.score_samples(X)


# ---- company


def test_a_pipeline_and_a_search_over_the_latent_dimension(X: np.ndarray) -> None:
    y = X[:, 0] > 0
    pipe = make_pipeline(StandardScaler(), VAETransformer(**QUICK), LogisticRegression())
    search = GridSearchCV(pipe, {"vaetransformer__latent_dim": np.array([1, 2])}, cv=2).fit(X, y)
    assert search.best_params_["vaetransformer__latent_dim"] in (1, 2)
    assert search.predict(X).shape == (60,)
    density = GridSearchCV(VAEDensity(**LINEAR, epochs=5), {"latent_dim": [1, 2]}, cv=2).fit(X)
    assert np.isfinite(density.cv_results_["mean_test_score"]).all()
    assert clone(density.best_estimator_).get_params() == density.best_estimator_.get_params()


def test_columns_by_name_and_frames(frame: pd.DataFrame) -> None:
    columns = ColumnTransformer([("vae", VAETransformer(**QUICK), ["a", "b"])], remainder="passthrough")
    made = columns.set_output(transform="pandas").fit_transform(frame)
    assert list(made.columns) == ["vae__z1", "vae__z2", "remainder__c", "remainder__d", "remainder__e"]
    assert made.index.equals(frame.index)
    imputer = VAEImputer(**QUICK, num_samples=10, chain_rows=0).set_output(transform="pandas")
    with pytest.warns(UserWarning, match="rows: the guesses are not reliable"):
        filled = imputer.fit_transform(frame.mask(frame > 2))
    assert list(filled.columns) == list("abcde")
    assert filled.index.equals(frame.index)
    assert not filled.isna().any(axis=None)
    with pytest.raises(ValueError, match="feature names"):
        imputer.transform(frame[list("edcba")])


# ---- folders

FRESH = """
import numpy as np
from ppl_vae.sklearn import VAEDensity, VAEImputer, VAETransformer
X, rows = np.load("X.npy"), np.load("rows.npy")
np.savez(
    "fresh.npz",
    transformer=VAETransformer.load("transformer").transform(X),
    density=VAEDensity.load("density").decision_function(X),
    imputer=VAEImputer.load("imputer").transform(rows),
)
"""


@pytest.mark.filterwarnings("ignore:.*rows. the guesses are not reliable:UserWarning")
def test_a_saved_estimator_gives_the_same_bits_in_a_fresh_process(X: np.ndarray, tmp_path: Path) -> None:
    rows = holed(X)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "rows.npy", rows)
    transformer = VAETransformer(**QUICK).fit(X)
    density = VAEDensity(**LINEAR, epochs=2, contamination=0.1).fit(X)
    imputer = VAEImputer(**QUICK, num_samples=50, chain_rows=0, kinds=["real"] * 5).fit(rows)
    here = {
        "transformer": transformer.transform(X),
        "density": density.decision_function(X),
        "imputer": imputer.transform(rows),
    }
    for name, estimator in (("transformer", transformer), ("density", density), ("imputer", imputer)):
        estimator.save(tmp_path / name)
    done = subprocess.run([sys.executable, "-c", FRESH], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "fresh.npz") as fresh:
        for name, value in here.items():
            np.testing.assert_array_equal(fresh[name], value)
    kept = {path.suffix for path in (tmp_path / "imputer").rglob("*") if path.is_file()}
    assert kept == {".json", ".jsonl", ".safetensors", ".py"}
    assert ppl_vae.Run(tmp_path / "density").sample(2)["x"].shape == (2, 5), "the folder is a run"


def test_a_folder_is_not_overwritten_and_holds_one_estimator(frame: pd.DataFrame, tmp_path: Path) -> None:
    coder = VAETransformer(**QUICK).fit(frame)
    coder.save(tmp_path / "kept")
    with pytest.raises(InputError, match="kept exists: choose another folder"):
        coder.save(tmp_path / "kept")
    with pytest.raises(InputError, match="holds a VAETransformer of format 1, not a VAEDensity"):
        VAEDensity.load(tmp_path / "kept")
    with pytest.raises(InputError, match="holds no estimator"):
        VAETransformer.load(tmp_path)
    with pytest.raises(InputError, match="VAETransformer has no parameter 'colour'"):
        VAETransformer.load(tmp_path / "kept", colour=3)
    loaded = VAETransformer.load(tmp_path / "kept")
    assert loaded.get_params() == coder.get_params()
    assert list(loaded.feature_names_in_) == list("abcde")
    pd.testing.assert_frame_equal(
        loaded.set_output(transform="pandas").transform(frame), coder.set_output(transform="pandas").transform(frame)
    )


def test_what_is_no_text_is_given_again(X: np.ndarray, tmp_path: Path) -> None:
    own = {"model": Model, "guide": Guide}
    coder = VAETransformer(**QUICK, **own).fit(X)
    coder.save(tmp_path / "kept")
    with pytest.raises(InputError, match=r"guide of .* was given from Python .*: give it again, load\(…, guide=…\)"):
        VAETransformer.load(tmp_path / "kept")
    loaded = VAETransformer.load(tmp_path / "kept", **own)
    np.testing.assert_array_equal(loaded.transform(X), coder.transform(X))
