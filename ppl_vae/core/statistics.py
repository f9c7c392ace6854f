"""A number with its standard error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error, and what the error is taken over.

    Args:
        value: the number; NaN where it is not defined.
        se: its standard error, in the same unit; NaN where it can't be told, as from one draw.
        over: `draws` of the guide with the data fixed, the rows of the `data`, or the `seeds` of several runs.
    """

    value: float
    se: float
    over: Literal["draws", "data", "seeds"]

    @classmethod
    def of(cls, values: Sequence[float], over: Literal["draws", "data", "seeds"]) -> "Estimate":
        """The mean of numbers that are independent of each other; NaN where there is none, its error NaN of one."""
        se = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(fmean(values) if values else math.nan, se, over)

    @property
    def z(self) -> float:
        """value/se: by how many standard errors the number is not 0. NaN where there is no noise."""
        return self.value / self.se if self.se > 0 else math.nan

    def __str__(self) -> str:
        """`-101.32 ± 0.41`: the error with two digits, the value with as many decimals; no error where it is NaN."""
        value, se = digits(self.value, self.se)
        return f"{value} ± {se}" if math.isfinite(self.se) else value

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        spec = spec if "z" in spec else f"z{spec}"  # no -0.00
        if math.isnan(self.se):
            return format(self.value, spec)
        return f"{format(self.value, spec)} ± {format(self.se, spec)}"


def digits(value: float, *errors: float) -> tuple[str, ...]:
    """A number and its standard errors, as they are written: `("-101.3", "1.2", "0.0050")`.

    Each error has two digits. The number ends at the place of the largest error, since the digits after it are not
    known; without an error it has two decimals. What is not defined is a dash, and nothing is -0.00.
    """
    known = [error for error in errors if error > 0 and math.isfinite(error)]
    return tuple(
        "–" if x != x else f"{x:z.{_decimals(error)}f}"
        for x, error in ((value, max(known, default=0.0)), *zip(errors, errors, strict=True))
    )


def _decimals(error: float) -> int:
    """After the point, where the second digit of the error stands; 2 where there is no error."""
    return max(0, 1 - math.floor(math.log10(error))) if 0 < error < math.inf else 2
