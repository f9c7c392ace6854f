"""log p(x) in closed form, where the model supplies it, and not believed without a check."""

import math
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.importance import Weighted
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch, batches

ROUNDING = 100  # units in the last place of a sum over the numbers of a row
LEVEL = 1e-6  # how often a true log_px is refused


def has_exact(model: ProgramLike) -> bool:
    return callable(getattr(model, "log_px", None))


@torch.no_grad()
def exact(model: Any, rows: Tensor | Batch, batch_size: int = 100) -> Tensor:
    """`model.log_px(*batch)` of each row, `(N,)`.

    Raises:
        InputError: the model has no `log_px`, or it does not return one number for each row.
    """
    if not has_exact(model):
        raise InputError("the model has no method log_px, which would say log p(x) exactly")
    found = []
    for batch in batches(as_batch(rows), batch_size):
        value = model.log_px(*batch)
        if not isinstance(value, Tensor) or value.shape != batch[0].shape[:1]:
            raise InputError("log_px of the model must return one number for each row, a tensor of shape (B,)")
        found.append(value.double())
    return torch.cat(found)


def disagreement(value: Tensor, weighted: Weighted, dtype: torch.dtype) -> str:
    """How an exact log p(x) `(N,)` differs from importance sampling by more than noise and rounding; else nothing.

    Rows whose error is reliable are compared with it, one by one and in the mean. In the others the weights can show
    only that log p(x) is too small: E[ŵ/p(x)] = 1, so that log ŵ exceeds log p(x) + t with probability e⁻ᵗ at most.
    """
    rounding = ROUNDING * torch.finfo(dtype).eps * (1 + value.abs())
    bias = weighted.se.square()  # of the logarithm of a mean, which is half of this below
    over = weighted.log_px - value
    at = len(value)
    z = NormalDist().inv_cdf(1 - LEVEL / (4 * at))
    good = weighted.reliable
    wrong = torch.where(
        good, over.abs() > z * weighted.se + bias + rounding, over > math.log(2 * at / LEVEL) + rounding
    )
    if not wrong.any() and good.any():
        allowed = NormalDist().inv_cdf(1 - LEVEL / 4) * bias[good].sum().sqrt() / good.sum()
        if over[good].mean().abs() > allowed + (bias + rounding)[good].mean():
            wrong = good
    if not wrong.any():
        return ""
    worst = torch.where(wrong, over.abs(), -math.inf).argmax()
    return f"row {worst}: log_px says {value[worst]:z.4f}, importance sampling {weighted.log_px[worst]:z.4f} nats"
