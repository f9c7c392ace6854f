"""`guides/auto.py`: the hand-written guides bit for bit, exact posteriors, models of a user, runs."""

import copy
import io
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from support.fits import ROWS, killed_before, outcome, small
from support.pairs import CLASSES, SMALL, TWO, B, Case, covariates, labels, size_and_batch, some_labels
from support.runs import binary_rows
from torch import Tensor, nn

import ppl_vae
from ppl_vae.blocks import networks
from ppl_vae.core.errors import InputError
from ppl_vae.core.palette import SHORTHANDS
from ppl_vae.distributions.kl import kl
from ppl_vae.evidence.log_px import log_px
from ppl_vae.guides.auto import Guide
from ppl_vae.objectives import AnalyticKL_ELBO, Objective, StickingTheLanding_ELBO, Trace_ELBO, TraceEnum_ELBO
from ppl_vae.programs import Pair, owned, resolve_pair, simulate, terms
from ppl_vae.programs.find import shipped_folder
from ppl_vae.training.prepare import isolated

TABLE = SMALL | {"kinds": "binary"}
SAME = {
    "bernoulli": Case("bernoulli", "diagonal_normal", SMALL),
    "gaussian": Case("gaussian", "diagonal_normal", SMALL),
    "linear_gaussian": Case("linear_gaussian", "diagonal_normal", SMALL),
    "autoregressive": Case("autoregressive", "diagonal_normal", SMALL | {"decoder_hidden": 16}),
    "vae": Case("vae", "amortized", SMALL | {"prior": "gtm", "prior.grid": 3}),
    "mixture": Case("mixture", "diagonal_normal", SMALL),
    "flow": Case("flow", "diagonal_normal", SMALL),
    "vampprior": Case("vampprior", "diagonal_normal", SMALL | {"components": 4}),
    "gtm_vampprior": Case("gtm_vampprior", "diagonal_normal", SMALL | {"grid": 3}),
    "counts": Case("counts", "diagonal_normal", SMALL),
    "spherical": Case("spherical", "power_spherical", SMALL),
    "categorical": Case("categorical", "categorical", CLASSES),
    "relaxed_categorical": Case("relaxed_categorical", "relaxed_categorical", CLASSES),
    "table": Case("table", "table", TABLE),
    "table, borrowed": Case("table", "table", TABLE | {"prior": "vamp", "components": 4}),
    "convolutional": Case("convolutional", "convolutional", {"latent_dim": 3, "model.channels": 4}),
    "conditional": Case("conditional", "conditional", SMALL | {"y_dim": 4}, labels),
    "semi_supervised": Case("semi_supervised", "semi_supervised", SMALL | {"classes": 3}, some_labels),
}
UNLIKE = {
    "hierarchical": Case("hierarchical", "auto", TWO),
    "cells": Case("cells", "auto", SMALL | {"batches": 4}, size_and_batch),
}
"""Models whose guides by hand are others."""
OTHER = {
    "full normal": Case("bernoulli", "full_normal", SMALL | {"family": "full_normal"}),
    "flow family": Case("bernoulli", "iaf", SMALL | {"family": "iaf", "family.hidden": 8}),
    "network": Case("bernoulli", "amortized", SMALL | {"network": "residual", "network.blocks": 1}),
}


def own(settings: dict[str, Any], guide: str) -> dict[str, Any]:
    """What a hand-written guide takes of the settings: a shorthand has its parts already."""
    parts = () if guide == "amortized" else ("family", "network")
    return {k: v for k, v in settings.items() if k.partition(".")[0] not in parts}


@pytest.mark.parametrize("name", SAME | OTHER)
def test_it_is_the_hand_written_guide_of_a_model_bit_for_bit(name: str) -> None:
    """The ELBO of each row, with the same parameters from the same seed."""
    case = (SAME | OTHER)[name]
    values = []
    for guide, settings in ((case.guide, own(case.set, case.guide)), ("auto", case.set)):
        if guide == "iaf":
            settings = settings | {"flow_hidden": 8}
        with isolated(1):
            pair = resolve_pair(case.model, guide, case.data(), settings)
        torch.manual_seed(2)
        values.append(Trace_ELBO().estimate(pair.model, pair.guide, case.data(B)).value)
    assert torch.equal(*values)


def test_every_model_is_there() -> None:
    files = {path.stem for path in shipped_folder("model").glob("[!_]*.py")}
    assert files | SHORTHANDS["model"].keys() == {case.model for case in [*SAME.values(), *UNLIKE.values()]}


@pytest.mark.parametrize("name", [*SAME, *UNLIKE])
def test_check_finds_nothing(name: str) -> None:
    """It runs, is scored, learns and gives its sites' supports, with every model."""
    case = (SAME | UNLIKE)[name]
    report = ppl_vae.check(case.model, "auto", case.data(), set=case.set)
    assert report.passed, str(report)
    assert report.findings == (), str(report)


