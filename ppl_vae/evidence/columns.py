"""Which columns make a row unlikely: log p(x_j|x_-j), each column given the others of its row."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import ExpandedDistribution, MaskedDistribution, Unit
from torch import Tensor

from ppl_vae.blocks.likelihoods.table import Cells
from ppl_vae.core.errors import InputError, at_least
from ppl_vae.distributions.wrappers import describe, family, support_of
from ppl_vae.evidence.importance import CHUNK, Weighted, chunks, gather, summary
from ppl_vae.evidence.khat import ess, khat, reliable
from ppl_vae.evidence.log_px import LogPx
from ppl_vae.programs import score, simulate, terms
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, as_batch, batches, log_weight, sum_sites

FEW = 5  # rows by which it is seen that p(x|z) does not read x


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
    count: a cell that moves the posterior far leaves weights v with a heavy tail. For such a cell p(x_-j) is estimated
    anew, with draws of q(z|x'), where x' has another number in its place: NaN if the likelihood is a table's, else the
    mean, or of discrete columns a draw, of p(x_j|x_-j) by the weights v.

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
        found.append(_of_batch(model, guide, batch, num_samples, site))
        advance(len(batch[0]))
    log_prob, se, good, k, count = (torch.cat(parts) for parts in list(zip(*found, strict=True))[:5])
    made = Columns(log_prob, se, good, k, count, tuple(rows[0].shape[1:]))
    whole = gather(each[5] for each in found)
    value, error, sure = (whole.log_px, whole.se, whole.reliable)
    if known is not None:
        value, error, sure = (x.cpu() for x in (known.value, known.se, known.reliable))
    needy = (~good & ~log_prob.isnan() & sure.unsqueeze(1)).nonzero()
    needy = needy[value[needy[:, 0]].argsort(stable=True)][:most_anew]
    for cells in needy.split(size) if len(needy) else ():
        places = cells[:, 0].to(rows[0].device)
        without = _without(model, guide, tuple(x[places] for x in rows), cells[:, 1], num_samples, site)
        _replace(made, cells, value[cells[:, 0]], error[cells[:, 0]], without)
    return made


def _of_batch(
    model: ProgramLike, guide: ProgramLike, batch: Batch, num_samples: int, site: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Weighted]:
    """The numbers of `Columns`, and what the weights w say of each row."""
    log_w, log_p = [], []
    for draws in chunks(batch, num_samples):
        t = terms(model, guide, batch, draws)
        log_w.append(log_weight(t).double())
        log_p.append(by_column(t, site).double())
    whole = summary(torch.cat(log_w))
    w = torch.cat(log_w).unsqueeze(-1)
    v = w - torch.cat(log_p)
    value = w.logsumexp(0) - v.logsumexp(0)
    se = (len(w) / (len(w) - 1) * (w.softmax(0) - v.softmax(0)).square().sum(0)).sqrt()
    k, count = khat(v.flatten(1)).reshape(value.shape), ess(v)
    good = (reliable(k, count) | (k == -math.inf)) & whole.reliable.unsqueeze(-1)
    gone = batch[0].flatten(1).isnan()
    nothing = torch.full_like(value, math.nan)
    value, se = torch.where(gone, nothing, value), torch.where(gone, nothing, se)
    return value.cpu(), se.cpu(), (good & ~gone).cpu(), k.cpu(), count.cpu(), Weighted(*(x.cpu() for x in whole))


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


# ---- does p(x|z) factorize?


def by_column(t: Terms, site: str, fn: Any = None, x: Tensor | None = None) -> Tensor:
    """log p(x_j|z) of each number of the observed site, those of inner plates included, `(K, B, D)`.

    Args:
        fn: a distribution in place of the site's own.
        x: a value in place of the observed one.

    Raises:
        InputError: the distribution does not factorize.
    """
    fn, layout = t.p[site] if fn is None else fn, t.layouts[site]
    each = _by_column(site, fn, t.observed[site] if x is None else x)
    each = each.expand(layout.check(fn.batch_shape) + fn.event_shape)
    return t.by_row(site, each).flatten(2)


def _by_column(site: str, fn: Any, x: Tensor) -> Tensor:
    """log p of each number, in the shape of the distribution's batch and event together."""
    if isinstance(fn, Cells):
        return fn.cell_log_prob(x)
    if isinstance(fn, torch.distributions.Independent):
        return _by_column(site, fn.base_dist, x)
    if isinstance(fn, ExpandedDistribution):
        return _by_column(site, fn.base_dist, x).expand(fn.batch_shape + fn.event_shape)
    if isinstance(fn, MaskedDistribution):
        each, mask = _by_column(site, fn.base_dist, x), torch.as_tensor(fn._mask)
        mask = mask.reshape(mask.shape + (1,) * fn.event_dim)
        return torch.where(mask, each, torch.zeros_like(each))
    if fn.event_dim:
        raise InputError(
            f"site {site!r}: {describe(fn)} says nothing of a single number, so that the columns can't be told apart"
        )
    return fn.log_prob(x)


def factorized(model: ProgramLike, guide: ProgramLike, batch: Batch) -> str:
    """The one observed site, whose numbers are independent given z: the distribution of none of them reads x.

    Raises:
        InputError: several sites are observed, or p(x|z) is no product over the numbers of the first field.
    """
    t = terms(model, guide, batch)
    sites = [name for name in t.log_lik if not isinstance(t.p[name], Unit)]
    if len(sites) != 1 or len(t.log_lik) != 1:
        raise InputError(
            f"the model observes {', '.join(t.log_lik)}: columns are told apart where it observes one site"
        )
    (site,) = sites
    x = t.by_row(site, t.observed[site])[0]
    if x.shape != batch[0].shape or not torch.equal(x.nan_to_num(), batch[0].nan_to_num()):
        raise InputError(f"site {site!r} does not observe the first field as it is, so that there are no columns of it")
    here = by_column(t, site)
    other = simulate(model, batch)[site].reshape(batch[0].shape).to(batch[0])
    other = torch.where(batch[0].isnan(), batch[0], other)
    elsewhere = score(model, guide, (other, *batch[1:]), t.values)
    if not torch.allclose(here, by_column(t, site, elsewhere.p[site]), rtol=1e-3, atol=1e-3, equal_nan=True):
        raise InputError(
            f"site {site!r}: p(x|z) reads x itself, as an autoregressive decoder does, so that it is no product over "
            "the columns"
        )
    return site
