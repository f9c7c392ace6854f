"""Do samples copy training rows? Their nearest training rows beside those of rows that were held out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro.distributions import Bernoulli, Categorical, Distribution
from torch import Tensor

from ppl_vae.blocks.likelihoods.table import Cells
from ppl_vae.core.errors import InputError
from ppl_vae.core.results import Result
from ppl_vae.core.statistics import Estimate
from ppl_vae.distributions.wrappers import family
from ppl_vae.runs.opening import running
from ppl_vae.runs.run import Run
from ppl_vae.runs.sampling import likelihoods

NEAR = 0.05  # the share of held-out rows that count as near
AT_ONCE = 2**22  # distances in memory
SAME = 1e-6  # a distance that is rounding
DOUBT = 3.0  # standard errors
SHOWN = 5


@dataclass(frozen=True, repr=False)
class Copies(Result):
    """How near M samples are to the training rows.

    The distance of two rows is the mean over the columns that both have of |a − b|/sd for numbers, sd that of the
    training rows, and of 0 or 1 for categories: the same one or another.

    Args:
        samples, training, held_out: how many of each.
        identical: how many samples are a training row, to the last bit; `identical_held_out`: how many held-out rows.
        near: the share of samples that are as near to a training row as the nearest 5 % of held-out rows; its error is
            over samples. `near_held_out`: that share of the held-out rows, 5 % or, with ties, more.
        with_training: of the samples, the share whose nearest row among training and held-out rows is a training row.
            Where samples know nothing of single rows it is `expected` on average, whichever rows were held out; the
            error is over the choice of these rows.
        expected: the share of training rows among all these rows.
        nearest: of the nearest samples: number of the sample, number of its training row, and their distance.
    """

    samples: int
    training: int
    held_out: int
    identical: int
    identical_held_out: int
    near: Estimate
    near_held_out: Estimate
    with_training: Estimate
    expected: float
    nearest: tuple[tuple[int, int, float], ...]

    @property
    def nearer(self) -> bool:
        """Are more samples near to training rows than held-out rows are, beyond 3 standard errors?"""
        se = math.hypot(self.near.se, self.near_held_out.se)
        return self.near.value - self.near_held_out.value > DOUBT * se

    @property
    def copied(self) -> bool:
        """Are the samples nearer to training rows than to held-out rows, beyond 3 standard errors?"""
        return self.with_training.value - self.expected > DOUBT * self.with_training.se

    def fields(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("samples", "training", "held_out", "identical")}
        shares = {name: getattr(self, name) for name in ("near", "near_held_out", "with_training")}
        return {
            **numbers,
            "identical_held_out": self.identical_held_out,
            **{name: x.value for name, x in shares.items()},
            **{f"{name}_se": x.se for name, x in shares.items()},
            "expected_with_training": self.expected,
            "nearer": self.nearer,
            "copied": self.copied,
            "nearest": [dict(zip(("sample", "row", "distance"), each, strict=True)) for each in self.nearest],
        }

    def lines(self) -> Iterator[str]:
        yield (f"copies: {self.samples} samples beside {self.training} training rows and {self.held_out} rows held out")
        yield (
            f"  identical to a training row: {self.identical} of {self.samples} samples, {self.identical_held_out} of "
            f"{self.held_out} rows held out"
        )
        near, usual = _percent(self.near), _percent(self.near_held_out)
        yield f"  near to a training row: {near} of samples, {usual} of rows held out"
        yield (
            f"  nearest to a training row, not to one held out: {_percent(self.with_training)} of samples; "
            f"{100 * self.expected:z.1f} % if none are copied"
        )
        yield f"  {self.verdict}"

    @property
    def verdict(self) -> str:
        """What that says, in a sentence."""
        if self.copied:
            few = ", ".join(f"sample {sample} and row {row} ({d:.2g})" for sample, row, d in self.nearest[:SHOWN])
            return f"samples copy training rows, or are too near to them; the nearest: {few}"
        if self.nearer:
            return (
                "samples are nearer to training rows than new rows are, but as near to rows held out: they have less "
                "spread than the data, and are no copies"
            )
        return "no sign of copies"


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:z.1f} ± {100 * share.se:z.1f} %"


@torch.no_grad()
def copies(
    samples: Tensor, training: Tensor, held_out: Tensor, categories: Sequence[int] = (), numbers: Tensor | None = None
) -> Copies:
    """Compare samples with training rows and with rows that the model has not seen, all `(rows, D)`; see `Copies`.

    Cells may be missing, NaN. As then a row has fewer columns to differ in, each sample gets the missing cells of a row
    that was held out, in turn.

    Args:
        categories: the columns that hold codes without an order.
        numbers: of the training rows in the data, `(N,)`.

    Raises:
        InputError: rows of different widths, or no rows.

    Source: Gower 1971 (the distance, with standard deviations in place of ranges).
    """
    samples, training, held_out = (x.flatten(1).double() for x in (samples, training, held_out))
    if len({x.shape[1] for x in (samples, training, held_out)}) > 1 or not min(map(len, (samples, training, held_out))):
        raise InputError("samples, training rows and rows held out must have the same columns, and there must be some")
    gone = held_out.isnan()[torch.arange(len(samples)) % len(held_out)]
    whole, samples = samples, samples.masked_fill(gone, torch.nan)
    N, H, M = len(training), len(held_out), len(samples)
    unit = _units(training, categories)
    new, _ = _nearest(held_out, training, unit)
    to_training, row = _nearest(samples, training, unit)
    counts = _counts(samples, torch.cat([training, held_out]), unit)
    limit = new.quantile(NEAR) + SAME
    p = N / (N + H)
    together = counts[:N].sum().item() / M
    spread = (counts - counts.mean()).square().sum() / (N + H - 1)  # of a draw of N rows without replacement
    se = (N * H / (N + H) * spread).sqrt().item() / M
    order = to_training.argsort()[:SHOWN]
    row = row if numbers is None else numbers[row]
    return Copies(
        samples=M,
        training=N,
        held_out=H,
        identical=_identical(whole, training),
        identical_held_out=_identical(held_out, training),
        near=_share(to_training <= limit),
        near_held_out=_share(new <= limit),
        with_training=Estimate(together, se, "data"),
        expected=p,
        nearest=tuple((int(i), int(row[i]), to_training[i].item()) for i in order),
    )


def copies_on_run(run: Run, samples: Mapping[str, np.ndarray], data: Any = None, **opening: Any) -> Copies:
    """Compare samples of a run, by site, with its training rows, and with its validation and test rows.

    Raises:
        InputError: the run's data are not there, or no site is like their first field.
    """
    rules = run.rules
    site = next((site for site, x in samples.items() if x.shape[1:] == rules.shapes[0]), None)
    if site is None:
        raise InputError("copies: no observed site of the model is like the first field of the data")
    dataset = run.data(data, force=opening.get("force", False)).fixed()
    with run.isolated(0):
        pair = run.pair(**opening)
        with running(f"the model of {run.folder}"):
            p = likelihoods(pair.model, tuple(x.to(run.config.device) for x in dataset.first(1)))[site]
    held_out = torch.cat([dataset.whole(split)[0] for split in ("valid", "test")])
    training = dataset.whole("train")[0]
    return copies(torch.as_tensor(samples[site]), training, held_out, _categories(p), dataset.numbers("train"))


def _categories(p: Distribution) -> list[int]:
    """The columns whose numbers are codes without an order."""
    fn = family(p)
    if isinstance(fn, Cells):
        return [i for group in fn.groups if group.kind in ("binary", "categorical") for i in group.columns]
    return list(range(p.event_shape.numel())) if isinstance(fn, Bernoulli | Categorical) else []


def _identical(x: Tensor, rows: Tensor) -> int:
    """How many of x are one of the rows, in their precision; of rows with missing cells nobody can tell."""
    dtype = rows.dtype if rows.is_floating_point() else torch.float32
    known = {row.tobytes() for row in (rows.to(dtype) + 0.0).cpu().numpy() if not np.isnan(row).any()}
    return sum(row.tobytes() in known for row in (x.to(dtype) + 0.0).cpu().numpy())


def _share(holds: Tensor) -> Estimate:
    """A share with the error of Agresti & Coull 1998, which is not 0 where none or all are counted."""
    n, count = len(holds), int(holds.sum())
    p = (count + 2) / (n + 4)
    return Estimate(count / n, math.sqrt(p * (1 - p) / (n + 4)), "draws")


def _units(training: Tensor, categories: Sequence[int]) -> Tensor:
    """What each column is divided by, `(D,)`; 0 for a category."""
    center = training.nanmean(0)
    sd = (training - center).square().nanmean(0).sqrt().nan_to_num(nan=1.0)
    sd = torch.where(sd > SAME * center.abs().nan_to_num(), sd, 1.0)
    sd[list(categories)] = 0.0
    return sd


def _distances(x: Tensor, rows: Tensor, unit: Tensor) -> Iterator[Tensor]:
    """The distances of some of x to all rows, `(n, N)` each; ∞ where two rows share no column."""
    for part in x.split(max(1, AT_ONCE // len(rows))):
        total, shared = part.new_zeros(len(part), len(rows)), part.new_zeros(len(part), len(rows))
        for a, b, u in zip(part.T, rows.T, unit, strict=True):
            off = (a.unsqueeze(1) - b).abs()
            there = ~off.isnan()
            shared += there
            total += torch.where(there, off / u if u else (off > 0).double(), 0.0)
        yield torch.where(shared > 0, total / shared.clamp(min=1), torch.inf)


def _nearest(x: Tensor, rows: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """The distance of each of x to its nearest row, and the place of this row."""
    found = [d.min(1) for d in _distances(x, rows, unit)]
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])


def _counts(x: Tensor, rows: Tensor, unit: Tensor) -> Tensor:
    """Of how many of x each row is the nearest; rows that are equally near share it."""
    counts = rows.new_zeros(len(rows))
    for d in _distances(x, rows, unit):
        ties = (d <= d.amin(1, keepdim=True) + SAME).double()
        counts += (ties / ties.sum(1, keepdim=True)).sum(0)
    return counts
