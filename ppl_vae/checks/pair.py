"""Is this pair a VAE for this data? Each finding names the site and the line, what is wrong, and how to fix it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyro
import torch

from ppl_vae.checks import capture, columns, learning, rows, samples, simulation, sites, structure, support
from ppl_vae.checks.subject import Finding, Subject
from ppl_vae.core.errors import InputError
from ppl_vae.core.randomness import kept
from ppl_vae.core.results import Result
from ppl_vae.data import Data
from ppl_vae.objectives import Objective, Trace_ELBO
from ppl_vae.programs import Pair
from ppl_vae.programs.state import buffers_kept

Check = Callable[[Subject], Iterator[Finding]]

# In the order in which they run: each relies on what those before it have found to be true.
CHECKS: tuple[Check, ...] = (
    structure.values_stay,
    structure.plates,
    sites.draws,
    structure.runs,
    sites.plated,
    sites.weighted,
    support.supports,
    columns.varies,
    sites.scored,
    support.measures,
    learning.trains,
    samples.seeds,
    samples.deterministic,
    samples.scorable,
    rows.independent,
    rows.alone,
    samples.many_samples,
    simulation.peeks,
    learning.learns,
    support.squashed,
)
THOROUGH: tuple[Check, ...] = (learning.finite, simulation.simulates, capture.captures)


@dataclass(frozen=True, repr=False)
class CheckReport(Result):
    """What `check` found."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.level == "error"]

    @property
    def passed(self) -> bool:
        return not self.errors

    @property
    def exit_code(self) -> int:
        return 0 if self.passed else 1

    def fields(self) -> dict[str, Any]:
        return {"passed": self.passed, "findings": [asdict(f) for f in self.findings]}

    def lines(self) -> Iterator[str]:
        """One line for each finding, then the verdict: what `assert report.passed, str(report)` shows in a test."""
        yield from (f"{f.level}: {f}" for f in self.findings)
        yield f"this pair {'is' if self.passed else 'is not'} a VAE for this data"


def check_pair(pair: Pair, dataset: Data, objective: Objective | None = None, *, thorough: bool = False) -> CheckReport:
    """Run every check in order, up to the first that finds an error, since the later ones rely on it.

    Weights, buffers, Pyro's parameter store and the random states stay as they were.

    Args:
        thorough: also run the checks that `fit` does without: whether five steps are finite, whether x can be drawn
            from p(x|z), and whether the pair can be captured. They may take seconds.
    """
    findings: list[Finding] = []
    with (
        pyro.get_param_store().scope(),
        kept(),
        pyro.validation_enabled(False),
        buffers_kept(pair.model, pair.guide),
    ):
        subject = Subject.of(pair, dataset, objective or Trace_ELBO())
        for check in (*CHECKS, *THOROUGH) if thorough else CHECKS:
            torch.manual_seed(0)
            findings += _found_by(check, subject)
            if any(f.level == "error" for f in findings):
                break
    return CheckReport(tuple(findings))


def _found_by(check: Check, subject: Subject) -> Iterator[Finding]:
    """The findings of a check. If it raises an exception, that is a finding too.

    Raises:
        InputError: of the data, and none of the pair.
    """
    try:
        yield from check(subject)
    except Exception as error:
        if isinstance(error, InputError) and error.common:
            raise
        yield subject.failure(f"the pair fails where it is checked ({check.__doc__})", error)