def test_the_network_follows_the_model_unless_it_is_chosen() -> None:
    """Convolutions where the model has them and the data are images; its settings without its name."""
    x = (torch.rand(20, 16) > 0.5).float()

    def network(data: tuple[Tensor, ...] = (x,), model: Any = "convolutional", **settings: Any) -> Any:
        return resolve_pair(model, "auto", data, settings).guide.encoders["z"]

    assert type(network().network) is networks.Convolutional
    assert type(network(**{"guide.network": "gated"}).network) is networks.Gated
    assert type(network(model="bernoulli").network) is networks.MLP
    first = network(**{"guide.network.channels": 3}).network.network[2]
    assert (type(first), first.out_channels) == (nn.Conv2d, 3)
    beside = network((x, torch.arange(20) % 10), "conditional", network="convolutional")
    assert type(beside.eye) is networks.Convolutional
    assert beside.network[0].in_features == 400 + 10
    with pytest.raises(InputError, match=r"network mlp has no setting .channels.: it has hidden; convolutional has it"):
        network(model="bernoulli", **{"network.channels": 3})


def test_covariates_are_read_on_a_common_scale() -> None:
    """Of a further field of numbers nothing but its shape has to be told."""
    case = Case("conditional", "auto", SMALL | {"model.y_dim": 4}, lambda x: 1000 * covariates(x))
    pair = case.pair()
    x = pair.guide.inputs(*case.data())
    assert x.shape == (len(case.data()[0]), 16 + 4)
    torch.testing.assert_close(x[:, 16:].std(0, correction=0), torch.ones(4))


class Bounded(nn.Module):
    """z is below a bound that is learned."""

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.log_bound = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Uniform(0.0, self.log_bound.exp()))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1), 1.0).expand([*z.shape, 4]).to_event(1), obs=x)


def test_a_support_that_moves_is_refused() -> None:
    with pytest.raises(InputError, match="site 'z': its bounds or its temperature are not one constant"):
        resolve_pair(Bounded, "auto", (torch.randn(5, 4),))


def test_a_guide_can_be_copied() -> None:
    """It keeps nothing of the trace."""
    pair = Case("hierarchical", "auto", TWO).pair()
    torch.save(copy.deepcopy(pair.guide).state_dict(), io.BytesIO())


# ---- exact answers ----


def train(pair: Pair, x: Tensor, steps: int, objective: Objective | None = None) -> None:
    """The guide alone, at a rate that falls to 0."""
    optimizer = torch.optim.Adam(pair.guide.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (objective or AnalyticKL_ELBO()).estimate(pair.model, pair.guide, x).surrogate.mean().neg().backward()
        optimizer.step()
        schedule.step()


def test_the_exact_posterior_of_a_linear_gaussian_model_is_reached() -> None:
    """`family=full_normal`: KL(q(z|x) ‖ p(z|x)) falls from nats to a hundredth, by the closed form of both."""
    torch.manual_seed(0)
    x = torch.randn(200, 5)
    pair = resolve_pair("linear_gaussian", "auto", (x,), {"latent_dim": 2, "hidden": 32, "family": "full_normal"})
    exact = resolve_pair(pair.model, "linear_gaussian", (x,)).guide

    def gap() -> float:
        return kl(pair.guide.posterior(x), exact.posterior(x)).mean().item()

    before = gap()
    train(pair, x, 400)
    assert before > 1
    assert gap() < 0.01


class Chain(nn.Module):
    """z2 ~ N(0, I), z1 ~ N(A z2, I), x ~ N(B z1, I)."""

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
        self.B = nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]]))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z2 = pyro.sample("z2", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(z2 @ self.A.T, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z1 @ self.B.T, 1.0).to_event(1), obs=x)

    def log_px(self, x: Tensor) -> Tensor:
        of_z1 = self.A @ self.A.T + torch.eye(2)
        covariance = self.B @ of_z1 @ self.B.T + torch.eye(len(self.B))
        return dist.MultivariateNormal(torch.zeros(len(self.B)), covariance).log_prob(x)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["model", "inverted"])
def test_what_a_site_does_not_see_it_does_not_need(order: str) -> None:
    """The exact posterior of a chain is reached in both orders; inverted, q(z2|z1) does not see x."""
    torch.manual_seed(0)
    x = simulate(Chain((4,)), (torch.zeros(300, 4),))["x"]
    pair = resolve_pair(Chain, "auto", (x,), {"hidden": 32, "family": "full_normal", "order": order})
    assert [site.sees_data for site in pair.guide.sites] == [True, order == "model"]
    train(pair, x, 250, StickingTheLanding_ELBO())
    with torch.no_grad():
        gap = pair.model.log_px(x) - Trace_ELBO(num_particles=50).estimate(pair.model, pair.guide, x).value
    assert -0.02 < gap.mean() < 0.1


