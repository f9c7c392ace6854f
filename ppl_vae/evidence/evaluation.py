"""What an evaluation finds of a run: log p(x) and the ELBO on its rows, the gap explained, collapse, calibration."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from torch import Tensor

from ppl_vae.core.results import Result, table
from ppl_vae.core.statistics import digits
from ppl_vae.evidence.bidirectional import Bidirectional
from ppl_vae.evidence.calibration import Calibration
from ppl_vae.evidence.collapse import Collapse
from ppl_vae.evidence.gap import GapParts
from ppl_vae.evidence.khat import LEAST_ESS, MOST_KHAT
from ppl_vae.evidence.log_px import LogPx
from ppl_vae.evidence.mean import Mean, mean
from ppl_vae.evidence.predictive import PredictiveCheck
from ppl_vae.evidence.units import Units

PARTS = ("approximation", "amortization")
WORDS = {
    "exact": "exactly, by the model's log_px; importance sampling agrees",
    "sum": "exactly, by the sum over all values of the discrete latents",
    "quadrature": "by quadrature over the latent's dimensions",
    "importance": "by importance sampling from the guide",
    "fitted": "by importance sampling from a Student t, fitted to each row's own posterior",
    "annealed": "by annealed importance sampling, a lower bound in expectation",
}
DOUBTS = {
    "quadrature": "not reliable, since log p(x) still moved when the grid was refined, or mass was found beside it",
    "importance": f"lower bound, error unreliable (k-hat ≥ {MOST_KHAT}, or an effective sample size below {LEAST_ESS})",
    "fitted": f"lower bound, error unreliable (k-hat ≥ {MOST_KHAT}, an effective sample size below {LEAST_ESS}, or the "
    "guide found more)",
    "annealed": "lower bound, error unreliable (too few of the chains count)",
}
"""Why rows of a method are not reliable; the others are exact."""


@dataclass(frozen=True, repr=False)
class Evaluation(Result):
    """A run, evaluated on rows. Numbers are nats per datum where the name does not say otherwise.

    Args:
        numbers: where the rows stand in the data, `(N,)`.
        found: log p(x), the ELBO and k-hat of each row.
        gap_rows: places of the rows whose gap was explained.
        gap: its parts in these rows; None where it was not asked for or is refused.
        collapse: what the latent carries.
        simulated: both bounds of annealing on data drawn from the model.
        calibration: ranks in simulated data.
        predictive: statistics of the rows beside those of rows drawn anew.
        refused: what could not be had of this pair, and why.
        compiled: the functions whose compiled graphs gave the numbers; they differ from the programs' by rounding.
        threads: of torch, on which the last digits depend.
    """

    data: str
    split: str
    step: int
    seed: int
    num_samples: int
    numbers: Tensor = field(compare=False)
    found: LogPx = field(compare=False)
    units: Units = field(compare=False)
    gap_rows: Tensor = field(compare=False)
    gap: GapParts | None = field(compare=False)
    collapse: Collapse | None = field(compare=False)
    simulated: Bidirectional | None = field(compare=False)
    calibration: Calibration | None = field(compare=False)
    predictive: PredictiveCheck | None = field(compare=False)
    refused: dict[str, str]
    compiled: tuple[str, ...] = ()
    threads: int = 0
    files: tuple[str, ...] = ()

    @property
    def elbo(self) -> Mean:
        w = self.found.weighted
        return mean(w.elbo, w.elbo_se)

    @property
    def log_px(self) -> Mean:
        return mean(self.found.value, None if self.is_bound else self.found.se)

    @property
    def log_px_gap(self) -> Mean:
        """log p(x) − ELBO = KL(q(z|x) ‖ p(z|x)); its error over draws is that of both, where both are reliable."""
        w = self.found.weighted
        se = (self.found.se.square() + w.elbo_se.square()).sqrt()
        return mean(self.found.value - w.elbo, None if self.is_bound else se)

    @property
    def bits_per_dim(self) -> Mean:
        return mean(self.units.bits_per_dim(self.found.value))

    @property
    def annealing_raises(self) -> Mean:
        """By how much annealing raises log p(x) above importance sampling, in the rows that were annealed."""
        rows = self.found.of("annealed")
        return mean((self.found.value - self.found.weighted.log_px)[rows])

    @property
    def gap_means(self) -> dict[str, Mean]:
        """Approximation and amortization gap, in the mean of the rows whose gap was explained."""
        if self.gap is None:
            return {}
        return {name: mean(getattr(self.gap, name), getattr(self.gap, f"{name}_se")) for name in PARTS}

    @property
    def is_bound(self) -> bool:
        """Is the mean of log p(x) only a lower bound, as some row's error can't be relied on?"""
        return not bool(self.found.reliable.all())

    # ---- for programs

    def fields(self) -> dict[str, Any]:
        w, reliable = self.found.weighted, self.found.reliable
        found = {
            "format": 1,
            **{name: getattr(self, name) for name in ("data", "split", "step", "seed", "num_samples")},
            "rows": len(self.numbers),
            **self.elbo.fields("elbo"),
            **self.log_px.fields("log_px"),
            "log_px_is": "lower bound, error unreliable" if self.is_bound else "estimate",
            "methods": self.found.counts,
            "reliable_rows": int(reliable.sum()),
            **self.log_px_gap.fields("gap"),
            **_without_draws(self.bits_per_dim.fields("bits_per_dim")),
            "change_of_variables": self.units.said,
            "khat": w.khat.nan_to_num(posinf=math.nan).nanmedian().item(),
            "khat_below_half": (w.khat < MOST_KHAT).double().mean().item(),
            "ess": w.ess.median().item(),
            "annealing_raises": self.annealing_raises.value,
            "annealing_raises_se_data": self.annealing_raises.over_data.se,
            "refused": self.refused,
            "compiled": list(self.compiled),
            "threads": self.threads,
        }
        if self.gap is not None:
            found["gap_rows"] = len(self.gap_rows)
            found["gap_rows_converged"] = int(self.gap.converged.sum())
            for name, each in self.gap_means.items():
                found |= each.fields(f"{name}_gap")
        if self.collapse is not None:
            found |= self.collapse.fields()
        parts = {"simulated": self.simulated, "calibration": self.calibration, "predictive": self.predictive}
        for name, part in parts.items():
            found |= {name: part.fields()} if part is not None else {}
        return found

    # ---- for people

    def lines(self) -> Iterator[RenderableType]:
        yield f"{len(self.numbers)} {self.split} rows of {self.data}, step {self.step}; nats per datum"
        yield self.table
        yield from self.how()
        for part in (self.collapse, self.simulated, self.calibration, self.predictive):
            if part is not None:
                yield ""
                yield from part.lines()
        yield from (f"{what} is left out: {why}" for what, why in self.refused.items())
        if self.files:
            yield f"\nwritten: {', '.join(self.files)}"

    @property
    def table(self) -> Table:
        """ELBO, log p(x) and the gap between them."""
        made = table("", "mean", "± s.e.\nover data", "± s.e.\nover draws", "rows")
        bound = " ≥" if self.is_bound else ""
        rows = len(self.numbers)
        _add(made, "ELBO", self.elbo, rows)
        _add(made, f"log p(x){bound}", self.log_px, rows)
        _add(made, f"gap, KL(q(z|x) ‖ p(z|x)){bound}", self.log_px_gap, rows)
        if self.gap is not None:
            for name, each in self.gap_means.items():
                _add(made, f"  {name}", each, len(self.gap_rows))
        bits = self.bits_per_dim
        made.add_row("bits per dimension", *digits(bits.value, bits.over_data.se), "", str(rows))
        return made

    def how(self) -> Iterator[str]:
        """How log p(x) was had, and how far it may be believed."""
        yield from methods_said(self.found)
        if self.found.of("annealed").any():
            raised = self.annealing_raises.over_data
            yield f"annealing raises these rows above importance sampling by {raised} nats"
        yield from self.found.remarks
        if self.gap is not None and not self.gap.converged.all():
            yield (
                f"the best q(z|x) of {int((~self.gap.converged).sum())} rows is not found yet: their amortization gap "
                "is larger than shown, and their approximation gap smaller"
            )
        if self.units.said:
            yield f"bits per dimension are {self.units.said}"


def methods_said(found: LogPx) -> Iterator[str]:
    """How log p(x) was had, and which rows are not reliable."""
    for method, count in found.counts.items():
        yield f"log p(x) of {count} row{'s' * (count > 1)}: {WORDS[method]}"
    for method in found.counts:
        if doubtful := int((~found.reliable & found.of(method)).sum()):
            yield f"{doubtful} of {len(found.value)} rows: {DOUBTS[method]}"


def _add(made: Table, name: str, each: Mean, rows: int) -> None:
    made.add_row(name, *digits(each.value, each.over_data.se, each.over_draws.se), str(rows))


def _without_draws(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in fields.items() if not name.endswith("_se_mc")}
