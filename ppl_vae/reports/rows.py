"""What the sites of a pass through the programs hold, with the rows in front: a plate may stand left of `data`."""

from torch import Tensor

from ppl_vae.programs import Terms
from ppl_vae.programs.layout import DATA


def rows_first(t: Terms, site: str, x: Tensor) -> Tensor:
    """`x` of a site, `(K, *plates, *event)` as in `t.values`, as `(K, B, ...)`."""
    fn = (t.q | t.p)[site]
    data = next(dim for plate, dim, _ in t.layouts[site].plates if plate == DATA)
    return x.movedim(x.dim() - fn.event_dim + data, 1)


def by_row(t: Terms, site: str, x: Tensor) -> Tensor:
    """`x` of a site, of the shape that its value has in the program, as `(K, B, ...)`."""
    return rows_first(t, site, t.layouts[site].lower(x, (t.q | t.p)[site]))
