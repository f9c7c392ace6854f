"""A run's rows, scored: log p(x) of each, the ELBO in its parts, and which columns make the row unlikely."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import RenderableType
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.core.frames import index_of, labels_of, to_frame
from ppl_vae.core.randomness import seed_torch
from ppl_vae.core.results import Result, counted, table
from ppl_vae.core.statistics import digits
from ppl_vae.evidence.columns import Columns, columns
from ppl_vae.evidence.evaluation import methods_said
from ppl_vae.evidence.importance import chunks
from ppl_vae.evidence.log_px import LogPx, Method
from ppl_vae.evidence.mean import mean
from ppl_vae.evidence.on_run import STAGES, measured, name_of
from ppl_vae.evidence.units import Units, units
from ppl_vae.objectives.rate import rates_of
from ppl_vae.programs import terms
from ppl_vae.programs.scores import Batch, ProgramLike, batches, sum_sites
from ppl_vae.runs.run import Run
from ppl_vae.runs.wording import numbered
from ppl_vae.training.distributed import helpers

if TYPE_CHECKING:
    import pandas

SHOWN_ROWS, SHOWN_COLUMNS = 5, 3
NUMBERS = ("log_px", "elbo", "rate", "distortion")
TITLES = ("log p(x)", "ELBO", "rate", "distortion")


@dataclass(frozen=True, repr=False)
class Scores(Result):
    """N rows, scored. Numbers are nats; log p(x) is of the data as they were given.

    Args:
        index: what tells the rows, `(N,)`.
        found: log p(x) of each row, of the data as the programs see them, and the k-hat of its weights, if it has any.
        rate: KL(q(z|x) ‖ p(z)), in closed form where there is one, `(N,)`.
        distortion: −E_q log p(x|z), `(N,)`, of the data as the programs see them.
        columns: log p(x_j|x_-j); None where the likelihood has no columns, and `refused` says why.
        names: of the columns.
        cells: what stands in the rows, by a schema.
        units: the change of variables from the data as the programs see them to the data as given.
    """

    data: str
    step: int
    seed: int
    num_samples: int
    index: Any = field(compare=False)
    found: LogPx = field(compare=False)
    rate: Tensor = field(compare=False)
    distortion: Tensor = field(compare=False)
    columns: Columns | None = field(compare=False)
    names: Sequence[str] = field(compare=False)
    units: Units = field(compare=False)
    refused: dict[str, str]
    files: tuple[str, ...] = ()
    cells: "pandas.DataFrame | None" = field(default=None, compare=False)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """`log_px`, `log_px_se`, `elbo`, `rate`, `distortion`, `khat` and `reliable`, `(N,)`; by column `(N, D)`:
        `surprise`, −log p(x_j|x_-j), and `surprise_se`, NaN where the cell is not reliable."""
        shift = self.units.shift
        numbers = {
            "log_px": self.found.value + shift, "log_px_se": self.found.se,
            "elbo": shift - self.rate - self.distortion, "rate": self.rate, "distortion": self.distortion - shift,
            "khat": self.found.khat, "reliable": self.found.reliable,
        }  # fmt: skip
        if self.columns is not None:
            there = ~self.columns.log_prob.isnan()
            each = (shift / there.sum(1).clamp(min=1)).unsqueeze(1)
            numbers["surprise"] = -self.columns.log_prob - each
            numbers["surprise_se"] = self.columns.se.masked_fill(~self.columns.reliable, torch.nan)
        return {name: x.cpu().numpy() for name, x in numbers.items()}

    @cached_property
    def frame(self) -> "pandas.DataFrame":
        """A row for each row: the numbers, then `surprise_<column>` and `surprise_se_<column>`."""
        names = {part: [f"{part}_{name}" for name in self.names] for part in ("surprise", "surprise_se")}
        return to_frame(self.arrays, names, self.index)

    # ---- for programs

    def fields(self) -> dict[str, Any]:
        means: dict[str, float] = {}
        for name in NUMBERS:
            means |= mean(torch.as_tensor(self.arrays[name])).fields(name)
        return {
            **{name: getattr(self, name) for name in ("data", "step", "seed", "num_samples")},
            "rows": len(self.rate),
            **{name: x for name, x in means.items() if not name.endswith("_se_mc")},
            "methods": self.found.counts,
            "reliable_rows": int(self.found.reliable.sum()),
            "change_of_variables": self.units.said,
            "least_likely": [self._told(row) for row in self.lowest],
            "refused": self.refused,
            "files": list(self.files),
        }

    @property
    def lowest(self) -> list[int]:
        """The places of the rows with the lowest log p(x), the lowest first."""
        value = np.nan_to_num(self.arrays["log_px"], nan=-np.inf, neginf=-np.inf)
        return np.argsort(value, kind="stable")[:SHOWN_ROWS].tolist()

    def surprising(self, row: int) -> list[int]:
        """The columns of a row, most surprising first: those that are the most above the column's mean over all rows.

        The surprise at a real number depends on its unit, and its distance from the mean does not.
        """
        surprise = self.arrays["surprise"]
        above = surprise[row] - (self.usual if len(surprise) > 1 else 0)
        order = np.argsort(-np.nan_to_num(above, nan=-np.inf), kind="stable")
        return [j for j in order[:SHOWN_COLUMNS].tolist() if above[j] > 0]

    @cached_property
    def usual(self) -> np.ndarray:
        """The mean surprise of each column, `(D,)`; NaN where all its cells are missing."""
        there = ~np.isnan(self.arrays["surprise"])
        total = np.where(there, self.arrays["surprise"], 0).sum(0)
        return np.where(there.any(0), total / there.sum(0).clip(min=1), np.nan)

    def _told(self, row: int) -> dict[str, Any]:
        told: dict[str, Any] = {"row": labels_of(self.index[[row]])[0]}
        told |= {name: self.arrays[name][row].item() for name in ("log_px", "log_px_se", "reliable")}
        if self.columns is not None:
            told["surprising"] = {self.names[j]: self.arrays["surprise"][row, j].item() for j in self.surprising(row)}
        return told

    # ---- for a person

    def lines(self) -> Iterator[RenderableType]:
        yield f"{counted(len(self.rate), 'row')} of {self.data}, step {self.step}; nats per row"
        made = table("", "mean", "± s.e.\nover data")
        for name, title in zip(NUMBERS, TITLES, strict=True):
            each = mean(torch.as_tensor(self.arrays[name])).over_data
            made.add_row(title, *digits(each.value, each.se))
        yield made
        yield from methods_said(self.found)
        yield from self.found.remarks
        if self.units.said:
            yield f"all is {self.units.said}"
        yield from self._about_rows()
        for name, why in self.refused.items():
            yield f"{name} can't be had: {why}"
        yield from (f"written: {file}" for file in self.files)

    def _about_rows(self) -> Iterator[RenderableType]:
        yield "least likely:"
        for row in self.lowest:
            told = self._told(row)
            se = f" ± {told['log_px_se']:z.2f}" if told["reliable"] else " or more"
            cells = [self._cell(row, j) for j in self.surprising(row)] if self.columns is not None else []
            yield f"  row {told['row']}: log p(x) {told['log_px']:z.2f}{se}" + f"; {', '.join(cells)}" * bool(cells)
        if self.columns is None:
            return
        usual = "; in brackets its mean over the rows" if len(self.rate) > 1 else ""
        yield f"  the number of a column is −log p(x_j | the other columns){usual}"
        there = ~self.columns.log_prob.isnan()
        if doubtful := int((there & ~self.columns.reliable).sum()):
            total = int(there.sum())
            yield f"{doubtful} of {total} cells are not reliable: marked ?, and without a standard error in the file"

    def _cell(self, row: int, column: int) -> str:
        assert self.columns is not None
        doubt = "" if self.columns.reliable[row, column] else "?"
        usual = f" ({self.usual[column]:z.2f})" if len(self.rate) > 1 else ""
        name = self.names[column]
        if self.cells is not None:
            cell = self.cells[name].iloc[row]
            name += f"={cell:g}:" if isinstance(cell, float) else f"={str(cell).removesuffix(' 00:00:00')}:"
        return f"{name} {self.arrays['surprise'][row, column]:z.2f}{doubt}{usual}"


def score_on_run(
    run: Run,
    data: Any,
    scale: float | None,
    *,
    method: Method | None,
    num_samples: int,
    rows: int | None,
    annealed_rows: int,
    by_column: bool,
    seed: int,
    progress: bool,
    checkpoint: int | str = "best",
    test: bool = False,
    **opening: Any,
) -> Scores:
    """Score rows: of `data`, or of the run's own data all rows, or the test rows alone.

    Raises:
        InputError: the run can't be opened, its rows can't be read, or the method that is named is not for the pair.
    """
    opening["checkpoint"] = checkpoint
    how: dict[str, Any] = {"method": method, "num_samples": num_samples, "most_annealed": annealed_rows}
    stages = STAGES + by_column
    with measured(
        run, data, scale, opening, test=test, rows=rows, seed=seed, progress=progress, stages=stages, last=False, **how
    ) as (pair, read, batch, found, bar):
        count, here = len(batch[0]), helpers()

        def of_rows(part: slice) -> tuple[Tensor, Tensor, Columns | None, tuple[str, ...]]:
            some, known = tuple(x[part] for x in batch), found.part(part)
            seed_torch(here.seed(seed))
            rate, distortion = parts(pair.model, pair.guide, some, num_samples, run.config.batch_size)
            if not by_column:
                return rate, distortion, None, ()
            seed_torch(here.seed(seed))
            try:
                told = columns(
                    pair.model, pair.guide, some, num_samples, known=known,
                    advance=lambda rows: bar.advance(100 * rows / count),
                )  # fmt: skip
            except InputError as error:
                return rate, distortion, None, (str(error),)
            return rate, distortion, told, ()

        rate, distortion, told, why = here.divided(count, of_rows, last=True)
        refused = {"log p of each column": why[0]} if why else {}
        return Scores(
            data=name_of(run, data),
            step=run.step(checkpoint),
            seed=seed,
            num_samples=num_samples,
            index=index_of(data, read.numbers)[:count],
            found=found,
            rate=rate,
            distortion=distortion,
            columns=told,
            names=() if told is None else numbered(run, told.shape),
            units=units(pair, run.config, batch),
            refused=refused,
            cells=None if run.schema is None else run.schema.decode(batch[0].cpu().numpy()),
        )


@torch.no_grad()
def parts(
    model: ProgramLike, guide: ProgramLike, rows: Batch, num_samples: int, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Rate and distortion of each row, `(N,)`, means over K draws: −rate − distortion estimates the ELBO."""
    found = []
    for batch in batches(rows, batch_size):
        total = torch.zeros(2, len(batch[0]), dtype=torch.float64)
        for k in chunks(batch, num_samples):
            t = terms(model, guide, batch, k)
            each = (sum_sites(rates_of(t)[0]), -sum_sites(t.log_lik))
            total += torch.stack([x.double().expand(k, -1).sum(0).cpu() for x in each])
        found.append(total / num_samples)
    rate, distortion = torch.cat(found, 1)
    return rate, distortion
