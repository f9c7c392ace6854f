"""log p(x) of each row by annealed importance sampling."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from time import perf_counter

import pyro
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.core.memory import check_memory
from ppl_vae.evidence.khat import ess
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.path import Path, Start, Steps, pilot, start_of, walk
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch, batches

LEAST_TEMPERATURES = 10
MOST_ROWS = 0.5
TIMED = 3  # temperatures whose time is taken


@dataclass(frozen=True)
class Annealed:
    """log p(x) of N rows, as `annealed` estimates it.

    Args:
        log_px: log (1/K) Σ_k w_k over the K chains, in nats, `(N,)`: in expectation a lower bound on log p(x).
        se: its standard error over chains by the delta method, `(N,)`; NaN for one chain.
        log_w: log w of each chain, `(K, N)`.
        acceptance: of the transitions of each row, `(N,)`.
        start: where the chains began, `guide` or `prior`.
        why: why they began there, in words.
        temperatures: T, how many steps β takes from 0 to 1.
        leapfrog: steps of each trajectory.
    """

    log_px: Tensor
    se: Tensor
    log_w: Tensor
    acceptance: Tensor
    start: Start
    why: str
    temperatures: int
    leapfrog: int

    @property
    def ess(self) -> Tensor:
        """How many of the K chains count, 1/Σ_k w̃_k², `(N,)`."""
        return ess(self.log_w)

    @property
    def reliable(self) -> Tensor:
        """May the row's standard error be believed? Half of its chains count at least, as in most rows, `(N,)`.

        Then the variance of w is at most about the square of its mean, and the bias of `log_px` about 1/(2K) nats.
        Where most rows fail, those that pass do so by luck, and their intervals cover too little: then no row is
        reliable, and more temperatures help. Chains that all miss the same mode of the posterior agree with each other:
        no number here can tell.
        """
        enough = (self.ess >= len(self.log_w) / 2) & self.se.isfinite()
        return enough & (enough.double().mean() > MOST_ROWS)


class Annealing:
    """The options that `annealed` and `bidirectional` share, and the number of temperatures once it is known.

    Args:
        runs: how often the chains of each batch walk along the path.
        rows: how many rows there are.
    """

    def __init__(
        self, start: Start, temperatures: int, chains: int, leapfrog: int, batch_size: int, seconds: float | None,
        advance: Callable[[float], object] | None, *, runs: int, rows: int,
    ) -> None:  # fmt: skip
        at_least(1, chains=chains, leapfrog=leapfrog, batch_size=batch_size)
        at_least(2, temperatures=temperatures)
        check_memory(32 * temperatures, f"a path of {temperatures} temperatures takes", "ask for fewer")
        if start not in ("guide", "prior"):
            raise InputError(f"start is {start!r}: the chains start from 'guide' or 'prior'")
        if seconds is not None and not seconds > 0:
            raise InputError(f"seconds is {seconds}: give the time for all rows, above 0")
        self.start, self.chains, self.leapfrog = start, chains, leapfrog
        self.temperatures, self.seconds, self.runs = temperatures, seconds, runs
        self.batches, self.rows = -(-rows // batch_size), rows
        self.report, self.why = advance, ""

    def prepare(self, latents: Latents) -> tuple[Path, Steps]:
        """The path of a batch and its step sizes; with the first batch the number of temperatures is settled."""
        if not self.why:
            self.start, self.why = start_of(latents.model, latents.guide, latents.batch, self.start)
        began = perf_counter()
        path = Path(latents, self.start)
        steps = pilot(path, self.leapfrog)
        if self.seconds is not None:
            left = self.seconds / self.batches - (perf_counter() - began)
            self.temperatures = max(LEAST_TEMPERATURES, int(left / (self.runs * self._seconds_each(path, steps))))
            self.seconds = None
        return path, steps

    def _seconds_each(self, path: Path, steps: Steps) -> float:
        """What one temperature of one batch takes. Random numbers are as if it had not been measured."""
        with torch.random.fork_rng():
            u = path.draw(self.chains)
            walk(path, steps, u, 2, self.leapfrog)
            taken = []
            for _ in range(3):
                began = perf_counter()
                walk(path, steps, u, TIMED, self.leapfrog)
                taken.append((perf_counter() - began) / TIMED)
            return min(taken)  # in one of them a function may be compiled

    def walk(self, path: Path, steps: Steps, u: Tensor, *, reverse: bool = False) -> tuple[Tensor, Tensor]:
        part = path.latents.rows / self.rows / self.runs / (self.temperatures - 1)

        def advance() -> None:
            if self.report is not None:
                self.report(part)

        return walk(path, steps, u, self.temperatures, self.leapfrog, reverse=reverse, advance=advance)


@torch.no_grad()
def annealed(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Tensor | Batch,
    *,
    start: Start = "guide",
    temperatures: int = 500,
    chains: int = 16,
    leapfrog: int = 2,
    batch_size: int = 50,
    seconds: float | None = None,
    advance: Callable[[float], object] | None = None,
) -> Annealed:
    """log p(x) of each row by annealed importance sampling with Hamiltonian transitions.

    The mean of w over chains is without bias for p(x), whatever the temperatures and the step sizes are; its logarithm
    is a lower bound on log p(x) in expectation, which tightens as 1/`temperatures`. Step sizes are tuned for each row
    in a pilot run whose chains are thrown away, and then stay as they are: a step that adapts while weights are
    gathered would bias them. For real x there is no upper bound: `bidirectional` tells how far such bounds are apart,
    on rows that the model draws.

    A guide whose density at any u is absent or costly, as that of an autoregressive flow, is annealed from the prior,
    and the result says so.

    Args:
        rows: N rows.
        start: anneal from the `guide` or from the `prior`.
        temperatures: T, how many steps β takes from 0 to 1.
        chains: K, for each row.
        leapfrog: steps of a trajectory; one temperature costs as many gradients. More temperatures with short
            trajectories are better than few with long ones.
        batch_size: rows at a time.
        seconds: the time for all rows, from which T is chosen in place of `temperatures`, before the chains that count
            begin; the same number given as `temperatures` gives the same result.
        advance: called with the part of the work that was done since the last call; the parts sum to 1.

    Raises:
        InputError: a latent without coordinates (discrete), a masked one, an auxiliary draw in the guide, or an option
            out of range.

    Source: Neal 2001; Wu, Burda, Salakhutdinov & Grosse 2017.
    """
    rows = as_batch(rows)
    how = Annealing(
        start, temperatures, chains, leapfrog, batch_size, seconds, advance, runs=1, rows=len(rows[0])
    )  # fmt: skip
    found = []
    with pyro.validation_enabled(False):  # proposals go where a density is not defined, and are rejected there
        for batch in batches(rows, batch_size):
            latents = Latents(model, guide, batch)
            path, steps = how.prepare(latents)
            found.append(how.walk(path, steps, path.draw(chains)))
    log_w, acceptance = torch.cat([w for w, _ in found], 1), torch.cat([a for _, a in found])
    log_px, se = log_mean(log_w)
    return Annealed(log_px, se, log_w, acceptance, how.start, how.why, how.temperatures, leapfrog)


def log_mean(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """log (1/K) Σ_k w_k of log weights, `(K, N)`, and its standard error by the delta method, `(N,)` each."""
    chains = len(log_w)
    value = log_w.logsumexp(0) - log(chains)
    if chains == 1:
        return value, torch.full_like(value, torch.nan)
    return value, (log_w - value).exp().std(0) / chains**0.5
