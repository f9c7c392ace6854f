"""Is the mean of a gradient the reference's? Random projections of both, draw by draw, and Welch's t."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ppl_vae.diagnostics.gradients import GROUPS
from ppl_vae.diagnostics.results import GradientBias
from ppl_vae.programs.program import owner_of

PROJECTIONS = 4  # of each group
MOST_DF = 20  # the t of a skewed gradient (REINFORCE) has heavier tails than Student's of 198 degrees of freedom
ROUNDING = 1e-5  # of a projection in float32, relative to the group's largest


class Projections:
    """Projections of a gradient on fixed random directions, `PROJECTIONS` for each group of parameters.

    The coordinates of a group are dealt out in turn, and each is weighted by a standard normal number: so the
    directions are orthogonal, and together they are as large as the parameters.

    Args:
        trained: the parameters, by their names `model.…` and `guide.…`.
    """

    def __init__(self, trained: Mapping[str, Tensor]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.groups = {g: [i for i, name in enumerate(trained) if owner_of(name) == g] for g in GROUPS}
        sizes = [parameter.numel() for parameter in trained.values()]
        like = next(iter(trained.values()))
        self.weights = {
            group: torch.randn(sum(sizes[i] for i in own), generator=generator).to(like)
            for group, own in self.groups.items()
        }

    def __call__(self, gradient: Sequence[Tensor]) -> Tensor:
        """`(groups, PROJECTIONS)`, in float64; 0 for a group without parameters."""
        return torch.stack([self._group(gradient, group) for group in GROUPS]).cpu()

    def _group(self, gradient: Sequence[Tensor], group: str) -> Tensor:
        weights = self.weights[group]
        if not len(weights):
            return torch.zeros(PROJECTIONS, dtype=torch.float64)
        weighted = torch.cat([gradient[i].flatten() for i in self.groups[group]]) * weights
        padded = torch.nn.functional.pad(weighted, (0, -len(weighted) % PROJECTIONS))
        return padded.view(-1, PROJECTIONS).sum(0, dtype=torch.float64)


@dataclass
class BiasTest:
    """The most telling of the t statistics of all batches, projections and groups."""

    tests: int = 0
    t: dict[str, float] = field(default_factory=lambda: dict.fromkeys(GROUPS, 0.0))
    log_p: float = 0.0

    def add(self, own: Sequence[Tensor], other: Sequence[Tensor]) -> None:
        """One batch more: what `Projections` made of each draw."""
        t, log_p = differences(torch.stack(list(own)), torch.stack(list(other)))
        self.tests += t.numel()
        self.log_p = min(self.log_p, log_p.min().item())
        for group, mine in zip(GROUPS, t.abs().amax(-1).tolist(), strict=True):
            self.t[group] = max(self.t[group], mine)

    def result(self, reference: str) -> GradientBias:
        p = min(1.0, self.tests * math.exp(self.log_p))
        return GradientBias(reference, dict(self.t), p, self.tests)


def differences(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Welch's t of the means of two samples, `(R, groups, PROJECTIONS)` each, and two-sided log p: without the R.

    The degrees of freedom are counted as 20 at most, which allows for skewed draws.

    Rounding counts as a standard error of its own, so that two estimators without noise may differ by it.
    """
    R = len(own)
    variances = [x.var(0) / R for x in (own, other)]
    largest = torch.stack([x.square().mean(0).sqrt() for x in (own, other)]).amax((0, -1)).unsqueeze(-1)
    squared = variances[0] + variances[1]
    difference = own.mean(0) - other.mean(0)
    t = torch.where(difference == 0, 0.0, difference / (squared + (ROUNDING * largest).square()).sqrt())
    df = (R - 1) * squared.square() / (variances[0].square() + variances[1].square())
    return t, log_p(t, df.nan_to_num(nan=R - 1).clamp(max=MOST_DF))


def log_p(t: Tensor, df: Tensor) -> Tensor:
    """log P(|T| > |t|) of Student's t by Wallace's normal approximation, close in the far tail too (Wallace 1959)."""
    z = (8 * df + 1) / (8 * df + 3) * (df * torch.log1p(t.square() / df)).sqrt()
    return math.log(2) + torch.special.log_ndtr(-z)
