"""Missing cells given the others of their row, by self-normalized importance sampling."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ppl_vae.blocks.likelihoods.table import Cells, MixedTable
from ppl_vae.core.errors import InputError
from ppl_vae.evidence.khat import ess, khat, reliable
from ppl_vae.programs import terms
from ppl_vae.programs.scores import ProgramLike, batches, log_weight


class Conditional(NamedTuple):
    """p(x_mis|x_obs) of N rows of D columns, as `conditional` estimates it.

    Args:
        log_prob: log p(x_d|x_obs) of each hidden cell, 0 (to rounding) of the others, `(N, D)`.
        log_prob_se: its standard error over draws, `(N, D)`; to be believed where the row is `reliable`.
        joint, joint_se: the same of all hidden cells of a row together, `(N,)`.
        mean: E[x_d|x_obs] of every cell, of codes too, `(N, D)`.
        mode: the most probable code of binary, categorical and ordinal columns; else the mean, `(N, D)`.
        ess: 1/Σ_k w̃_k², how many of the K draws count, `(N,)`.
        khat: the Pareto k-hat of the weights, `(N,)`; −∞ where they are constant, so that nothing is lost by weighting.
    """

    log_prob: Tensor
    log_prob_se: Tensor
    joint: Tensor
    joint_se: Tensor
    mean: Tensor
    mode: Tensor
    ess: Tensor
    khat: Tensor

    @property
    def reliable(self) -> Tensor:
        """Do the row's standard errors hold? k-hat below 0.5 and an ESS of 100 at least, `(N,)`."""
        return reliable(self.khat, self.ess)


@torch.no_grad()
def conditional(
    model: ProgramLike, guide: ProgramLike, seen: Tensor, hidden: Tensor, num_samples: int = 1000, batch_size: int = 10
) -> Conditional:
    """p(x_mis|x_obs) ≈ Σ_k w̃_k p(x_mis|z_k), z_k ~ q(z|x_obs), w̃_k ∝ p(x_obs, z_k)/q(z_k|x_obs), Σ_k w̃_k = 1.

    Consistent as K grows, with a bias of order 1/K; the standard errors are by the delta method. They hold
    where `reliable` says so: a guide narrower than the posterior gives intervals that cover too little.

    Args:
        seen, hidden: `(N, D)`: each cell is NaN in one of them at least; `hidden` is what `log_prob` is of.
        num_samples: K.
        batch_size: rows at a time.

    Raises:
        InputError: the two differ in shape or share a cell, or site `x` of the model is no `MixedTable`.

    Source: Mattei & Frellsen 2019 (MIWAE); Vehtari et al. 2024 (k-hat).
    """
    if seen.shape != hidden.shape:
        raise InputError(
            f"seen is {tuple(seen.shape)}, hidden is {tuple(hidden.shape)}: give the same rows and columns"
        )
    if not (seen.isnan() | hidden.isnan()).all():
        raise InputError("a cell is both seen and hidden: put NaN in one of them")
    if num_samples < 2:
        raise InputError(f"num_samples is {num_samples}: weights need at least 2 draws")
    found = []
    for x, y in batches((seen, hidden), batch_size):
        t = terms(model, guide, x, num_samples)
        p = t.p.get("x")
        if not isinstance(p, Cells):
            raise InputError("site 'x' has no cells: the likelihood of a table is blocks.MixedTable")
        if y.shape[-1] != p.event_shape[-1] or not p.support.check(y).all():
            raise InputError(f"hidden has a cell outside the support of its column: {p.support}")
        raw, log_p = log_weight(t), p.cell_log_prob(y)
        log_w = raw.log_softmax(0)
        w = log_w.exp()
        cells, row = _expectation(log_w.unsqueeze(-1), log_p), _expectation(log_w, log_p.sum(-1))
        found.append((*cells, *row, *mean_and_mode(p, w), ess(raw), khat(raw)))
    return Conditional(*map(torch.cat, zip(*found, strict=True)))


def _expectation(log_w: Tensor, log_f: Tensor) -> tuple[Tensor, Tensor]:
    """log Σ_k w̃_k f_k, and its standard error: √Σ_k w̃_k² (f_k/f̂ − 1)²."""
    value = (log_w + log_f).logsumexp(0)
    return value, (log_w.exp() * torch.expm1(log_f - value)).square().sum(0).sqrt()


def mean_and_mode(p: Cells, w: Tensor) -> tuple[Tensor, Tensor]:
    """Of the mixture Σ_k w_k p_k, w `(K, B)`: `(B, D)` each, as in `Conditional`."""
    means, modes = [], []
    for group, part in zip(p.groups, p.parts, strict=True):
        each = torch.einsum("kb,kb...->b...", w, part.probs if group.levels else part.mean)
        if group.levels:
            means.append(each @ torch.arange(group.levels).to(w))
            modes.append(each.argmax(-1).to(w))
        else:
            means.append(each)
            modes.append((each > 0.5).to(w) if group.kind == "binary" else each)
    return torch.cat(means, -1)[:, p.order], torch.cat(modes, -1)[:, p.order]


def marginal(kinds: str, rows: Tensor) -> Cells:
    """p(x) = Π_d p(x_d), each column by maximum likelihood: the model `table` without z. Batch shape `(1, 1)`."""
    p_x = MixedTable(rows.shape[1:], kinds, rows).to(rows)
    raw = nn.Parameter(rows.new_zeros(1, 1, p_x.size))
    optimizer = torch.optim.LBFGS([raw, *p_x.parameters()], max_iter=1000, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -p_x(raw).log_prob(rows).mean()
        value.backward()
        return value

    optimizer.step(loss)
    return p_x.requires_grad_(False)(raw.detach())
