"""The Pareto k-hat of importance weights, from whichever ArviZ is installed."""

import warnings

import torch
from torch import Tensor

MOST_KHAT, LEAST_ESS = 0.5, 100
ROUNDING = 32  # units in the last place, between log weights that are constant


def khat(log_w: Tensor) -> Tensor:
    """The shape of the generalized Pareto distribution in the right tail of the weights, by row: `(K, B)` to `(B,)`.

    Below 0.5 the variance of a weight is finite and standard errors may be trusted. Constant weights are exact: −∞.
    Too few draws to see a tail, or a weight that is NaN or +∞, give +∞. A weight of 0 has no part in the tail.

    Source: Vehtari, Simpson, Gelman, Yao & Gabry 2024.
    """
    found = torch.full(log_w.shape[1:], torch.inf, dtype=log_w.dtype, device=log_w.device)
    finite = (log_w < torch.inf).all(0)
    size = log_w.abs().amax(0).clamp(min=1) * torch.finfo(log_w.dtype).eps
    constant = finite & (log_w.amax(0) - log_w.amin(0) <= ROUNDING * size)
    found[constant] = -torch.inf
    if (rest := finite & ~constant).any():
        k = torch.as_tensor(_by_arviz(log_w[:, rest])).to(found)
        found[rest] = k.nan_to_num(nan=torch.inf, posinf=torch.inf)
    return found


def ess(log_w: Tensor) -> Tensor:
    """1/Σ_k w̃_k², how many of K weighted draws count, w̃ normalized: `(K, B)` to `(B,)`."""
    return 1 / log_w.softmax(0).square().sum(0)


def reliable(khat: Tensor, ess: Tensor) -> Tensor:
    """Does a standard error of a weighted mean hold: is k-hat below 0.5, and do 100 draws count?"""
    return (khat < MOST_KHAT) & (ess >= LEAST_ESS)


def _by_arviz(log_w: Tensor) -> object:
    """ArviZ 0.23 takes log weights, 1.x what it calls log likelihoods, which are −log weights."""
    x = (log_w - log_w.amax(0)).double().T.cpu().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 0.23 announces 1.x whenever it is imported; of k-hat ours says what to do
        import arviz

        if int(arviz.__version__.partition(".")[0]) < 1:
            return arviz.psislw(x)[1]
        from arviz_stats.base import array_stats

        return array_stats.psislw(-x, axis=-1)[1]
