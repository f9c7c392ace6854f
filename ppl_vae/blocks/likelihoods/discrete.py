"""Likelihoods of binary data, categories and proportions."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, pad, softplus

from ppl_vae import distributions
from ppl_vae.blocks.likelihoods.base import Likelihood
from ppl_vae.core.errors import at_least


class Bernoulli(Likelihood):
    """P(x = 1) = sigmoid(raw), x in {0, 1}."""

    name = "bernoulli"

    def distribution(self, raw: Tensor) -> dist.Distribution:
        return dist.Bernoulli(logits=raw[0])


class ContinuousBernoulli(Likelihood):
    """p(x) = C(λ) λˣ (1 − λ)¹⁻ˣ, λ = sigmoid(raw), x in [0, 1]: grey pixels. Loaiza-Ganem & Cunningham (2019)."""

    name = "continuous_bernoulli"

    def distribution(self, raw: Tensor) -> dist.Distribution:
        return distributions.ContinuousBernoulli(logits=raw[0])


class Beta(Likelihood):
    """p(x) = Beta(x; α, β), both softplus(raw), 0 < x < 1."""

    name = "beta"

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__(data_shape, params=2)

    def distribution(self, raw: Tensor) -> dist.Distribution:
        α, β = softplus(raw) + 1e-3
        return distributions.Beta(α, β)


class Categorical(Likelihood):
    """P(x = k) = softmax(raw)_k, x in {0, ..., levels − 1}."""

    name = "categorical"

    def __init__(self, data_shape: tuple[int, ...], levels: int) -> None:
        at_least(2, levels=levels)
        super().__init__(data_shape, params=levels)

    def distribution(self, raw: Tensor) -> dist.Distribution:
        return dist.Categorical(logits=raw.movedim(0, -1))


class Ordinal(Likelihood):
    """P(x ≤ k) = σ(c_k − raw), x in {0, ..., levels − 1}: cumulative odds, σ the sigmoid. McCullagh (1980).

    The cut points c_0 < c_1 < ... of each dimension are learned. So that nothing cancels,
    P(x = k) = σ(c_k − raw) σ(raw − c_{k−1}) (1 − e^{c_{k−1} − c_k}); the first and the last lack a factor or two.
    """

    name = "ordinal"

    def __init__(self, data_shape: tuple[int, ...], levels: int) -> None:
        at_least(2, levels=levels)
        super().__init__(data_shape)
        self.levels = levels
        self.first = nn.Parameter(torch.full((*data_shape, 1), -1.0))
        self.gaps = nn.Parameter(torch.zeros(*data_shape, levels - 2))

    def begin(self, data: Tensor) -> "Ordinal":
        """Itself, with the cut points at which raw = 0 gives each level its share of rows `(N, *data_shape)`."""
        cuts = _cuts(data, self.levels)
        gaps = (cuts.diff() - 1e-3).clamp(min=1e-3)
        self.first.data = cuts[..., :1].to(self.first)
        self.gaps.data = (gaps + (-torch.expm1(-gaps)).log()).to(self.gaps)  # softplus backwards
        return self

    def distribution(self, raw: Tensor) -> dist.Distribution:
        gaps = softplus(self.gaps) + 1e-3
        above = raw[0].unsqueeze(-1) - torch.cat([self.first, self.first + gaps.cumsum(-1)], -1)
        factors = pad(logsigmoid(-above), (0, 1)) + pad(logsigmoid(above), (1, 0))
        return dist.Categorical(logits=factors + pad((-torch.expm1(-gaps)).log(), (1, 1)))


def _cuts(data: Tensor, levels: int) -> Tensor:
    """The log-odds of x ≤ k in rows `(N, *data_shape)`, half a row added to each level, `(*data_shape, levels − 1)`."""
    below = torch.stack([(data <= k + 0.5).sum(0) for k in range(levels - 1)], -1) + 0.5 * torch.arange(1, levels)
    total = (~data.isnan()).sum(0).unsqueeze(-1) + 0.5 * levels
    return torch.logit(below / total)
