"""One pass over all rows: the fingerprint of their content, and what is to be known of all of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data.dataset import no_number
from ppl_vae.data.protocol import Batch, with_missing
from ppl_vae.data.raw import Raw
from ppl_vae.data.streams.blocks import Blocks
from ppl_vae.data.streams.field import Field
from ppl_vae.data.summary import Extent, Running

MISSING_ROWS = 3


@dataclass
class Scan:
    """What a pass has found.

    Args:
        sha256: of the fields, their shapes and dtypes, and of the bytes of each block as read.
        extents: for each field, over the training rows.
        moments: mean and standard deviation of each column of the first field over the training rows.
        missing: the first training rows with missing cells, as indices of their split.
    """

    sha256: str
    extents: tuple[Extent, ...]
    moments: tuple[Tensor, Tensor]
    missing: list[int]


class Seen:
    """What is known of the blocks that a pass has come by so far, which are a range of all blocks."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.digests, self.missing = list[bytes](), list[int]()
        self.extents: list[Extent | None] = [None] * len(fields)
        self.running = Running.of(torch.empty(0, *fields[0].shape))

    def add(self, fields: Sequence[Field], blocks: Blocks, block: int, raws: Sequence[Raw]) -> Batch:
        """Take note of the rows of the next block, and return them as the programs see them, but for the bits.

        Raises:
            InputError: a number that is not finite, or none between 0 and 1.
        """
        digest, rows, places = hashlib.sha256(), list[Tensor](), blocks.places(block, "train")
        for i, (field, raw) in enumerate(zip(fields, raws, strict=True)):
            digest.update(raw.values.reshape(-1).view(torch.uint8).numpy().data)
            rows.append(field.converted(raw))
            if not len(x := rows[-1].index_select(0, places)):
                continue
            self.extents[i] = _together(self.extents[i], Extent.of(x))
            if field.first:
                self.running = self.running.with_(Running.of(x))
                if field.missing and len(self.missing) < MISSING_ROWS:
                    begin = int(blocks.ends["train"][block])
                    self.missing += (begin + with_missing((x,)).nonzero().flatten()).tolist()
        self.digests.append(digest.digest())
        return tuple(rows)


def scan_of(fields: Sequence[Field], blocks: Blocks, parts: Sequence[Seen]) -> Scan:
    """What was found of all blocks, from the ranges of them in their order.

    Raises:
        InputError: a field has no number at all.
    """
    kinds = [(each.name, (blocks.rows, *each.shape), each.store.dtype.newbyteorder("=").name) for each in fields]
    digest = hashlib.sha256(repr(kinds).encode())
    for part in parts:
        digest.update(b"".join(part.digests))
    extents = [reduce(_together, each) for each in zip(*(part.extents for part in parts), strict=True)]
    for field, extent in zip(fields, extents, strict=True):
        if extent is None or not extent.seen.any():
            raise InputError(no_number(field.where))
    running = reduce(Running.with_, (part.running for part in parts))
    missing = [row for part in parts for row in part.missing]
    found = tuple(extent for extent in extents if extent is not None)
    return Scan(digest.hexdigest(), found, running.moments(), missing[:MISSING_ROWS])


def _together(one: Extent | None, other: Extent | None) -> Extent | None:
    return other if one is None else one if other is None else one.with_(other)


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
