"""Which estimators to compare: objectives by name, for several numbers of samples, and the references of a target."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from ppl_vae import objectives
from ppl_vae.core.errors import InputError
from ppl_vae.objectives import OBJECTIVES, Objective
from ppl_vae.programs.resolution import check_settings


def named(
    specs: Sequence[str], num_samples: Sequence[int] = (), common: Mapping[str, Any] | None = None
) -> dict[str, Objective]:
    """The objectives that a user names: `trace`, `iwae:K=5`, `renyi:alpha=0.5`, `score-function:baseline=False`.

    Args:
        num_samples: the values of K for every name that does not set K. If there are several, K is added to the name.
        common: settings for every objective that has them. Settings in a name are preferred to these.

    Raises:
        InputError: there is no such objective or setting, or a name is given twice.
    """
    made: dict[str, Objective] = {}
    for spec in specs:
        found = objectives.named(spec)
        objective, own = found.kind, found.settings
        crossed = "num_particles" in inspect.signature(objective).parameters and "num_particles" not in own
        for K in num_samples if num_samples and crossed else (None,):
            settings = _known(common or {}, objective) | ({} if K is None else {"num_particles": K}) | dict(own)
            label = f"{spec}{',' if own else ':'}K={K}" if K is not None and len(num_samples) > 1 else spec
            if label in made:
                raise InputError(f"{label} is named twice: name each objective to compare once")
            check_settings(settings, objective, spec)
            made[label] = objective(**settings)
    if not made:
        raise InputError("name each objective to compare once, such as trace and iwae:K=5: none is named")
    return made


def references(objective: Objective) -> list[Objective]:
    """The other estimators of the same target that its bias can be measured against, the preferred one first."""
    known = sorted((kind.reference, kind.name) for kind in OBJECTIVES.values() if kind.reference is not None)
    others = [OBJECTIVES[name](objective.num_particles) for _, name in known]
    return [other for other in others if other.target == objective.target and type(other) is not type(objective)]


def _known(settings: Mapping[str, Any], objective: type[Objective]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key in inspect.signature(objective).parameters}
