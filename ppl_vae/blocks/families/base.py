"""What all families have in common."""

from torch import Tensor
from torch.nn.functional import softplus

# No standard deviation falls below it. A draw z = μ + σε is rounded to about 6e-8 |μ| in float32, which log q(z|x) sees
# in units of σ: with σ ≥ 1e-4 and |μ| ≤ 10 that is 6e-3 at most. A posterior as narrow as that knows z to four digits,
# at a price of log 1e4 = 9.2 nats a dimension; none that is learned from real data comes near.
MIN_SIGMA = 1e-4


def positive(raw: Tensor, floor: float = MIN_SIGMA) -> Tensor:
    """softplus(raw) + floor, a standard deviation."""
    return softplus(raw) + floor
