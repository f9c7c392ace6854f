"""The estimators pass scikit-learn's own checks, all of them."""

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from ppl_vae.sklearn import VAEDensity, VAEImputer, VAETransformer

QUICK: dict[str, Any] = {"epochs": 2, "latent_dim": 1, "set": {"hidden": 8}}
ESTIMATORS = [
    VAETransformer(**QUICK),
    VAEDensity(**QUICK),
    VAEDensity(model="linear_gaussian", epochs=2, latent_dim=1, guide="linear_gaussian", contamination=0.1),
    VAEImputer(**QUICK, num_samples=50, chain_rows=0),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)
