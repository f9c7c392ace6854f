"""What a sweep finds: the bound of each setting on the same validation rows, and how far each is behind the best."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from ppl_vae.core.results import Result, number, table
from ppl_vae.core.statistics import Estimate, digits
from ppl_vae.runs.run import Run

if TYPE_CHECKING:
    import pandas

LEVEL = 0.05


@dataclass(frozen=True)
class Behind:
    """A setting less the best one, paired by seed and row: d_sn at seed s and row n, of S seeds and N rows.

    Args:
        over_seeds: the mean of d, with sd_s(mean_n d_sn)/√S: how another S fits would differ. NaN for one seed.
        over_data: the mean of d, with sd_n(mean_s d_sn)/√N: how another N rows would differ.

    Source: for `df`, Welch 1947, Satterthwaite 1946.
    """

    over_seeds: Estimate
    over_data: Estimate
    seeds: int
    rows: int

    @classmethod
    def of(cls, d: np.ndarray) -> "Behind":
        """From the differences, `(S, N)`."""
        mean = float(d.mean())
        return cls(Estimate(mean, _se(d.mean(1)), "seeds"), Estimate(mean, _se(d.mean(0)), "data"), *d.shape)

    @property
    def se(self) -> float:
        """√(se_seeds² + se_data²), of rows and seeds together; of the rows alone for one seed.

        What depends on both is in both, so that it is rather too large.
        """
        return self.over_data.se if self.seeds == 1 else math.hypot(self.over_seeds.se, self.over_data.se)

    @property
    def t(self) -> float:
        return self.over_data.value / self.se if self.se > 0 else math.nan

    @property
    def df(self) -> float:
        """Degrees of freedom of t: se⁴ / (se_seeds⁴/(S − 1) + se_data⁴/(N − 1))."""
        if self.seeds == 1:
            return self.rows - 1
        parts = self.over_seeds.se**4 / (self.seeds - 1) + self.over_data.se**4 / (self.rows - 1)
        return self.se**4 / parts if parts > 0 else math.nan

    @property
    def p(self) -> float:
        """The two-sided p-value of a difference of 0; NaN where all differences are the same."""
        from scipy.stats import t  # here, for it takes half a second

        return float(2 * t.sf(abs(self.t), self.df))

    @property
    def significant(self) -> bool:
        return self.p < LEVEL

    def fields(self) -> dict[str, Any]:
        errors = {"se_seeds": self.over_seeds.se, "se_data": self.over_data.se, "se": self.se}
        return {"difference": self.over_data.value} | errors | {"t": self.t, "df": self.df, "p": self.p}


@dataclass(frozen=True)
class Line:
    """One setting.

    Args:
        label: such as `latent_dim=2, prior=vamp`.
        setting: each value as text.
        bound: the mean over rows and seeds, nats per datum, with its error over seeds.
        by_seed: the mean over rows of each seed.
        behind: this setting less the best; None for the best.
        rate: nats per datum, the mean over rows and seeds.
        active_units: how many latent dimensions have Var_x(E_q[z|x]) > 0.01, the mean over seeds; NaN where z is no
            vector of real numbers.
        runs: one for each seed.
    """

    label: str
    setting: Mapping[str, str]
    bound: Estimate
    by_seed: Mapping[int, float]
    behind: Behind | None
    rate: float
    active_units: float
    runs: tuple[Run, ...]

    def fields(self) -> dict[str, Any]:
        return {
            "setting": dict(self.setting),
            "value": self.bound.value,
            "se_seeds": self.bound.se,
            "by_seed": {str(seed): value for seed, value in self.by_seed.items()},
            "behind": self.behind and self.behind.fields(),
            "rate": self.rate,
            "active_units": self.active_units,
            "runs": [str(run.folder) for run in self.runs],
        }


@dataclass(frozen=True)
class Failure:
    """A run of which there is no number, and why."""

    label: str
    seed: int
    why: str

    def __str__(self) -> str:
        return f"{self.label} is left out, for seed {self.seed} failed: {self.why}"


@dataclass(frozen=True, repr=False)
class Sweep(Result):
    """Every setting at every seed, on the same validation rows, at the best state of each run.

    Args:
        bound: what the settings are ranked by: `ELBO`, or `IWAE_K` where that is trained.
        rows: N validation rows; the test rows are not looked at.
        settings: in the order of the sweep, those of which every seed came to its end.
        failed: the runs that did not.
    """

    data: str
    bound: str
    rows: int
    seeds: tuple[int, ...]
    settings: tuple[Line, ...]
    failed: tuple[Failure, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 where a setting failed."""
        return int(bool(self.failed))

    @property
    def first(self) -> Line:
        """The best setting."""
        return next(line for line in self.settings if line.behind is None)

    @property
    def best(self) -> Run:
        """Of the best setting, the run of the seed with the highest bound."""
        line = self.first
        return line.runs[max(range(len(line.runs)), key=list(line.by_seed.values()).__getitem__)]

    @property
    def runs(self) -> dict[str, tuple[Run, ...]]:
        """The runs of each setting, by its label."""
        return {line.label: line.runs for line in self.settings}

    @property
    def table(self) -> "pandas.DataFrame":
        """A row for each setting: its values, the bound, and how far it is behind the best; nats per datum.

        Columns: the names of the sweep; `value` and `se_seeds`; `difference` (0 for the best, else below) with
        `difference_se_seeds`, `difference_se_data`, `difference_se`, `t`, `df`, `p`; `rate`, `active_units`.
        """
        import pandas

        return pandas.DataFrame([_row(line) for line in self.settings])

    def fields(self) -> dict[str, Any]:
        return {
            "format": 1,
            "data": self.data,
            "split": "valid",
            "rows": self.rows,
            "bound": self.bound,
            "seeds": list(self.seeds),
            "settings": [line.fields() for line in self.settings],
            "failed": [{"setting": f.label, "seed": f.seed, "why": f.why} for f in self.failed],
            "best": dict(self.first.setting),
            "best_run": str(self.best.folder),
            "verdict": list(self.verdict()),
        }

    def lines(self) -> Iterator[RenderableType]:
        n = len(self.seeds)
        yield (
            f"{self.bound} of the same {self.rows} validation rows of {self.data}, {n} seed{'s' * (n > 1)}; "
            "nats per datum"
        )
        yield self._shown()
        yield from map(str, self.failed)
        yield from self.verdict()
        yield f"the test rows are not used yet: ppl-vae evaluate '{self.best.folder}'"

    def _shown(self) -> Table:
        """A column for each name of the sweep, and the numbers; the errors of a difference are added up."""
        names = list(self.first.setting)
        behind = ("less the\nbest", "± s.e.") if names else ()
        made = table(
            *(names or ["setting"]),
            self.bound,
            "± s.e.\nover seeds",
            *behind,
            "rate",
            "active\nunits",
            keys=max(1, len(names)),
        )
        for line in self.settings:
            compared = digits(b.over_data.value, b.se) if (b := line.behind) else ("best", "")
            numbers = [*digits(line.bound.value, line.bound.se), *(compared if names else ())]
            texts = list(line.setting.values()) or [line.label]
            made.add_row(*texts, *numbers, f"{line.rate:z.2f}", number(line.active_units, ".3g"))
        return made

    def verdict(self) -> Iterator[str]:
        """Which is best, and whether by more than chance."""
        others = sorted((line for line in self.settings if line.behind), key=lambda line: -line.bound.value)
        if others:
            b = others[0].behind
            assert b is not None
            told = "significant" if b.significant else "not significant"
            value, se = digits(abs(b.over_data.value), b.se)
            yield (
                f"best is {self.first.label}; the next, {others[0].label}, is {value} ± {se} "
                f"behind (t = {number(abs(b.t), '.1f')}, {number(b.df, '.1f')} degrees of freedom, "
                f"p = {number(b.p, '.2g')}): {told} at 5 %"
            )
        alike = [line.label for line in others[1:] if line.behind and not line.behind.significant]
        if alike:
            yield f"further behind, and not significant either: {'; '.join(alike)}"
        if len(self.seeds) == 1:
            yield "with one seed no error says how much two fits of one setting differ: give --seeds 3"


