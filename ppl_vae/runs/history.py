"""`metrics.jsonl` and `best.json`: what a run has measured, read and written."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_vae.core.files import to_json, write_bytes, write_json
from ppl_vae.core.statistics import Estimate

if TYPE_CHECKING:
    import pandas

METRICS, BEST = "metrics.jsonl", "best.json"


@dataclass(frozen=True)
class Best:
    """The best step of a run and its validation numbers, in nats per datum; the errors are over data.

    Args:
        fresh: were they measured at noise by which the step was not selected? If not, they are optimistic.
    """

    step: int
    elbo: Estimate
    rate: Estimate
    distortion: Estimate
    fresh: bool


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, their null as NaN; a last line torn by a kill is left out."""
    path = folder / METRICS
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line, object_hook=_nan_for_null) for line in lines if line.endswith("\n")]


def add_metrics(folder: Path, line: Mapping[str, Any]) -> None:
    """Append a line to `metrics.jsonl`."""
    with open(folder / METRICS, "a") as file:
        file.write(to_json(line) + "\n")


def forget_metrics_after(folder: Path, step: int) -> None:
    """Leave out the lines of later steps, which are to be taken again."""
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    write_bytes(folder / METRICS, "".join(to_json(line) + "\n" for line in kept).encode())


def as_frame(metrics: Iterable[Mapping[str, Any]]) -> "pandas.DataFrame":
    """A row for each line of the metrics; `valid_elbo` is the entry `elbo` of `valid`. `rate_how` is left out."""
    import pandas

    return pandas.DataFrame([dict(flat(line, "_")) for line in metrics])


def flat(line: Mapping[str, Any], between: str) -> Iterable[tuple[str, Any]]:
    """The numbers of a line by their names, those of `valid` as `valid_elbo`. `rate_how` is left out."""
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}{between}{key}", x) for key, x in value.items() if not isinstance(x, Mapping))
        else:
            yield name, value


def write_fresh(folder: Path, step: int, seed: int, draws: int, valid: Mapping[str, Any]) -> None:
    """Write `best.json`, the validation numbers of the best step at fresh noise."""
    write_json(folder / BEST, {"format": 1, "step": step, "seed": seed, "draws": draws, "valid": valid})


def read_fresh(folder: Path, step: int | None) -> dict[str, Any] | None:
    """The validation numbers of `step` in `best.json`; None if there are none, or those of another step."""
    path = folder / BEST
    found = json.loads(path.read_text(), object_hook=_nan_for_null) if path.is_file() else {"step": None}
    return found["valid"] if found["step"] == step else None


def best_of(step: int, valid: Mapping[str, Any], fresh: bool) -> Best:
    """The numbers of the best step, from its evaluation as it is recorded."""

    def of(name: str) -> Estimate:
        return Estimate(valid.get(name, math.nan), valid.get(f"{name}_se_data", math.nan), "data")

    return Best(step, of("elbo"), of("rate"), of("distortion"), fresh)


def _nan_for_null(numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if number is None else number for name, number in numbers.items()}
