"""The matrix: which priors, likelihoods, guides, networks and objectives go together, and some cells that cover it."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations, product
from typing import Any, NamedTuple

from support.palette import CLASSES, HIDDEN, HIERARCHIES, TwoLevels
from support.priors import Z
from support.small import KINDS, part_of, rows, settings
from torch import Tensor

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
        return "real" if self.guide in HIERARCHIES else space_of(PARTS["family"][part_of(self.guide)])

    @property
    def borrows(self) -> bool:
        """Is the prior made of the guide's own posteriors?"""
        return needs("prior", part_of(self.prior), "guide")

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

RULES: dict[str, Callable[[Cell], bool]] = {
    "a hierarchy's guide has no q(z2|x) of which a VampPrior could be the mixture": lambda c: (
        c.borrows and c.guide in HIERARCHIES
    ),
    "the prior's z and the guide's are not of one space": lambda c: (
        not c.borrows and space_of(PARTS["prior"][part_of(c.prior)]) != c.space
    ),
    "a row of a table is no image": lambda c: c.likelihood == "table" and c.network == "convolutional",
    "a class is not drawn by reparameterization, along which this objective differentiates": lambda c: (
        c.objective != "trace" and c.space == "classes"
    ),
    "the KL has no closed form, or the guide does not draw in the model's order": lambda c: (
        c.objective == "analytic-kl" and c.prior != "sphere" and not (c.prior in NORMAL and c.guide in CLOSED_FORM)
    ),
}
"""Reasons why a cell makes no sense."""


def excluded(cell: Cell) -> str | None:
    """The first reason that applies."""
    return next((reason for reason, applies in RULES.items() if applies(cell)), None)


def every_cell() -> list[Cell]:
    """All that make sense."""
    return [cell for levels in product(*LEVELS) if excluded(cell := Cell(*levels)) is None]


def full_product() -> list[Cell]:
    """Every prior, likelihood and guide that make sense together; networks and objectives take turns."""
    turns: dict[Cell, list[Cell]] = defaultdict(list)
    for cell in every_cell():
        turns[Cell(*cell[:3])].append(cell)
    return [cells[i % len(cells)] for i, cells in enumerate(turns.values())]


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
