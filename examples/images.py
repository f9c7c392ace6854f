# %% [markdown]
"""Images: what does a VAE of digits draw, what does it give back, and what lies between two digits?

Run `python examples/images.py --epochs 40`. A Bernoulli VAE of 5000 MNIST digits, binarized once. Rows of means of
p(x|z): samples, with z from the prior; what the mean of q(z|x) makes of test digits; the way between the codes of two
digits. Printed: the ELBO of a test digit. Digits are given back well, and samples are worse.
"""

# %%
import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ppl_vae
from ppl_vae.reports.figures import image_rows
from ppl_vae.reports.style import show

ROWS = ("samples, z ~ N(0, I)", "test digits", "given back", "between two")


def means(run: ppl_vae.Run, z: Tensor) -> np.ndarray:
    """E[x|z] as pictures."""
    model: Any = run.model
    with torch.no_grad():
        return model.likelihood(z).mean.reshape(-1, 28, 28).numpy()


def pictures(run: ppl_vae.Run, count: int) -> list[np.ndarray]:
    """`count` pictures of each row."""
    x = run.data().first(count, "test")[0]
    codes = torch.as_tensor(run.encode(x)["z_mean"])
    along = torch.linspace(0, 1, count)[:, None]
    line = (1 - along) * codes[0] + along * codes[1]
    drawn = torch.randn(count, codes.shape[1])
    return [means(run, drawn), x.reshape(-1, 28, 28).numpy(), means(run, codes), means(run, line)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--latent-dim", type=int, default=10)
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="images.png")
    args = parser.parse_args(argv)
    settings = {"latent_dim": args.latent_dim}
    run = ppl_vae.fit("bernoulli", "diagonal_normal", "mnist-5k", epochs=args.epochs, seed=args.seed, set=settings)
    elbo = ppl_vae.compare(run, objectives=["trace"], draws=10)["estimators"]["trace"]
    bits = -elbo["elbo"] / math.log(2) / 784
    print(f"test ELBO {elbo['elbo']:.2f} ± {elbo['elbo_se_data']:.2f} nats per digit, {bits:.3f} bits per pixel")
    torch.manual_seed(args.seed)
    drawn = image_rows(dict(zip(ROWS, pictures(run, args.columns), strict=True)))
    show(drawn, Path(args.out))


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The figure shows digits that are given back well, samples of which some are no digit, and a way from one digit to
# another whose middle is between both. The prior has places where no digit has its code: samples from there look
# like nothing. docs/palette.md shows what a learned prior gains.
