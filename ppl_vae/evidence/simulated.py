"""Rows that the model draws, as a batch that both programs take. Of such rows it is known which z they came from."""

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.programs import simulate, terms
from ppl_vae.programs.room import check_room
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, Values


@torch.no_grad()
def simulated(model: ProgramLike, guide: ProgramLike, like: Batch) -> tuple[Batch, Values]:
    """Draw z ~ p(z) and x ~ p(x|z) for each row of `like`: the batch with x in it, and z as `score` takes it.

    A field that the model is given, such as the y of p(x|z, y), stays as it is in `like`. So do missing cells (NaN, or
    a code below 0), since a model does not say which cells are missing.

    Returns:
        The batch, and the value of every latent site of the model, `(1, B, *event)`.

    Raises:
        InputError: a site observes no field of the batch as it is, so that it is not known where a draw of it belongs.
    """
    t = terms(model, guide, like)
    drawn = simulate(model, like)
    places = {site: _place(t, site, like) for site, x in t.observed.items() if x.numel()}  # of a factor it is empty
    batch = list(like)
    for site, i in places.items():
        x = t.by_row(site, drawn[site])[0].reshape(like[i].shape).to(like[i].dtype)
        batch[i] = torch.where(_missing(like[i]), like[i], x)
    again = terms(model, guide, tuple(batch))
    for site, i in places.items():
        if not _same(again, site, batch[i]):
            raise _unplaced(site)
    return tuple(batch), {site: t.layouts[site].lower(drawn[site], t.p[site]) for site in t.log_prior}


def rows_like(rows: Batch, count: int) -> Batch:
    """`count` rows: the given ones, again and again if they are fewer.

    Raises:
        InputError: there is no memory for so many.
    """
    check_room((), tuple(x[:1] for x in rows), count, f"{count} simulated rows")
    at = torch.arange(count) % len(rows[0])
    return tuple(field[at.to(field.device)] for field in rows)


def _place(t: Terms, site: str, like: Batch) -> int:
    """Which field the site observes."""
    for i, field in enumerate(like):
        if _same(t, site, field):
            return i
    raise _unplaced(site)


def _same(t: Terms, site: str, field: Tensor) -> bool:
    x = t.by_row(site, t.observed[site])[0]
    return x.numel() == field.numel() and bool(((x.reshape(field.shape) == field) | _missing(field)).all())


def _missing(field: Tensor) -> Tensor:
    return field.isnan() if field.is_floating_point() else field < 0


def _unplaced(site: str) -> InputError:
    return InputError(
        f"site {site!r} observes no field of the data as it is, so that rows can't be simulated: give it obs=x, where "
        "x is an argument of the model"
    )
