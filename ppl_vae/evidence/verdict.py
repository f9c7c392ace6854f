"""Collapsed or not, and what to try: words that follow from the numbers."""

from typing import NamedTuple

from torch import Tensor

from ppl_vae.core.statistics import Estimate
from ppl_vae.evidence.aggregate import Information, TwoSample
from ppl_vae.objectives.dimensions import ACTIVE
from ppl_vae.runs.recording import COLLAPSED

SURE = 2.0  # standard errors
MISFIT, REJECTED = 0.1, 0.01  # nats that a better prior is worth, and a p-value


class Verdict(NamedTuple):
    """What the numbers come to.

    Args:
        text: `no collapse: …`, `partly collapsed: …`, `collapsed: …`, or `not known: …`.
        advice: what to try.
        active_units: by the criterion `covariance`, `rate` or `both`: how many dimensions are `active`, of how many.
    """

    text: str
    advice: str
    active_units: dict[str, dict[str, int]]


def cures(*, real: bool, learned: bool) -> str:
    """What can be tried against collapse, as options of `fit`.

    Args:
        real: is the only latent a vector of real numbers?
        learned: and is its prior something else than N(0, I)?
    """
    tries = [
        "--warmup EPOCHS or --warmup-cycles, by which the weight of the rate rises from 0",
        "--objective free-bits",
    ]
    if real:
        tries.append("--guide amortized with --set family=delta_normal or batch_norm_normal, whose rate stays above 0")
    if learned:
        tries.append("--set prior=standard_normal, since a prior that is learned can move to where q(z|x) is")
    return "; ".join([*tries, "a decoder that can do less without z, by fewer units or a likelihood of less noise"])


def judge(
    rate: Estimate, rates: Tensor, variances: Tensor, found: Information, two_sample: TwoSample, tries: str
) -> Verdict:
    """The verdict, by these rules.

    A dimension is active by its variance if Var_x(E_q[z|x]) > 0.01 (Burda et al. 2016), and by its rate if this is
    above 0.01 nats. It *carries information* if it is active by both, or by the one that is known: a rate alone can be
    that of a q(z|x) that is the same for every x but is not the prior.

    - Collapsed: an upper bound of I_q(x; z), or the rate, is below 0.05 nats; or no dimension carries information
      (and the lower bound of I_q does not exceed 0.05 nats by 2 standard errors).
    - Partly collapsed: fewer than half of the dimensions carry information.
    - No collapse: half of them or more. Spare dimensions are no fault: a fit prunes what log p(x) does not need.

    The threshold of 0.05 nats, at which `fit` warns too, and that of a half are this project's own.

    Args:
        rates, variances: of each dimension, `(D,)`; NaN where they are not known.
        tries: what can be tried against collapse.
    """
    known_rate, known_variance = ~rates.isnan(), ~variances.isnan()
    by_rate, by_variance = rates > ACTIVE, variances > ACTIVE
    known = known_rate | known_variance
    carries = known & (by_rate | ~known_rate) & (by_variance | ~known_variance)
    units = {
        "covariance": _count(by_variance, known_variance),
        "rate": _count(by_rate, known_rate),
        "both": _count(carries, known),
    }
    k, D = units["both"].values()
    text = _text(k, D, rate, found)
    if text.startswith("collapsed"):
        advice = f"try {tries}"
    elif text.startswith("partly"):
        advice = (
            "dimensions that are not used cost nothing, and often log p(x) does not need them: a smaller latent_dim "
            f"may do as well. If more should be used, try {tries}"
        )
    else:
        advice = "nothing has to change for the sake of the latent"
    return Verdict(text, advice + _about_the_prior(found, two_sample, bool(known_variance.any())), units)


def _count(active: Tensor, known: Tensor) -> dict[str, int]:
    return {"active": int((active & known).sum()), "of": int(known.sum())}


def _text(k: int, D: int, rate: Estimate, found: Information) -> str:
    of = f"{k} of {D} dimensions carry information"
    informed = found.lower.value - SURE * found.lower.se > COLLAPSED  # False where it is NaN
    if rate.value < COLLAPSED or found.upper.value < COLLAPSED:
        return f"collapsed: z tells less than {COLLAPSED} nats of x"
    if D and not k and not informed:
        return f"collapsed: none of {D} dimensions carries information, though the rate is {rate.value:z.2f} nats"
    if D and not k:
        return f"partly collapsed: {of} by mean and rate, though z tells {found.lower.value:z.2f} nats of x at least"
    if D:
        return f"partly collapsed: {of}" if k < D / 2 else f"no collapse: {of}"
    if informed:
        return f"no collapse: z tells {found.lower.value:z.2f} nats of x at least"
    return f"not known: the rate is {rate.value:z.2f} nats, but how much of it is information could not be told"


def _about_the_prior(found: Information, two_sample: TwoSample, real: bool) -> str:
    low, high = found.marginal_lower.value, found.marginal_upper.value
    if not two_sample.p < REJECTED or not high > MISFIT:
        return ""
    how = " (--model vae --set prior=mixture, vamp or flow)" if real else ""
    gain = f"{low:z.2f} to {high:z.2f}" if low > 0 else f"at most {high:z.2f}"
    return (
        f". q(z) is not p(z) (p = {two_sample.p:.2g}), so that a draw of the prior need not be like the code of any "
        f"datum: a better prior alone can raise the ELBO by {gain} nats{how}"
    )
