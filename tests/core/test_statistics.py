"""A number with its standard error: printed to the digits that it has, and null in JSON where it is undefined."""

import dataclasses
import json
import math

import pytest

from ppl_vae.core.files import to_json
from ppl_vae.core.statistics import Estimate


@pytest.mark.parametrize(
    ("value", "se", "shown"),
    [
        (-101.3243, 0.41, "-101.32 ± 0.41"),
        (-101.3243, 0.0041, "-101.3243 ± 0.0041"),
        (1234.6, 56.0, "1235 ± 56"),
        (2.0, 0.0, "2.00 ± 0.00"),
        (2.0, math.nan, "2.00"),
        (math.nan, math.nan, "nan"),
    ],
)
def test_it_prints_the_digits_that_it_has(value: float, se: float, shown: str) -> None:
    assert str(Estimate(value, se)) == shown


def test_undefined_is_null_in_json() -> None:
    found = json.loads(to_json({"elbo": Estimate(1.5, math.nan, "seeds").asdict()}))
    assert found == {"elbo": {"value": 1.5, "se": None, "over": "seeds"}}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Estimate(1.0).value = 2.0  # type: ignore[misc]
