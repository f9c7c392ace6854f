"""Which columns make a row unlikely: log p(x_j|x_-j), each column given the others of its row."""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from ppl_vae.blocks.likelihoods.table import Cells
from ppl_vae.core.errors import InputError, at_least
from ppl_vae.distributions.wrappers import family, support_of
from ppl_vae.evidence.factors import by_column, factorized
from ppl_vae.evidence.fitted import believed, proposal, values_drawn
from ppl_vae.evidence.importance import CHUNK, Weighted, chunks, gather, summary
from ppl_vae.evidence.khat import ess, khat, reliable
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.log_px import LogPx
from ppl_vae.programs import score, terms
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch, batches, log_weight, sum_sites

FEW = 5  # rows by which it is seen that p(x|z) does not read x
MOST_FITTED = 50  # rows for which a proposal is fitted at a time


@dataclass(frozen=True)
class Columns:
    """log p(x_j|x_-j) of N rows of D columns; NaN in missing cells.

    Args:
        log_prob: in nats, `(N, D)`. Of a column of real numbers it is a density, which depends on the column's unit.
        se: its standard error over draws, `(N, D)`.
        reliable: does `se` hold? `(N, D)`; of a missing cell False.
        khat, ess: of the weights of the row without the cell, `(N, D)`.
        shape: of one datum, whose numbers the D columns are.
    """

    log_prob: Tensor
    se: Tensor
    reliable: Tensor
    khat: Tensor
    ess: Tensor
    shape: tuple[int, ...]


