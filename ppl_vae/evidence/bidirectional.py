"""How far annealed bounds are apart: bidirectional Monte Carlo, on rows that the model draws."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from ppl_vae.core.errors import at_least
from ppl_vae.core.statistics import Estimate
from ppl_vae.evidence.annealed import Annealing, log_mean
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.path import Start
from ppl_vae.evidence.simulated import rows_like, simulated
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch, batches


@dataclass(frozen=True)
class Bidirectional:
    """Bounds on log p(x) of N rows that the model drew, as `bidirectional` finds them.

    They enclose log p(x) of these simulated rows. They are no bracket of log p(x) of real rows, whose posteriors may be
    harder to reach, all the more where the model fits them badly; for real x there is no upper bound.

    Args:
        lower: forward, from draws of the start, `(N,)`: in expectation at most log p(x), in nats.
        upper: in reverse, from the z that x was drawn with, `(N,)`: in expectation at least log p(x), in nats.
        acceptance: of the transitions of each row, both ways, `(N,)`.
        start, why, temperatures, leapfrog: as in `Annealed`.
    """

    lower: Tensor
    upper: Tensor
    acceptance: Tensor
    start: Start
    why: str
    temperatures: int
    leapfrog: int

    @property
    def gap(self) -> Estimate:
        """The mean of upper − lower over simulated rows, in nats: how far the two bounds are apart."""
        gap = self.upper - self.lower
        se = gap.std().item() / len(gap) ** 0.5 if len(gap) > 1 else float("nan")
        return Estimate(gap.mean().item(), se, "data")

    def fields(self) -> dict[str, Any]:
        return {
            "rows": len(self.lower),
            "lower": self.lower.mean().item(),
            "upper": self.upper.mean().item(),
            "gap": self.gap.value,
            "gap_se_data": self.gap.se,
            "start": self.start,
            "temperatures": self.temperatures,
            "acceptance": self.acceptance.mean().item(),
        }

    def lines(self) -> Iterator[str]:
        yield (
            f"{len(self.lower)} rows drawn from the model: annealed bounds on their log p(x) are {self.gap:z.2f} nats "
            f"apart, {self.temperatures} temperatures from the {self.start}"
        )
        yield "(so far from the truth may annealing be on such rows; of real rows there is no upper bound)"


@torch.no_grad()
def bidirectional(
    model: ProgramLike,
    guide: ProgramLike,
    like: Tensor | Batch,
    *,
    rows: int | None = None,
    start: Start = "guide",
    temperatures: int = 500,
    chains: int = 16,
    leapfrog: int = 2,
    batch_size: int = 50,
    seconds: float | None = None,
    advance: Callable[[float], object] | None = None,
) -> Bidirectional:
    """Draw rows from the model, and bound log p(x) of each from below and from above by annealing both ways.

    For a simulated x the z that it was drawn with is an exact draw of p(z|x). Chains that walk from there back to the
    start give E[1/w] = 1/p(x), so that −log (1/K) Σ_k 1/w_k is an upper bound in expectation. All K chains of a row
    begin at the same z. Both ways have the same temperatures and the same step sizes, which a pilot run has found.

    For real x there is no upper bound, since no exact draw of its posterior is known: the gap is of simulated rows, and
    is no bracket for real ones.

    Args:
        like: rows whose fields that the model is given, and whose missing cells, the simulated rows take over.
        rows: N, how many rows are simulated; those of `like` by default, which are taken again and again for more.
        start, temperatures, chains, leapfrog, batch_size, seconds, advance: as for `annealed`.

    Raises:
        InputError: as `annealed`; a model that observes something other than a field of its rows.

    Source: Grosse, Ghahramani & Adams 2015; Grosse, Ancha & Roy 2016.
    """
    like = as_batch(like)
    rows = len(like[0]) if rows is None else rows
    at_least(1, rows=rows)
    how = Annealing(
        start, temperatures, chains, leapfrog, batch_size, seconds, advance, runs=2, rows=rows
    )  # fmt: skip
    found = []
    with pyro.validation_enabled(False):  # proposals go where a density is not defined, and are rejected there
        for batch in batches(rows_like(like, rows), batch_size):
            x, z = simulated(model, guide, batch)
            latents = Latents(model, guide, x)
            path, steps = how.prepare(latents)
            forward, took = how.walk(path, steps, path.draw(chains))
            exact = latents.coordinates(z)
            back, took_back = how.walk(path, steps, exact.expand(chains, -1, -1), reverse=True)
            found.append((log_mean(forward)[0], -log_mean(-back)[0], (took + took_back) / 2))
    lower, upper, acceptance = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Bidirectional(lower, upper, acceptance, how.start, how.why, how.temperatures, leapfrog)
