"""Tables: columns of different kinds, each with a likelihood of its own, and missing cells, which are NaN.

Kinds are told, never guessed: a column of 0 and 1 may be binary, a count or a category. `kinds` is one kind for all
columns, or one for each, with a comma between them:

    real, positive, shaped, whole, count, binary, categorical:K, ordinal:K      (codes 0, ..., K − 1)

Of numbers, `real` is normal and `positive` log-normal. `shaped` takes any shape: normal on a scale that is learned
(`likelihoods.Shaped`); in `shaped@0` the number 0 has a probability of its own, in `shaped@0@99` so has 99. `whole` is
that of whole numbers, and `count` negative binomial: both have probabilities, no densities.

As Nazábal et al. (2020, HI-VAE), who take a Poisson for counts; here they are negative binomial.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor, nn

from ppl_vae.blocks.likelihoods.base import Likelihood, check_size, moments
from ppl_vae.blocks.likelihoods.counts import NegativeBinomial
from ppl_vae.blocks.likelihoods.discrete import Bernoulli, Categorical, Ordinal
from ppl_vae.blocks.likelihoods.real import Gaussian, LogNormal
from ppl_vae.blocks.likelihoods.shaped import Shaped
from ppl_vae.core.errors import InputError
from ppl_vae.distributions import SAME

KINDS: dict[str, Callable[[tuple[int, ...], "Group", Tensor], Likelihood]] = {
    "real": lambda shape, _, data: Gaussian(shape, "dimension", data=data),
    "positive": lambda shape, _, data: LogNormal(shape, "dimension", data=data),
    "shaped": lambda shape, group, data: Shaped(shape, data, spikes=group.spikes),
    "whole": lambda shape, _, data: Shaped(shape, data, whole=True),
    "count": lambda shape, _, data: NegativeBinomial(shape, data),
    "binary": lambda shape, *_: Bernoulli(shape),
    "categorical": lambda shape, group, _: Categorical(shape, group.levels),
    "ordinal": lambda shape, group, data: Ordinal(shape, group.levels).begin(data),
}
FILL = (
    1.0  # stands in a missing cell where arithmetic needs a number; it is in the support of every kind without spikes
)


class Group(NamedTuple):
    """The columns of one kind, as it is written; `levels` of a categorical or ordinal, else 0; `spikes` of a shaped."""

    text: str
    kind: str
    levels: int
    spikes: tuple[float, ...]
    columns: list[int]

    def __str__(self) -> str:
        return f"{self.text} in column{'s' * (len(self.columns) > 1)} {', '.join(map(str, self.columns))}"


def groups(kinds: str, data_shape: tuple[int, ...]) -> list[Group]:
    """The columns of a table by their kinds.

    Raises:
        InputError: data that are no table, another number of kinds than of columns, or a kind that there is not.
    """
    if len(data_shape) != 1:
        raise InputError(f"a datum has the shape {tuple(data_shape)}: a table's is one row of columns")
    each = [kind.strip() for kind in kinds.split(",")]
    if len(each) == 1:
        each *= data_shape[0]
    if len(each) != data_shape[0]:
        raise InputError(f"kinds names {len(each)} columns, the table has {data_shape[0]}: give one kind for each")
    found: dict[str, Group] = {}
    for column, text in enumerate(each):
        found.setdefault(text, Group(text, *_parsed(text, column), [])).columns.append(column)
    return list(found.values())


def _parsed(text: str, column: int) -> tuple[str, int, tuple[float, ...]]:
    """The kind, the levels and the spikes of `categorical:3` or `shaped@0@99`."""
    begin, *after = text.split("@")
    kind, _, levels = begin.partition(":")
    if kind not in KINDS:
        raise InputError(f"column {column} has no kind {text!r}: there are {', '.join(KINDS)}")
    if after and kind != "shaped":
        raise InputError(f"column {column} is {text!r}: only shaped has numbers with a probability of their own")
    try:
        spikes = tuple(sorted({float(number) for number in after}))
        if not all(map(math.isfinite, spikes)):
            raise ValueError
    except ValueError:
        raise InputError(f"column {column} is {text!r}: behind each @ stands a number, such as shaped@0") from None
    if kind not in ("categorical", "ordinal"):
        if levels:
            raise InputError(f"column {column} is {text!r}: only categorical and ordinal have a number of levels")
        return kind, 0, spikes
    if not levels.isdecimal() or int(levels) < 2:
        raise InputError(f"column {column} is {text!r}: say how many levels, 2 or more, such as {kind}:3")
    return kind, int(levels), ()


def filled(x: Tensor, groups: Sequence[Group]) -> tuple[Tensor, Tensor]:
    """x with a number of its column's support in its missing cells, and which cells are not missing."""
    seen, fill = ~x.isnan(), torch.full_like(x, FILL)
    for group in groups:
        if group.spikes:
            fill[..., group.columns] = max(group.spikes)
    return torch.where(seen, x, fill), seen


class MixedTable(nn.Module):
    """The likelihood of a table, used as those of `likelihoods`: `size` numbers in, a distribution over a row out.

    Real columns are Gaussian and positive ones log-normal, with a σ each, in units of `data`; shaped and whole ones are
    Gaussian on a scale that is learned; counts are negative binomial; ordinals have cumulative odds. Shaped, whole and
    ordinal columns begin at the shares of `data`.

    Args:
        kinds: see above.
        data: rows, `(N, D)`.
    """

    name = "table"

    def __init__(self, data_shape: tuple[int, ...], kinds: str, data: Tensor) -> None:
        super().__init__()
        self.groups = groups(kinds, data_shape)
        parts = [KINDS[group.kind]((len(group.columns),), group, data[:, group.columns]) for group in self.groups]
        self.sizes = [part.size for part in parts]
        self.size = sum(self.sizes)
        self.parts = nn.ModuleList(parts)

    def forward(self, raw: Tensor) -> dist.Distribution:
        """`(..., size)` to a distribution of batch shape `(...)` and event shape `(D,)`. Raises as any likelihood."""
        check_size(self, raw)
        each = zip(self.parts, raw.split(self.sizes, -1), strict=True)
        return Cells(self.groups, [part(numbers).base_dist for part, numbers in each], raw.dtype)


