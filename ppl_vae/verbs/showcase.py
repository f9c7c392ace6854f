"""The main job on real data that ships with a dependency: fit, compare, sample, reconstruct, export, look."""

from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.reports import figures
from ppl_vae.verbs import functions as verbs


def demo(out: str | Path = "demo-run", *, epochs: int = 40, draws: int = 100, progress: bool = False) -> dict[str, Any]:
    """Fit `bernoulli` with `diagonal_normal` on `mnist-5k` and write everything that a run can show into `out`.

    Returns the comparison, the run, and the files that were written.
    """
    run = verbs.fit("bernoulli", "diagonal_normal", "mnist-5k", out, epochs=epochs, progress=progress)
    comparison = verbs.compare(run, draws=draws, progress=progress)
    verbs.sample(run)
    verbs.sample(run, show="means", out=run.folder / "sample_means.npz")
    verbs.reconstruct(run)
    z = verbs.encode(run)["z_mean"]
    verbs.export(run)
    figures.latent_scatter(z, run.folder / "latent.png", _digits())
    return {"comparison": comparison, "run": run, "files": _WRITTEN}


_WRITTEN = {
    "learning.png": "ELBO over epochs, split into rate and distortion",
    "reconstructions.png": "test digits and their reconstructions",
    "samples.png": "x ~ p(x|z), z ~ p(z)",
    "sample_means.png": "E[x|z] at the same z",
    "latent.png": "where the guide puts each digit",
    "compare.png": "the two estimators of the ELBO (numbers in compare.json and compare.nc)",
    "arviz.nc": "draws of the guide: arviz.from_netcdf opens it",
    "metrics.jsonl": "one line an epoch",
}


def _digits() -> np.ndarray:
    """The label of each row of `mnist-5k`, 500 of each in order, which only colours the picture."""
    return np.repeat(np.arange(10), 500)
