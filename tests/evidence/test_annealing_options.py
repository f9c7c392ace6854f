"""What annealing promises beside its numbers: frozen steps, where it starts and why, time, given fields, refusals."""

import itertools
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import Planar
from support.oracles import one
from support.pairs import PAIRS
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence import hmc
from ppl_vae.evidence.annealed import LEAST_TEMPERATURES, annealed
from ppl_vae.evidence.bidirectional import bidirectional
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.path import FIRST, GRID, LATER, Path, Steps, beta
from ppl_vae.evidence.simulated import simulated
from ppl_vae.programs import score


def shifted(x: Tensor, y: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(x.new_tensor(0.0), 1.0))
        seen = ~x.isnan()
        likelihood = dist.Normal(z.unsqueeze(-1) + y, 1.0).mask(seen).to_event(1)
        pyro.sample("x", likelihood, obs=x.nan_to_num())


def shifted_guide(x: Tensor, y: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal((x - y).nan_to_num().mean(-1) / 2, 0.8))


def squared(x: Tensor, y: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(x.new_tensor(0.0), 1.0))
        pyro.sample("x", dist.LogNormal(z.unsqueeze(-1) + y, 1.0).to_event(1), obs=x**2 + 1)


def test_no_step_size_changes_while_weights_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    s, calls = one(False), []
    adapted = hmc.adapted

    def counted(*args: Any) -> Tensor:
        calls.append(args)
        return adapted(*args)

    monkeypatch.setattr(hmc, "adapted", counted)
    of_pilots = FIRST + (GRID - 1) * LATER
    for temperatures in (2, 40):
        calls.clear()
        annealed(s.model, s.guide, s.x, temperatures=temperatures, chains=2, leapfrog=1)
        assert len(calls) == of_pilots
    calls.clear()
    bidirectional(s.model, s.guide, s.x, temperatures=4, chains=2, leapfrog=1, batch_size=2)
    assert len(calls) == 2 * of_pilots  # one pilot for both ways of a batch


def test_steps_are_interpolated_and_scales_go_from_one_end_to_the_other() -> None:
    steps = Steps(torch.arange(GRID).double().unsqueeze(1), torch.ones(1, 1).double(), torch.full((1, 1), 0.1).double())
    for fraction, log_size in (
        (0.0, 0.0),
        (0.5 / GRID, 0.0),
        (1 / GRID, 0.5),
        (1 - 1 / GRID, GRID - 1.5),
        (1, GRID - 1),
    ):
        assert steps.size(fraction).log().item() == pytest.approx(log_size)
    assert steps.scale(0.0).item() == pytest.approx(1)
    assert steps.scale(1.0).item() == pytest.approx(0.1)
    assert [beta(t) for t in (0, 0.5, 1)] == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("name", ["full_normal", "bottom_up", "power_spherical", "convolutional", "autoregressive"])
def test_the_density_of_a_path_is_that_of_the_latents(name: str) -> None:
    """Of the shipped guides too, for several numbers of chains; and its slopes are those of the density."""
    case = PAIRS[name]
    pair = case.pair()
    latents = Latents(pair.model, pair.guide, case.data(4))
    path = Path(latents, "guide")
    for chains in (1, 3):
        with torch.no_grad():
            u = path.draw(chains)
        found = hmc.point_at(path.density, u)
        expected = hmc.point_at(latents.log_both, u)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_an_autoregressive_flow_is_annealed_from_the_prior() -> None:
    case = PAIRS["iaf"]
    pair, x = case.pair(), case.data()[0][:3]
    found = annealed(pair.model, pair.guide, (x,), temperatures=100, chains=20)
    assert found.start == "prior"
    assert "'z'" in found.why
    assert "autoregressive flow" in found.why
    with torch.no_grad():
        z = torch.randn(50_000, 3, 3)
        by_prior = torch.cat([
            torch.stack(list(score(pair.model, one_normal, (x,), {"z": part}).log_lik.values())).sum(0)
            for part in z.split(10_000)
        ])  # fmt: skip
    truth = by_prior.logsumexp(0) - torch.tensor(50_000.0).log()
    assert ((found.log_px - truth).abs() < 4 * found.se + 0.1).all()


def one_normal(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0).to_event(1))