class Cells(dist.TorchDistribution):
    """A row of independent cells, those of one kind in one part. A missing cell is integrated out: it adds 0.

    Args:
        parts: for each group a distribution of batch shape `(..., columns of the group)`.
        dtype: of draws and means.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, groups: Sequence[Group], parts: Sequence[dist.Distribution], dtype: torch.dtype) -> None:
        self.groups, self.parts, self.dtype = groups, parts, dtype
        columns = [column for group in groups for column in group.columns]
        self.order = torch.tensor(columns).argsort()
        super().__init__(parts[0].batch_shape[:-1], torch.Size([len(columns)]))

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Cells":
        parts = [part.expand(torch.Size(batch_shape) + part.batch_shape[-1:]) for part in self.parts]
        return Cells(self.groups, parts, self.dtype)

    def cell_log_prob(self, value: Tensor) -> Tensor:
        """log p(x_d) of each cell, 0 where it is missing, `(..., D)`."""
        x, seen = filled(value, self.groups)
        each = zip(self.groups, self.parts, strict=True)
        log_prob = self._in_order([part.log_prob(x[..., group.columns]) for group, part in each])
        return torch.where(seen, log_prob, torch.zeros_like(log_prob))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.cell_log_prob(value).sum(-1)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return self._in_order([part.sample(torch.Size(sample_shape)) for part in self.parts])

    @property
    def mean(self) -> Tensor:
        """E[x_d]; of a categorical or ordinal column, whose codes have no mean, the most probable level."""
        pairs = zip(self.groups, self.parts, strict=True)
        return self._in_order([part.probs.argmax(-1) if group.levels else part.mean for group, part in pairs])

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        return constraints.independent(_CellSupport(self), 1)

    def cell(self, column: int) -> tuple[str, constraints.Constraint]:
        """The kind of a column, and its support."""
        group, part = next(pair for pair in zip(self.groups, self.parts, strict=True) if column in pair[0].columns)
        return group.kind, part.support

    def _in_order(self, each: list[Tensor]) -> Tensor:
        return torch.cat([x.to(self.dtype) for x in each], -1)[..., self.order]


class _CellSupport(constraints.Constraint):
    """Each cell is in the support of its column, or missing."""

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self.is_discrete = all(part.support.is_discrete for part in cells.parts)
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        x, _ = filled(value, self.cells.groups)
        each = zip(self.cells.groups, self.cells.parts, strict=True)
        inside = [part.support.check(x[..., group.columns]) for group, part in each]
        return torch.cat(inside, -1)[..., self.cells.order]

    def __repr__(self) -> str:
        return "; ".join(map(str, self.cells.groups))


class TableFeatures(nn.Module):
    """What an encoder sees of a row with missing cells: `(..., D)` to `(..., size)`, then the mask, 1 where a cell is.

    Numbers are standardized by `data`, of positive ones log x and of counts log(1 + x); where there are spikes a number
    for each says whether it is this one; codes become one-hot. All that belongs to a missing cell is 0, so that nothing
    depends on what may have stood there.
    """

    def __init__(self, data_shape: tuple[int, ...], kinds: str, data: Tensor) -> None:
        super().__init__()
        self.groups = groups(kinds, data_shape)
        each = (len(group.columns) * (group.levels or 1 + len(group.spikes)) for group in self.groups)
        self.size = data_shape[0] + sum(each)
        for i, group in enumerate(self.groups):
            if not group.levels:
                center, spread = moments(_unbounded(group.kind, data[:, group.columns]))
                self.register_buffer(f"center{i}", center)
                self.register_buffer(f"spread{i}", spread)

    def forward(self, x: Tensor) -> Tensor:
        x, seen = filled(x, self.groups)
        features = []
        for i, group in enumerate(self.groups):
            cells, mask = x[..., group.columns], seen[..., group.columns]
            if group.levels:
                features.append((_one_hot(cells, group.levels) * mask.unsqueeze(-1)).flatten(-2).to(x.dtype))
            else:
                center, spread = self.get_buffer(f"center{i}"), self.get_buffer(f"spread{i}")
                features.append((_unbounded(group.kind, cells) - center) / spread * mask)
                features += [_near(cells, spike).to(x.dtype) * mask for spike in group.spikes]
        return torch.cat([*features, seen.to(x.dtype)], -1)


def _one_hot(codes: Tensor, levels: int) -> Tensor:
    """A 1 at each code, up to rounding; none for what is no code, which is for `check` and `encode` to refuse."""
    return (codes.unsqueeze(-1) - torch.arange(levels, dtype=codes.dtype, device=codes.device)).abs() < 0.05


def _near(x: Tensor, spike: float) -> Tensor:
    """Where x is a spike, up to rounding."""
    return (x - spike).abs() <= SAME * abs(spike)


def _unbounded(kind: str, x: Tensor) -> Tensor:
    """x on a scale without a bound; what is outside the support is for `check` to refuse."""
    if kind == "positive":
        return x.clamp(min=1e-6).log()
    return x.clamp(min=0).log1p() if kind == "count" else x