@torch.no_grad()
def columns(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Tensor | Batch,
    num_samples: int = 1000,
    *,
    known: LogPx | None = None,
    most_anew: int = 1000,
    advance: Callable[[int], object] = lambda rows: None,
) -> Columns:
    """log p(x_j|x_-j) = log p(x) − log p(x_-j), both from the same draws z_k ~ q(z|x), k = 1..K.

    Where p(x|z) = Π_j p(x_j|z), the weights w_k = p(x, z_k)/q(z_k|x) without cell j are v_k = w_k/p(x_j|z_k), and
    p(x_j|x_-j) ≈ Σ_k w_k / Σ_k v_k. It is consistent as K grows. By the delta method its logarithm has the variance
    K/(K − 1) Σ_k (w̃_k − ṽ_k)², w̃ and ṽ normalized. That holds where k-hat of both weights is below 0.5 and 100 draws
    count. A row whose weights w are not reliable gets draws of a Student t that is fitted to it in place of the guide's
    (`fitted`). A cell that moves the posterior far leaves weights v with a heavy tail: for such a cell p(x_-j) is
    estimated anew, with draws of q(z|x'), where x' has another number in its place: NaN if the likelihood is a table's,
    else the mean, or of discrete columns a draw, of p(x_j|x_-j) by the weights v.

    Args:
        rows: N rows, one tensor per field. The first is x, the others are what the model is given.
        num_samples: K, 2 at least.
        known: log p(x) of the rows, where it is known better than from the weights w, by quadrature say.
        most_anew: how many cells are estimated anew at most, those of the least likely rows first.
        advance: called with the number of rows that are done.

    Raises:
        InputError: the likelihood does not factorize over the numbers of x, in words why.

    Source: Gelfand, Dey & Chang 1992 (leaving out by weights 1/p); Vehtari et al. 2024 (k-hat).
    """
    at_least(2, num_samples=num_samples)
    rows = as_batch(rows)
    site = factorized(model, guide, tuple(x[:FEW] for x in rows))
    size = max(1, CHUNK // (num_samples * max(1, rows[0][0].numel())))
    found = []
    for batch in batches(rows, size):
        found.append(_judged(*_by_guide(model, guide, batch, num_samples, site), batch[0]))
        advance(len(batch[0]))
    made, whole = _joined([each for each, _ in found], tuple(rows[0].shape[1:])), gather(each for _, each in found)
    with contextlib.suppress(InputError):  # latents without coordinates have no fitted proposal
        for places in _pieces((~whole.reliable).nonzero().flatten(), min(size, MOST_FITTED)):
            batch = tuple(x[places.to(x.device)] for x in rows)
            again, fresh = _judged(*_by_proposal(model, guide, batch, num_samples, site), batch[0])
            again["reliable"] &= believed(fresh, Weighted(*(x[places] for x in whole))).reliable.unsqueeze(1)
            _put(made, again, places)
    value, error, sure = (whole.log_px, whole.se, whole.reliable)
    if known is not None:
        value, error, sure = (x.cpu() for x in (known.value, known.se, known.reliable))
    needy = (~made.reliable & ~made.log_prob.isnan() & sure.unsqueeze(1)).nonzero()
    needy = needy[value[needy[:, 0]].argsort(stable=True)][:most_anew]
    for cells in _pieces(needy, size):
        batch = tuple(x[cells[:, 0].to(x.device)] for x in rows)
        without = _without(model, guide, batch, cells[:, 1], num_samples, site)
        _replace(made, cells, value[cells[:, 0]], error[cells[:, 0]], without)
    return made


def _pieces(places: Tensor, size: int) -> Sequence[Tensor]:
    return places.split(size) if len(places) else ()


def _by_guide(
    model: ProgramLike, guide: ProgramLike, batch: Batch, num_samples: int, site: str
) -> tuple[Tensor, Tensor]:
    """log w_k of draws of the guide, `(K, B)`, and log p(x_j|z_k), `(K, B, D)`."""
    log_w, log_p = [], []
    for draws in chunks(batch, num_samples):
        t = terms(model, guide, batch, draws)
        log_w.append(log_weight(t))
        log_p.append(by_column(t, site))
    return torch.cat(log_w), torch.cat(log_p)


def _by_proposal(
    model: ProgramLike, guide: ProgramLike, batch: Batch, num_samples: int, site: str
) -> tuple[Tensor, Tensor]:
    """The same of draws of a Student t that is fitted to each row; its tails suit the weights v better, too."""
    latents = Latents(model, guide, batch)
    with pyro.validation_enabled(False):
        values, log_w = values_drawn(latents, proposal(latents), num_samples)
        return log_w, by_column(score(model, guide, batch, values), site)


def _judged(log_w: Tensor, log_p: Tensor, x: Tensor) -> tuple[dict[str, Tensor], Weighted]:
    """The numbers of `Columns`, and what the weights w say of each row."""
    whole = summary(log_w)
    w = log_w.double().unsqueeze(-1)
    v = w - log_p.double()
    value = w.logsumexp(0) - v.logsumexp(0)
    se = (len(w) / (len(w) - 1) * (w.softmax(0) - v.softmax(0)).square().sum(0)).sqrt()
    k, count = khat(v.flatten(1)).reshape(value.shape), ess(v)
    gone = x.flatten(1).isnan()
    good = (reliable(k, count) | (k == -math.inf)) & whole.reliable.unsqueeze(-1) & ~gone
    numbers = {"log_prob": value.masked_fill(gone, math.nan), "se": se.masked_fill(gone, math.nan)}
    numbers |= {"reliable": good, "khat": k, "ess": count}
    return {name: x.cpu() for name, x in numbers.items()}, Weighted(*(x.cpu() for x in whole))


def _joined(found: Sequence[dict[str, Tensor]], shape: tuple[int, ...]) -> Columns:
    return Columns(**{name: torch.cat([each[name] for each in found]) for name in found[0]}, shape=shape)


def _put(made: Columns, again: dict[str, Tensor], rows: Tensor) -> None:
    """Put in the cells that are reliable now."""
    at, column = again["reliable"].nonzero(as_tuple=True)
    for name, x in again.items():
        getattr(made, name)[rows[at], column] = x[at, column]


def _without(
    model: ProgramLike, guide: ProgramLike, batch: Batch, column: Tensor, num_samples: int, site: str
) -> Weighted:
    """What weights p(x_-j, z_k)/q(z_k|x') say of log p(x_-j), for one column j of each row."""
    x, cell = batch[0], (torch.arange(len(column)), column)
    t = terms(model, guide, batch, num_samples)
    new = x.flatten(1).clone()
    fn = t.p[site]
    if isinstance(family(fn), Cells):
        new[cell] = math.nan
    else:
        v = (log_weight(t) - by_column(t, site)[:, *cell]).softmax(0)
        again = t.by_row(site, fn.expand(t.layouts[site].check(fn.batch_shape)).sample()).flatten(2)[:, *cell].to(new)
        drawn = again.gather(0, v.T.multinomial(1).T)[0]
        new[cell] = drawn if getattr(support_of(fn), "is_discrete", False) else (v * again).sum(0)
    t = terms(model, guide, (new.reshape(x.shape), *batch[1:]), num_samples)
    others = by_column(t, site, x=t.layouts[site].repeated((x,))[0])
    others[:, *cell] = 0
    return summary(sum_sites(t.log_prior) - sum_sites(t.log_q) + others.sum(-1))


def _replace(made: Columns, cells: Tensor, log_px: Tensor, se: Tensor, without: Weighted) -> None:
    """Put in log p(x) − log p(x_-j), where the second is reliable."""
    good = without.reliable.cpu()
    row, column = cells[good].T
    without = Weighted(*(x.cpu()[good] for x in without))
    made.log_prob[row, column] = log_px[good] - without.log_px
    made.se[row, column] = (se[good].square() + without.se.square()).sqrt()
    made.khat[row, column], made.ess[row, column] = without.khat, without.ess
    made.reliable[row, column] = True
