"""What a comparison of runs finds: their values on the same rows, and the paired differences with their errors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from ppl_vae.core.results import Result, number, table
from ppl_vae.core.statistics import Estimate, digits


@dataclass(frozen=True)
class RunValue:
    """The mean of a run's values over rows: with its error over draws, the rows fixed, and with its error over data."""

    value: Estimate
    over_data: Estimate

    def fields(self) -> dict[str, Any]:
        return {"value": self.value.value, "se_mc": self.value.se, "se_data": self.over_data.se}


@dataclass(frozen=True)
class RunDifference:
    """a − b, row by row: its mean with its error over draws, and with that over data, which contains the former."""

    a: str
    b: str
    difference: Estimate
    over_data: Estimate

    def fields(self) -> dict[str, Any]:
        d, over = self.difference, self.over_data
        return {"a": self.a, "b": self.b, "difference": d.value, "se_mc": d.se, "se_data": over.se, "z": over.z}


@dataclass(frozen=True)
class SeedDifference:
    """a − b of two groups of runs that differ in their seed alone, with its error over seeds.

    Args:
        difference: of the groups' means; its `z` is Student's t, which with few seeds has heavy tails.
        df: degrees of freedom of t.
        seeds: those of each group.
        how: `paired by seed`, or `unpaired` (Welch's t).
    """

    a: str
    b: str
    difference: Estimate
    df: int
    seeds: Sequence[Sequence[int]]
    how: str

    def fields(self) -> dict[str, Any]:
        d = self.difference
        numbers = {"difference": d.value, "se_seeds": d.se, "t": d.z, "df": self.df}
        return {"a": self.a, "b": self.b} | numbers | {"seeds": [list(s) for s in self.seeds], "how": self.how}

    def __str__(self) -> str:
        return (
            f"over seeds ({self.how}): {self.a} and its kind − {self.b} and its kind = {self.difference:z.3f}, "
            f"t = {number(self.difference.z, '.1f')}, {self.df} degree{'s' * (self.df > 1)} of freedom"
        )


@dataclass(frozen=True, repr=False)
class RunComparison(Result):
    """Runs on the same held-out rows, by one objective.

    Args:
        target: what the objective estimates.
        runs: the value of each run, by its folder.
        pairs: the differences of every two.
        over_seeds: the differences of groups of runs that differ in their seed alone.
    """

    data: str
    rows: int
    split: str
    draws: int
    seed: int
    objective: str
    target: str
    runs: Mapping[str, RunValue]
    pairs: tuple[RunDifference, ...]
    over_seeds: tuple[SeedDifference, ...]

    def fields(self) -> dict[str, Any]:
        names = ("data", "rows", "split", "draws", "seed", "objective", "target")
        return {"format": 1} | {name: getattr(self, name) for name in names} | {
            "runs": {name: value.fields() for name, value in self.runs.items()},
            "pairs": [pair.fields() for pair in self.pairs],
            "over_seeds": [group.fields() for group in self.over_seeds],
        }  # fmt: skip

    @property
    def table(self) -> Table:
        """The value of each run."""
        made = table("run", f"{self.target}\nin nats", "± s.e.\nover draws", "± s.e.\nover data")
        for name, r in self.runs.items():
            made.add_row(name, *digits(r.value.value, r.value.se, r.over_data.se))
        return made

    @property
    def differences(self) -> Table:
        """The paired differences of every two runs."""
        made = table("paired difference", "nats", "± s.e.\nover draws", "± s.e.\nover data", "z")
        for p in self.pairs:
            numbers = digits(p.difference.value, p.difference.se, p.over_data.se)
            made.add_row(f"{p.a} − {p.b}", *numbers, number(p.over_data.z, ".1f"))
        return made

    def lines(self) -> Iterator[RenderableType]:
        yield (
            f"{self.target} by {self.objective}, {self.draws} draws, on the same {self.rows} {self.split} rows of "
            f"{self.data};"
        )
        yield "nats per datum."
        yield self.table
        yield ""
        yield self.differences
        yield from map(str, self.over_seeds)