def test_a_flow_without_an_inverse_is_annealed_from_the_prior() -> None:
    flow = Planar(2)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            base = dist.Normal(x / 2, 0.7).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [flow]))

    x = torch.randn(3, 2)
    found = annealed(model, guide, x, temperatures=50, chains=50)
    assert found.start == "prior"
    assert "without an inverse" in found.why
    truth = dist.Normal(0.0, 2**0.5).log_prob(x).sum(-1)
    assert ((found.log_px - truth).abs() < 4 * found.se).all()


def test_seconds_choose_the_temperatures_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    s, clock = one(False), itertools.count(0.0, 0.02)  # the speed of the machine is not what is tested
    monkeypatch.setattr("ppl_vae.evidence.annealed.perf_counter", lambda: next(clock))
    torch.manual_seed(3)
    timed = annealed(s.model, s.guide, s.x, chains=4, leapfrog=1, seconds=1.0, batch_size=2)
    assert timed.temperatures > LEAST_TEMPERATURES
    torch.manual_seed(3)
    again = annealed(s.model, s.guide, s.x, chains=4, leapfrog=1, temperatures=timed.temperatures, batch_size=2)
    torch.testing.assert_close(timed.log_w, again.log_w, rtol=0, atol=0)
    assert annealed(s.model, s.guide, s.x, chains=2, leapfrog=1, seconds=1e-9).temperatures == LEAST_TEMPERATURES


def test_progress_sums_to_one() -> None:
    s = one(False)
    for run in (annealed, bidirectional):
        parts: list[float] = []
        run(s.model, s.guide, s.x, chains=2, leapfrog=1, temperatures=5, batch_size=2, advance=parts.append)  # type: ignore[operator]
        assert sum(parts) == pytest.approx(1)
        assert max(parts) < 0.2


def test_simulated_rows_keep_given_fields_and_missing_cells() -> None:
    y = torch.linspace(-40, 40, 2000).double().unsqueeze(-1).expand(-1, 3)
    x = torch.zeros(2000, 3).double()
    x[::2, 1] = torch.nan
    (drawn, given), z = simulated(shifted, shifted_guide, (x, y))
    assert torch.equal(given, y)
    assert torch.equal(drawn.isnan(), x.isnan())
    noise = drawn - y - z["z"][0].unsqueeze(-1)
    cells = noise[~noise.isnan()]
    assert cells.mean().abs() < 4 / len(cells) ** 0.5
    assert (cells.var() - 1).abs() < 4 * (2 / len(cells)) ** 0.5


def test_a_conditional_model_with_missing_cells_is_enclosed(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]]).double()
    x = torch.tensor([[0.0, torch.nan, 0.0], [0.0, 0.0, 0.0]]).double()
    seen: list[Tensor] = []
    from ppl_vae.evidence import bidirectional as module

    def spied(*args: Any) -> Any:
        batch, z = simulated(*args)
        seen.append(batch[0] - batch[1])
        return batch, z

    monkeypatch.setattr(module, "simulated", spied)
    found = bidirectional(shifted, shifted_guide, (x, y), rows=301, temperatures=6, chains=2, batch_size=301)
    off = torch.cat(seen)
    assert len(off) == len(found.lower) == 301
    both = torch.distributions.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double() + 1)
    all_three = torch.distributions.MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double() + 1)
    whole = ~off.isnan().any(-1)
    truth = torch.where(whole, all_three.log_prob(off.nan_to_num()), both.log_prob(off[:, [0, 2]]))
    for slack in (truth - found.lower, found.upper - truth):
        assert slack.mean() > -4 * slack.std() / 301**0.5
        assert slack.mean() < 0.5


def test_what_can_not_be_annealed_is_refused() -> None:
    s = one(True)
    with pytest.raises(InputError, match="site 'x' observes no field"):
        bidirectional(squared, shifted_guide, (torch.randn(2, 3), torch.zeros(2, 3)))
    for options in ({"chains": 0}, {"temperatures": 1}, {"leapfrog": 0}, {"seconds": 0.0}, {"start": "posterior"}):
        with pytest.raises(InputError, match=next(iter(options))):
            annealed(s.model, s.guide, s.x, **options)  # type: ignore[arg-type]
    case = PAIRS["categorical"]
    pair = case.pair()
    with pytest.raises(InputError, match="no coordinates"):
        annealed(pair.model, pair.guide, case.data())


def test_one_chain_has_no_error() -> None:
    s = one(False)
    found = annealed(s.model, s.guide, s.x, chains=1, leapfrog=1, temperatures=3)
    assert found.se.isnan().all()
    assert not found.reliable.any()
    assert torch.equal(found.log_px, found.log_w[0])
