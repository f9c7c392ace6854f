"""What a fit has come to: the best step, its validation numbers, and whether they were still rising."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ppl_vae.core.results import Result
from ppl_vae.core.statistics import Estimate


@dataclass(frozen=True, repr=False)
class Summary(Result):
    """A run in a few lines.

    Args:
        run: its folder.
        target: what its objective estimates.
        best: the best step.
        valid: the validation numbers there, by which it was selected, in nats per datum.
        fresh: the same at other draws than it was selected by; None before the end of `fit`.
        still_rising: was the best step the last one?
    """

    run: str
    target: str
    best: int
    valid: Mapping[str, Any]
    fresh: Mapping[str, Any] | None
    still_rising: bool

    def fields(self) -> dict[str, Any]:
        names = ("run", "best", "valid", "fresh", "still_rising")
        return {name: getattr(self, name) for name in names}

    def lines(self) -> Iterator[str]:
        v = self.valid
        if "objective" in v:
            yield f"{self.target} {_with_error(v, 'objective')} (validation), by which:"
        yield (
            f"best step {self.best}: ELBO {_with_error(v, 'elbo')} (validation, s.e. over data), "
            f"rate {_rate(v)}, distortion {v['distortion']:z.2f} nats per datum"
        )
        if self.fresh:
            own = f"{self.target} {self.fresh['objective']:z.2f}, " if "objective" in self.fresh else ""
            yield f"the same state at other draws than it was selected by: {own}ELBO {self.fresh['elbo']:z.2f}"
        if self.still_rising:
            what = f"the {self.target}" if "objective" in v else "the ELBO"
            yield f"{what} was still rising at the last step: more epochs may help"
        yield f"run: {self.run}"
        run = f"./{self.run}" if self.run.startswith("-") else self.run  # which would be an option
        yield f"next: ppl-vae report {shlex.quote(run)} shows it on one page"


def _rate(numbers: Mapping[str, Any]) -> str:
    """A rate that any site was sampled for comes with its error: draws of a small one may average below 0."""
    sampled = [site for site, how in numbers["rate_how"].items() if how != "closed form"]
    told = f"{_with_error(numbers, 'rate')} (Monte Carlo at {', '.join(sampled)})"
    return told if sampled else f"{numbers['rate']:z.2f}"


def _with_error(numbers: Mapping[str, Any], name: str) -> Estimate:
    return Estimate(numbers[name], numbers[f"{name}_se_data"], "data")