DIRECTIONS = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0], [-2.0, -1.0, 0.0, 1.0, 2.0]])


class ScaleAndVector(nn.Module):
    """z ~ N(0, I), s ~ LogNormal(0, 1/4), x | z, s ~ N(Wz, s² I): two latents of different supports."""

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.W = nn.Parameter(DIRECTIONS.clone())

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.5))
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.W, s.unsqueeze(-1)).to_event(1), obs=x)


def scale_and_vector(x: Tensor) -> None:
    """The same as a plain function."""
    W = pyro.param("W", DIRECTIONS.clone())
    with pyro.plate("data", x.shape[0]):
        s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.5))
        z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ W, s.unsqueeze(-1)).to_event(1), obs=x)


def rows(n: int) -> Tensor:
    torch.manual_seed(0)
    s = (0.5 * torch.randn(n, 1)).exp()
    return torch.randn(n, 2) @ DIRECTIONS + s * torch.randn(n, 5)


@pytest.mark.slow
def test_a_scale_and_a_vector_come_near_log_px() -> None:
    """Below log p(x) by quadrature, and near it: given s, z is normal, and q(z|x, s) is of full covariance."""
    x = rows(400)
    settings = {"hidden": 100, "family": "full_normal"}
    pair = resolve_pair(ScaleAndVector, "auto", (x,), settings)
    assert [(z.name, z.parents) for z in pair.guide.sites] == [("s", ()), ("z", ("s",))]
    train(pair, x, 400)
    with torch.no_grad():
        t = terms(pair.model, pair.guide, x[:50], 200)
    assert (t.values["s"] > 0).all()
    weights = sum(t.log_prior.values()) + sum(t.log_lik.values()) - sum(t.log_q.values())
    exact = log_px(pair.model, pair.guide, x[:50]).value
    assert -0.02 < (exact - weights.mean(0)).mean() < 0.5
    torch.testing.assert_close(
        (weights.double().logsumexp(0) - log(len(weights))).mean(), exact.mean(), atol=0.05, rtol=0
    )


def test_a_plain_function_is_served_like_a_module() -> None:
    """Also with Pyro's own SVI, whose parameters live in its store."""
    x = rows(60)
    module, function = (
        resolve_pair(model, "auto", (x,), {"hidden": 8}) for model in (ScaleAndVector, scale_and_vector)
    )
    function.guide.load_state_dict(module.guide.state_dict())
    bounds = []
    for pair in (module, function):
        torch.manual_seed(2)
        bounds.append(Trace_ELBO().estimate(pair.model, pair.guide, x).value)
    assert torch.equal(*bounds)
    with pyro.get_param_store().scope():
        guide = Guide((x,), scale_and_vector, hidden=8)
        guide.load_state_dict(module.guide.state_dict())
        svi = SVI(scale_and_vector, guide, pyro.optim.Adam({"lr": 1e-2}), pyro.infer.Trace_ELBO())
        torch.manual_seed(2)
        first = svi.evaluate_loss(x)
        assert first == pytest.approx(-bounds[0].sum().item(), rel=1e-5)
        for _ in range(50):
            svi.step(x)
        assert svi.evaluate_loss(x) < first


# ---- classes ----