def _row(line: Line) -> dict[str, Any]:
    numbers = {"value": line.bound.value, "se_seeds": line.bound.se}
    nothing = dict.fromkeys(("difference_se_seeds", "difference_se_data", "difference_se", "t", "df", "p"), math.nan)
    found = line.behind.fields() if line.behind else {}
    behind = {(f"difference_{name}" if name.startswith("se") else name): x for name, x in found.items()}
    last = {"rate": line.rate, "active_units": line.active_units}
    return {**line.setting, **numbers, "difference": 0.0, **nothing, **behind, **last}


def _se(x: np.ndarray) -> float:
    return float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else math.nan


def lines_of(
    bounds: Mapping[str, np.ndarray], seeds: Sequence[int], about: Mapping[str, Mapping[str, Any]]
) -> tuple[Line, ...]:
    """A line for each setting, compared with the best by the mean of its bound.

    Args:
        bounds: by label, the bound at each seed and row, `(S, N)`.
        about: by label, the other arguments of `Line`.
    """
    best = max(bounds, key=lambda label: bounds[label].mean())
    made = []
    for label, bound in bounds.items():
        by_seed = dict(zip(seeds, bound.mean(1).tolist(), strict=True))
        value = Estimate(float(bound.mean()), _se(bound.mean(1)), "seeds")
        behind = None if label == best else Behind.of(bound - bounds[best])
        made.append(Line(label=label, bound=value, by_seed=by_seed, behind=behind, **about[label]))
    return tuple(made)
