"""What many draws of a gradient tell: its noise, its signal, and how it stands to a reference."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.moments import Moments, sums
from ppl_vae.programs.program import owner_of

GROUPS = ("model", "guide")


@dataclass
class Gradients:
    """Sums over batches, per tensor, of three squared lengths, each estimated without bias.

    Args:
        names: of the parameters: `model.…` or `guide.…`.
        noise: tr Cov(g), of one draw.
        signal: |E g|², as |ḡ|² − tr Cov(g)/R for the mean ḡ of R draws; it may come out below 0.
        product: E g · E h, with h the reference's gradient, from draws of its own.
    """

    names: Sequence[str]
    batches: int = 0
    draws: int = 0
    noise: Tensor = field(init=False)
    signal: Tensor = field(init=False)
    product: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.noise, self.signal, self.product = torch.zeros(3, len(self.names), dtype=torch.float64)
        self.groups = {group: torch.tensor([owner_of(name) == group for name in self.names]) for group in GROUPS}
        self._errors = dict.fromkeys(GROUPS, 0.0)

    def add(self, own: Moments, reference: Moments) -> None:
        """One batch more."""
        noise = sums(own.variance)
        self.batches, self.draws = self.batches + 1, own.count
        self.noise += noise
        self.signal += sums([m.square() for m in own.mean]) - noise / own.count
        self.product += sums([m * r for m, r in zip(own.mean, reference.mean, strict=True)])
        for group, mine in self.groups.items():
            each = own.increments[:, mine].sum(-1)
            self._errors[group] += each.var().item() / len(each) if len(each) > 1 else math.nan

    def variance(self) -> dict[str, float]:
        """Summed over the parameters of the group, averaged over batches."""
        return self._by_group(lambda own: (self.noise[own].sum() / self.batches).item())

    def variance_se(self) -> dict[str, float]:
        """Standard error of `variance`, over draws; NaN from two of them."""
        return {group: math.sqrt(error) / self.batches for group, error in self._errors.items()}

    def variance_by_tensor(self) -> dict[str, float]:
        return dict(zip(self.names, (self.noise / self.batches).tolist(), strict=True))

    def snr(self) -> dict[str, float]:
        """|E g|/√tr Cov(g), without the bias that noise gives to |ḡ|: 0 where no signal shows, NaN without noise."""
        return self._by_group(lambda own: _snr(self.signal[own].sum().item(), self.noise[own].sum().item()))

    def snr_by_tensor(self) -> dict[str, float]:
        pairs = zip(self.signal.tolist(), self.noise.tolist(), strict=True)
        return {name: _snr(*pair) for name, pair in zip(self.names, pairs, strict=True)}

    def cosine(self, reference: "Gradients") -> dict[str, float]:
        """Between E g and the reference's, likewise; NaN where one of the two is not seen above its noise."""

        def cosine(own: Tensor) -> float:
            lengths = [self._seen(own), reference._seen(own)]
            return self.product[own].sum().item() / math.sqrt(math.prod(lengths)) if min(lengths) > 0 else math.nan

        return self._by_group(cosine)

    def _seen(self, own: Tensor) -> float:
        """The signal, or 0 where it is below 3 standard errors of what noise alone would show: √2 noise/R at most."""
        signal, noise = self.signal[own].sum().item(), self.noise[own].sum().item()
        return signal if signal > 3 * math.sqrt(2 * self.batches) * noise / self.batches / self.draws else 0.0

    def _by_group(self, number: Callable[[Tensor], Any]) -> dict[str, Any]:
        return {group: number(own) for group, own in self.groups.items()}


def _snr(signal: float, noise: float) -> float:
    return math.sqrt(max(signal, 0.0) / noise) if noise > 0 else math.nan
