"""The shipped pairs of models and guides beyond the first. One line of PAIRS adds a pair to every test."""

import ast
from math import log
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.optim import SGD, Adam
from support.pairs import PAIRS, SMALL, B, Case, every_pair
from torch import Tensor, nn

import ppl_vae
from ppl_vae.blocks import as_features
from ppl_vae.core.errors import InputError
from ppl_vae.objectives import AnalyticKL_ELBO, Trace_ELBO
from ppl_vae.programs import Pair, Terms, owned, parameters, score, simulate, terms

ROOT = Path(__file__).parents[2]
STANDARD_ERRORS = 4


def all_terms(t: Terms) -> dict[str, Tensor]:
    groups = {"p": t.log_prior, "x": t.log_lik, "q": t.log_q}
    return {f"{group} {site}": value for group, of in groups.items() for site, value in of.items()}


# ---- as programs ----


@every_pair
@pytest.mark.parametrize("K", [1, 3])
def test_terms_are_those_of_each_sample_alone(case: Case, K: int) -> None:
    """`(K, B)`, and equal to K scores at the values of one sample: also the densities at detached values."""
    pair = case.pair()
    pair.model.double()
    pair.guide.double()
    batch = tuple(x.double() if x.is_floating_point() else x for x in case.data(B))
    t = terms(pair.model, pair.guide, batch, K)
    assert {v.shape for v in all_terms(t).values()} == {(K, B)}
    for k in range(K):
        values = {site: value[k : k + 1].detach() for site, value in t.values.items()}
        alone = all_terms(score(pair.model, pair.guide, batch, values))
        for name, value in all_terms(t).items():
            torch.testing.assert_close(value[k], alone[name][0], rtol=1e-9, atol=1e-9, msg=name)


@every_pair
def test_a_row_does_not_see_the_other_rows(case: Case) -> None:
    pair, batch = case.pair(), case.data(B)
    values = {site: v.detach() for site, v in terms(pair.model, pair.guide, batch, 2).values.items()}
    before = all_terms(score(pair.model, pair.guide, batch, values))
    others = (torch.cat([batch[0][:1], 1 - batch[0][1:]]), *batch[1:])
    after = all_terms(score(pair.model, pair.guide, others, values))
    for name, value in before.items():
        torch.testing.assert_close(value[:, 0], after[name][:, 0], msg=name)


@every_pair
def test_double_precision(case: Case) -> None:
    pair, (x, *others) = case.pair(), case.data(B)
    pair.model.double()
    pair.guide.double()
    t = terms(pair.model, pair.guide, (x.double(), *others), 2)
    assert {v.dtype for v in all_terms(t).values()} == {torch.float64}


@every_pair
def test_the_model_can_be_sampled_without_data(case: Case) -> None:
    pair, (x, *others) = case.pair(), case.data(B)
    sampled = simulate(pair.model, (torch.full_like(x, torch.nan), *others))["x"]
    assert sampled.shape == x.shape
    assert set(sampled.unique().tolist()) <= ({0.0, 1.0} if case.model != "cells" else set(range(100)))


@pytest.mark.filterwarnings(r"ignore:[\s\S]*enumerate sites:UserWarning")  # Pyro's, of `categorical`
@every_pair
def test_plain_svi_steps_every_parameter_once(case: Case) -> None:
    """With SGD a step is the learning rate times the gradient, also where the guide borrows from the model."""
    pair, batch = case.pair(), case.data(B)
    before = {name: p.detach().clone() for name, p in parameters(pair.model, pair.guide, pair.borrower).items()}
    torch.manual_seed(2)
    loss = Trace_ELBO().differentiable_loss(pair.model, pair.guide, *batch)
    leaves = parameters(pair.model, pair.guide, pair.borrower)
    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    pyro.clear_param_store()
    svi = SVI(pair.model, pair.guide, SGD({"lr": 1e-3}), pyro.infer.Trace_ELBO())
    torch.manual_seed(2)
    svi.step(*batch)
    for name, p in leaves.items():
        torch.testing.assert_close(p.detach(), before[name] - 1e-3 * gradients[name], msg=name)


