"""`cells` beside scvi-tools' SCVI on simulated counts: held-out ELBO and log p(x) of each cell, and CPU seconds.

`python tests/benchmarks/beside_scvi.py --peer-python PATH`, of a Python that has scvi-tools. Both sides have 128 hidden
units in one layer, 10 latents, a negative binomial with a dispersion for each gene, the observed library size, the
batch in encoder and decoder, Adam at 0.001 on batches of 128, KL weight 1, no dropout and no batch normalization, the
same training and test cells, and are measured after the last epoch. What is left of differences: softplus here and
ReLU there, standardized log(1 + x) here, and the start of the weights. `--defaults` leaves SCVI as it comes: dropout,
batch normalization, no batch in the encoder, a KL weight that rises over 400 epochs, and 400 epochs.
"""

import argparse
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import ppl_vae
from ppl_vae.diagnostics.runs import row_values
from ppl_vae.evidence.importance import importance
from ppl_vae.objectives import AnalyticKL_ELBO
from ppl_vae.training.prepare import isolated

PEER = Path(__file__).with_name("scvi_peer.py")
CELLS, GENES, KINDS = 4000, 500, 6
SET = {"latent_dim": 10, "hidden": 128, "batches": 2}
Columns = dict[str, np.ndarray]


def simulated(seed: int = 0) -> Columns:
    """Six kinds of cells on curves through them, two batches that change each gene a little, depths of 500 to 8000."""
    rng = np.random.default_rng(seed)
    kind, batch, time_ = rng.integers(0, KINDS, CELLS), rng.integers(0, 2, CELLS), rng.random((CELLS, 1))
    base, kinds = rng.normal(0, 1.5, GENES), rng.normal(0, 1, (KINDS, GENES)) * (rng.random((KINDS, GENES)) < 0.2)
    slope, batches = rng.normal(0, 0.7, (KINDS, GENES)), rng.normal(0, 0.3, (2, GENES))
    log_share = base + kinds[kind] + np.sin(2 * time_) * slope[kind] + batches[batch]
    share = np.exp(log_share) / np.exp(log_share).sum(1, keepdims=True)
    depth = rng.lognormal(np.log(2000) - 0.3 * batch, 0.5)[:, None]
    theta = rng.gamma(2, 1.5, GENES) + 0.2
    x = rng.poisson(rng.gamma(theta, depth * share / theta)).astype(np.float32)
    return {"x": x, "library": x.sum(1), "batch": batch}


def ours(columns: Columns, seed: int, epochs: int, draws: int, k: int) -> tuple[Columns, Columns]:
    """What was measured, and which cells are of which split."""
    began = time.process_time()
    run = ppl_vae.fit(
        "cells", "cells", tuple(columns.values()), set=SET, objective="analytic-kl", epochs=epochs, batch_size=128,
        lr=1e-3, seed=seed,
    )  # fmt: skip
    fitted = time.process_time() - began
    data = run.data(tuple(columns.values()))
    splits = {split: data.numbers(split).numpy() for split in ("train", "valid", "test")}
    pair, rows = run.pair(checkpoint="last"), data.whole("test")
    with isolated(seed), torch.no_grad():
        elbo = row_values(pair, AnalyticKL_ELBO(), rows, 128, draws, seed, 0).mean[0].numpy()
        log_px = importance(pair.model, pair.guide, rows, k).log_px.numpy()
    return {"elbo": elbo, "log_px": log_px, "seconds": np.array(fitted)}, splits


def peer(python: str, columns: Columns, splits: Columns, folder: Path, *options: object) -> Columns:
    """The same of SCVI, by the Python that has it."""
    np.savez(folder / "data.npz", **columns, **splits)
    command = [python, "-P", PEER, folder / "data.npz", folder / "out.npz", *options]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(list(map(str, command)), check=True, env=environment, capture_output=True)
    with np.load(folder / "out.npz") as found:
        return dict(found)


def by_hand(theirs: Columns) -> str:
    """How far SCVI's ELBO of the first cells is from that by hand."""
    n = len(theirs["hand"])
    off, se = theirs["own"] - theirs["hand"], np.hypot(theirs["own_se"], theirs["hand_se"])
    return f"SCVI's own ELBO − by hand, {n} cells: {off.mean():.3f} ± {np.sqrt((se**2).sum()) / n:.3f}"


def told(values: np.ndarray) -> str:
    return f"{values.mean():9.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--draws", type=int, default=25)
    parser.add_argument("--num-samples", type=int, default=1000)
    parser.add_argument("--defaults", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    columns = simulated()
    found: dict[str, list[Columns]] = {"cells": [], "SCVI": []}
    print(f"{CELLS} cells, {GENES} genes, {(columns['x'] == 0).mean():.0%} zeros; nats per held-out cell, ± over cells")
    numbers = (asked.epochs, asked.draws, asked.num_samples)
    for seed in range(asked.seeds):
        mine, splits = ours(columns, seed, *numbers)
        more = ["--defaults"] if asked.defaults else []
        with tempfile.TemporaryDirectory() as folder:
            theirs = peer(asked.peer_python, columns, splits, Path(folder), seed, *numbers, *more)
        for name, each in (("cells", mine), ("SCVI", theirs)):
            found[name].append(each)
            bounds = f"ELBO {told(each['elbo'])}, log p(x) {told(each['log_px'])}"
            print(f"seed {seed}, {name:5}: {bounds}, {each['seconds']:.0f} s")
        paired = {what: mine[what] - theirs[what] for what in ("elbo", "log_px")}
        print(f"seed {seed}, cells − SCVI: ELBO {told(paired['elbo'])}, log p(x) {told(paired['log_px'])}")
        print(f"seed {seed}, {by_hand(theirs)}", flush=True)
    for what in ("elbo", "log_px", "seconds"):
        means = {name: np.array([each[what].mean() for each in runs]) for name, runs in found.items()}
        shown = ", ".join(f"{name} {told(each)}" for name, each in means.items())
        print(f"over seeds, {what}: {shown}; cells − SCVI {told(means['cells'] - means['SCVI'])}")


if __name__ == "__main__":
    main()
