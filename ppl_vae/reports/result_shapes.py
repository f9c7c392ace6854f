"""The shapes of `evaluate.json` and `compare.json`, as far as a page shows them."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, get_args, get_type_hints, is_typeddict

from ppl_vae.core.shape import check_shape
from ppl_vae.evidence.log_px import Method

Number = float | None


class Active(TypedDict):
    active: int
    of: int


class Quantity(TypedDict):
    p_holm: Number
    looks: str


class Calibrated(TypedDict):
    simulations: int
    draws: int
    quantities: dict[str, Quantity]


class Evaluated(TypedDict):
    """`evaluate.json`."""

    data: str
    split: str
    step: int
    rows: int
    elbo: Number
    elbo_se_data: NotRequired[Number]
    elbo_se_mc: NotRequired[Number]
    log_px: Number
    log_px_se_data: NotRequired[Number]
    log_px_se_mc: NotRequired[Number]
    log_px_is: str
    gap: Number
    gap_se_data: NotRequired[Number]
    gap_se_mc: NotRequired[Number]
    bits_per_dim: Number
    bits_per_dim_se_data: Number
    change_of_variables: str
    methods: dict[Method, int]
    reliable_rows: int
    khat: NotRequired[Number]
    khat_below_half: float
    refused: dict[str, str]
    gap_rows: NotRequired[int]
    approximation_gap: NotRequired[Number]
    approximation_gap_se_data: NotRequired[Number]
    approximation_gap_se_mc: NotRequired[Number]
    amortization_gap: NotRequired[Number]
    amortization_gap_se_data: NotRequired[Number]
    amortization_gap_se_mc: NotRequired[Number]
    dimensions: NotRequired[list[str]]
    rate_by_dimension: NotRequired[list[Number]]
    active_units: NotRequired[dict[str, Active]]
    verdict: NotRequired[str]
    advice: NotRequired[str]
    calibration: NotRequired[Calibrated]
    predictive: NotRequired[dict[str, Any]]


class Estimated(TypedDict):
    target: str
    value: Number
    value_se: Number
    gradient_variance: dict[str, Number]
    seconds_per_step: float


class Compared(TypedDict):
    """`compare.json`, of which the page shows one checkpoint."""

    data: str
    split: str
    step: int
    rows: int
    draws: int
    advice: str
    estimators: dict[str, Estimated]
    left_out: dict[str, str]


SHAPES = {"evaluate": Evaluated, "compare": Compared}


def check_result(verb: str, found: Mapping[str, Any], where: str, do: str) -> None:
    """Check what a page will show of a result; what else stands there is left alone.

    Raises:
        InputError: the file does not hold what the verb writes.
    """
    check_shape(_known(found, SHAPES[verb]), SHAPES[verb], where, do)


def _known(value: Any, shape: Any) -> Any:
    """The value without the keys that its shape does not name."""
    if is_typeddict(shape) and isinstance(value, dict):
        hints = get_type_hints(shape)
        return {name: _known(x, hints[name]) for name, x in value.items() if name in hints}
    inner = [each for each in get_args(shape) if is_typeddict(each)]
    if inner and isinstance(value, dict):
        return {name: _known(x, inner[0]) for name, x in value.items()}
    return value
