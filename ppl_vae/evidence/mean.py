"""The mean of numbers per datum, with both of its standard errors."""

import math
from typing import Any, NamedTuple

from torch import Tensor

from ppl_vae.core.statistics import Estimate


class Mean(NamedTuple):
    """A mean over rows: with its error over data, and with its error over draws, the rows fixed."""

    over_data: Estimate
    over_draws: Estimate

    @property
    def value(self) -> float:
        return self.over_data.value

    def fields(self, name: str) -> dict[str, Any]:
        """`{name, name_se_data, name_se_mc}`."""
        return {name: self.value, f"{name}_se_data": self.over_data.se, f"{name}_se_mc": self.over_draws.se}


def mean(x: Tensor, se: Tensor | None = None) -> Mean:
    """The mean of x `(N,)`, whose rows have independent errors `se` over draws, `(N,)`; NaN where nothing tells it."""
    n = len(x)
    value = x.mean().item() if n else math.nan
    over_draws = math.nan if se is None or not n else se.square().sum().sqrt().item() / n
    over_data = x.std().item() / n**0.5 if n > 1 else math.nan
    return Mean(Estimate(value, over_data, "data"), Estimate(value, over_draws, "draws"))
