"""A table whose missing cells are filled: in words, as a table like the one that was given, and as arrays."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import RenderableType

from ppl_vae.core.frames import ROW, labels_of, shortest
from ppl_vae.core.results import Result, counted, number, table
from ppl_vae.evidence.completion import METHODS, Completed

if TYPE_CHECKING:
    import pandas

SHOWN = 12  # columns, and rows that are not reliable
WORDS = {
    "importance": "by importance sampling from the guide",
    "fitted": "by importance sampling from a Student-t fitted to the row, as the guide's draws were not reliable",
    "hmc": "by Hamiltonian Monte Carlo, as neither draws were reliable",
}


@dataclass(frozen=True, repr=False)
class Imputed(Result):
    """A table of N rows whose missing cells are filled; what is observed is as it was, to the last bit.

    Args:
        index: what tells the rows, `(N,)`.
        given: the table as it was given, with all its columns.
        names: of the D columns that the run knows, in its order.
        missing: which of their cells are missing, `(N, D)`.
        found: what is said of the missing cells, in the units of the programs.
        decode: from numbers `(N, D)` in the units of the data to a table with the labels of the data.
        scale: the number by which the table was divided before the programs saw it.
    """

    data: str
    step: int
    seed: int
    num_samples: int
    index: Any = field(compare=False)
    given: "pandas.DataFrame" = field(compare=False)
    names: Sequence[str] = field(compare=False)
    missing: np.ndarray = field(compare=False)
    found: Completed = field(compare=False)
    decode: "Callable[[np.ndarray], pandas.DataFrame]" = field(compare=False)
    scale: float = 1.0
    files: tuple[str, ...] = ()

    @property
    def draws(self) -> int:
        """M, how many completed tables were asked for."""
        return len(self.found.draws)

    def _in_units(self, x: torch.Tensor) -> np.ndarray:
        return shortest(x.cpu().numpy()) * self.scale

    def _completed(self, x: torch.Tensor) -> "pandas.DataFrame":
        """The table as given, with the cells of x, `(N, D)`, where it has none."""
        new, made = self.decode(self._in_units(x)), self.given.copy()
        for name, gone in zip(self.names, self.missing.T, strict=True):
            if gone.any():
                made[name] = _filled(made[name], gone, new[name].set_axis(made.index))
        return made

    @cached_property
    def guess(self) -> "pandas.DataFrame":
        """The table with a best guess in each missing cell: the mean of numbers, the most probable code."""
        return self._completed(self.found.guess)

    @cached_property
    def tables(self) -> "list[pandas.DataFrame]":
        """The M tables of draws, or the one with the best guess."""
        return [self._completed(x) for x in self.found.draws] if self.draws else [self.guess]

    @cached_property
    def frame(self) -> "pandas.DataFrame":
        """The completed table; with draws all of them, one below the other, each with its number in `draw`, from 1."""
        import pandas

        if not self.draws:
            return self.guess
        label = "draw_number" if "draw" in self.given.columns else "draw"
        made = pandas.concat(self.tables)
        made.insert(0, label, np.repeat(np.arange(1, self.draws + 1), len(self.given)))
        return made

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """What a .npz holds, by the run's columns: `x`, the table `(N, D)`, or M of them `(M, N, D)`, codes for labels;
        about the missing cells `mean`, `sd`, `probability`, `(N, D)`; about the rows `method`, `reliable`, `khat`,
        `ess`, `rhat`, `(N,)`."""
        columns = [table[list(self.names)] for table in self.tables]
        if all(kind.kind in "fiu" for table in columns for kind in table.dtypes):
            x = np.stack([table.to_numpy() for table in columns])
        else:
            x = self._in_units(self.found.draws if self.draws else self.found.guess.unsqueeze(0))
        about = {"mean": self._in_units(self.found.mean), "sd": self._in_units(self.found.sd)}
        about["probability"] = self.found.probability.cpu().double().numpy()
        rows = {name: getattr(self.found, name).cpu().numpy() for name in ("reliable", "khat", "ess", "rhat")}
        method = np.array(METHODS)[self.found.method.numpy()]
        return {"x": x if self.draws else x[0], **about, "method": method, **rows}

    @property
    def indexed(self) -> bool:
        """Do the rows of a DataFrame have an index that says more than their place?"""
        import pandas

        plain = isinstance(self.given.index, pandas.RangeIndex) and self.given.index.name is None
        return not plain

    @cached_property
    def cells(self) -> "pandas.DataFrame":
        """A row for each missing cell: its row and column, the guess, and how far it may be believed.

        `sd` is the standard deviation of p(x_d|x_obs) for a number, `probability` that of the guess for a code;
        `method` and `reliable` are the row's.
        """
        import pandas

        row, column = self.missing.nonzero()
        guess = self.guess[list(self.names)].to_numpy(dtype=object)[row, column]
        of_cells = {name: self.arrays[name][row, column] for name in ("sd", "probability")}
        of_rows = {name: self.arrays[name][row] for name in ("method", "reliable")}
        names = np.asarray(self.names, dtype=object)[column]
        told = {ROW: np.asarray(self.index)[row], "column": names, "guess": guess, **of_cells, **of_rows}
        return pandas.DataFrame(told).infer_objects()

    # ---- for programs

    @property
    def unreliable(self) -> list[Any]:
        """The rows that are filled, but not reliably."""
        return labels_of(self.index[~self.arrays["reliable"]])

    def fields(self) -> dict[str, Any]:
        methods = {method: int((self.arrays["method"] == method).sum()) for method in METHODS}
        return {
            **{name: getattr(self, name) for name in ("data", "step", "seed", "num_samples", "draws")},
            "rows": len(self.given),
            "missing_cells": int(self.missing.sum()),
            "missing_by_column": dict(zip(self.names, self.missing.sum(0).tolist(), strict=True)),
            "methods": methods,
            "unreliable_rows": self.unreliable,
            "files": list(self.files),
        }

    # ---- for a person

    def lines(self) -> Iterator[RenderableType]:
        missing, told = self.missing, self.fields()
        filled = int(missing.any(1).sum())
        of = f"{filled} of {counted(len(missing), 'row')} of {self.data}"
        yield f"{missing.sum()} of {missing.size} cells filled, in {of}"
        made = table("column", "filled", "typical sd", "probability of the guess")
        for j in np.argsort(-missing.sum(0), kind="stable")[:SHOWN]:
            if count := int(missing[:, j].sum()):
                numbers = [_median(self.arrays[name][:, j]) for name in ("sd", "probability")]
                made.add_row(self.names[j], str(count), number(numbers[0], ".3g"), number(numbers[1], ".2f"))
        if filled:
            yield made
        for method, words in WORDS.items():
            if count := told["methods"][method]:
                yield f"{counted(count, 'row')} {words}"
        if bad := self.unreliable:
            few = ", ".join(map(str, bad[:SHOWN])) + ", …" * (len(bad) > SHOWN)
            yield f"not reliable, since too few draws count or chains do not agree: {counted(len(bad), 'row')}, {few}"
        if self.draws:
            yield f"{counted(self.draws, 'completed table')}, drawn from p(missing | observed)"
        yield f"written: {', '.join(self.files)}"


def _median(x: np.ndarray) -> float:
    there = x[~np.isnan(x)]
    return float(np.median(there)) if len(there) else np.nan


def _filled(column: "pandas.Series", gone: np.ndarray, new: "pandas.Series") -> "pandas.Series":
    """The column with new cells where some are gone; the others, and the type where it can hold them, stay."""
    if new.dtype.kind == "M" and column.dtype.kind != "M":
        new = new.dt.strftime("%Y-%m-%d" if (new == new.dt.normalize()).all() else "%Y-%m-%d %H:%M:%S")
    if column.dtype.kind == "O" and column[~gone].map(lambda cell: isinstance(cell, str)).all():
        new = new.map(str)  # texts before pandas 3
    try:
        return column.mask(gone, new.astype(column.dtype))
    except (TypeError, ValueError):
        return column.astype(object).mask(gone, new.astype(object))
