"""Which estimator to use: a sentence derived from the numbers of a comparison."""

import math
from collections.abc import Iterable, Mapping

from ppl_vae.diagnostics.results import ROUNDING, Estimator

BIASED = 4.0  # standard errors
LEAST_DRAWS = 20
FALSE_ALARMS = 1e-3  # chance that any sound estimator of a comparison is said to have a biased gradient
TIE = 1.1  # a ratio of two efficiencies that timing alone can make

Estimators = Mapping[str, Estimator]


def plain(x: float) -> str:
    """Two digits at least, in decimal notation."""
    return f"{x:z.0f}" if x >= 10 else f"{x:.2g}"


def advice(estimators: Estimators, draws: int) -> str:
    """For each target the estimator of the largest efficiency of those whose value and gradient show no bias.

    The efficiency is 1/(variance of the guide's gradient · seconds per step), or the model's where the guide has none.
    Two are told apart if their ratio exceeds what timing makes and twice the standard error of the variances. Targets
    are not ranked, and fewer than 20 draws rank nothing.
    """
    if draws < LEAST_DRAWS:
        return f"none from {draws} draws: take {LEAST_DRAWS} or more"
    targets: dict[str, list[str]] = {}
    for name, e in estimators.items():
        targets.setdefault(e.target, []).append(name)
    return "; ".join(
        f"{target}: {_best({name: estimators[name] for name in names}, FALSE_ALARMS / len(estimators))}"
        for target, names in targets.items()
    )


def _best(rivals: Estimators, level: float) -> str:
    biased = {name: why for name, e in rivals.items() if (why := _bias(e, level))}
    sound = {name: e for name, e in rivals.items() if name not in biased}
    said = _of_sound(sound) if sound else "none"
    return said + "".join(f", {why.format(name)}" for name, why in biased.items())


def _bias(e: Estimator, level: float) -> str:
    """What is biased of an estimator, against its reference; nothing if neither value nor gradient shows it."""
    value = None if e.bias is None else e.bias.difference
    if value is not None and abs(value.value) > BIASED * value.se + ROUNDING * abs(e.value.value):
        z = "without noise" if math.isnan(value.z) else f"z = {value.z:z.1f}"
        return f"the value of {{}} is biased ({z})"
    if e.gradient_bias is not None and e.gradient_bias.p < level:
        t = e.gradient_bias.t
        group = max(t, key=t.__getitem__)
        return f"the {group}'s gradient of {{}} is biased (|t| = {t[group]:z.1f})"
    return ""


def group_of(estimators: Iterable[Estimator]) -> str:
    """Whose gradient counts: the guide's, or the model's where the guide has none."""
    return "guide" if any(e.gradient_variance["guide"].value > 0 for e in estimators) else "model"


def _of_sound(sound: Estimators) -> str:
    group = group_of(sound.values())
    silent = [name for name, e in sound.items() if e.exact(group)]
    if silent:
        return f"{silent[0]}, whose gradient of the {group} has no noise"
    ranked = sorted(sound, key=lambda name: -sound[name].efficiency[group])
    if len(ranked) == 1:
        return f"{ranked[0]} is alone"
    best = sound[ranked[0]]
    level = [name for name in ranked if name == ranked[0] or _level(best, sound[name], group)]
    if len(level) > 1:
        return f"{' or '.join(level)}, which noise and timing do not tell apart"
    ratio = best.efficiency[group] / sound[ranked[1]].efficiency[group]
    return f"{ranked[0]}, {plain(ratio)} times as efficient as {ranked[1]} for the {group}'s gradient"


def _level(a: Estimator, b: Estimator, group: str) -> bool:
    relative = (e.gradient_variance[group].se / e.gradient_variance[group].value for e in (a, b))
    return a.efficiency[group] < TIE * math.exp(2 * math.hypot(*relative)) * b.efficiency[group]
