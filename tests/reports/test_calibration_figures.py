"""The figure of a calibration: a line leaves its band where its quantity is rejected, and only there."""

import numpy as np
import pytest
import torch
from support import figures as made

from ppl_vae.evidence.calibration import LEVEL, LOG_LIK, Calibration, Quantity
from ppl_vae.evidence.uniform import holm, p_values
from ppl_vae.reports import calibration_figures
from ppl_vae.reports.style import RED

DRAWS, SIMULATIONS, REPEATS = 19, 200, 20_000


def found(ranks: torch.Tensor) -> Calibration:
    p = p_values(ranks, DRAWS, REPEATS)
    corrected = holm(p)
    names = [LOG_LIK, *(f"z[{i}]" for i in range(ranks.shape[1] - 1))]
    each = zip(names, ranks.T, p.tolist(), corrected.tolist(), strict=True)
    return Calibration({name: Quantity(r, a, b, "too low" * (b < LEVEL)) for name, r, a, b in each}, DRAWS, REPEATS)


@pytest.mark.parametrize("quantities", [1, 6, 20])
def test_red_lines_leave_their_bands_and_no_others(quantities: int) -> None:
    ranks = torch.randint(0, DRAWS + 1, (SIMULATIONS, quantities))
    ranks[:, ::3] = ((DRAWS + 1) * torch.rand(SIMULATIONS, len(range(0, quantities, 3))) ** 1.35).long()
    result = found(ranks)
    figure = calibration_figures.calibration(result)
    assert len(figure.axes) == min(quantities, 12)
    for axes in figure.axes:
        (band,), line = axes.collections, axes.lines[-1]
        corners = band.get_paths()[0].vertices
        outside = []
        for x, y in zip(*line.get_data(), strict=True):
            near = corners[np.isclose(corners[:, 0], x, atol=0.5 / (DRAWS + 1) + 1e-9)][:, 1]
            outside.append(not near.min() - 1e-9 <= y <= near.max() + 1e-9)
        name = axes.get_title("left").partition("\n")[0]
        red = line.get_color() == RED
        assert red == (name in result.rejected)
        if not red:
            assert not any(outside)
        elif result.quantities[name].p < 1e-3:
            assert any(outside)
    assert result.rejected
    assert f"{len(result.rejected)} of {quantities}" in figure.get_suptitle()


@pytest.mark.parametrize("names", [[], ["z[0]"], [f"{made.LONG}{i}" for i in range(20)]])
def test_all_of_it_is_inside_of_the_frame(names: list[str]) -> None:
    assert made.beyond(calibration_figures.calibration(made.calibration(names))) < 1
    for statistics in (["mean"], ["mean", *names]):
        assert made.beyond(calibration_figures.predictive(made.predictive(statistics))) < 1


def test_curves_of_statistics_are_those_of_the_rows() -> None:
    found = made.predictive(["mean", "sd"])
    for axes, (name, checked) in zip(calibration_figures.predictive(found).axes, found.statistics.items(), strict=True):
        x, y = axes.lines[calibration_figures.MOST_CURVES].get_data()
        np.testing.assert_allclose(x[1:], np.sort(checked.observed))
        np.testing.assert_allclose(y[1:], np.arange(1, 41) / 40)
        assert axes.get_xlabel() == f"{name} of a row"
