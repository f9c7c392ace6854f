"""Which constructor a setting is for: a program's, or that of a part which the program is put together from.

latent_dim=16            for every program whose constructor has it
model.latent_dim=16      for the model's
prior=mixture            the part that a program's argument `prior: Part` chooses, see `blocks.parts`
prior.components=20      for the part that is chosen
components=20            the same, where the program itself has no such setting
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import Parameter
from typing import Any

from ppl_vae.blocks.parts import Choice, Part, elsewhere, kind_of, maker, needs, settable
from ppl_vae.core.errors import InputError, at_least
from ppl_vae.core.palette import PARTS, Shorthand
from ppl_vae.core.registry import did_you_mean
from ppl_vae.core.settings import arguments_of, check_settings, hints_of, unknown
from ppl_vae.programs.find import Method

RESERVED = ("data_shape", "data", "example", "model", "guide")


def constructor(target: Any) -> Any:
    """The class whose constructor makes a program, or the program itself."""
    return target.owner if isinstance(target, Method) else target


def constructor_arguments(target: Any) -> dict[str, Parameter]:
    """What the constructor takes by name; nothing where there is none."""
    owner = constructor(target)
    return arguments_of(owner) if isinstance(owner, type) else {}


@dataclass
class Taker:
    """A program that takes settings.

    Args:
        called: `model` or `guide`, the prefix of its settings.
        own: those of its constructor, parts among them.
        nested: those of each part.
    """

    called: str
    target: Any
    shorthand: Shorthand | None = None
    own: dict[str, Any] = field(default_factory=dict)
    nested: dict[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        return constructor_arguments(self.target)

    @cached_property
    def parts(self) -> list[str]:
        """The arguments that are parts."""
        hints = hints_of(constructor(self.target)) if self.parameters else {}
        found = [name for name in self.parameters if hints.get(name) in (Part, Part | None)]
        if strange := [name for name in found if kind_of(name) not in PARTS]:
            kinds = " or ".join(PARTS)
            raise InputError(f"the {self.called}'s argument {strange[0]!r} is a Part: let its name end with {kinds}")
        return found

    @property
    def in_effect(self) -> Shorthand | None:
        """The shorthand with those of its settings alone that have stayed as it sets them."""
        if self.shorthand is None:
            return None

        def now(name: str) -> Any:
            part, dot, setting = name.rpartition(".")
            return self.nested.get(part, {}).get(setting) if dot else self.own.get(name)

        return replace(self.shorthand, settings={k: x for k, x in self.shorthand.settings.items() if now(k) == x})

    def part(self, name: str) -> Any:
        """What an argument chooses."""
        return self.own.get(name, self.parameters[name].default)

    @property
    def settable(self) -> list[str]:
        """The names of its settings and of its parts' settings."""
        own = [name for name in self.parameters if name not in RESERVED]
        nested = {part: settable(kind_of(part), self.part(part)) for part in self.parts}
        return own + [f"{part}.{name}" for part, names in nested.items() for name in names]

    def take(self, name: str, value: Any) -> bool:
        """Take a setting without the prefix of the program, if it has it."""
        name = self.shorthand.renamed.get(name, name) if self.shorthand else name
        part, dot, setting = name.rpartition(".")
        if dot and part in self.parts:
            self.nested.setdefault(part, {})[setting] = value
        elif name in self.parameters and name not in RESERVED:
            if name in self.parts and value != self.part(name):
                self.nested.pop(name, None)  # they were settings of another part
            self.own[name] = value
        else:
            holders = [part for part in self.parts if name in settable(kind_of(part), self.part(part))]
            for part in holders:
                self.nested.setdefault(part, {})[name] = value
            return bool(holders)
        return True

    def borrows(self, partner: str) -> bool:
        """Does it ask for its partner? Where it may do without, a part that is chosen has to ask for it."""
        if partner not in self.parameters:
            return False
        if self.parameters[partner].default is Parameter.empty or not self.parts:
            return True
        return any(needs(kind_of(name), self.part(name), partner) for name in self.parts)

    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor, checked.

        Raises:
            InputError: a value that is not of its type, or no part has the name that is given.
        """
        plain = {name: value for name, value in self.own.items() if name not in self.parts}
        check_settings(plain, constructor(self.target), self.called, RESERVED)
        if type(plain.get("latent_dim")) is int:
            at_least(1, self.called, latent_dim=plain["latent_dim"])
        for name in self.parts:
            if self.part(name) is not None:  # a program may choose by itself
                maker(kind_of(name), self.part(name))
        return self.own | {name: _with(self.part(name), settings) for name, settings in self.nested.items()}


def _with(part: Part, settings: Mapping[str, Any]) -> Choice:
    return (part if isinstance(part, Choice) else Choice(part)).having(settings)


def share(settings: Mapping[str, Any], takers: Sequence[Taker], others: Sequence[str] = ()) -> None:
    """Give each setting to the programs that have it. A prefixed one has the last word, a shorthand's the first.

    Args:
        others: settings of what is no program, which an error may suggest.

    Raises:
        InputError: no program has a setting of that name.
    """
    for taker in takers:
        for name, value in taker.shorthand.settings.items() if taker.shorthand else ():
            taker.take(name, value)
    named = {taker.called: [taker] for taker in takers}
    asked = []
    for name, value in settings.items():
        prefix, _, rest = name.partition(".")
        short, prefixed = (rest, True) if prefix in named and rest else (name, False)
        those = named[prefix] if prefixed else takers
        chooses = any(short in taker.parts for taker in those)
        asked.append((not chooses, prefixed, short.count("."), name, short, value, those))
    for *_, name, short, value, those in sorted(asked, key=lambda item: item[:3]):  # parts are chosen first
        taken = [taker.take(short, value) for taker in those]
        if not any(taken):
            raise InputError(_nobody_has(name, short, those, others))


def _nobody_has(name: str, short: str, takers: Sequence[Taker], others: Sequence[str]) -> str:
    if len(takers) == 1:
        return unknown(takers[0].called, short, takers[0].settable)
    have = [f"{taker.called}.{setting}" for taker in takers for setting in taker.settable]
    bare = name.rpartition(".")[2]
    close = [other for other in others if other.rpartition(".")[2] == bare][:1]
    hint = f"; did you mean {close[0]}?" if close else did_you_mean(bare, [h.rpartition(".")[2] for h in have], "{}")
    kinds = dict.fromkeys(kind_of(part) for taker in takers for part in taker.parts)
    hint = hint or "".join(elsewhere(kind, name) for kind in kinds)
    return f"no program has a setting {name!r}: there are {', '.join(have) or 'none'}{hint}"
