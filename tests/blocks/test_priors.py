"""Every prior: its density integrates to one, its samples match it, gradients and dtypes. One line adds a prior."""

import copy
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from scipy import stats
from support.priors import FLOWS, PRIORS, Case, X, Z, data, guide, zuko
from support.runs import SMALL, binary_rows, fitted
from support.small import part_of
from torch import Tensor, nn

from ppl_vae import blocks
from ppl_vae.core.errors import InputError
from ppl_vae.core.palette import PARTS
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import owned, parameters, resolve_pair


@pytest.fixture(params=PRIORS)
def case(request: pytest.FixtureRequest) -> Case:
    return PRIORS[request.param]


def quadrature(case: Case) -> tuple[Tensor, float]:
    """Midpoints of squares of the plane, or points of the unit circle, and the weight of each."""
    if case.space == "sphere":
        angle = torch.arange(360, dtype=torch.float64) * (2 * math.pi / 360)
        return torch.stack([angle.cos(), angle.sin()], -1), 2 * math.pi / 360
    side = (torch.arange(480, dtype=torch.float64) + 0.5) / 20 - 12
    return torch.cartesian_prod(side, side), 1 / 20**2


def test_every_prior_is_tested() -> None:
    assert {part_of(name) for name in PRIORS} | {"categorical", "relaxed_categorical", "zuko"} == set(PARTS["prior"])


def test_the_density_integrates_to_one(case: Case) -> None:
    points, weight = quadrature(case)
    with torch.no_grad():
        assert case.prior()().log_prob(points).exp().sum().item() * weight == pytest.approx(1, abs=1e-3)