class Clusters(nn.Module):
    """A class, a bit, and a vector around what they say."""

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.means, self.shifts = nn.Embedding(3, 2), nn.Embedding(2, 2)
        self.decoder = nn.Linear(2, data_shape[0])

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            a = pyro.sample("a", dist.Categorical(logits=x.new_zeros(3)))
            b = pyro.sample("b", dist.Bernoulli(logits=x.new_zeros(())))
            z = pyro.sample("z", dist.Normal(self.means(a) + self.shifts(b.long()), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize("order", ["model", "inverted"])
def test_classes_are_summed_over_or_drawn(order: str) -> None:
    """Both with the same mean, also where the encoder of a later site sees every value of an earlier one."""
    torch.manual_seed(0)
    x, draws = rows(6), 2000
    pair = resolve_pair(Clusters, "auto", (x,), {"hidden": 8, "order": order})
    with torch.no_grad():
        summed = TraceEnum_ELBO(num_particles=draws).estimate(pair.model, pair.guide, (x,)).value
        t = terms(pair.model, pair.guide, x, draws)
        drawn = sum(t.log_lik.values()) + sum(t.log_prior.values()) - sum(t.log_q.values())
    assert ((summed - drawn.mean(0)).abs() < 5 * drawn.std(0) / draws**0.5).all()


# ---- partly observed ----


class Measured(nn.Module):
    """A real number that is known for some rows, w ~ N(0, 1); NaN where it is not."""

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder = nn.Linear(3, data_shape[0])

    def forward(self, x: Tensor, w: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            w = pyro.sample("w", dist.Normal(x.new_zeros(()), 1.0), obs=w.nan_to_num(), obs_mask=~w.isnan())
            pyro.sample("x", dist.Normal(self.decoder(concat_last(z, w)), 1.0).to_event(1), obs=x)


def concat_last(z: Tensor, w: Tensor) -> Tensor:
    lead = torch.broadcast_shapes(z.shape[:-1], w.shape)
    return torch.cat([z.expand(*lead, -1), w.expand(lead).unsqueeze(-1)], -1)


@pytest.mark.parametrize("order", ["model", "inverted"])
def test_what_is_known_of_a_partly_observed_site_is_used(order: str) -> None:
    """Its q counts where it is not known; where it is, other sites see its value, be they drawn before or after it."""
    x, w = rows(7), torch.tensor([0.3, torch.nan, 2.0, torch.nan, torch.nan, -1.0, 0.0])
    pair = resolve_pair(Measured, "auto", (x, w), {"hidden": 8, "order": order})
    t = terms(pair.model, pair.guide, (x, w), 3)
    known = ~w.isnan()
    assert (t.log_q["w_unobserved"][:, known] == 0).all()
    assert (t.log_q["w_unobserved"][:, ~known] != 0).all()
    changed = torch.where(known, w + 1, w)
    torch.manual_seed(1)
    first = terms(pair.model, pair.guide, (x, w)).q["z"].mean
    torch.manual_seed(1)
    second = terms(pair.model, pair.guide, (x, changed)).q["z"].mean
    moved = (first != second).any(-1)
    assert torch.equal(moved, known)


class Cells(nn.Module):
    """Cells that are missing are left out of the likelihood."""

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder = nn.Linear(2, data_shape[0])

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            likelihood = dist.Normal(self.decoder(z), 1.0).mask(~x.isnan()).to_event(1)
            pyro.sample("x", likelihood, obs=x.nan_to_num())


def test_missing_cells_are_seen_as_missing_where_the_model_bears_them() -> None:
    """As of `table`, by the mask of the likelihood: zeros, and which they are. A run is opened with no cell missing."""
    x = rows(200)
    x[torch.rand_like(x) < 0.2] = torch.nan
    assert ppl_vae.check(Cells, "auto", x.numpy(), missing="nan", set={"hidden": 8}).passed
    full, opened = (resolve_pair(Cells, "auto", (data,), {"hidden": 8}).guide for data in (x, torch.zeros(2, 5)))
    opened.load_state_dict(full.state_dict())
    seen = opened.inputs(x)
    assert torch.equal(seen[:, 5:], (~x.isnan()).float())
    torch.testing.assert_close(seen[:, :5], ((x - x.nanmean(0)) / full.inputs.parts[0].spread).nan_to_num())


# ---- runs ----


def test_a_run_is_resumed_and_opened_bit_for_bit(tmp_path: Path) -> None:
    """A run is opened with zeros in the place of the data: what the guide is made of does not depend on them."""
    options: dict[str, Any] = {"set": {"hidden": 8, "family": "full_normal"}}
    whole = small(tmp_path / "whole", ScaleAndVector, "auto", **options)
    with killed_before(7):
        small(tmp_path / "cut", ScaleAndVector, "auto", **options)
    cut = ppl_vae.fit(ScaleAndVector, "auto", ROWS, tmp_path / "cut", resume=True)
    assert outcome(cut) == outcome(whole)
    pair = whole.pair(model=ScaleAndVector)
    saved, _ = whole.checkpoints.load(whole.checkpoints.manifest["best"])
    assert all(torch.equal(tensor, saved[name]) for name, tensor in owned(pair.model, pair.guide))
    codes = whole.encode(ROWS, model=ScaleAndVector)
    with torch.no_grad():
        q = pair.guide.posterior(torch.from_numpy(ROWS))
    np.testing.assert_allclose(codes["s_mean"], q.mean, rtol=1e-5)


def test_analytic_kl_holds_in_the_order_of_the_model() -> None:
    """And is refused in the other one, in which no KL of one site is valid by itself."""
    x = torch.from_numpy(binary_rows(20))
    pair = resolve_pair("hierarchical", "auto", (x,), TWO)
    AnalyticKL_ELBO().estimate(pair.model, pair.guide, x)
    inverted = resolve_pair("hierarchical", "auto", (x,), TWO | {"order": "inverted"})
    with pytest.raises(InputError, match="the guide draws z1, z2 but the model z2, z1"):
        AnalyticKL_ELBO().estimate(inverted.model, inverted.guide, x)
