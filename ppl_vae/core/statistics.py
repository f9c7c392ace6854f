"""A number with its standard error, and what that error is over."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Over: TypeAlias = Literal["draws", "data", "seeds"]


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error, both in the units of the number; NaN where one is not defined.

    Args:
        value: the mean.
        se: its standard error.
        over: what the error is over: draws of the latent variables with the data fixed, rows of data, or seeds.
    """

    value: float
    se: float = math.nan
    over: Over = "data"

    def __str__(self) -> str:
        """`-101.32 ± 0.41`: the error with two digits, the value with as many decimals; no error where it is NaN."""
        if not math.isfinite(self.se):
            return f"{self.value:.2f}"
        decimals = 2 if self.se <= 0 else max(0, 1 - math.floor(math.log10(self.se)))
        return f"{self.value:.{decimals}f} ± {self.se:.{decimals}f}"

    def asdict(self) -> dict[str, Any]:
        """For JSON, which has no NaN: what is not finite is None."""
        return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in asdict(self).items()}