def test_samples_match_the_density(case: Case) -> None:
    """χ² over cells of width 1.5, the rare ones in one."""
    prior, draws = case.prior(), 20_000
    points, weight = quadrature(case)

    def cell(z: Tensor) -> np.ndarray:
        index = ((z.numpy() + 12) // 1.5).clip(0, 15).astype(int)
        return index[:, 0] * 16 + index[:, 1]

    with torch.no_grad():
        mass = prior().log_prob(points).exp().numpy() * weight
        expected = np.bincount(cell(points), mass, 256) * draws
        observed = np.bincount(cell(prior().sample((draws,))), minlength=256)
    rare = expected < 20
    expected = np.append(expected[~rare], max(draws - expected[~rare].sum(), 1e-9))
    observed = np.append(observed[~rare], observed[rare].sum())
    if expected[-1] < 5:
        expected, observed = expected[:-1], observed[:-1]
    assert len(expected) >= 4
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_shapes_dtypes_and_leading_dimensions(case: Case) -> None:
    for dtype in (torch.float32, torch.float64):
        prior = case.prior(dtype)()
        z = prior.sample((5, 4))
        assert (z.shape, z.dtype, prior.event_shape) == ((5, 4, Z), dtype, (Z,))
        log_prob = prior.log_prob(z)
        assert (log_prob.shape, log_prob.dtype) == ((5, 4), dtype)
        separate = torch.stack([prior.log_prob(each) for each in z])
        wide = prior.expand((5, 4)).log_prob(z)
        tolerance = 100 * torch.finfo(dtype).eps
        torch.testing.assert_close(log_prob, separate, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(log_prob, wide, rtol=tolerance, atol=tolerance)
        assert prior.support.check(z).all()


@pytest.mark.parametrize("size", [0.0, 1e-3, 30.0, 1e3])
def test_gradients_are_finite_far_out_and_at_zero(case: Case, size: float) -> None:
    prior = case.prior(torch.float32)
    z = torch.full((3, Z), size).requires_grad_()
    with pyro.validation_enabled(case.space != "sphere"):
        value = prior().log_prob(z).sum()
    if case.space == "sphere":
        assert value == -math.inf
        return
    assert torch.isfinite(value)
    value.backward()
    assert torch.isfinite(z.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in prior.parameters() if p.grad is not None)


def test_every_parameter_is_learned(case: Case) -> None:
    prior = case.prior()
    if list(prior.parameters()):
        prior().log_prob(torch.randn(6, Z, dtype=torch.float64)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in prior.parameters())


def test_a_mixture_is_over_all_of_z_and_not_a_product_over_dimensions() -> None:
    prior = blocks.MixturePrior(2, 2).double()
    prior.loc.data = torch.tensor([[-3.0, -3.0], [3.0, 3.0]], dtype=torch.float64)
    points = np.array([[-3.0, -3.0], [-3.0, 3.0], [0.5, 1.0]])
    exact = [np.log(np.mean([stats.multivariate_normal(m).pdf(z) for m in ([-3, -3], [3, 3])])) for z in points]
    np.testing.assert_allclose(prior().log_prob(torch.tensor(points)).detach(), exact, rtol=1e-12)


def test_the_components_of_a_mixture_start_apart() -> None:
    for prior in (
        blocks.MixturePrior(Z, 5),
        blocks.GTMPrior(Z, 3),
        blocks.VampPrior(guide(torch.float32), torch.zeros(4, X), 9),
    ):
        means = prior().component_distribution.mean
        assert torch.pdist(means).min() > 1e-5


# ---- flows ----


@pytest.mark.parametrize("name", FLOWS)
def test_the_log_determinant_is_that_of_the_jacobian(name: str) -> None:
    prior = {
        "flow": lambda: blocks.FlowPrior(5, "coupling", 3, 16),
        "flow, autoregressive": lambda: blocks.FlowPrior(5, "autoregressive", 3, 16),
        "zuko": lambda: zuko() or blocks.ZukoPrior(5, "MAF", transforms=3, hidden_features=(16,)),
    }[name]().double()
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.3 * torch.randn_like(p))

    def to_ε(z: Tensor) -> Tensor:
        p = prior()
        if name == "zuko":
            return p.flow.transform(z)
        for transform in reversed(p.transforms):
            z = transform.inv(z)
        return z

    for z in torch.randn(4, 5, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(to_ε, z)
        exact = torch.linalg.slogdet(jacobian).logabsdet - (to_ε(z) ** 2).sum() / 2 - 2.5 * math.log(2 * math.pi)
        assert torch.allclose(prior().log_prob(z), exact, rtol=1e-10)
        assert torch.linalg.det(jacobian).abs() != pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["flow", "flow, autoregressive"])
@pytest.mark.parametrize("size", [1.0, 20.0, 1e3])
def test_the_gradient_is_that_of_the_density_also_where_log_scales_are_at_their_bound(name: str, size: float) -> None:
    """Finite differences in float64, by z and by a bias of the last layer; it never quite vanishes."""
    prior = PRIORS[name].prior()
    network = prior.layers[0].nn if name == "flow" else prior.layers[0].arn
    bias = network.layers[-1].bias
    with torch.no_grad():
        bias[-1] = size
    z = torch.randn(4, Z, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, _: prior().log_prob(z), (z, bias))
    (slope,) = torch.autograd.grad(prior().log_prob(z).sum(), bias)
    assert slope[-1].abs() > 1e-9
    with torch.no_grad():
        bias[-1] = -size
    assert torch.autograd.gradcheck(lambda z, _: prior().log_prob(z), (z, bias))


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_is_sampled_with_gradients_and_scored_alike(name: str) -> None:
    prior = PRIORS[name].prior()
    p = prior()
    z = p.rsample((6,))
    torch.testing.assert_close(p.log_prob(z), prior().log_prob(z.detach().clone()), rtol=1e-8, atol=1e-8)
    z.sum().backward()
    assert all(w.grad is not None and torch.isfinite(w.grad).all() for w in prior.parameters())


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_keeps_nothing_of_the_call_before(name: str) -> None:
    """The same z, the same distribution: after a step its density is the new one, and backward works again."""
    prior = PRIORS[name].prior()
    p, z = prior(), torch.randn(6, Z, dtype=torch.float64, requires_grad=True)
    before = p.log_prob(z)
    before.sum().backward()
    with torch.no_grad():
        for w in prior.parameters():
            w.add_(0.1)
    after = p.log_prob(z)
    after.sum().backward()
    torch.testing.assert_close(after, prior().log_prob(z.detach().clone()))
    assert not torch.allclose(before, after)
    twin = copy.deepcopy(prior)
    torch.testing.assert_close(twin().log_prob(z), after)


def test_a_flow_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="coupling or autoregressive"):
        blocks.FlowPrior(2, "planar")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="latent_dim 2 or more"):
        blocks.FlowPrior(1)


def test_zuko_is_imported_on_demand_and_leaves_validation_on() -> None:
    zuko()
    code = """
import sys, torch
import ppl_vae.blocks as blocks
from ppl_vae.core.errors import InputError
assert "zuko" not in sys.modules
before = torch.distributions.Distribution._validate_args
prior = blocks.ZukoPrior(2)
assert "zuko" in sys.modules and torch.distributions.Distribution._validate_args is before is True
try:
    blocks.ZukoPrior(2, "XYZ")
except InputError as error:
    assert "XYZ" in str(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_zuko_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(InputError, match="pip install zuko"):
        blocks.ZukoPrior(2)


# ---- the guide is borrowed ----

VAMP = """
import pyro
from math import prod
from torch import nn
from ppl_vae import blocks
from ppl_vae.models.bernoulli import Model as Bernoulli

