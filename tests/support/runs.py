"""A small fitted run on binary 4 × 4 images, for the tests of what is done with a run."""

from pathlib import Path
from typing import Any

import numpy as np

import ppl_vae

ROWS, D, Z = 300, 16, 2
SMALL = {"hidden": 16, "latent_dim": Z}
PAIR_ARGUMENTS = ["--model", "bernoulli", "--guide", "diagonal_normal", "--set", "hidden=16", "--set", "latent_dim=2"]

MIXTURE = """
import pyro.distributions as dist
from ppl_vae.models.bernoulli import Model as Bernoulli

class Model(Bernoulli):
    def prior(self, x):
        means = x.new_tensor([[-1.0], [1.0]]).expand(2, self.latent_dim)
        return dist.MixtureSameFamily(dist.Categorical(x.new_ones(2)), dist.Normal(means, 1.0).to_event(1))
"""


def binary_rows(rows: int = ROWS) -> np.ndarray:
    """Rows that lean to one side or the other, each bit flipped now and then."""
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, (rows, 1)) == (np.arange(D) < D // 2)
    return (side ^ (rng.random((rows, D)) < 0.1)).astype(np.float32)


def write_rows(folder: Path, rows: int = ROWS) -> Path:
    path = folder / "rows.npy"
    np.save(path, binary_rows(rows))
    return path


def write_pictures(folder: Path) -> Path:
    path = folder / "pictures.npy"
    np.save(path, binary_rows().reshape(-1, 4, 4))
    return path


def fitted(folder: Path, **options: Any) -> ppl_vae.Run:
    """A run in `folder/run`, on `folder/rows.npy`."""
    arguments: dict[str, Any] = {"model": "bernoulli", "guide": "diagonal_normal", "epochs": 2, "set": SMALL}
    arguments |= {"data": write_rows(folder), "out": folder / "run"}
    return ppl_vae.fit(**(arguments | options))
