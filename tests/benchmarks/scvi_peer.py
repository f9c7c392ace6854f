"""The other side of `beside_scvi.py`, in a process that has scvi-tools: one SCVI, fitted and measured.

`PYTHON -P scvi_peer.py DATA.npz OUT.npz SEED EPOCHS DRAWS K [--defaults]`. It imports nothing of ppl_vae.
"""

import sys
import time
import warnings

import anndata
import numpy as np
import pandas as pd
import scvi
import torch
from scipy.special import log_softmax
from scipy.stats import nbinom

BY_HAND, CELLS, OFTEN = 20_000, 8, 1000


def main(data: str, out: str, seed: int, epochs: int, draws: int, k: int, defaults: bool) -> None:
    warnings.simplefilter("ignore")
    with np.load(data) as read:
        x, batch, train, valid, test = (read[name] for name in ("x", "batch", "train", "valid", "test"))
    cells = anndata.AnnData(x, obs=pd.DataFrame({"batch": batch.astype(str)}, index=np.arange(len(x)).astype(str)))
    scvi.settings.seed = seed
    scvi.settings.verbosity = 0
    scvi.model.SCVI.setup_anndata(cells, batch_key="batch")
    alike = {"encode_covariates": True, "dropout_rate": 0.0, "use_batch_norm": "none"}
    model = scvi.model.SCVI(
        cells, n_hidden=128, n_latent=10, n_layers=1, gene_likelihood="nb", dispersion="gene",
        use_observed_lib_size=True, **({} if defaults else alike),
    )  # fmt: skip
    plan = {"min_kl_weight": 1.0, "max_kl_weight": 1.0, "weight_decay": 0.0, "eps": 1e-8}
    began = time.process_time()
    model.train(
        max_epochs=None if defaults else epochs, batch_size=128, accelerator="cpu", enable_progress_bar=False,
        logger=False,
        plan_kwargs={"lr": 1e-3, **({} if defaults else plan)},
        datasplitter_kwargs={"external_indexing": [train, valid, test]},
    )  # fmt: skip
    seconds = time.process_time() - began
    each = [np.asarray(model.get_elbo(indices=test, return_mean=False)) for _ in range(draws)]
    log_px = model.get_marginal_ll(indices=test, n_mc_samples=k, n_mc_samples_per_pass=50, return_mean=False)
    hand = by_hand(model, x[test[:CELLS]], batch[test[:CELLS]]) if not defaults else np.full((CELLS, 2), np.nan)
    few = np.stack([np.asarray(model.get_elbo(indices=test[:CELLS], return_mean=False)) for _ in range(OFTEN)])
    np.savez(
        out, elbo=np.mean(each, axis=0), log_px=np.asarray(log_px), seconds=seconds, own=few.mean(0),
        own_se=few.std(0, ddof=1) / OFTEN**0.5, hand=hand[:, 0], hand_se=hand[:, 1],
    )  # fmt: skip


def by_hand(model: "scvi.model.SCVI", x: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """The ELBO of each cell and its standard error, `(CELLS, 2)`, by numpy and scipy from the weights."""
    w = {name: tensor.double().numpy() for name, tensor in model.module.state_dict().items()}
    one_hot, rng = np.eye(2)[batch], np.random.default_rng(0)

    def linear(name: str, u: np.ndarray) -> np.ndarray:
        return u @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    layer = "fc_layers.Layer 0.0"
    hidden = np.maximum(linear(f"z_encoder.encoder.{layer}", np.hstack([np.log1p(x), one_hot])), 0)
    mean, variance = linear("z_encoder.mean_encoder", hidden), np.exp(linear("z_encoder.var_encoder", hidden)) + 1e-4
    rate = 0.5 * (mean**2 + variance - 1 - np.log(variance)).sum(1)
    found, theta = [], np.exp(w["px_r"])
    for i in range(len(x)):
        z = mean[i] + variance[i] ** 0.5 * rng.normal(size=(BY_HAND, mean.shape[1]))
        given = np.hstack([z, np.broadcast_to(one_hot[i], (BY_HAND, 2))])
        hidden = np.maximum(linear(f"decoder.px_decoder.{layer}", given), 0)
        mu = x[i].sum() * np.exp(log_softmax(linear("decoder.px_scale_decoder.0", hidden), axis=1))
        log_lik = nbinom.logpmf(x[i], theta, theta / (theta + mu)).sum(1)
        found.append((log_lik.mean() - rate[i], log_lik.std(ddof=1) / BY_HAND**0.5))
    return np.array(found)


if __name__ == "__main__":
    torch.set_num_threads(1)
    numbers = map(int, sys.argv[3:7])
    main(sys.argv[1], sys.argv[2], *numbers, "--defaults" in sys.argv)
