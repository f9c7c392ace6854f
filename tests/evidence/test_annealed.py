"""Annealed importance sampling against exact answers and grids, forward and in reverse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.gridded import SMALL, by_grid, nonlinear_guide, nonlinear_model
from support.oracles import one, two
from torch import Tensor

from ppl_vae.evidence.annealed import annealed
from ppl_vae.evidence.bidirectional import bidirectional
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.path import GRID, Path, Start, Steps, walk
from ppl_vae.evidence.simulated import simulated

STANDARD_ERRORS = 4


def fixed(log_size: float, latents: Latents) -> Steps:
    """Steps that no pilot has found."""
    ones = torch.ones(latents.rows, latents.size).double()
    return Steps(torch.full((GRID, latents.rows), log_size).double(), ones, ones)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("start", ["guide", "prior"])
@pytest.mark.parametrize("make", [one, two])
def test_a_linear_gaussian(make: Callable[[bool], Any], start: Start, exact: bool) -> None:
    """log p(x) within the stated errors, also with a wrong guide and with two levels."""
    s = make(exact)
    found = annealed(s.model, s.guide, s.x, start=start, temperatures=60, chains=100, leapfrog=3)
    truth = s.log_px(s.model, s.x)
    assert ((found.log_px - truth).abs() <= STANDARD_ERRORS * found.se + 1e-9).all()
    assert found.reliable.all()
    assert (found.se < 0.06).all()
    assert found.start == start
    assert ((found.acceptance > 0.5) & (found.acceptance < 0.95)).all()
    if exact and start == "guide":
        assert found.se.max() < 1e-9


@pytest.mark.parametrize("start", ["guide", "prior"])
@pytest.mark.parametrize("log_size", [-3.0, 0.5])
def test_weights_are_unbiased_both_ways(start: Start, log_size: float) -> None:
    """E[w] = p(x) forward and E[1/w] = 1/p(x) in reverse, with four temperatures and steps far from good.

    Variances are finite even of chains that do not move: x says little, and the guide is a little too narrow.
    """
    s, chains = one(False), 20_000
    s.model.s.data += 1.2
    s.guide.u.data.fill_(-0.2)
    latents = Latents(s.model, s.guide, s.x)
    path, steps = Path(latents, start), fixed(log_size, latents)
    truth = s.log_px(s.model, s.x).detach()
    with torch.no_grad():
        forward = walk(path, steps, path.draw(chains), 4, 2)
        back = walk(path, steps, posterior(s, chains), 4, 2, reverse=True)
    assert back.acceptance.max() < 1
    for log_ratio in (forward.log_w - truth, truth - back.log_w):
        ratio = log_ratio.exp()
        se = ratio.std(0) / chains**0.5
        assert ((se > 1e-4) & (se < 0.01)).all()
        assert ((ratio.mean(0) - 1).abs() < STANDARD_ERRORS * se).all()


def posterior(s: Any, chains: int) -> Tensor:
    """Exact draws of p(z|x), of the scenario with one site."""
    m = s.model
    noise = (-2 * m.s).exp()
    precision = torch.eye(2).double() + noise * m.V @ m.V.T
    mean = torch.linalg.solve(precision, noise * m.V @ (s.x - m.c).T).T
    factor = torch.linalg.cholesky(torch.linalg.inv(precision))
    return (mean + torch.randn(chains, len(s.x), 2).double() @ factor.T).detach()


@pytest.mark.parametrize("start", ["guide", "prior"])
@pytest.mark.parametrize("name", SMALL)
def test_simulated_rows_are_enclosed(name: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 200 rows, forward ≤ log p(x) ≤ reverse, and not because the bounds are far away."""
    model, guide = SMALL[name]
    seen: list[Tensor] = []
    from ppl_vae.evidence import bidirectional as bdmc

    def spied(*args: Any) -> Any:
        batch, z = simulated(*args)
        seen.extend(batch)
        return batch, z

    monkeypatch.setattr(bdmc, "simulated", spied)
    how: dict[str, Any] = {"start": start, "temperatures": 10, "chains": 2, "leapfrog": 2, "batch_size": 100}
    found = bidirectional(model, guide, torch.zeros(200, 3).double(), **how)
    truth = by_grid(model, guide, torch.cat(seen))
    for slack in (truth - found.lower, found.upper - truth):
        se = slack.std() / 200**0.5
        assert slack.mean() > -STANDARD_ERRORS * se
        assert slack.mean() < 2
    assert found.gap.value > 0
    assert found.gap.over == "data"


@pytest.mark.parametrize(("temperatures", "most"), [(3, False), (40, True)])
def test_intervals_cover_where_rows_are_reliable(temperatures: int, most: bool) -> None:
    """With a guide that is far too wide: few temperatures leave a few lucky rows, which must not be believed."""
    s = two(False)
    s.guide.u.data += 0.6
    x = s.x.repeat(200)
    found = annealed(s.model, s.guide, x, temperatures=temperatures, batch_size=600)
    assert 0 < (found.ess >= 8).double().mean() < 0.5 or most
    assert (found.reliable.double().mean() > 0.9) == most
    assert found.reliable.any() == most
    if most:
        off = (found.log_px - s.log_px(s.model, x)).abs() / found.se
        covered = (off < 1.96)[found.reliable].double().mean()
        assert covered > 0.88  # of 0.95: the logarithm of a mean of 16 weights is skewed


@pytest.mark.slow
def test_the_gap_falls_as_one_over_temperatures() -> None:
    temperatures = [20, 40, 80, 160]
    gaps = []
    for t in temperatures:
        how: dict[str, Any] = {"temperatures": t, "chains": 1, "leapfrog": 3, "batch_size": 300}
        gaps.append(bidirectional(nonlinear_model, nonlinear_guide, torch.zeros(300, 3).double(), **how).gap.value)
    x, y = torch.tensor(temperatures).double().log(), torch.tensor(gaps).double().log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert slope.item() == pytest.approx(-1, abs=0.25), gaps
