"""A table with missing cells, filled by a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import RenderableType

from ppl_vae.core.errors import InputError
from ppl_vae.core.frames import ROW, index_of, labels_of
from ppl_vae.core.results import Result, counted, number, table
from ppl_vae.data import Data
from ppl_vae.data.columns import Schema, fields_of, is_table, read_table
from ppl_vae.evidence.completion import METHODS, Completed, complete
from ppl_vae.evidence.on_run import name_of
from ppl_vae.runs.opening import rows_of, running
from ppl_vae.runs.run import Run
from ppl_vae.runs.sampling import numbered
from ppl_vae.training.prepare import isolated
from ppl_vae.training.progress import Progress

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
    """A table of N rows and D columns whose missing cells are filled; what is observed is as it was, to the last bit.

    Args:
        index: what tells the rows, `(N,)`.
        names: of the columns.
        original: the table as given, `(N, D)`.
        found: what is said of the missing cells, in the order of the run's columns and in the units of the programs.
        order: where each column of `original` stands among those of the run.
        scale: the number by which the table was divided before the programs saw it.
        schema: what the numbers of `original` stand for.
        source: the table as it was read, of which the columns stay that the schema leaves out.
    """

    data: str
    step: int
    seed: int
    num_samples: int
    index: Any = field(compare=False)
    names: Sequence[str] = field(compare=False)
    original: np.ndarray = field(compare=False)
    found: Completed = field(compare=False)
    order: Sequence[int] = field(compare=False)
    scale: float = 1.0
    files: tuple[str, ...] = ()
    schema: Schema | None = field(default=None, compare=False)
    source: "pandas.DataFrame | None" = field(default=None, compare=False)

    @property
    def missing(self) -> np.ndarray:
        """Which cells were missing, `(N, D)`."""
        return np.isnan(self.original) if self.original.dtype.kind == "f" else np.zeros(self.original.shape, bool)

    @property
    def draws(self) -> int:
        """M, how many completed tables were asked for."""
        return len(self.found.draws)

    def _given(self, x: torch.Tensor) -> np.ndarray:
        """In the columns and units of the data."""
        return x.cpu().double().numpy()[..., self.order] * self.scale

    @cached_property
    def guess(self) -> np.ndarray:
        """The table with a best guess in each missing cell, `(N, D)`: the mean of numbers, the most probable code."""
        return np.where(self.missing, self._given(self.found.guess), self.original).astype(self.original.dtype)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """What a .npz holds: `x`, the table `(N, D)`, or M of them `(M, N, D)`; about the missing cells `mean`, `sd`,
        `probability`, `(N, D)`; about the rows `method`, `reliable`, `khat`, `ess`, `rhat`, `(N,)`."""
        x = self.guess
        if self.draws:
            x = np.where(self.missing, self._given(self.found.draws), self.original).astype(self.original.dtype)
        about = {"mean": self._given(self.found.mean), "sd": self._given(self.found.sd)}
        about["probability"] = self._given(self.found.probability) / self.scale
        rows = {name: getattr(self.found, name).cpu().numpy() for name in ("reliable", "khat", "ess", "rhat")}
        return {"x": x, **about, "method": np.array(METHODS)[self.found.method.numpy()], **rows}

    @cached_property
    def frame(self) -> "pandas.DataFrame":
        """The completed table; with draws all of them, one below the other, each with its number in `draw`, from 1."""
        import pandas

        tables = self.arrays["x"].reshape(-1, *self.original.shape)
        frames = [self._as_frame(x) for x in tables]
        if not self.draws:
            return frames[0]
        label = "draw_number" if "draw" in self.names else "draw"
        return pandas.concat(frames).assign(**{label: np.repeat(np.arange(1, self.draws + 1), len(self.original))})[
            [label, *frames[0].columns]
        ]

    def _as_frame(self, x: np.ndarray) -> "pandas.DataFrame":
        """A completed table `(N, D)` with names; by a schema with labels, and the columns that it leaves out."""
        import pandas

        if self.schema is None:
            return pandas.DataFrame(x, columns=list(self.names), index=self._rows)
        made = self.schema.decode(x, self._rows)
        if self.source is None:
            return made
        aside = self.source.set_axis(self._rows)
        return pandas.DataFrame({name: made[name] if name in made else aside[name] for name in aside.columns})

    @property
    def _rows(self) -> Any:
        import pandas

        return self.index if isinstance(self.index, pandas.Index) else pandas.RangeIndex(len(self.original))

    @property
    def indexed(self) -> bool:
        """Do the rows of a DataFrame have an index that says more than their place?"""
        import pandas

        return isinstance(self.index, pandas.Index) and not (
            isinstance(self.index, pandas.RangeIndex) and self.index.name is None
        )

    @cached_property
    def cells(self) -> "pandas.DataFrame":
        """A row for each missing cell: its row and column, the guess, and how far it may be believed.

        `sd` is the standard deviation of p(x_d|x_obs) for a number, `probability` that of the guess for a code;
        `method` and `reliable` are the row's.
        """
        import pandas

        row, column = self.missing.nonzero()
        guess = self.guess if self.schema is None else self.schema.decode(self.guess).to_numpy(dtype=object)
        of_cells = {"guess": guess, "sd": self.arrays["sd"], "probability": self.arrays["probability"]}
        return pandas.DataFrame(
            {ROW: np.asarray(self.index)[row], "column": np.asarray(self.names, dtype=object)[column]}
            | {name: x[row, column] for name, x in of_cells.items()}
            | {name: self.arrays[name][row] for name in ("method", "reliable")}
        )

    # ---- for programs

    @property
    def unreliable(self) -> list[Any]:
        """The rows that are filled, but not reliably."""
        return labels_of(self.index[~self.arrays["reliable"]])

    def fields(self) -> dict[str, Any]:
        methods = {method: int((self.arrays["method"] == method).sum()) for method in METHODS}
        return {
            **{name: getattr(self, name) for name in ("data", "step", "seed", "num_samples", "draws")},
            "rows": len(self.original),
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


def impute_on_run(
    run: Run,
    data: Any,
    scale: float | None,
    *,
    draws: int,
    num_samples: int,
    chain_rows: int,
    seed: int,
    progress: bool,
    checkpoint: int | str = "best",
    **opening: Any,
) -> Imputed:
    """Fill the missing cells of `data`, or of all rows of the run's own data.

    Raises:
        InputError: the run knows no missing cells, can't be opened, or its rows can't be read.
    """
    if not run.rules.missing:
        raise InputError(
            f"{run.folder} was fitted without missing cells, so that it can't fill any: fit a table to data with empty "
            "cells, --model table --guide table --missing nan"
        )
    with isolated(seed), running(f"the pair of {run.folder}"):
        pair = run.pair(checkpoint=checkpoint, **opening)
        read = rows_of(run, pair, data, scale, test=False, force=opening.get("force", False))
        batch = tuple(x.to(run.config.device) for x in read.batch)
        with Progress(progress, int(batch[0].isnan().any(1).sum())) as bar:

            def advance(rows: int) -> None:
                for _ in range(rows):
                    bar.advance()

            found = complete(
                pair.model, pair.guide, batch, draws, num_samples=num_samples, chain_rows=chain_rows,
                advance=advance, say=bar.say,
            )  # fmt: skip
    names, original = _as_given(run, data, batch[0])
    known = numbered(run, tuple(batch[0].shape[1:]))
    return Imputed(
        data=name_of(run, data),
        step=run.step(checkpoint),
        seed=seed,
        num_samples=num_samples,
        index=index_of(data, read.numbers),
        names=names or known,
        original=original,
        found=found,
        order=[known.index(name) for name in names] if names else range(len(known)),
        scale=(scale or run.rules.scale or 1.0),
        schema=run.schema,
        source=_table(run, data),
    )


def _table(run: Run, data: Any) -> "pandas.DataFrame | None":
    """The table as it was read, where it has a schema."""
    source = data if data is not None else list(run.config.data)
    return read_table(source).chosen if run.schema is not None and is_table(source) else None


def _as_given(run: Run, data: Any, read: torch.Tensor) -> tuple[Sequence[str], np.ndarray]:
    """The table as it was given, in its own order and type, with the names of its columns, if it has names."""
    source = data if data is not None else list(run.config.data)
    if isinstance(source, Data) or (isinstance(source, list) and not source):
        return (), read.cpu().numpy()
    _, fields, raws = fields_of(source, run.schema)
    first = run.rules.fields[0]
    raw = raws[fields.index(first) if first in fields else 0]
    return raw.names if run.rules.columns.get(first) else (), raw.values.numpy()
