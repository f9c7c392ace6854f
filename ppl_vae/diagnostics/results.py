"""What a comparison of estimators finds: numbers with their errors, which print themselves and turn into JSON."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from torch import Tensor

from ppl_vae.core.results import Result, number, table
from ppl_vae.core.statistics import Estimate, digits

ROUNDING = 1e-6  # of a value in float32, relative
ROUNDING_OF_GRADIENT = 1e-5  # a noise below this part of the signal
Groups = Mapping[str, float]
"""A number for the parameters of the model and one for those of the guide."""


@dataclass(frozen=True)
class ValueBias:
    """The difference of an estimator's value from that of another estimator of the same target, its reference."""

    reference: str
    difference: Estimate

    def fields(self) -> dict[str, Any]:
        d = self.difference
        return {"reference": self.reference, "difference": d.value, "se": d.se, "z": d.z}


@dataclass(frozen=True)
class GradientBias:
    """Does the mean of an estimator's gradient differ from its reference's?

    Args:
        t: the largest |t| of each group, over random projections of the gradient and over batches.
        p: of the largest, times the number of tests (Bonferroni), at most 1.
    """

    reference: str
    t: Groups
    p: float
    tests: int

    def fields(self) -> dict[str, Any]:
        return {"reference": self.reference, "t": dict(self.t), "p": self.p, "tests": self.tests}


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """What a comparison measures of one estimator.

    Args:
        target: what it estimates.
        value: its mean in nats per datum, with its error over draws, the data fixed.
        over_data: the same mean with its error over data.
        bias: of the value; None where there is no reference.
        variance: nats², of one draw's value for one datum, averaged over data.
        gradient_bias: of the gradient; None where there is no reference.
        gradient_variance: of the gradient of the mean loss of one batch, summed over parameters, with its error over
            draws.
        gradient_snr: |E g|/√tr Cov(g); NaN without noise.
        gradient_cosine: with the reference's gradient; NaN where one of the two does not show above its noise.
        num_samples: K.
        seconds_per_step: forward and backward, the median over draws.
        compiled: are these compiled steps?
        peak_bytes_per_step: memory at the worst moment, of the programs as they are.
        sites: what the objective says of its sites.
    """

    target: str
    value: Estimate
    over_data: Estimate
    bias: ValueBias | None
    variance: float
    gradient_bias: GradientBias | None
    gradient_variance: Mapping[str, Estimate]
    gradient_snr: Groups
    gradient_cosine: Groups
    gradient_variance_by_tensor: Mapping[str, float]
    gradient_snr_by_tensor: Mapping[str, float]
    num_samples: int
    seconds_per_step: float
    compiled: bool
    peak_bytes_per_step: int
    sites: Mapping[str, str]

    @property
    def elbo(self) -> Estimate:
        """The value, if the ELBO is what it estimates; else NaN."""
        return self.value if self.target == "ELBO" else Estimate(math.nan, math.nan, "draws")

    @property
    def efficiency(self) -> Groups:
        """1/(gradient variance · seconds per step); NaN without noise."""
        variances = {group: v.value for group, v in self.gradient_variance.items()}
        return {group: 1 / (v * self.seconds_per_step) if v > 0 else math.nan for group, v in variances.items()}

    def exact(self, group: str) -> bool:
        """Is there no noise in the gradient of the group, or none beyond the rounding of float32?"""
        return self.gradient_variance[group].value == 0 or self.gradient_snr[group] * ROUNDING_OF_GRADIENT > 1

    @property
    def settled(self) -> bool:
        """Is the value the same at every draw, but for rounding?"""
        return math.sqrt(self.variance) <= ROUNDING * abs(self.value.value)

    def fields(self) -> dict[str, Any]:
        numbers = {"value": self.value.value, "value_se": self.value.se, "value_se_data": self.over_data.se}
        elbo = {key.replace("value", "elbo"): x for key, x in numbers.items()} if self.target == "ELBO" else {}
        return {
            "target": self.target,
            **elbo,
            **numbers,
            "bias": self.bias and self.bias.fields(),
            "variance": self.variance,
            "gradient_bias": self.gradient_bias and self.gradient_bias.fields(),
            "gradient_variance": {group: v.value for group, v in self.gradient_variance.items()},
            "gradient_variance_se": {group: v.se for group, v in self.gradient_variance.items()},
            "gradient_snr": dict(self.gradient_snr),
            "gradient_cosine": dict(self.gradient_cosine),
            "gradient_variance_by_tensor": dict(self.gradient_variance_by_tensor),
            "gradient_snr_by_tensor": dict(self.gradient_snr_by_tensor),
            "num_samples": self.num_samples,
            "seconds_per_step": self.seconds_per_step,
            "compiled": self.compiled,
            "peak_bytes_per_step": self.peak_bytes_per_step,
            "efficiency": dict(self.efficiency),
            "sites": dict(self.sites),
        }


@dataclass(frozen=True)
class Difference:
    """a − b of the means of two estimators over the same draws."""

    a: str
    b: str
    difference: Estimate

    def fields(self) -> dict[str, Any]:
        d = self.difference
        return {"a": self.a, "b": self.b, "difference": d.value, "se": d.se, "z": d.z}

    def __str__(self) -> str:
        z = "the same at every draw" if math.isnan(self.difference.z) else f"z = {self.difference.z:z.2f}"
        return f"{self.a} − {self.b} = {self.difference}, {z}"


