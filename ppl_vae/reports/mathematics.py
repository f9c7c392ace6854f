"""The factors of a program as MathML, which a browser sets and a screen reader speaks."""

import re
from collections.abc import Iterable, Sequence
from math import prod

from markupsafe import Markup, escape

from ppl_vae.programs.notation import Factor, Parameter

SYMBOLS = {
    "loc": "μ",
    "scale": "σ",
    "rate": "λ",
    "probs": "π",
    "scale_tril": "L",
    "covariance_matrix": "Σ",
    "precision_matrix": "Λ",
}
KINDS = {
    "Normal": "𝒩",
    "MultivariateNormal": "𝒩",
    "SphericalUniform": "Uniform",
    "FlowDistribution": "Flow",
    "Cells": "Table",
}


def factors(found: Iterable[Factor], letter: str) -> Markup:
    """One displayed formula for each factor.

    Args:
        letter: p for a model, q for a guide.
    """
    return Markup("\n").join(_display(factor, letter) for factor in found)


def said(found: Factor, letter: str) -> str:
    """The left-hand side as text: `q(z|x)`."""
    return f"{letter}({found.site}{'|' if found.given else ''}{', '.join(found.given)})"


def _display(factor: Factor, letter: str) -> Markup:
    left = _call(_i(letter), _name(factor.site), *([_o("|"), *_listed(factor.given)] if factor.given else []))
    return Markup('<math display="block">{}</math>').format(_row(left, _o("="), _density(factor)))


def _density(factor: Factor) -> Markup:
    """The right-hand side."""
    parts, mixture = [], factor.components > 1
    if mixture:
        index = _row(_i("c"), _o("="), _n(1))
        parts += [_tag("munderover", _o("∑"), index, _n(factor.components)), _sub(_i("π"), _i("c"))]
    if factor.kind == "Normal":
        return _row(*parts, _normal(factor, mixture))
    if factor.kind == "MultivariateNormal":
        loc, spread = (_parameter(p, factor, mixture) for p in factor.parameters[:2])
        if factor.parameters[1].name == "scale_tril":
            spread = _row(spread, _tag("msup", spread, _o("⊤")))
        elif factor.parameters[1].name == "precision_matrix":
            spread = _tag("msup", spread, _row(_o("−"), _n(1)))
        return _row(*parts, _family(factor, [loc, spread]))
    inside = factor.independent and prod(factor.shape) > 1
    if inside:
        parts.append(_tag("munderover", _o("∏"), _row(_i("d"), _o("="), _n(1)), _n(prod(factor.shape))))
    told = [_told(p, factor, mixture, inside) for p in factor.parameters]
    if not told and factor.given:
        told = [_call(_i("f"), *_listed(factor.given))]
    return _row(*parts, _family(factor, told, inside))


def _normal(factor: Factor, mixture: bool) -> Markup:
    """𝒩(z; μ, diag σ²), or 𝒩(z; 0, I)."""
    loc, scale = factor.parameters
    many = prod(factor.shape) > 1
    one = _i("I") if many else _n(1)
    mean = _n(loc.value) if loc.value is not None else _parameter(loc, factor, mixture)
    if scale.value == 1:
        spread = one
    elif scale.value is not None:
        spread = _row(_tag("msup", _n(scale.value), _n(2)), *([one] if many else []))
    else:
        squared = _parameter(scale, factor, mixture, squared=True)
        spread = _call(_word("diag"), squared) if many else squared
    return _family(factor, [mean, spread])


def _family(factor: Factor, told: Sequence[Markup], inside: bool = False) -> Markup:
    value = _sub(_name(factor.site), _i("d")) if inside else _name(factor.site)
    between = [part for each in told for part in (_o(","), each)][1:]
    return _call(_word(KINDS.get(factor.kind, _spaced(factor.kind))), value, *([_o(";"), *between] if told else []))


def _told(parameter: Parameter, factor: Factor, mixture: bool, inside: bool) -> Markup:
    """A parameter by its name, `logits = f(z)`, unless its symbol says it."""
    if parameter.value is not None:
        return _row(_word(parameter.name), _o("="), _n(parameter.value))
    found = _parameter(parameter, factor, mixture, inside=inside)
    if parameter.name == "logits":
        return _call(_word("softmax" if "Categorical" in factor.kind else "sigmoid"), found)
    return found if parameter.name in SYMBOLS else _row(_word(parameter.name), _o("="), found)


def _parameter(
    parameter: Parameter, factor: Factor, mixture: bool, squared: bool = False, inside: bool = False
) -> Markup:
    """Its symbol, as a function of what the factor is given if it is one."""
    symbol = _i(SYMBOLS.get(parameter.name, "f" if parameter.of_given else "θ"))
    below = [_i(letter) for letter, there in (("c", mixture), ("d", inside)) if there]
    if below and squared:
        symbol = _tag("msubsup", symbol, _row(*below), _n(2))
    elif below:
        symbol = _sub(symbol, _row(*below))
    elif squared:
        symbol = _tag("msup", symbol, _n(2))
    return _call(symbol, *_listed(factor.given)) if parameter.of_given else symbol


def _listed(names: Sequence[str]) -> list[Markup]:
    return [part for name in names for part in (_o(","), _name(name))][1:]


def _spaced(kind: str) -> str:
    """`NegativeBinomial` as two words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind)


# ---- MathML


def _name(site: str) -> Markup:
    """`z` as a letter, and `z1` with an index."""
    found = re.fullmatch(r"([A-Za-z]+)_?(\d+)", site)
    return _sub(_i(found[1]), _n(int(found[2]))) if found else _i(site)


def _call(function: Markup, *inside: Markup) -> Markup:
    return _row(function, Markup("<mo>&#x2061;</mo>"), _row(_o("("), *inside, _o(")")))


def _tag(name: str, *inside: Markup) -> Markup:
    return Markup("<{0}>{1}</{0}>").format(Markup(name), Markup("").join(inside))


def _row(*inside: Markup) -> Markup:
    return _tag("mrow", *inside)


def _sub(base: Markup, below: Markup) -> Markup:
    return _tag("msub", base, below)


def _i(text: str) -> Markup:
    return _tag("mi", escape(text))


def _word(text: str) -> Markup:
    return Markup('<mi mathvariant="normal">{}</mi>').format(text)


def _n(number: float) -> Markup:
    return _tag("mn", escape(f"{number:z.4g}".replace("-", "−")))


def _o(text: str) -> Markup:
    return _tag("mo", escape(text))
