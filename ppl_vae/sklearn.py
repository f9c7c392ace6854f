"""Estimators for scikit-learn: see `ppl_vae.adapters.sklearn`."""

from ppl_vae.adapters.sklearn import VAEDensity, VAEImputer, VAETransformer

__all__ = ["VAEDensity", "VAEImputer", "VAETransformer"]
