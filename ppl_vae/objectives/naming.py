"""An objective by what a user calls it: a name with settings, a class in a file, a class or an instance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppl_vae.core.errors import InputError
from ppl_vae.objectives import OBJECTIVES
from ppl_vae.objectives.base import Objective
from ppl_vae.programs.find import Finder, Source
from ppl_vae.programs.resolution import check_settings, parse_settings


@dataclass(frozen=True)
class Named:
    """The objective that a user has named.

    Args:
        kind: its class.
        settings: what the name itself sets, such as K in `iwae:K=5`.
        instance: the objective itself, if an instance was given.
        source: where the class comes from, if it is the user's own.
    """

    kind: type[Objective]
    settings: Mapping[str, Any] = field(default_factory=dict)
    instance: Objective | None = None
    source: Source | None = None

    def make(self, settings: Mapping[str, Any]) -> Objective:
        """The objective, with these settings and those of its name.

        Raises:
            InputError: the objective does not have a setting, or a setting is given twice.
        """
        if self.instance is not None:
            if settings:
                raise InputError(
                    f"the objective is an instance, which already has its settings: leave objective.{min(settings)} out"
                )
            return self.instance
        if twice := settings.keys() & self.settings.keys():
            raise InputError(
                f"the objective's name sets {min(twice)}, and so does objective.{min(twice)}: leave one of them out"
            )
        everything = {**settings, **self.settings}
        check_settings(everything, self.kind, "objective")
        return self.kind(**everything)


def named(spec: Any) -> Named:
    """The objective that `spec` names: `trace`, `iwae:K=5`, `file.py:Class`, `pkg.mod:Class`, a class or an instance.

    Raises:
        InputError: there is no such name, file or class, or it is no objective.
    """
    if isinstance(spec, type):
        if not issubclass(spec, Objective):
            raise InputError(f"{spec.__name__} is no objective: derive it from ppl_vae.objectives.Objective")
        return Named(spec, source=Source(spec.__qualname__))
    if isinstance(spec, Objective):
        return Named(type(spec), instance=spec, source=Source(type(spec).__qualname__))
    if not isinstance(spec, str | Path):
        raise InputError(f"{spec!r} is no objective: give a name, file.py:Class, or a subclass of Objective")
    if is_own(str(spec)):
        found, source = Finder().find(spec, [])
        if not (isinstance(found, type) and issubclass(found, Objective)):
            raise InputError(f"{spec} is no objective: derive the class from ppl_vae.objectives.Objective")
        return Named(found, source=source)
    name, _, listed = str(spec).partition(":")
    kind = OBJECTIVES[name]
    pairs = [pair for pair in listed.split(",") if pair]
    settings = {"num_particles" if key == "K" else key: value for key, value in parse_settings(tuple(pairs)).items()}
    if len(settings) < len(pairs):
        raise InputError(f"{spec}: a setting is given twice: leave one of them out")
    check_settings(settings, kind, name)
    return Named(kind, settings)


def is_own(spec: str) -> bool:
    """Is it the place of a class, such as `file.py:Class` or `pkg.mod:Class`, and not the name of an objective?"""
    place, _, attribute = spec.rpartition(":")
    return spec.endswith(".py") or place.endswith(".py") or ("." in place and "=" not in attribute)
