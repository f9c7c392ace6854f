"""Other tensors in the place of a program's parameters and buffers, as long as it is traced."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn


class Place(NamedTuple):
    """Where a module holds a tensor: its own dict of parameters or of buffers, and the name in it."""

    held: dict[str, Tensor | None]
    name: str

    @property
    def tensor(self) -> Tensor | None:
        return self.held[self.name]

    def put(self, tensor: Tensor | None) -> None:
        self.held[self.name] = tensor


def places(programs: Iterable[nn.Module]) -> dict[int, list[Place]]:
    """For each tensor of the programs, by its `id`, all places that hold it; a tied weight has several."""
    found: dict[int, list[Place]] = {}
    for module in dict.fromkeys(m for program in programs for m in program.modules()):
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    found.setdefault(id(tensor), []).append(Place(held, name))  # type: ignore[arg-type]
    return found


@contextmanager
def standing_in(where: Mapping[int, list[Place]], others: Mapping[int, Tensor]) -> Iterator[None]:
    """Put `others[id]` into every place of the tensor of that `id`, and at the end the tensor itself again."""
    before = [(place, place.tensor) for tensor in others for place in where[tensor]]
    for tensor, other in others.items():
        for place in where[tensor]:
            place.put(other)
    try:
        yield
    finally:
        for place, own in before:
            place.put(own)
