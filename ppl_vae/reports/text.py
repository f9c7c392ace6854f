"""What the verbs print for a person."""

import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ppl_vae.checks.pair import CheckReport
from ppl_vae.diagnostics.advice import ROUNDING, exact
from ppl_vae.runs.run import Run

Shown = Callable[[], None]


def note_trusted(run: Run) -> None:
    """Say on standard error what `--trust` executes."""
    for source in run.trusted():
        print(f"executing {source}", file=sys.stderr)


def fit_result(run: Run) -> dict[str, Any]:
    """The run, its best step, the validation numbers there, as selected by (`valid`) and at `fresh` noise, and whether
    they were still rising at the last step."""
    best = run.checkpoints.manifest["best"]
    valid = next(line["valid"] for line in run.metrics if line["step"] == best)
    rising = 0 < best == run.checkpoints.steps[-1]
    return {"run": str(run.folder), "best": best, "valid": valid, "fresh": run.fresh, "still_rising": rising}


def fitted(run: Run, result: Mapping[str, Any]) -> None:
    v = result["valid"]
    if "objective" in v:
        print(f"{run.target} {v['objective']:.2f} ± {v['objective_se_data']:.2f} (validation), by which:")
    print(
        f"best step {result['best']}: ELBO {v['elbo']:.2f} ± {v['elbo_se_data']:.2f} "
        f"(validation, s.e. over data), rate {_rate(v)}, distortion {v['distortion']:.2f} nats per datum"
    )
    if fresh := result["fresh"]:
        own = f"{run.target} {fresh['objective']:.2f}, " if "objective" in fresh else ""
        print(f"the same state at other draws than it was selected by: {own}ELBO {fresh['elbo']:.2f}")
    if result["still_rising"]:
        what = f"the {run.target}" if "objective" in v else "the ELBO"
        print(f"{what} was still rising at the last step: more epochs may help")
    print(f"run: {run.folder}")


def _rate(numbers: Mapping[str, Any]) -> str:
    """A rate that any site was sampled for comes with its error: draws of a small one may average below 0."""
    sampled = [site for site, how in numbers["rate_how"].items() if how != "closed form"]
    rate = f"{numbers['rate']:.2f}"
    return f"{rate} ± {numbers['rate_se_data']:.2f} (Monte Carlo at {', '.join(sampled)})" if sampled else rate


def checked(report: CheckReport) -> None:
    print(report)


def compared(result: Mapping[str, Any], folder: Path) -> None:
    print(
        f"{result['rows']} {result['split']} rows of {result['data']}, {result['draws']} draws at the same noise, "
        f"batches of {result['batch_size']}; nats per datum, s.e. over draws; bias against another estimator"
    )
    for name, reason in result["left_out"].items():
        print(f"{name} is left out: {reason}")
    for step, found in result.get("checkpoints", {result["step"]: result}).items():
        print(f"\nat step {step}" if "checkpoints" in result else "")
        _print(_estimators(found["estimators"]))
        for name, e in found["estimators"].items():
            for site, how in e["sites"].items():
                print(f"{name}, rate of site {site!r}: {how}")
        firsts = {e["target"]: name for name, e in reversed(found["estimators"].items())}
        for pair in found["pairs"]:
            if pair["a"] in firsts.values():  # the other pairs are in the JSON
                z = "the same at every draw" if pair["z"] is None else f"z = {pair['z']:.2f}"
                print(f"{pair['a']} − {pair['b']} = {pair['difference']:.4f} ± {pair['se']:.4f}, {z}")
        print(f"advice: {found['advice']}")
    print(f"written: {', '.join(str(folder / f'compare.{kind}') for kind in ('json', 'nc', 'png'))}")


def _estimators(estimators: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table(
        "target, estimator", "value", "± s.e.", "bias z", "variance", "gradient var. model", "guide", "SNR model",
        "guide", "cosine guide", "ms", "MiB", "efficiency guide",
    )  # fmt: skip
    for target in dict.fromkeys(e["target"] for e in estimators.values()):
        table.add_row(target)
        for name, e in estimators.items():
            if e["target"] == target:
                table.add_row(f"  {name}", *_numbers(e))
    return table


def _numbers(e: Mapping[str, Any]) -> tuple[str, ...]:
    variance, snr = e["gradient_variance"], e["gradient_snr"]
    no_noise = {group: "exact" if exact(e, group) else "" for group in variance}
    settled = math.sqrt(e["variance"]) <= ROUNDING * abs(e["value"])
    return (
        f"{e['value']:.3f}", "exact" if settled else f"{e['value_se']:.3f}",
        _number(e["bias"] and e["bias"]["z"], ".1f"), "exact" if settled else f"{e['variance']:.3g}",
        *(no_noise[group] or f"{variance[group]:.3g}" for group in ("model", "guide")),
        *(no_noise[group] or _number(snr[group], ".2f") for group in ("model", "guide")),
        _number(e["gradient_cosine"]["guide"], ".3f"),
        f"{1e3 * e['seconds_per_step']:.1f}", f"{e['peak_bytes_per_step'] / 2**20:.1f}",
        no_noise["guide"] or _number(e["efficiency"]["guide"], ".3g"),
    )  # fmt: skip


def compared_runs(result: Mapping[str, Any]) -> None:
    print(
        f"{result['target']} by {result['objective']}, {result['draws']} draws, on the same {result['rows']} "
        f"{result['split']} rows of {result['data']}; nats per datum"
    )
    runs = _table("run", "value", "± s.e. over draws", "± s.e. over data")
    for name, r in result["runs"].items():
        runs.add_row(name, f"{r['value']:.3f}", f"{r['se_mc']:.3f}", _number(r["se_data"], ".3f"))
    _print(runs)
    pairs = _table("paired difference", "nats", "± s.e. over draws", "± s.e. over data", "z")
    for p in result["pairs"]:
        numbers = f"{p['difference']:.3f}", f"{p['se_mc']:.3f}", _number(p["se_data"], ".3f")
        pairs.add_row(f"{p['a']} − {p['b']}", *numbers, _number(p["z"], ".1f"))
    _print(pairs)
    for g in result["over_seeds"]:
        print(
            f"over seeds ({g['how']}): {g['a']} and its kind − {g['b']} and its kind = {g['difference']:.3f} "
            f"± {g['se_seeds']:.3f}, t = {_number(g['t'], '.1f')}, {g['df']} degree{'s' * (g['df'] > 1)} of freedom"
        )


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for i, header in enumerate(headers):
        table.add_column(header, justify="right" if i else "left", no_wrap=not i)
    return table


def _print(table: Table) -> None:
    Console(width=max(132, Console().width)).print(table)


def _number(x: float | None, form: str) -> str:
    return "–" if x is None or math.isnan(x) else format(x, form)


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
