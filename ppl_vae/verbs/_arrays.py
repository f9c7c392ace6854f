"""Arrays that a verb has written, and what it says of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae.core.frames import TABLES, Names, to_frame, write_arrays, write_frame
from ppl_vae.core.results import Result, counted
from ppl_vae.data.table import listing

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from ppl_vae.evidence.copies import Copies


@dataclass(frozen=True, repr=False)
class Samples(Result, Mapping[str, np.ndarray]):
    """Arrays by name, `samples["x"]`, and the files that they were written to.

    Args:
        given: the values that a conditional model was given.
        names: the columns of the arrays, where they have names of their own.
        tables: in place of an array where a table of these is made, its cells as the data have them.
        shown: the arrays that a table is made of, by default all.
        index: what tells the rows, if they are rows of data.
        copies: whether samples copy training rows, if that was asked.
    """

    arrays: Mapping[str, np.ndarray]
    files: tuple[Path, ...] = ()
    given: Mapping[str, np.ndarray] = field(default_factory=dict)
    names: Names = field(default_factory=dict, compare=False)
    tables: "Mapping[str, pandas.DataFrame]" = field(default_factory=dict, compare=False)
    shown: Sequence[str] | None = field(default=None, compare=False)
    index: Any = field(default=None, compare=False)
    copies: "Copies | None" = None

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    @cached_property
    def frame(self) -> "pandas.DataFrame":
        """The arrays that are shown as one table of named columns, a row for each row."""
        shown = {name: self.tables.get(name, self.arrays[name]) for name in self.shown or self.arrays}
        return to_frame(shown, self.names, self.index)

    def fields(self) -> dict[str, Any]:
        given = {name: x.tolist() for name, x in self.given.items()}
        shapes = {name: list(x.shape) for name, x in self.arrays.items()}
        columns = {"columns": list(self.frame.columns)} if self._is_table else {}
        more = ({"given": given} if given else {}) | ({"copies": self.copies.fields()} if self.copies else {})
        return {"files": list(map(str, self.files)), "shapes": shapes} | columns | more

    def lines(self) -> Iterator[str]:
        if self._is_table:
            yield f"{counted(len(self.frame), 'row')}; columns {listing(list(self.frame.columns))}"
        else:
            yield from (f"{name:10} {tuple(x.shape)}" for name, x in self.arrays.items())
        if self.copies is not None:
            yield from self.copies.lines()
        yield f"written: {', '.join(map(str, self.files))}"

    @property
    def _is_table(self) -> bool:
        return bool(self.files) and self.files[0].suffix in TABLES


def by_default(run: Any) -> str:
    """The ending of the file that is written if nobody says another: a table for a run that was fitted to one."""
    return ".npz" if run.schema is None else ".csv"


def written(
    arrays: Mapping[str, np.ndarray],
    path: Path,
    given: Mapping[str, np.ndarray] | None = None,
    *,
    names: Names | None = None,
    tables: "Mapping[str, pandas.DataFrame] | None" = None,
    shown: Sequence[str] | None = None,
    index: Any = None,
    draw: "Callable[[], Figure | None]" = lambda: None,
) -> Samples:
    """Write arrays by the ending of the file's name, see `core.frames`.

    In a .csv or .parquet stand the columns of `Samples.frame`, and the index, where there is one; in a .npy the one
    array that is shown; in a .npz all arrays.

    Args:
        draw: draws a picture, which is saved beside the file, if there is one to draw.
    """
    made = Samples(arrays, (path,), given or {}, names or {}, tables or {}, shown, index)
    if path.suffix in TABLES:
        write_frame(made.frame, path, index=index is not None)
    else:
        write_arrays(arrays if path.suffix == ".npz" else {name: arrays[name] for name in shown or arrays}, path)
    if (drawn := draw()) is None:
        return made
    from ppl_vae.reports.style import save

    picture = path.with_suffix(".png")
    save(drawn, picture)
    return replace(made, files=(path, picture))
