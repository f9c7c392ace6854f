"""How the estimators of IWAE_K scale with K, against a truth by quadrature: `examples/which_estimator.py`."""

import math

import pytest
import torch
from support.examples import load
from torch import Tensor

from ppl_vae.objectives import IWAE_ELBO, DReG_ELBO

pytestmark = pytest.mark.slow
example = load("which_estimator")
STANDARD_ERRORS = 4
RATES = {"gap": -1.0, "SNR of iwae": -0.5, "SNR of dreg": 0.5}


@pytest.fixture(scope="module")
def wide() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return example.curves(example.WIDTHS["wide"], 4000)


@pytest.fixture(scope="module")
def narrow() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return example.curves(example.WIDTHS["narrow"], 4000)


@pytest.mark.parametrize("name", RATES)
def test_the_rates_of_a_wide_guide(wide: dict[str, Tensor], name: str) -> None:
    slope, se = example.slope(wide[name])
    assert se < 0.02
    assert abs(slope - RATES[name]) < STANDARD_ERRORS * se


def test_a_narrow_guide_has_none_of_these_rates(narrow: dict[str, Tensor]) -> None:
    slopes = {name: example.slope(curve) for name, curve in narrow.items()}
    for name in ("gap", "SNR of iwae"):
        slope, se = slopes[name]  # the weights have no variance, and se is a guess
        assert slope > RATES[name] + 3 * se, name
    slope, se = slopes["SNR of dreg"]
    assert slope < -STANDARD_ERRORS * se, "it falls"


def test_the_truth_is_that_of_many_prior_draws() -> None:
    log_px, mean, sd = example.truth()
    torch.manual_seed(1)
    z = torch.randn(400_000, dtype=torch.float64)
    weights = example.likelihood(z).log_prob(example.x).exp()
    for residual in (weights - log_px.exp(), weights * (z - mean), weights * ((z - mean) ** 2 - sd**2)):
        assert abs(residual.mean()) < STANDARD_ERRORS * residual.std() / len(z) ** 0.5


def test_both_gradients_have_one_expectation() -> None:
    torch.manual_seed(2)
    gradients = [example.repeat(objective, 1.5, 20_000)[1] for objective in (IWAE_ELBO(16), DReG_ELBO(16))]
    means, ses = ([statistic(g) for g in gradients] for statistic in (lambda g: g.mean(0), lambda g: g.std(0)))
    apart = (means[0] - means[1]).abs()
    assert (apart < STANDARD_ERRORS * torch.hypot(*ses) / math.sqrt(20_000)).all()


def test_the_jackknife_is_right_for_a_straight_line_with_noise() -> None:
    """Its standard error is the spread of the slope over repetitions."""
    K = torch.tensor(example.SAMPLES, dtype=torch.float64)
    torch.manual_seed(3)
    slopes, ses = [], []
    for _ in range(300):
        draws = (1 + 0.2 * torch.randn(200, len(K), dtype=torch.float64)) / K
        blocks = [torch.arange(200) % example.BLOCKS != i for i in range(example.BLOCKS)]
        slope, se = example.slope(torch.stack([draws.mean(0), *(draws[kept].mean(0) for kept in blocks)]))
        slopes.append(slope)
        ses.append(se)
    spread = torch.tensor(slopes).std().item()
    assert torch.tensor(ses).mean().item() == pytest.approx(spread, rel=0.2)
    assert abs(sum(slopes) / 300 + 1) < STANDARD_ERRORS * spread / 300**0.5