@dataclass(frozen=True, repr=False)
class SideBySide(Result):
    """Estimators at the same parameters, rows and noise.

    Args:
        pairs: the differences of every two estimators of one target.
        advice: which estimator to use, in a sentence.
        arrays: by estimator `row_mean` and `row_variance`, `(N,)`, over draws; `draw_mean`, `(R,)`, over rows.
    """

    estimators: Mapping[str, Estimator]
    pairs: tuple[Difference, ...]
    advice: str
    arrays: Mapping[str, Mapping[str, Tensor]] = field(compare=False)

    def fields(self) -> dict[str, Any]:
        return {
            "estimators": {name: e.fields() for name, e in self.estimators.items()},
            "pairs": [pair.fields() for pair in self.pairs],
            "advice": self.advice,
        }

    def lines(self) -> Iterator[RenderableType]:
        yield self.table()
        yield from self.remarks()

    def remarks(self) -> Iterator[str]:
        """How the sites were treated, the differences from the first estimator of each target, and the advice."""
        for name, e in self.estimators.items():
            yield from (f"{name}, rate of site {site!r}: {how}" for site, how in e.sites.items())
        firsts = {e.target: name for name, e in reversed(list(self.estimators.items()))}
        yield from (str(pair) for pair in self.pairs if pair.a in firsts.values())  # the other pairs are in the JSON
        yield f"advice: {self.advice}"

    def table(self, *, wide: bool = False) -> Table:
        """What decides between the estimators, in 80 columns; `wide` adds the rest, in 120."""
        made = table(*WIDE, gap=1) if wide else table(*NARROW)
        for target in dict.fromkeys(e.target for e in self.estimators.values()):
            made.add_row(target)
            for name, e in self.estimators.items():
                if e.target == target:
                    made.add_row(f"  {name}", *(_wide(e) if wide else _narrow(e)))
        return made


NARROW = (
    "target,\n  estimator", "value\nin nats", "± s.e.", "bias,\nz", "variance of\nguide's\ngradient", "ms a\nstep",
    "efficiency\nfor guide",
)  # fmt: skip
WIDE = (
    "target,\n  estimator", "value\nin nats", "± s.e.", "bias,\nz", "variance\nof value",
    "variance,\nmodel's\ngradient", "variance,\nguide's\ngradient", "SNR,\nmodel", "SNR,\nguide", "cosine,\nguide",
    "ms a\nstep", "MiB", "efficiency\nfor guide",
)  # fmt: skip


def _narrow(e: Estimator) -> tuple[str, ...]:
    value, se, bias, _, _, variance, *_, ms, _, efficiency = _wide(e)
    return value, se, bias, variance, ms, efficiency


def _wide(e: Estimator) -> tuple[str, ...]:
    no_noise = {group: "exact" if e.exact(group) else "" for group in e.gradient_variance}
    variance = {group: no_noise[group] or f"{v.value:.3g}" for group, v in e.gradient_variance.items()}
    snr = {group: no_noise[group] or number(x, ".2f") for group, x in e.gradient_snr.items()}
    value, se = (f"{e.value.value:z.3f}", "exact") if e.settled else digits(e.value.value, e.value.se)
    return (
        value,
        se,
        number(e.bias.difference.z if e.bias else math.nan, ".1f"),
        "exact" if e.settled else f"{e.variance:.3g}",
        variance["model"],
        variance["guide"],
        snr["model"],
        snr["guide"],
        number(e.gradient_cosine["guide"], ".3f"),
        f"{1e3 * e.seconds_per_step:z.1f}",
        f"{e.peak_bytes_per_step / 2**20:z.1f}",
        no_noise["guide"] or number(e.efficiency["guide"], ".3g"),
    )


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Estimators on one run, at one or several of its checkpoints.

    Args:
        left_out: the objectives that refuse the pair, each with its reason.
        checkpoints: what was found at each step; `estimators`, `pairs`, `advice` and `table` are of the first.
        wide: print every column.
    """

    data: str
    rows: int
    split: str
    batch_size: int
    draws: int
    seed: int
    left_out: Mapping[str, str]
    checkpoints: Mapping[int, SideBySide]
    files: tuple[str, ...] = ()
    wide: bool = False

    @property
    def step(self) -> int:
        """The step of the checkpoint that was named first."""
        return next(iter(self.checkpoints))

    @property
    def estimators(self) -> Mapping[str, Estimator]:
        return self.checkpoints[self.step].estimators

    @property
    def pairs(self) -> tuple[Difference, ...]:
        return self.checkpoints[self.step].pairs

    @property
    def advice(self) -> str:
        return self.checkpoints[self.step].advice

    @property
    def table(self) -> Table:
        return self.checkpoints[self.step].table(wide=self.wide)

    def fields(self) -> dict[str, Any]:
        names = ("data", "rows", "split", "batch_size", "draws", "seed", "step", "left_out")
        found = {"format": 1} | {name: getattr(self, name) for name in names} | self.checkpoints[self.step].fields()
        if len(self.checkpoints) > 1:
            found["checkpoints"] = {str(step): each.fields() for step, each in self.checkpoints.items()}
        return found

    def lines(self) -> Iterable[RenderableType]:
        yield (
            f"{self.rows} {self.split} rows of {self.data}, {self.draws} draws at the same noise, batches of "
            f"{self.batch_size};"
        )
        yield "nats per datum; standard errors over draws; the bias is against another estimator."
        if compiled := [name for name, each in self.estimators.items() if each.compiled]:
            which = "" if len(compiled) == len(self.estimators) else f" of {', '.join(compiled)}, and of no other,"
            yield f"The steps{which} are compiled."
        yield from (f"{name} is left out: {reason}" for name, reason in self.left_out.items())
        for step, found in self.checkpoints.items():
            yield f"\nat step {step}" if len(self.checkpoints) > 1 else ""
            yield found.table(wide=self.wide)
            yield from found.remarks()
        if self.files:
            yield f"written: {', '.join(self.files)}"