@every_pair
def test_fit_raises_the_bound_and_the_run_opens_again(case: Case, tmp_path: Path) -> None:
    """The paired difference of the ELBO, at the same rows and noise, is above 4 standard errors."""
    data = case.data()
    run = ppl_vae.fit(case.model, case.guide, data, tmp_path / "run", epochs=3, lr=1e-2, set=case.set)
    bounds = []
    for checkpoint in ("first", "last"):
        pair = run.pair(checkpoint=checkpoint)
        torch.manual_seed(2)
        bounds.append(Trace_ELBO().estimate(pair.model, pair.guide, data).value.detach())
    rise = bounds[1] - bounds[0]
    assert rise.mean() > STANDARD_ERRORS * rise.std() / len(rise) ** 0.5
    saved, _ = run.checkpoints.load(run.checkpoints.steps[-1])
    for name, tensor in owned(pair.model, pair.guide, pair.borrower):
        assert torch.equal(tensor, saved[name]), name


class Captured(nn.Module):
    """log p(x, z) − log q(z|x) of a draw, as a function of tensors alone."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.model, self.guide = pair.model, pair.guide

    def forward(self, *batch: Tensor) -> Tensor:
        guide_trace = poutine.trace(self.guide).get_trace(*batch)
        model_trace = poutine.trace(poutine.replay(self.model, trace=guide_trace)).get_trace(*batch)
        log_p, log_q = (
            [site["fn"].log_prob(site["value"]) for name, site in trace.nodes.items() if is_site(name, site)]
            for trace in (model_trace, guide_trace)
        )
        return sum(log_p) - sum(log_q)


def is_site(name: str, site: dict) -> bool:
    return site["type"] == "sample" and name != "data"


@every_pair
def test_a_pair_can_be_captured_with_a_free_batch_size(case: Case) -> None:
    batch, other = case.data(6), case.data(9)
    program = Captured(case.pair())
    with pyro.validation_enabled(False):
        with pyro.get_param_store().scope():
            shapes = (tuple({0: torch.export.Dim("B")} for _ in batch),)
            captured = torch.export.export(program, batch, strict=False, dynamic_shapes=shapes).module()
        values = []
        for f in (captured, program):
            torch.manual_seed(2)
            values.append(f(*other))
    torch.testing.assert_close(*values)


# ---- the ladder ----


def test_the_ladder_is_the_product_of_its_evidence_and_the_prior() -> None:
    """log q(z1|x, z2) − log N(z1; d(x), (s(x)·σ(z2))²) − log p(z1|z2) is the same at each z1."""
    pair = PAIRS["ladder"].pair()
    model, guide = pair.model.double(), pair.guide.double()
    h = guide.trunk(PAIRS["ladder"].data(B)[0].double().flatten(1))
    z1, z2 = torch.randn(7, B, guide.head[-1].out_features // 2).double(), torch.randn(B, model.top_dim).double()
    for raw in (0.0, -6.0):
        model.top_decoder[-1].bias.data[z1.shape[-1] :] = raw
        prior, evidence = model.lower_prior(z2), guide.family(guide.head(h))
        likelihood = dist.Normal(evidence.mean, evidence.stddev * prior.stddev).to_event(1)
        constant = guide.posterior(h, z2).log_prob(z1) - likelihood.log_prob(z1) - prior.log_prob(z1)
        torch.testing.assert_close(constant, constant[:1].expand_as(constant))


# ---- closed forms ----


@pytest.mark.parametrize("name", ["full_normal", "ladder", "power_spherical", "auto, two levels"])
def test_the_analytic_rate_is_the_mean_of_the_sampled_one(name: str) -> None:
    case, draws = PAIRS[name], 4000
    pair, batch = case.pair(), case.data(B)
    with torch.no_grad():
        t = terms(pair.model, pair.guide, batch, draws)
        sampled = sum(t.log_q.values()) - sum(t.log_prior.values())
        per_draw, _ = AnalyticKL_ELBO().per_example(t)
    rate = sum(t.log_lik.values()).mean(0) - per_draw
    assert ((rate - sampled.mean(0)).abs() < STANDARD_ERRORS * sampled.std(0) / draws**0.5).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bottom_up", "the guide draws z1, z2 but the model z2, z1"),
        ("iaf", "no closed-form KL"),
        ("relaxed_categorical", "no closed-form KL"),
    ],
)
def test_where_there_is_no_closed_form_it_is_refused(name: str, message: str) -> None:
    pair = PAIRS[name].pair()
    with pytest.raises(InputError, match=message):
        AnalyticKL_ELBO().estimate(pair.model, pair.guide, PAIRS[name].data(B))


# ---- enumeration ----


class ExactGuide(nn.Module):
    """q(z|x) = p(z|x), from the model's own joint."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> None:
        every = torch.arange(len(self.model.weights))
        joint = self.model.prior(x).log_prob(every) + self.model.likelihood(every).log_prob(x.unsqueeze(1))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Categorical(logits=joint), infer={"enumerate": "parallel"})


