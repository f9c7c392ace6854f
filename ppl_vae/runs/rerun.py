"""A run made again from its folder, and held against the first: are they the same bits?"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import torch

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import Scratch, write_bytes, write_json
from ppl_vae.core.results import Result
from ppl_vae.programs.find import Spec
from ppl_vae.runs.machine import differences, machine, versions
from ppl_vae.runs.record import FILE, altered
from ppl_vae.runs.resuming import go_on
from ppl_vae.runs.run import Run

TABLE = "columns.toml"


@dataclass(frozen=True, repr=False)
class Rerun(Result):
    """A run that was made again, beside the first.

    Args:
        run: the new one.
        first: the folder of the first.
        same: are all metrics and all checkpoints that both have the same, bit for bit?
        differs: where they part first, in words; empty where they do not.
        compared: how many lines of metrics, and of which steps the checkpoints.
        elsewhere: what of the versions and of the machine is not as it was, as `name: before, now`.
        notes: what could not be done as it was.
    """

    run: Run
    first: Path
    same: bool
    differs: str
    compared: tuple[int, tuple[int, ...]]
    elsewhere: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return 0 if self.same else 1

    def fields(self) -> dict[str, Any]:
        lines, steps = self.compared
        return {
            "run": str(self.run.folder), "first": str(self.first), "same": self.same, "differs": self.differs,
            "lines": lines, "checkpoints": list(steps), "elsewhere": list(self.elsewhere), "notes": list(self.notes),
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        lines, steps = self.compared
        what = f"{lines} lines of metrics and the checkpoints of the steps {', '.join(map(str, steps))}"
        yield f"{'the same, bit for bit' if self.same else 'not the same'}: {what}"
        if self.differs:
            yield self.differs
        for name, told in (("not as it was", self.elsewhere), ("note", self.notes)):
            yield from (f"{name}: {each}" for each in told)
        if self.run.keep is None:
            yield f"run: {self.run.folder}"


def rerun(
    run: Run,
    out: Path | None = None,
    *,
    model: Spec | None = None,
    guide: Spec | None = None,
    trust: bool = False,
    force: bool = False,
    progress: bool = False,
    **again: Any,
) -> Rerun:
    """Make a run again, from its start, in a new folder, and compare both.

    The new run takes options, seed, products of the compiled step and the number of threads from the record.

    Args:
        out: the folder to make; None: a temporary one.
        model, guide, trust, force: as for `Run.pair`.
        again: `data`, `set` and `objective` as for `go_on`.

    Raises:
        InputError: the run has no checkpoint, the folder exists, or what `go_on` refuses.
    """
    if not run.checkpoints.steps:
        raise InputError(f"{run.folder} has no checkpoint to compare with: ppl-vae resume {run.folder} starts it")
    if run.processes > 1:
        raise InputError(
            f"{run.folder} was trained by {run.processes} processes, and rerun is done by one: fit it anew under "
            "torchrun, as its report says, and compare the two"
        )
    scratch = Scratch() if out is None else None
    place = scratch.folder / "run" if scratch else Path(out or "").expanduser()
    if place.exists():
        raise InputError(f"{place} exists: choose another --out")
    named: dict[str, Any] = {"model": model, "guide": guide}
    if not trust:
        named |= {str(kind): spec for kind, spec in run.trust.programs(named, trust=False, force=force).items()}
    notes = tuple(_laid_out(run, place))
    try:
        made = go_on(place, {}, trust=trust, force=force, progress=progress, **named, **again)
    except InputError:
        if not Run(place).checkpoints.steps:  # it has not begun
            rmtree(place)
        raise
    made = Run(made.folder, scratch, made.again)
    differs, compared = compare(run, made)
    return Rerun(made, run.folder, not differs, differs, compared, tuple(differences(run.record, made.record)), notes)


def _laid_out(run: Run, place: Path) -> Iterator[str]:
    """Make the folder of a run that has not begun, with the record of the first; what can't be as it was is told."""
    record, how = dict(run.record), dict(run.record.get("step", {}))
    options = dict(record["fit"]) | {"track": []}
    chosen = how.pop("threads", None) or [[0, record.get("machine", {}).get("threads")]]
    if options.get("threads") in (None, "auto") and chosen[0][1] is not None:
        options["threads"] = chosen[0][1]
    if len(chosen) > 1:
        yield f"the run changed its threads at step {chosen[1][0]}; all steps were repeated with {chosen[0][1]}"
    for change in altered(record):
        before = ", ".join(f"{name} had been {value}" for name, value in change["before"].items())
        yield f"at step {change['step']} the run went on with other options; it was repeated with the last: {before}"
    for name in ("changed", "tracked"):
        record.pop(name, None)
    copytree(run.folder / "sources", place / "sources")
    if (run.folder / TABLE).is_file():
        write_bytes(place / TABLE, (run.folder / TABLE).read_bytes())
    own = {**machine(), **({"threads": options["threads"]} if options["threads"] else {})}
    record |= {"fit": options, "versions": versions(), "machine": own}
    write_json(place / FILE, record | ({"step": how} if "step" in record else {}))


def compare(first: Run, second: Run) -> tuple[str, tuple[int, tuple[int, ...]]]:
    """Where two runs part first, in words, if they do; and how many lines and which checkpoints were compared."""
    lines = [{line["step"]: _timeless(line) for line in each.metrics} for each in (first, second)]
    steps = [each.checkpoints.steps for each in (first, second)]
    both = sorted(lines[0].keys() & lines[1].keys()), sorted(set(steps[0]) & set(steps[1]))
    found = [(step, told) for step in both[0] if (told := _of_lines(lines[0][step], lines[1][step]))]
    found += [(step, told) for step in both[1] if (told := _of_states(first, second, step))]
    if not found and len(lines[0]) > len(lines[1]):
        found = [(max(lines[1]), f"the second has {len(lines[1])} lines of metrics in place of {len(lines[0])}")]
    told = min(found, key=lambda each: each[0])[1] if found else ""
    return told, (len(both[0]), tuple(both[1]))


def _timeless(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in line.items() if name != "seconds"}


def _of_lines(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """The first number in which two lines of the metrics differ."""
    if repr(ours) == repr(theirs):  # NaN is as NaN is
        return ""
    a, b = ours["valid"]["elbo"], theirs["valid"]["elbo"]
    away = f"the validation ELBO is {b!r} in place of {a!r}" if a != b else "a number of the training is another"
    return f"from step {ours['step']} on: {away}"


def _of_states(first: Run, second: Run, step: int) -> str:
    """By how much two checkpoints of a step differ."""
    (ours, _), (theirs, _) = first.checkpoints.load(step), second.checkpoints.load(step)
    if ours.keys() != theirs.keys():
        return f"step {step}: the checkpoints hold other tensors: {sorted(ours.keys() ^ theirs.keys())[0]}"
    apart = {name: x for name, x in ours.items() if not torch.equal(x, theirs[name])}
    if not apart:
        return ""
    away = {
        name: (theirs[name] - x).double().norm().item() / max(x.double().norm().item(), math.ulp(0.0))
        for name, x in apart.items()
        if x.is_floating_point() and x.shape == theirs[name].shape
    }
    if not away:
        return f"from step {step} on: {sorted(apart)[0]} is another"
    name = max(away, key=away.__getitem__)
    return f"from step {step} on: {len(apart)} of {len(ours)} tensors, {name} by {away[name]:.2g} of its norm"
