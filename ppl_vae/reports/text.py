"""What the verbs print for a person."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ppl_vae.checker import Report
from ppl_vae.training.run import Run

Shown = Callable[[], None]


def note_trusted(run: Run) -> None:
    """Say on standard error what `--trust` executes."""
    for source in run.trusted():
        print(f"executing {source}", file=sys.stderr)


def fit_result(run: Run) -> dict[str, Any]:
    """The run, its best step, and the validation numbers there."""
    best = run.checkpoints.manifest["best"]
    valid = next(line["valid"] for line in run.metrics if line["step"] == best)
    return {"run": str(run.folder), "best": best, "valid": valid}


def fitted(run: Run, result: Mapping[str, Any]) -> None:
    v = result["valid"]
    print(
        f"best step {result['best']}: ELBO {v['elbo']:.2f} ± {v['elbo_se_data']:.2f} "
        f"(validation, s.e. over data), rate {v['rate']:.2f}, distortion {v['distortion']:.2f} nats per datum"
    )
    print(f"run: {run.folder}")


def checked(report: Report) -> None:
    print(report)


def compared(result: Mapping[str, Any], folder: Path) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    headers = ("estimator", "ELBO", "± s.e.", "variance", "gradient var. model", "guide", "ms per step")
    for header in headers:
        table.add_column(header, justify="left" if header == "estimator" else "right")
    for name, e in result["estimators"].items():
        g = e["gradient_variance"]
        table.add_row(
            name,
            f"{e['elbo']:.3f}",
            f"{e['elbo_se']:.3f}",
            f"{e['variance']:.3g}",
            f"{g['model']:.3g}",
            f"{g['guide']:.3g}",
            f"{1e3 * e['seconds_per_step']:.2f}",
        )
    print(
        f"{result['rows']} {result['split']} rows of {result['data']}, {result['draws']} draws at the same noise, "
        f"batches of {result['batch_size']}; nats per datum, s.e. over draws"
    )
    Console(width=max(100, Console().width)).print(table)
    for pair in result["pairs"]:
        z = "no noise" if pair["z"] is None else f"z = {pair['z']:.2f}"
        print(f"{pair['a']} − {pair['b']} = {pair['difference']:.4f} ± {pair['se']:.4f}, {z}")
        _quieter(result, pair["a"], pair["b"])
    print(f"written: {folder / 'compare.json'}, {folder / 'compare.png'}")


def _quieter(result: Mapping[str, Any], a: str, b: str) -> None:
    for kind in ("model", "guide"):
        va, vb = (result["estimators"][name]["gradient_variance"][kind] for name in (a, b))
        if va > 0 and vb > 0 and va != vb:
            quiet, ratio = (a, va / vb) if va < vb else (b, vb / va)
            print(f"variance of the {kind}'s gradient under {quiet}: {ratio:.3f} of the other's")


def written(values: Mapping[str, np.ndarray], path: Path) -> tuple[dict[str, Any], Shown]:
    path = path.expanduser()
    picture = path.with_suffix(".png")
    files = [str(path), *([str(picture)] if picture.is_file() else [])]
    result = {"files": files, "shapes": {name: list(x.shape) for name, x in values.items()}}

    def show() -> None:
        for name, x in values.items():
            print(f"{name:10} {tuple(x.shape)}")
        print(f"written: {', '.join(files)}")

    return result, show


def exported(path: Path) -> tuple[dict[str, Any], Shown]:
    path = path.expanduser()
    return {"files": [str(path)]}, lambda: print(f"written: {path}; open it with arviz.from_netcdf({str(path)!r})")


def copied(paths: Sequence[Path], folder: Path) -> tuple[dict[str, Any], Shown]:
    def show() -> None:
        for path in paths:
            print(path)
        print(
            f"edit a line, then: cd {shlex.quote(str(folder))} && ppl-vae fit --model bernoulli "
            "--guide diagonal_normal --data mnist-5k --out runs/mine"
        )

    return {"files": [str(path) for path in paths]}, show


def demonstrated(run: Run, result: Mapping[str, Any]) -> None:
    fitted(run, fit_result(run))
    print()
    compared(result["comparison"], run.folder)
    print(f"\nIn {run.folder}:")
    for name, what in result["files"].items():
        print(f"  {name:22} {what}")
    print(
        "\nNext: swap the prior. `ppl-vae new mine`, then in mine/models/bernoulli.py edit the line of p(z), say to\n"
        "  dist.MixtureSameFamily(dist.Categorical(x.new_ones(2)),\n"
        "      dist.Normal(x.new_tensor([[-1.0], [1.0]]).expand(2, self.latent_dim), 1.0).to_event(1))\n"
        "and `cd mine && ppl-vae fit --model bernoulli --guide diagonal_normal --data mnist-5k --out runs/mixture`."
    )
