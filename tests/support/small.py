"""The settings at which tests build parts: small. What is not here is built as it is by default.

`"flow, autoregressive"` is the part `flow` with other settings; each such name is one more row of every test.
"""

from importlib.util import find_spec
from typing import Any

from ppl_vae.blocks.parts import Choice, build
from ppl_vae.core.palette import PARTS

KINDS = "count,real,categorical:3,positive,binary,real,ordinal:4,count,binary"
SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "prior": {
        "mixture": {"components": 4},
        "vamp": {"components": 5},
        "gtm": {"grid": 3, "hidden": 8},
        "gtm_vamp": {"grid": 3, "hidden": 8},
        "flow": {"kind": "coupling", "layers": 3, "hidden": 16},
        "flow, autoregressive": {"kind": "autoregressive", "layers": 2, "hidden": 16},
        "zuko": {"flow": "NSF", "transforms": 2, "hidden_features": (16,)},
    },
    "likelihood": {
        "categorical": {"levels": 4},
        "ordinal": {"levels": 4},
        "ordinal, of two": {"levels": 2},
        "gaussian": {"scale": "datum"},
        "gaussian, fixed": {"scale": 0.5},
        "gaussian, shared": {"scale": "shared"},
        "gaussian, dimension": {"scale": "dimension"},
        "laplace": {"scale": "datum"},
        "student_t": {"scale": "datum"},
        "log_normal": {"scale": "datum"},
        "discretized_logistic, integers": {"scale": "datum", "levels": 16, "high": 15},
        "discretized_logistic_mixture": {"components": 3},
        "binomial": {"total": 7},
        "shaped, whole": {"whole": True},
        "table": {"kinds": KINDS},
    },
    "family": {
        "low_rank_normal": {"rank": 2},
        "householder_normal": {"reflections": 3},
        "mixture_normal": {"components": 3},
        "delta_normal": {"rate": 0.3},
        "iaf": {"steps": 2, "hidden": 8, "context": 2},
    },
    "network": {"residual": {"blocks": 1}, "convolutional": {"channels": 12}},
}


def part_of(name: str) -> str:
    """`flow` of `flow, autoregressive`."""
    return name.partition(",")[0]


def rows(kind: str) -> list[str]:
    """Every part of a kind, and its variants."""
    missing = () if find_spec("zuko") else ("zuko",)
    return [name for name in dict.fromkeys([*PARTS[kind], *SMALL[kind]]) if name not in missing]


def settings(kind: str, name: str) -> dict[str, Any]:
    """What `--set` says to choose it."""
    return {kind: part_of(name), **{f"{kind}.{n}": value for n, value in SMALL[kind].get(name, {}).items()}}


def built(kind: str, name: str, **given: Any) -> Any:
    """The part itself."""
    return build(kind, Choice(part_of(name), SMALL[kind].get(name, {})), given)
