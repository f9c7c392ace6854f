"""A continuous relaxation of a categorical variable."""

from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch.distributions import relaxed_categorical


class ExpRelaxedCategorical(relaxed_categorical.ExpRelaxedCategorical, TorchDistributionMixin):
    """y = log softmax((log π + Gumbel noise)/τ), the logarithm of a point of the simplex, reparameterized.

    With C classes and the coordinates u_k = y_k − y_C, k < C, its density is

        p(u) = (C − 1)! τ^{C−1} Π_k π_k e^{−τ y_k} / (Σ_k π_k e^{−τ y_k})^C.

    At every τ, the largest entry of y is the k-th with probability π_k. As τ → 0, exp(y) becomes one-hot. This is
    torch's distribution with the methods that Pyro needs. `RelaxedOneHotCategorical` is exp(y); where it underflows to
    0 it has no density.

    Args:
        temperature: τ, a scalar tensor.
        logits: log π, `batch + (C,)`.

    Source: Maddison, Mnih & Teh 2017 (Concrete); Jang, Gu & Poole 2017 (Gumbel-softmax).
    """
