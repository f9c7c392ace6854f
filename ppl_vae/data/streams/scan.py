"""One pass over all rows: the fingerprint of their content, and what is to be known of all of them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data.ahead import ahead
from ppl_vae.data.dataset import no_number
from ppl_vae.data.protocol import Extent, with_missing
from ppl_vae.data.raw import Raw
from ppl_vae.data.streams.blocks import Blocks
from ppl_vae.data.streams.field import Field

MISSING_ROWS = 3


@dataclass
class Scan:
    """What a pass has found.

    Args:
        sha256: of the arrays as read, as that of a `Dataset` of the same arrays.
        extents: for each field, over the training rows.
        moments: mean and standard deviation of each column of the first field over the training rows.
        missing: the first training rows with missing cells, as indices of their split.
    """

    sha256: str
    extents: tuple[Extent, ...]
    moments: tuple[Tensor, Tensor]
    missing: list[int]


def scan(fields: Sequence[Field], blocks: Blocks) -> Scan:
    """Read everything once.

    Raises:
        InputError: a number that is not finite, no number at all, or what can't be read.
    """
    digest, extents, missing = hashlib.sha256(), [], list[int]()
    first = _Running(fields[0].shape)
    for field in fields:
        digest.update(f"{(blocks.rows, *field.shape)} {field.raw(0, 1).values.dtype}\n".encode())
        extent: Extent | None = None
        for block, raw in enumerate(_raws(field, blocks)):
            digest.update(raw.values.reshape(-1).view(torch.uint8).numpy().data)
            x = field.converted(raw)
            x = x.index_select(0, blocks.places(block, "train"))
            if len(x):
                found = Extent.of(x)
                extent = found if extent is None else extent.with_(found)
            if field.first:
                first.add(x)
                if field.missing and len(missing) < MISSING_ROWS:
                    begin = int(blocks.ends["train"][block])
                    missing += (begin + with_missing((x,)).nonzero().flatten()).tolist()
        assert extent is not None
        if not extent.seen.any():
            raise InputError(no_number(field.where))
        extents.append(extent)
    return Scan(digest.hexdigest(), tuple(extents), first.moments(), missing[:MISSING_ROWS])


def _raws(field: Field, blocks: Blocks) -> Iterator[Raw]:
    return ahead(lambda block: field.raw(*blocks.of(block)), range(len(blocks)), field.store.workers)


class _Running:
    """Mean and standard deviation of each column, block by block (Chan, Golub & LeVeque 1983), NaN left out."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count, self.mean, self.squares = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))

    def add(self, x: Tensor) -> None:
        x = x.double()
        count = (~x.isnan()).sum(0)
        mean = x.nanmean(0).nan_to_num()
        squares = (x - mean).square().nansum(0)
        total = self.count + count
        away, share = mean - self.mean, (count / total).nan_to_num()
        self.squares += squares + away.square() * self.count * share
        self.mean += away * share
        self.count = total

    def moments(self) -> tuple[Tensor, Tensor]:
        """As `blocks.likelihoods.base.moments` of all rows together, up to rounding."""
        spread = (self.squares / self.count).nan_to_num().sqrt()
        constant = spread <= 1e-6 * self.mean.abs()
        return self.mean, torch.where(constant, torch.ones_like(spread), spread)


def files_of(fields: Sequence[Field]) -> list[list[Any]]:
    """Path, size and time of the last change of each file, by which one that is as it was is known.

    Raises:
        InputError: a file that is not there.
    """
    found = []
    for path in dict.fromkeys(path for field in fields for path in field.store.files):
        try:
            about = path.stat()
        except OSError as error:
            raise InputError(f"{path} can't be read any more: {error.strerror}") from error
        found.append([str(path.absolute()), about.st_size, about.st_mtime_ns])
    return found
