"""Do two numbers differ because of a fault of the program, or only because of rounding?"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ppl_vae.checks.subject import Finding, Subject
from ppl_vae.programs import Terms
from ppl_vae.programs.find import Kind
from ppl_vae.programs.scores import Batch, Values

TRIES = 5
DIGITS = 4  # a number is moved by at most so many units in its last place
MARGIN = 10  # two ways of summing may differ by so many times that, since the layers of a network round too
HARMFUL = 0.1  # nats


def told_from_rounding(
    s: Subject, batch: Batch, values: Values, site: str, kind: Kind, differences: Tensor, found: str, fault: str
) -> Iterator[Finding]:
    """The finding that two scores of a site differ by `differences`, `(K, B)`: a fault, or rounding.

    It is rounding if no row differs by more than a few times the amount by which its score moves when data and draws
    change in their last digits. Rounding is an error too if it exceeds 0.1 nat; below that it does no harm.

    Args:
        found: the message that says what differs.
        fault: the message for a fault, which adds what to do.
    """
    if not (differences <= MARGIN * _sensitivity(s, batch, values, site, kind)).all():
        yield s.error(fault, site, kind)
    elif differences.max() > HARMFUL:
        digits = str(batch[0].dtype).removeprefix("torch.")
        yield s.error(
            f"{found}, and it moves as far when data and draws change in their last digit"
            f"{_scales(s.score(batch, values), site, kind)}. {digits} can't tell such numbers apart: bring the data to "
            "a common scale, with --standardize, or put a larger floor under σ",
            site,
            kind,
        )


def _sensitivity(s: Subject, batch: Batch, values: Values, site: str, kind: Kind) -> Tensor:
    """How far the site's log-probability moves when every number grows by up to `DIGITS` units in its last place.

    Numbers grow and do not shrink, so that a code k, stored as a float, is not cut to k − 1.
    """
    before = _log_prob(s.score(batch, values), site, kind)
    most = torch.zeros_like(before)
    for seed in range(TRIES):
        torch.manual_seed(seed)
        moved = s.score(tuple(map(_grown, batch)), {name: _grown(v) for name, v in values.items()})
        most = torch.maximum(most, (_log_prob(moved, site, kind) - before).abs())
    return most


def _log_prob(t: Terms, site: str, kind: Kind) -> Tensor:
    return t.log_q[site] if kind == "guide" else (t.log_prior | t.log_lik)[site]


def _grown(x: Tensor) -> Tensor:
    return x * (1 + DIGITS * torch.finfo(x.dtype).eps * torch.rand_like(x)) if x.is_floating_point() else x


def _scales(t: Terms, site: str, kind: Kind) -> str:
    """The smallest σ and the largest |μ| of the site, in words, if its distribution has them."""
    fn = (t.q if kind == "guide" else t.p)[site]
    try:
        sd, mean = fn.variance.sqrt().min().item(), fn.mean.abs().max().item()
    except (NotImplementedError, AttributeError):
        return ""
    return f": σ comes down to {sd:.2g}, and |μ| up to {mean:.2g}"
