"""Row i of p and of q depends on row i only."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ppl_vae.checks.rounding import told_from_rounding
from ppl_vae.checks.subject import OTHER_SHAPE, Finding, Subject, aligned, differ, shapes
from ppl_vae.programs import Terms
from ppl_vae.programs.find import Kind
from ppl_vae.programs.layout import DATA
from ppl_vae.programs.scores import Values
from ppl_vae.programs.state import evaluating


def independent(s: Subject) -> Iterator[Finding]:
    """No row's log-probabilities, at the same draw, change with the other rows of its batch."""
    if s.unscorable or not (found := _mixes(s)):
        return
    site, kind = found
    with evaluating(s.pair.model, s.pair.guide):
        mixes_still = _mixes(s)
    message = f"site {site!r} of the {kind}: the log-probability of one row changes with the other rows of its batch"
    if mixes_still:
        yield s.error(
            f"{message}. Work on the dimensions of one datum, the last ones: no softmax, mean or norm over dim 0",
            site,
            kind,
        )
    else:
        yield s.warning(
            f"{message} in training mode (BatchNorm does this), so what is trained is no bound for a single datum; "
            "evaluation is not affected. LayerNorm and GroupNorm keep rows apart",
            site,
            kind,
        )


def alone(s: Subject) -> Iterator[Finding]:
    """A batch of one row works, and gives the numbers that this row has in a larger batch."""
    if s.unscorable or s.noisy:
        return
    with evaluating(s.pair.model, s.pair.guide):
        values = s.draw(s.probe)
        whole = s.score(s.probe, values)
        first = tuple(x[:1] for x in s.probe)
        try:
            own = {site: v.narrow(_row_dim(whole, site, v), 0, 1) for site, v in values.items()}
            one = s.score(first, own)
        except Exception as error:
            failure = s.failure(f"the pair fails on a batch of one row, {shapes(first)}", error, hints={})
            yield Finding("error", f"{failure.message}; squeeze() removes the row too", failure.site, failure.where)
            return
        for kind, site, x, y in aligned(whole, one):
            if differ(x[:, :1], y, OTHER_SHAPE):
                found = (
                    f"site {site!r} of the {kind}: row 0 is scored {x[0, 0]:.6g} in a batch of {len(s.probe[0])} rows, "
                    f"{y[0, 0]:.6g} by itself"
                )
                faults = f"{found}: let nothing depend on the size of the batch"
                yield from told_from_rounding(s, first, own, site, kind, (x[:, :1] - y).abs(), found, faults)
                return


def _mixes(s: Subject) -> tuple[str, Kind] | None:
    """The first site whose even rows change when the data and the draws of the odd rows are replaced."""
    keep = torch.arange(len(s.probe[0]), device=s.device) % 2 == 0
    batch = tuple(torch.where(_along(keep, x, 0), x, y) for x, y in zip(s.probe, s.other, strict=True))
    values, others = s.draw(s.probe), s.draw(s.other, seed=1)
    before = s.score(s.probe, values)
    replaced: Values = {
        site: torch.where(_along(keep, v, _row_dim(before, site, v)), v, others[site]) for site, v in values.items()
    }
    after = s.score(batch, replaced)
    for kind, site, x, y in aligned(before, after):
        if differ(x[:, keep], y[:, keep]):
            return site, kind
    return None


def _row_dim(t: Terms, site: str, value: Tensor) -> int:
    """The dimension of the rows in a latent's value `(K, *plates, *event)`."""
    data = next(dim for plate, dim, _ in t.layouts[site].plates if plate == DATA)
    return value.dim() - t.q[site].event_dim + data


def _along(keep: Tensor, x: Tensor, dim: int) -> Tensor:
    return keep.reshape(-1, *[1] * (x.dim() - dim - 1))
