"""Estimators of bounds on log p(x), one a file. `objectives.get(name)` finds one by its command-line name."""

from pathlib import Path

from ppl_vae.objectives.analytic_kl import AnalyticKL_ELBO
from ppl_vae.objectives.base import Objective, Pass
from ppl_vae.objectives.beta import Beta_ELBO
from ppl_vae.objectives.dreg import DReG_ELBO
from ppl_vae.objectives.free_bits import FreeBits_ELBO
from ppl_vae.objectives.iwae import IWAE_ELBO
from ppl_vae.objectives.mean_field import MeanField_ELBO
from ppl_vae.objectives.naming import Named, find_objective
from ppl_vae.objectives.renyi import Renyi_ELBO
from ppl_vae.objectives.score_function import ScoreFunction_ELBO
from ppl_vae.objectives.sticking_the_landing import StickingTheLanding_ELBO
from ppl_vae.objectives.trace import Trace_ELBO
from ppl_vae.objectives.trace_enum import TraceEnum_ELBO

OBJECTIVES: dict[str, type[Objective]] = {
    objective.name: objective
    for objective in (
        Trace_ELBO,
        AnalyticKL_ELBO,
        MeanField_ELBO,
        ScoreFunction_ELBO,
        StickingTheLanding_ELBO,
        IWAE_ELBO,
        DReG_ELBO,
        Renyi_ELBO,
        Beta_ELBO,
        FreeBits_ELBO,
        TraceEnum_ELBO,
    )
}


def get(name: str) -> type[Objective]:
    """The objective of that name.

    Raises:
        InputError: there is none.
    """
    return named(name).kind


def named(spec: str | Path | type[Objective] | Objective) -> Named:
    """The objective that a user names; see `find_objective`."""
    return find_objective(spec, OBJECTIVES)


__all__ = [
    "IWAE_ELBO",
    "OBJECTIVES",
    "AnalyticKL_ELBO",
    "Beta_ELBO",
    "DReG_ELBO",
    "FreeBits_ELBO",
    "MeanField_ELBO",
    "Named",
    "Objective",
    "Pass",
    "Renyi_ELBO",
    "ScoreFunction_ELBO",
    "StickingTheLanding_ELBO",
    "TraceEnum_ELBO",
    "Trace_ELBO",
    "get",
    "named",
]
