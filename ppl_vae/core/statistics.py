"""A number with its standard error."""

import math
from dataclasses import dataclass
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

    @property
    def z(self) -> float:
        """value/se: by how many standard errors the number is not 0. NaN where there is no noise."""
        return self.value / self.se if self.se > 0 else math.nan

    def __str__(self) -> str:
        """`-101.32 ± 0.41`: the error with two digits, the value with as many decimals; no error where it is NaN."""
        if not math.isfinite(self.se):
            return f"{self.value:z.2f}"
        decimals = 2 if self.se <= 0 else max(0, 1 - math.floor(math.log10(self.se)))
        return f"{self:.{decimals}f}"

    def __format__(self, spec: str) -> str:
        spec = spec if "z" in spec else f"z{spec}"  # no -0.00
        if math.isnan(self.se):
            return format(self.value, spec)
        return f"{format(self.value, spec)} ± {format(self.se, spec)}"
