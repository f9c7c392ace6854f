"""One training of `time_to_quality.py`, in a process of its own: `trainings.py WHO DATA FOLDER SEED EPOCHS STARTED`.

It leaves the weights after each epoch, with the seconds since STARTED (of `time.time()`) less those of keeping them.
WHO is `ppl_vae`, `pyro` or `numpyro`; each imports what it needs and nothing else.
"""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, LATENT, BATCH, LR = 400, 50, 256, 1e-3


def binarized(data: str) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows of an npz of grey values from 0 to 255, drawn once: the same for everybody."""
    rng = np.random.default_rng(0)
    with np.load(data) as read:
        train, valid = ((255 * rng.random(x.shape, np.float32) < x) for x in (read["train"], read["valid"]))
    return train.astype(np.float32), valid.astype(np.float32)


class Kept:
    """The weights after each epoch, in files."""

    def __init__(self, folder: Path, started: float) -> None:
        self.folder, self.started, self.epochs = folder, started, 0

    @contextlib.contextmanager
    def untimed(self) -> Iterator[None]:
        began = time.time()
        yield
        self.started += time.time() - began

    def epoch(self, weights: Iterable[Any]) -> None:
        """Keep weights `(out, in)` and biases of the four layers, from the encoder's first to the decoder's last."""
        seconds = time.time() - self.started
        with self.untimed():
            self.epochs += 1
            np.savez(self.folder / f"{self.epochs}.npz", *map(np.asarray, weights), seconds=seconds)


def by_ppl_vae(train: np.ndarray, valid: np.ndarray, seed: int, epochs: int, kept: Kept) -> None:
    """`ppl_vae.fit(compile="on")`, with its check and its records; its evaluations are not timed."""
    import torch

    import ppl_vae
    from ppl_vae.data import Dataset
    from ppl_vae.training.loop import Loop

    own = Loop.assess

    def assess(loop: Loop, about: Any = None) -> None:
        if loop.state.epoch:
            pair = loop.stepper.pair
            kept.epoch(p.detach() for p in [*pair.guide.encoder.parameters(), *pair.model.decoder.parameters()])
        with kept.untimed():
            own(loop, about)

    Loop.assess = assess  # type: ignore[method-assign]
    x, held_out = torch.from_numpy(train), torch.from_numpy(valid)
    places = {"train": torch.arange(len(x)), "valid": torch.arange(len(held_out)), "test": torch.arange(1)}
    data = Dataset("mnist", ("x",), (x,), (held_out,), (held_out[:1],), "once", 0, "", places)
    ppl_vae.fit(
        "bernoulli", "diagonal_normal", data, set={"hidden": HIDDEN, "latent_dim": LATENT}, epochs=epochs,
        batch_size=BATCH, lr=LR, seed=seed, compile="on",
    )  # fmt: skip


def by_pyro(train: np.ndarray, valid: np.ndarray, seed: int, epochs: int, kept: Kept) -> None:
    """The loop of Pyro's VAE example, without its loader, which would make it slower."""
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer import SVI, Trace_ELBO
    from torch import Tensor, nn
    from torch.nn.functional import softplus

    pyro.set_rng_seed(seed)
    encoder = nn.Sequential(nn.Linear(784, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, 2 * LATENT))
    decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, 784))

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, raw = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, softplus(raw) + 1e-4).to_event(1))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": LR}), Trace_ELBO())
    x = torch.from_numpy(train)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            svi.step(x[rows])
        kept.epoch(p.detach() for p in [*encoder.parameters(), *decoder.parameters()])


def by_numpyro(train: np.ndarray, valid: np.ndarray, seed: int, epochs: int, kept: Kept) -> None:
    """One jitted scan an epoch. Its batches have one size, so that the last rows of an epoch are left out."""
    import jax
    from numpyro_peer import inference, scanned

    x, rng = jax.numpy.asarray(train), np.random.default_rng(seed)
    svi = inference(HIDDEN, LATENT, 1, LR)
    state, run, steps = svi.init(jax.random.PRNGKey(seed), x[:BATCH]), scanned(svi), len(x) // BATCH
    for _ in range(epochs):
        state, losses = run(state, x, rng.permutation(len(x))[: steps * BATCH].reshape(steps, BATCH))
        losses.block_until_ready()
        found = svi.get_params(state)
        layers = [found[f"{part}$params"][f"Dense_{i}"] for part in ("encoder", "decoder") for i in (0, 1)]
        kept.epoch(x for layer in layers for x in (layer["kernel"].T, layer["bias"]))


def main(who: str, data: str, folder: str, seed: int, epochs: int, started: float) -> None:
    train, valid = binarized(data)
    training = {"ppl_vae": by_ppl_vae, "pyro": by_pyro, "numpyro": by_numpyro}[who]
    training(train, valid, seed, epochs, Kept(Path(folder), started))


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
