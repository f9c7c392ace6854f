"""A number with its standard error, printed to the digits that it has."""

import math

import pytest

from ppl_vae.core.statistics import Estimate


@pytest.mark.parametrize(
    ("value", "se", "shown"),
    [
        (-101.3243, 0.41, "-101.32 ± 0.41"),
        (-101.3243, 0.0041, "-101.3243 ± 0.0041"),
        (1234.6, 56.0, "1235 ± 56"),
        (2.0, 0.0, "2.00 ± 0.00"),
        (-0.0001, 0.04, "0.000 ± 0.040"),
        (-0.0, math.nan, "0.00"),
        (2.0, math.nan, "2.00"),
        (math.nan, math.nan, "nan"),
    ],
)
def test_it_prints_the_digits_that_it_has(value: float, se: float, shown: str) -> None:
    assert str(Estimate(value, se, "data")) == shown
