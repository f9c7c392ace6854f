"""The matrix: which priors, likelihoods, guides, networks and objectives go together, and some cells that cover it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import combinations, product
from typing import Any, NamedTuple

from support.palette import CLASSES, HIDDEN, HIERARCHIES, TwoLevels
from support.priors import Z
from support.small import KINDS, part_of, rows, settings
from torch import Tensor

from ppl_vae import objectives
from ppl_vae.blocks import space_of
from ppl_vae.blocks.parts import needs
from ppl_vae.core.palette import PARTS
from ppl_vae.programs import Pair, resolve_pair

NORMAL = {"standard_normal", "diagonal_normal"}
CLOSED_FORM = {
    "diagonal_normal",
    "full_normal",
    "low_rank_normal",
    "householder_normal",
    "delta_normal",
    "batch_norm_normal",
    "ladder",
}
"""Guides whose KL from a normal prior has one."""
BY_DIMENSION = {"diagonal_normal", "delta_normal", "batch_norm_normal", "ladder"}
"""Those of them whose KL is a sum over dimensions."""


@cache
def _space(kind: str, name: str) -> str:
    return "real" if name in HIERARCHIES else space_of(PARTS[kind][part_of(name)])


@cache
def _borrows(prior: str) -> bool:
    return needs("prior", part_of(prior), "guide")


class Cell(NamedTuple):
    prior: str
    likelihood: str
    guide: str
    network: str = "mlp"
    objective: str = "trace"

    def __str__(self) -> str:
        return "/".join(self)

    @property
    def space(self) -> str:
        """Of what the guide says that the latent is whose prior it is: in a hierarchy, of z2."""
        return _space("family", self.guide)

    @property
    def borrows(self) -> bool:
        """Is the prior made of the guide's own posteriors?"""
        return _borrows(self.prior)

    def pair(self, rows: Tensor) -> Pair:
        """The shipped programs with these parts; a hierarchy's are in `support.palette`."""
        asked = {
            k: v for kind in ("prior", "likelihood", "network") for k, v in settings(kind, getattr(self, kind)).items()
        }
        table = self.likelihood == "table"
        if self.guide in HIERARCHIES:
            return resolve_pair(TwoLevels, HIERARCHIES[self.guide], (rows,), asked | {"table": table})
        asked |= settings("family", self.guide) | {"hidden": HIDDEN}
        asked |= {"latent_dim": Z if self.space in ("real", "sphere") else CLASSES}
        if table:
            return resolve_pair("vae", "table", (rows,), asked | {"kinds": KINDS})
        return resolve_pair("vae", "amortized", (rows,), asked)


LEVELS = (
    rows("prior"),
    rows("likelihood"),
    [*rows("family"), *HIERARCHIES],
    rows("network"),
    ["trace", "sticking-the-landing", "analytic-kl"],
)
EVERY_OBJECTIVE = sorted(objectives.OBJECTIVES.entries)

RULES: dict[str, Callable[[Cell], bool]] = {
    "a hierarchy's guide has no q(z2|x) of which a VampPrior could be the mixture": lambda c: (
        c.borrows and c.guide in HIERARCHIES
    ),
    "the prior's z and the guide's are not of one space": lambda c: (
        not c.borrows and _space("prior", c.prior) != c.space
    ),
    "a row of a table is no image": lambda c: c.likelihood == "table" and c.network == "convolutional",
    "a class is not drawn by reparameterization, along which this objective differentiates": lambda c: (
        c.objective not in ("trace", "score-function", "trace-enum") and c.space == "classes"
    ),
    "only classes have a list of their values": lambda c: c.objective == "trace-enum" and c.space != "classes",
    "the KL has no closed form, or the guide does not draw in the model's order": lambda c: (
        c.objective == "analytic-kl" and c.prior != "sphere" and not (c.prior in NORMAL and c.guide in CLOSED_FORM)
    ),
    "the KL is no sum over dimensions": lambda c: (
        c.objective == "free-bits" and not (c.prior in NORMAL and c.guide in BY_DIMENSION)
    ),
}
"""Reasons why a cell makes no sense."""


def excluded(cell: Cell) -> str | None:
    """The first reason that applies."""
    return next((reason for reason, applies in RULES.items() if applies(cell)), None)


def every_cell(names: Sequence[str] = LEVELS[4]) -> list[Cell]:
    """All that make sense."""
    return [cell for levels in product(*LEVELS[:4], names) if excluded(cell := Cell(*levels)) is None]


def full_product() -> list[Cell]:
    """Every prior, likelihood and guide that make sense together; networks and objectives take turns."""
    turns: dict[Cell, list[Cell]] = defaultdict(list)
    for cell in every_cell():
        turns[Cell(*cell[:3])].append(cell)
    return [cells[i % len(cells)] for i, cells in enumerate(turns.values())]


def balanced(cells: Iterable[Cell], group: Callable[[Cell], Any]) -> list[Cell]:
    """One cell of each group: the one whose pairs of levels have come least often so far."""
    groups: dict[Any, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[group(cell)].append(cell)
    count: Counter[Any] = Counter()
    chosen = []
    for each in groups.values():
        chosen.append(max(each, key=lambda cell: sum(0.5 ** count[pair] for pair in pairs_of(cell))))
        count.update(pairs_of(chosen[-1]))
    return chosen


def pairs_of(cell: Cell) -> Iterable[tuple[tuple[int, str], ...]]:
    """Every two levels of a cell, each with the number of its factor."""
    return combinations(enumerate(cell), 2)


def covering(cells: Iterable[Cell]) -> list[Cell]:
    """Some of the cells, which hold every pair of levels that the cells hold.

    Greedy: of the pairs not held so far the one that fewest cells hold, and of these cells the one with the most
    pairs not held so far; in case of a tie, the first.
    """
    holders: dict[Any, list[Cell]] = defaultdict(list)
    for cell in cells:
        for pair in pairs_of(cell):
            holders[pair].append(cell)
    missing = dict.fromkeys(sorted(holders, key=lambda pair: len(holders[pair])))
    chosen = []
    while missing:
        rarest = next(iter(missing))
        best = max(holders[rarest], key=lambda cell: sum(pair in missing for pair in pairs_of(cell)))
        chosen.append(best)
        for pair in pairs_of(best):
            missing.pop(pair, None)
    return chosen
