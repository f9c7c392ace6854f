"""Bits per dimension, of the data as they were given: with the change of variables where they were scaled."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.data.builtin import BUILTIN
from ppl_vae.distributions.wrappers import support_of
from ppl_vae.programs import Pair, terms
from ppl_vae.programs.scores import Batch
from ppl_vae.training.config import FitConfig


class Units(NamedTuple):
    """How nats per datum become bits per dimension.

    Args:
        dimensions: the numbers that are observed in each row; missing cells are not counted, `(N,)`.
        shift: what log p(x) of the data as given is more than that of the data as scaled, in nats, `(N,)`.
        said: the change of variables in words; nothing where there is none.
    """

    dimensions: Tensor
    shift: Tensor
    said: str

    def bits_per_dim(self, log_px: Tensor) -> Tensor:
        """−(log p(x) + shift)/(D log 2) of each row, `(N,)`."""
        return -(log_px + self.shift) / (self.dimensions * math.log(2))


@torch.no_grad()
def units(pair: Pair, config: FitConfig, rows: Batch) -> Units:
    """The units of a run's rows.

    Densities of x/s and of x differ by a factor of s in each dimension: log p(x) = log p(x/s) − D log s. Probabilities
    of discrete x are the same. Standardized data need nothing more, for log p(x) of such a run is of the data already.
    """
    t = terms(pair.model, pair.guide, tuple(x[:1] for x in rows))
    seen = [(name, x) for name, x in t.observed.items() if x.numel()]
    dimensions = torch.zeros(len(rows[0]), dtype=torch.float64)
    for _, x in seen:
        field = next((f for f in rows if f.shape[1:].numel() == x.numel()), None)
        dimensions += float(x.numel()) if field is None else (~field.isnan()).flatten(1).sum(1).cpu()
    scale = config.scale or next((BUILTIN[name].largest for name in config.data if name in BUILTIN), None)
    discrete = all(getattr(support_of(t.p[name]), "is_discrete", False) for name, _ in seen)
    if scale is None or scale == 1 or discrete:
        return Units(dimensions, torch.zeros_like(dimensions), "")
    first = (~rows[0].isnan()).flatten(1).sum(1).cpu().double()
    return Units(dimensions, -first * math.log(scale), f"of the data before they were divided by {scale:g}")
