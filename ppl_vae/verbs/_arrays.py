"""Arrays that a verb has written, and what it says of them."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import check_file, write_bytes
from ppl_vae.core.results import Result


@dataclass(frozen=True, repr=False)
class Samples(Result, Mapping[str, np.ndarray]):
    """Arrays by name, `samples["x"]`, and the files that they were written to.

    Args:
        given: the values that a conditional model was given.
    """

    arrays: Mapping[str, np.ndarray]
    files: tuple[Path, ...]
    given: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def fields(self) -> dict[str, Any]:
        given = {name: x.tolist() for name, x in self.given.items()}
        shapes = {name: list(x.shape) for name, x in self.arrays.items()}
        return {"files": list(map(str, self.files)), "shapes": shapes} | ({"given": given} if given else {})

    def lines(self) -> Iterator[str]:
        yield from (f"{name:10} {tuple(x.shape)}" for name, x in self.arrays.items())
        yield f"written: {', '.join(map(str, self.files))}"


def npz_path(out: Any, default: Path) -> Path:
    """Where to write arrays.

    Raises:
        InputError: before the work, for what is no file's name, or no .npz.
    """
    path = default if out is None else Path(out).expanduser()
    if path.suffix != ".npz":
        raise InputError(f"{path}: the arrays are written as .npz")
    check_file(path)
    return path


def written(arrays: Mapping[str, np.ndarray], path: Path, given: Mapping[str, np.ndarray] | None = None) -> Samples:
    """Write arrays as .npz; a picture of them that lies beside it is named with it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())
    picture = path.with_suffix(".png")
    return Samples(arrays, (path, picture) if picture.is_file() else (path,), given or {})
