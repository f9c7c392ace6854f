"""Missing cells filled: a best guess with its spread, and draws, from p(x_mis|x_obs)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pyro
import torch
from torch import Tensor

from ppl_vae.blocks.likelihoods.table import Cells
from ppl_vae.core.errors import InputError, at_least
from ppl_vae.distributions.wrappers import family
from ppl_vae.evidence.fitted import believed, proposal, values_drawn
from ppl_vae.evidence.importance import CHUNK, importance, summary
from ppl_vae.evidence.imputation import mean_and_mode
from ppl_vae.evidence.khat import ess, khat, reliable
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.posterior import by_hmc, systematic
from ppl_vae.programs import Terms, score, terms
from ppl_vae.programs.room import check_room
from ppl_vae.programs.scores import Batch, ProgramLike, Values, as_batch, log_weight

Method = Literal["nothing missing", "importance", "fitted", "hmc"]
METHODS: tuple[Method, ...] = get_args(Method)
LONGER = 4  # times as long, where the first chains do not agree
MORE = 4  # times as many draws, where the weights are not reliable
KEPT = 1000  # draws of the chains of a row
CHAIN_ROWS = 200  # at a time


@dataclass(frozen=True)
class Completed:
    """N rows of D columns whose missing cells are filled; the others are as they were.

    Args:
        guess: the rows with a best guess in each missing cell: the mean of numbers, rounded for whole ones, and the
            most probable code of binary, categorical and ordinal columns, `(N, D)`.
        draws: M times the rows with draws of p(x_mis|x_obs) in the missing cells, jointly for each row, `(M, N, D)`.
        mean: E[x_d|x_obs] of each missing cell, of codes too; NaN elsewhere, `(N, D)`.
        sd: the standard deviation of p(x_d|x_obs) for each missing number; NaN for codes, `(N, D)`.
        probability: that of the most probable code in each missing cell; NaN for numbers, `(N, D)`.
        method: the place in `METHODS` of the method of each row, `(N,)`.
        reliable: may the draws of z be believed from which all of it comes? `(N,)`.
        khat, ess: of the importance weights of each row; NaN where nothing is missing, `(N,)`.
        rhat: of the chains of a row; NaN where there were none, `(N,)`.
    """

    guess: Tensor
    draws: Tensor
    mean: Tensor
    sd: Tensor
    probability: Tensor
    method: Tensor
    reliable: Tensor
    khat: Tensor
    ess: Tensor
    rhat: Tensor


@torch.no_grad()
def complete(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Tensor | Batch,
    draws: int = 0,
    *,
    num_samples: int = 1000,
    chain_rows: int | None = None,
    transitions: int = 1000,
    advance: Callable[[int], object] = lambda rows: None,
    say: Callable[[str], object] = lambda line: None,
) -> Completed:
    """Fill the missing cells of each row by p(x_mis|x_obs) = ∫ p(x_mis|z) p(z|x_obs) dz.

    Draws z_k ~ q(z|x_obs), k = 1..K, with weights w̃_k ∝ p(x_obs, z_k)/q(z_k|x_obs) stand for p(z|x_obs). The mean, the
    spread and the probabilities are those of the mixture Σ_k w̃_k p(x_mis|z_k); a draw takes z_k with the probability
    w̃_k (systematic resampling), and then x_mis ~ p(x_mis|z_k). A row whose weights are not reliable, k-hat ≥ 0.5 or an
    effective sample size below 100, gets four times as many draws of a Student-t that is fitted to its own posterior
    (`fitted`). If their weights are not reliable either, z comes from Hamiltonian Monte Carlo given the observed
    cells: 8 chains, which run four times as long if they do not agree (R-hat > 1.01). Latents that are no real numbers,
    such as discrete ones, get 20 times as many draws of the guide, and have no chains.

    Args:
        rows: N rows, one tensor per field; the first is the table, `(N, D)`, NaN where a cell is missing.
        draws: M, how many completed tables.
        num_samples: K.
        chain_rows: for how many rows chains are run at most, the first ones that need it; by default all.
        transitions: of each chain after its warm-up.
        advance: called with the number of rows with missing cells that are done.
        say: called with a line before what takes longer.

    Raises:
        InputError: the model has no cells that may be missing, or there is no memory for so many draws.

    Source: Rezende, Mohamed & Wierstra 2014; Mattei & Frellsen 2019 (MIWAE: the weights); Rubin 1987 (several tables);
    Neal 2011 (HMC).
    """
    at_least(2, num_samples=num_samples)
    at_least(0, draws=draws)
    rows = as_batch(rows)
    count = len(rows[0])
    check_room((), [rows[0][:1]], draws * count, f"{draws} tables of {count} rows")
    check_room([model], [rows[0][:1]], MORE * num_samples, f"{MORE * num_samples} draws for a row")
    work = _Work(model, guide, rows, draws)
    x = work.rows[0]
    cells_of(terms(model, guide, work.batch(torch.arange(1))))
    missing = x.isnan().any(1)
    work.made.reliable[missing.cpu()] = False
    for places in _pieces(work.doubtful(missing), max(1, CHUNK // (num_samples * x.shape[1]))):
        work.weighted(places, num_samples)
        advance(len(places))
    more = MORE * num_samples
    for places in _pieces(work.doubtful(missing), max(1, CHUNK // (more * x.shape[1]))):
        if not work.fitted(places, more):
            work.weighted(places, 5 * more)
    if len(still := work.doubtful(missing)[:chain_rows]):
        say(f"{len(still)} rows whose weights are not reliable get chains, which takes longer")
    for places in _pieces(still, CHAIN_ROWS):
        if not work.chained(places, transitions):
            break
    return work.made


def _pieces(places: Tensor, size: int) -> Sequence[Tensor]:
    return places.split(size) if len(places) else ()


def cells_of(t: Terms) -> str:
    """The observed site whose cells may be missing.

    Raises:
        InputError: there is none.
    """
    found = [site for site in t.observed if isinstance(family(t.p[site]), Cells)]
    if len(found) != 1:
        observed = ", ".join(f"{site} ({type(family(t.p[site])).__name__})" for site in t.observed)
        raise InputError(
            f"the model observes {observed}, which is no table of cells that can be filled: fit one, as by --model "
            "table --guide table --missing nan"
        )
    return found[0]


def _nothing_yet(x: Tensor, draws: int) -> Completed:
    n = len(x)
    nothing, of_rows = torch.full_like(x, torch.nan), torch.full((n,), torch.nan, dtype=torch.float64)
    return Completed(
        x.clone(), x.expand(draws, *x.shape).clone(), nothing, nothing.clone(), nothing.clone(),
        torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool),
        of_rows, of_rows.clone(), of_rows.clone(),
    )  # fmt: skip


class _Work:
    """Rows, what is said of them so far, and the two ways to more."""

    def __init__(self, model: ProgramLike, guide: ProgramLike, rows: Batch, draws: int) -> None:
        self.model, self.guide, self.rows = model, guide, rows
        self.made = _nothing_yet(rows[0], draws)

    def batch(self, places: Tensor) -> Batch:
        return tuple(x[places] for x in self.rows)

    def doubtful(self, missing: Tensor) -> Tensor:
        """The rows with missing cells that are not filled reliably so far."""
        return (missing & ~self.made.reliable.to(missing.device)).nonzero().flatten()

    def weighted(self, places: Tensor, num_samples: int) -> None:
        """Fill these rows by importance sampling from the guide."""
        t = terms(self.model, self.guide, self.batch(places), num_samples)
        values = {site: t.layouts[site].rows_first(z, t.q[site]) for site, z in t.values.items()}
        self.by_weights(places, values, log_weight(t).double(), "importance")

    def fitted(self, places: Tensor, num_samples: int) -> bool:
        """Fill these rows by importance sampling from a fitted proposal; False if the latents have no coordinates."""
        batch = self.batch(places)
        try:
            latents = Latents(self.model, self.guide, batch)
            with pyro.validation_enabled(False):
                z, log_w = values_drawn(latents, proposal(latents), num_samples)
        except InputError:
            return False
        values = {site.name: site.layout.rows_first(z[site.name], site.fn) for site in latents.sites}
        self.by_weights(places, values, log_w.double(), "fitted")
        by_guide = importance(self.model, self.guide, batch, num_samples)
        self.made.reliable[places.cpu()] = believed(summary(log_w), by_guide).reliable.cpu()
        return True

    def by_weights(self, places: Tensor, values: Values, log_w: Tensor, method: Method) -> None:
        k, count = khat(log_w), ess(log_w)
        self.fill(places, values, log_w.softmax(0), reliable(k, count), method, {"khat": k, "ess": count})

    def chained(self, places: Tensor, transitions: int) -> bool:
        """Fill these rows by chains; False if the latents have none."""
        for length in (transitions, LONGER * transitions):
            batch = self.batch(places)
            try:
                found = by_hmc(self.model, self.guide, batch, KEPT, transitions=length, batch_size=len(places))
            except InputError:
                return False
            w = torch.full((KEPT, len(places)), 1 / KEPT, dtype=torch.float64, device=places.device)
            self.fill(places, found.values, w, found.reliable, "hmc", {"rhat": found.diagnostics["rhat"]})
            places = places[~found.reliable.to(places.device)]
            if not len(places):
                break
        return True

    def fill(
        self, places: Tensor, values: Values, w: Tensor, good: Tensor, method: Method, diagnostics: dict[str, Tensor]
    ) -> None:
        """Put in what draws of z with weights `(K, B)` say of these rows; rows stand second in `values`."""
        made, x = self.made, self.rows[0][places]
        t = self.at(places, values)
        site = cells_of(t)
        for name, value in _moments(family(t.p[site]), w.to(x)).items():
            getattr(made, name)[places] = torch.where(x.isnan(), value, x if name == "guess" else torch.nan)
        if len(made.draws):
            chosen = systematic(w, len(made.draws))
            again = self.at(places, {name: _taken(z, chosen) for name, z in values.items()})
            new = again.by_row(site, again.p[site].sample())
            made.draws[:, places] = torch.where(x.isnan(), new, x)
        rows = places.cpu()
        made.method[rows], made.reliable[rows] = METHODS.index(method), good.cpu()
        for name, value in diagnostics.items():
            getattr(made, name)[rows] = value.double().cpu()

    def at(self, places: Tensor, values: Values) -> Terms:
        """The terms at given draws."""
        batch = self.batch(places)
        like = terms(self.model, self.guide, batch, 2)
        back = {name: like.layouts[name].rows_back(z, like.q[name]) for name, z in values.items()}
        return score(self.model, self.guide, batch, back)


def _taken(z: Tensor, chosen: Tensor) -> Tensor:
    """Of K draws `(K, B, ...)` those that are chosen, `(M, B)`."""
    at = chosen.reshape(*chosen.shape, *[1] * (z.dim() - 2)).expand(*chosen.shape, *z.shape[2:])
    return z.gather(0, at)


def _moments(p: Cells, w: Tensor) -> dict[str, Tensor]:
    """What is said of each cell under Σ_k w_k p_k, w `(K, B)`: `(B, D)` each."""
    mean, mode = mean_and_mode(p, w)
    guess, sd, probability = mode.clone(), torch.full_like(mean, torch.nan), torch.full_like(mean, torch.nan)
    for group, part in zip(p.groups, p.parts, strict=True):
        at: Any = group.columns
        if group.levels or group.kind == "binary":
            each = torch.einsum("kb,kb...->b...", w, part.probs)
            probability[:, at] = each.amax(-1) if group.levels else torch.maximum(each, 1 - each)
        else:
            square = torch.einsum("kb,kbd->bd", w, part.variance + (part.mean - mean[:, at]).square())
            sd[:, at] = square.sqrt()
            if group.kind in ("count", "whole"):
                guess[:, at] = mean[:, at].round()
    return {"guess": guess, "mean": mean, "sd": sd, "probability": probability}