def enumerated_loss(model: nn.Module, guide: nn.Module, x: Tensor) -> Tensor:
    return TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, x)


def test_with_the_exact_guide_enumeration_is_log_px_in_value_and_gradient() -> None:
    case = PAIRS["categorical"]
    model, (x,) = case.pair().model, case.data(B)
    loss, exact = enumerated_loss(model, ExactGuide(model), x), -model.log_px(x).sum()
    torch.testing.assert_close(loss, exact)
    leaves = list(model.parameters())
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), torch.autograd.grad(exact, leaves))


def test_enumeration_is_the_mean_of_what_is_drawn() -> None:
    """For the pair as it is: value within the standard errors of `trace`'s, and below log p(x)."""
    case, draws = PAIRS["categorical"], 4000
    pair, (x,) = case.pair(), case.data(B)
    t = terms(pair.model, pair.guide, x, draws)
    each = (sum(t.log_lik.values()) + sum(t.log_prior.values()) - sum(t.log_q.values())).sum(1)
    exact = -enumerated_loss(pair.model, pair.guide, x)
    assert (each.mean() - exact).abs() < STANDARD_ERRORS * each.std() / draws**0.5
    assert exact < pair.model.log_px(x).sum()


def test_svi_trains_by_enumeration() -> None:
    """Until the bound is as good as log p(x): here the guide's family holds the posterior."""
    case = PAIRS["categorical"]
    pair, (x,) = case.pair(), case.data()
    svi = SVI(pair.model, pair.guide, Adam({"lr": 3e-2}), TraceEnum_ELBO(max_plate_nesting=1))
    before = svi.evaluate_loss(x) / len(x)
    for _ in range(150):
        svi.step(x)
    log_px = pair.model.log_px(x).mean().item()
    bound = -svi.evaluate_loss(x) / len(x)
    assert bound > -before + 3
    assert log_px - 0.1 < bound < log_px


# ---- conditional ----


def test_what_y_says_z_need_not_say() -> None:
    """y is x: the bound passes minus the entropy of the data, which no model without y can, and at hardly a rate."""
    case = Case("conditional", "conditional", SMALL | {"y_dim": 16}, lambda x: x)
    pair, batch = case.pair(), case.data()
    svi = SVI(pair.model, pair.guide, Adam({"lr": 1e-2}), pyro.infer.Trace_ELBO())
    for _ in range(400):
        svi.step(*batch)
    t = terms(pair.model, pair.guide, batch, 20)
    rate = (t.log_q["z"] - t.log_prior["z"]).mean()
    entropy = log(2) - 16 * (0.9 * log(0.9) + 0.1 * log(0.1))  # one of two sides, and 16 bits flipped now and then
    assert rate < 0.1  # the side alone is worth log 2
    assert t.log_lik["x"].mean() - rate > -entropy / 2


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 4]), "y holds labels from 0 to 4, outside 0 to 3: set y_dim to the number of classes"),
        (torch.tensor([-1, 0]), "labels from -1 to 0, outside 0 to 3"),
        (torch.zeros(2, 3), r"covariates of shape \(3,\), not \(4,\): set y_dim to their number"),
        (torch.zeros(2), r"covariates of shape \(1,\), not \(4,\)"),
        (torch.zeros(2, 4, dtype=torch.int64), r"integers of shape \(4,\) per row"),
    ],
)
def test_a_y_that_does_not_fit_is_refused(y: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_features(y, 4, like=torch.zeros(()))


def test_labels_are_one_hot_and_covariates_as_they_are() -> None:
    like = torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(as_features(torch.tensor([2, 0]), 3, like), torch.eye(3).double()[[2, 0]])
    torch.testing.assert_close(as_features(torch.tensor([True, False]).long(), 2, like)[0], torch.eye(2).double()[1])
    torch.testing.assert_close(as_features(torch.tensor([0.5, 2.0]), 1, like), torch.tensor([[0.5], [2.0]]).double())


# ---- as files ----


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("models/[!_]*.py"), *ROOT.glob("guides/[!_]*.py")]), ids=lambda p: p.stem
)
def test_a_file_is_a_page_that_needs_torch_pyro_and_the_blocks(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 90
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module if node.module == "ppl_vae.blocks" else str(node.module).partition(".")[0])
    assert modules <= {"torch", "pyro", "math", "typing", "ppl_vae.blocks"}