class Model(Bernoulli):
    def __init__(self, data_shape, data, guide, latent_dim=2, hidden=16):
        super().__init__(data_shape, latent_dim, hidden)
        self.p_z = blocks.NAME

    def prior(self, x):
        return self.p_z()
"""
BORROWERS = {
    "VampPrior": "VampPrior(guide, data, 7)",
    "GTMVampPrior": "GTMVampPrior(guide, data, 3, 8)",
}


@pytest.mark.parametrize("name", BORROWERS)
def test_the_guides_tensors_are_counted_saved_and_trained_once(tmp_path: Path, name: str) -> None:
    file = tmp_path / "vamp.py"
    file.write_text(VAMP.replace("NAME", BORROWERS[name]))
    rows = torch.as_tensor(binary_rows())
    pair = resolve_pair(file, "diagonal_normal", (rows,), SMALL)
    guides = dict(pair.guide.named_parameters())
    assert not {id(p) for p in guides.values()} & {id(p) for p in pair.model.parameters()}
    names = [name for name, _ in owned(pair.model, pair.guide, pair.borrower)]
    assert {f"guide.{name}" for name in pair.guide.state_dict()} == {n for n in names if n.startswith("guide.")}
    tensors = list(parameters(pair.model, pair.guide, pair.borrower).values())
    assert len({id(t) for t in tensors}) == len(tensors) == len(guides) + len(list(pair.model.parameters()))

    run = fitted(tmp_path, model=file)
    saved, _ = run.checkpoints.load(run.checkpoints.steps[-1])
    weights = [name for name in saved if name.startswith(("model.", "guide."))]
    assert sorted(weights) == sorted(names)
    ends = [run.pair(model=file, checkpoint=c) for c in ("last", "last", "first")]
    x = run.data().test[0]
    values = []
    for pair in ends:
        torch.manual_seed(0)
        values.append(Trace_ELBO().estimate(pair.model, pair.guide, (x,)).value)
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    for name in saved:
        if name.startswith("model.p_z."):
            assert not torch.equal(saved[name], run.checkpoints.load(0)[0][name]), f"{name} was not trained"


def test_a_vamp_prior_is_the_mixture_of_the_posteriors_at_its_pseudo_inputs() -> None:
    q, rows = guide(torch.float64), data(torch.float64)
    prior = blocks.VampPrior(q, rows, 25)
    assert (prior.pseudo_inputs[:20] - rows).abs().max() < 0.06
    z = torch.randn(4, Z, dtype=torch.float64)
    each = [q.posterior(u.unsqueeze(0)).log_prob(z) for u in prior.pseudo_inputs]
    torch.testing.assert_close(prior().log_prob(z), torch.stack(each).logsumexp(0) - math.log(25))
    prior().log_prob(z).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in q.parameters())
    assert not prior.state_dict().keys() - {"pseudo_inputs"}


def test_a_guide_without_posterior_is_refused() -> None:
    with pytest.raises(InputError, match="Linear has no method posterior"):
        blocks.VampPrior(nn.Linear(2, 2), torch.zeros(3, 2))


def test_the_discrete_priors_are_their_distributions() -> None:
    logits = torch.randn(4)
    prior = blocks.priors.Categorical(4)
    prior.logits.data = logits
    torch.testing.assert_close(prior().log_prob(torch.arange(4)), logits.log_softmax(-1))
    relaxed = blocks.priors.RelaxedCategorical(4, temperature=0.7)
    relaxed.logits.data = logits
    p = relaxed()
    assert (p.temperature.item(), p.event_shape) == (pytest.approx(0.7), (4,))
    torch.testing.assert_close(p.logits, logits.log_softmax(-1))
    torch.testing.assert_close(relaxed().sample((50,)).exp().sum(-1), torch.ones(50))


def test_the_area_of_the_sphere() -> None:
    for d, area in ((1, 2), (2, 2 * math.pi), (3, 4 * math.pi), (4, 2 * math.pi**2)):
        p = blocks.SphericalPrior(d)()
        z = p.sample((1000,))
        assert p.log_prob(z)[0].item() == pytest.approx(-math.log(area), rel=1e-5)
        torch.testing.assert_close(z.norm(dim=-1), torch.ones(1000))
        assert abs(z.mean(0)).max() < 4 / math.sqrt(1000 * d)
        assert torch.allclose(p.variance, torch.full((d,), 1 / d))
