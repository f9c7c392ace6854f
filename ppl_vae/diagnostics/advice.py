"""Which estimator to use: a sentence derived from the numbers of a comparison."""

from collections.abc import Mapping
from typing import Any

BIASED = 4.0  # standard errors
TIE = 1.1  # a ratio of efficiencies below this is no difference


def advice(estimators: Mapping[str, Mapping[str, Any]]) -> str:
    """For each target the estimator of the largest efficiency of those without visible bias; targets are not ranked.

    The efficiency is 1/(variance of the guide's gradient · seconds per step), or the model's where the guide has none.
    """
    targets: dict[str, list[str]] = {}
    for name, e in estimators.items():
        targets.setdefault(e["target"], []).append(name)
    return "; ".join(
        f"{target}: {_best({name: estimators[name] for name in names})}" for target, names in targets.items()
    )


def _best(rivals: Mapping[str, Mapping[str, Any]]) -> str:
    biased = [name for name, e in rivals.items() if e["bias"]["z"] is not None and abs(e["bias"]["z"]) > BIASED]
    sound = {name: e for name, e in rivals.items() if name not in biased}
    said = _of_sound(sound) if sound else "none"
    return said + "".join(f", {name} is biased (z = {rivals[name]['bias']['z']:.1f})" for name in biased)


def _of_sound(sound: Mapping[str, Mapping[str, Any]]) -> str:
    group = "guide" if any(e["gradient_variance"]["guide"] > 0 for e in sound.values()) else "model"
    silent = [name for name, e in sound.items() if e["efficiency"][group] is None]
    if silent:
        return f"{silent[0]}, whose gradient of the {group} has no noise"
    ranked = sorted(sound, key=lambda name: -sound[name]["efficiency"][group])
    if len(ranked) == 1:
        return f"{ranked[0]} is alone"
    best, second = (sound[name]["efficiency"][group] for name in ranked[:2])
    if best < TIE * second:
        return f"{ranked[0]} or {ranked[1]}, within {best / second - 1:.0%} of each other"
    return f"{ranked[0]}, {best / second:.2g} times as efficient as {ranked[1]} for the {group}'s gradient"
