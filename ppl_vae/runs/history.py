"""`metrics.jsonl` and `best.json`: what a run has measured, read and written."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from ppl_vae.core.files import append, read_json, sync_file, to_json, write_bytes, write_json
from ppl_vae.core.shape import check_shape, damaged
from ppl_vae.core.statistics import Estimate

if TYPE_CHECKING:
    import pandas

METRICS, BEST = "metrics.jsonl", "best.json"
DO = "Put the file back from a copy of the run, or fit anew"
AGAIN = "Delete it: ppl-vae resume writes it again"


class Valid(TypedDict):
    """An evaluation on the validation rows."""

    objective: NotRequired[float]
    objective_se_data: NotRequired[float]
    elbo: float
    elbo_se_data: NotRequired[float]
    rate: float
    rate_se_data: NotRequired[float]
    rate_how: NotRequired[dict[str, str]]
    distortion: float


class Line(TypedDict):
    """A line of `metrics.jsonl`; the first one has no epoch behind it."""

    step: int
    epoch: int
    valid: Valid
    train: NotRequired[dict[str, float]]
    gradient_norm: NotRequired[float]
    lr: NotRequired[float]
    rate_weight: NotRequired[float]
    skipped: NotRequired[int]
    seconds: NotRequired[float]


class Fresh(TypedDict):
    """`best.json`."""

    format: int
    step: int
    seed: int
    draws: int
    valid: Valid


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
    """The lines of `metrics.jsonl`, their null as NaN; what a kill or a loss of power has torn is left out.

    Raises:
        InputError: a line is damaged.
    """
    path = folder / METRICS
    content = path.read_bytes() if path.is_file() else b""
    lines = content.partition(b"\0")[0].splitlines(keepends=True)  # zeros stand where the power was lost
    return [_read(line, f"line {n} of {path}") for n, line in enumerate(lines, 1) if line.endswith(b"\n")]


def _read(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line, object_hook=_nan_for_null)
    except ValueError as error:
        raise damaged(where, f"it is no JSON ({error})", DO) from None
    check_shape(found, Line, where, DO)
    return found


def add_metrics(folder: Path, line: Mapping[str, Any]) -> None:
    """Append a line to `metrics.jsonl`."""
    append(folder / METRICS, to_json(line) + "\n")


def sync_metrics(folder: Path) -> None:
    """Flush the lines to disk, before a checkpoint after which they are not written again."""
    sync_file(folder / METRICS)


def check_lines(folder: Path, step: int, epoch: int) -> None:
    """
    Raises:
        InputError: up to a step there is not one line for the start and for each epoch.
    """
    epochs = [line["epoch"] for line in read_metrics(folder) if line["step"] <= step]
    if epochs != list(range(epoch + 1)):
        wrong = next((e for e in range(epoch + 1) if epochs.count(e) != 1), epoch)
        had = f"{epochs.count(wrong)} lines" if wrong in epochs else "no line"
        raise damaged(folder / METRICS, f"it has {had} of epoch {wrong}", DO)


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
    """The validation numbers of `step` in `best.json`; None if there are none, or those of another step.

    Raises:
        InputError: it is damaged.
    """
    path = folder / BEST
    if not path.is_file():
        return None
    found = read_json(path)
    if isinstance(found.get("valid"), dict):
        found["valid"] = _nan_for_null(found["valid"])
    check_shape(found, Fresh, str(path), AGAIN)
    return found["valid"] if found["step"] == step else None


def best_of(step: int, valid: Mapping[str, Any], fresh: bool) -> Best:
    """The numbers of the best step, from its evaluation as it is recorded."""

    def of(name: str) -> Estimate:
        return Estimate(valid.get(name, math.nan), valid.get(f"{name}_se_data", math.nan), "data")

    return Best(step, of("elbo"), of("rate"), of("distortion"), fresh)


def _nan_for_null(numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if number is None else number for name, number in numbers.items()}
