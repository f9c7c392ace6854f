"""A field of a stream: rows of a store as the programs see them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data.binarize import check_unit
from ppl_vae.data.dataset import dtype_of, finite, one_number
from ppl_vae.data.raw import Raw, as_raw
from ppl_vae.data.streams.stores import Store


@dataclass(frozen=True)
class Field:
    """Rows that are read, cast, scaled and checked.

    Args:
        store: where they are read from.
        single: the only column of the store as `(rows,)`, say for labels.
        first: is it the field that the model observes as x?
        binarize: how it will be made 0 and 1; then its numbers must be in [0, 1].
    """

    name: str
    store: Store
    dtype: torch.dtype
    single: bool = False
    first: bool = False
    scale: float | None = None
    missing: bool = False
    binarize: str = "none"

    @property
    def shape(self) -> tuple[int, ...]:
        return () if self.single else self.store.shape

    @property
    def where(self) -> str:
        return f"field {self.name} ({self.store.where})"

    @property
    def columns(self) -> tuple[str, ...]:
        return Raw(self.where, torch.empty(0), self.store.columns).names

    def raw(self, start: int, stop: int) -> Raw:
        """Rows as they are read.

        Raises:
            InputError: they can't be read.
        """
        try:
            values = self.store.read(start, stop)
        except InputError:
            raise
        except Exception as error:  # whatever a store raises is about its files
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"{self.where}: rows {start} to {stop - 1} can't be read: {reason}") from error
        raw = as_raw(self.where, values[:, 0] if self.single else values, self.store.columns)
        return raw._replace(begin=start)

    def converted(self, raw: Raw) -> Tensor:
        """Rows as the programs see them, but for the bits.

        Raises:
            InputError: a number that is not finite, or none between 0 and 1.
        """
        values = finite(raw, raw.values.to(self.dtype), self.scale, self.first, self.missing)
        if self.binarize != "none":
            check_unit(values, raw, self.scale, self.binarize)
        return values

    def read(self, start: int, stop: int) -> Tensor:
        """Rows from `start` up to `stop`, `(stop - start, *shape)`."""
        return self.converted(self.raw(start, stop))


def field_of(
    name: str, store: Store, *, first: bool, single: bool, scale: float | None, missing: bool, binarize: str
) -> Field:
    """A field of a store. Raises `InputError` for one of the wrong shape or kind of numbers."""
    shown = Field(name, store, torch.get_default_dtype(), single)
    if first and not store.shape:
        raise InputError(one_number(shown.where))
    raw = shown.raw(0, 1)  # which checks the kind of numbers
    dtype = dtype_of(first or raw.values.is_floating_point())
    own = {"first": True, "scale": scale, "missing": missing, "binarize": binarize} if first else {}
    return Field(name, store, dtype, single, **own)  # type: ignore[arg-type]
