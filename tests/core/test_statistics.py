"""A number with its standard error, printed to the digits that it has."""

import math

import pytest

from ppl_vae.core.statistics import Estimate, digits


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
        (math.nan, math.nan, "–"),
    ],
)
def test_it_prints_the_digits_that_it_has(value: float, se: float, shown: str) -> None:
    assert str(Estimate(value, se, "data")) == shown
    assert f"{Estimate(value, se, 'data')}" == shown


def test_the_mean_of_independent_numbers() -> None:
    assert Estimate.of([1.0, 2.0, 6.0], "seeds") == Estimate(3.0, pytest.approx(7**0.5 / 3**0.5), "seeds")  # type: ignore[arg-type]
    assert str(Estimate.of([2.0], "seeds")) == "2.00"
    assert str(Estimate.of([], "seeds")) == "–"


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((-114.398, 1.27, 0.0049), ("-114.4", "1.3", "0.0049")),
        ((6.268, 0.094, 0.005), ("6.268", "0.094", "0.0050")),
        ((6.268, math.nan, 0.05), ("6.268", "–", "0.050")),
        ((6.268, math.nan), ("6.27", "–")),
        ((math.nan, math.nan), ("–", "–")),
        ((-0.001, 0.4), ("0.00", "0.40")),
        ((123456.7, 1234.5), ("123457", "1234")),
        ((2.0, 0.0), ("2.00", "0.00")),
        ((2.0, math.inf), ("2.00", "inf")),
        ((1.5,), ("1.50",)),
    ],
)
def test_a_number_ends_where_its_largest_error_does(numbers: tuple[float, ...], shown: tuple[str, ...]) -> None:
    assert digits(*numbers) == shown
