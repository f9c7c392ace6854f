"""`--sweep latent_dim=2,5,10`: the settings that a sweep is over, each with a name and a folder."""

import ast
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ppl_vae.core.errors import InputError
from ppl_vae.core.settings import parse_settings

Swept: TypeAlias = Mapping[str, Sequence[Any]] | Sequence[str] | str


@dataclass(frozen=True)
class Setting:
    """One combination of the values of a sweep; none at all where only seeds differ."""

    values: Mapping[str, Any]

    @property
    def shown(self) -> dict[str, str]:
        """Each value as text."""
        return {name: shown(value) for name, value in self.values.items()}

    @property
    def label(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.shown.items()) or "as asked"

    @property
    def folder(self) -> str:
        """Its name as a folder; empty where only seeds differ."""
        return re.sub(r"[^\w.=,+-]", "-", ",".join(f"{name}={value}" for name, value in self.shown.items()))


def shown(value: Any) -> str:
    """A value as a person reads it: text as it is, a class by its name."""
    return value if isinstance(value, str) else getattr(value, "__qualname__", repr(value))


def grid(swept: Swept) -> list[Setting]:
    """Every combination of the values, the last name's fastest.

    Args:
        swept: `{"latent_dim": [2, 5, 10]}`, or texts such as `latent_dim=2,5,10`, whose values are Python literals or
            else text.

    Raises:
        InputError: a name that is said twice, no value, or a value that is said twice.
    """
    values = (
        _from_mapping(swept) if isinstance(swept, Mapping) else _from_text([swept] if isinstance(swept, str) else swept)
    )
    for name, each in values.items():
        if not each:
            raise InputError(f"the sweep over {name} has no value: write it as {name}=2,5,10")
        texts = [shown(value) for value in each]
        if twice := [text for i, text in enumerate(texts) if text in texts[:i]]:
            raise InputError(f"the sweep over {name} has {twice[0]} twice: leave one out")
    settings = [Setting(dict(zip(values, each, strict=True))) for each in itertools.product(*values.values())]
    folders = [setting.folder for setting in settings]
    if same := [setting.label for i, setting in enumerate(settings) if setting.folder in folders[:i]]:
        raise InputError(f"two settings of the sweep would have one folder: {same[0]} is the second")
    return settings


def _from_mapping(swept: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    for name, each in swept.items():
        if isinstance(each, str) or not isinstance(each, Sequence):
            raise InputError(f"sweep[{name!r}] is {each!r}: give a list of values")
    return {name: list(each) for name, each in swept.items()}


def _from_text(pairs: Iterable[str]) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise InputError(f"--sweep {pair}: write it as name=value,value, for example latent_dim=2,5,10")
        if name in values:
            raise InputError(f"--sweep has {name} twice: give all its values in one")
        values[name] = _listed(name, text)
    return values


def _listed(name: str, text: str) -> list[Any]:
    """`2,5,10` as numbers, `mixture,vamp` as texts, `[1,2],[3]` as two lists."""
    try:
        return list(ast.literal_eval(f"({text},)"))
    except (ValueError, SyntaxError):
        return [parse_settings(f"{name}={part}")[name] for part in text.split(",") if part]
