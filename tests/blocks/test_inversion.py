"""What an automatic guide is made of: its graph against exact conditionals, its families against exact densities."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import biject_to

from ppl_vae.blocks import families, inversion
from ppl_vae.core.errors import InputError
from ppl_vae.distributions.relaxed import ExpRelaxedCategorical
from ppl_vae.distributions.sphere import SphericalUniform

# ---- the graph ----


def random_graph(latents: int, observed: int) -> tuple[Tensor, dict[str, set[str]]]:
    """Weights W of a linear Gaussian model v = Wv + ε, and the parents of its nodes."""
    n = latents + observed
    W = torch.randn(n, n).double().tril(-1) * (torch.rand(n, n) < 0.4)
    W[:, latents:] = 0  # an observed node has no children
    return W, {f"v{i}": {f"v{j}" for j in range(n) if W[i, j] != 0} for i in range(n)}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("inverted", [False, True])
def test_a_site_sees_what_its_exact_conditional_depends_on(seed: int, inverted: bool) -> None:
    """The coefficients of E[z_i | z_<i, x] in a linear Gaussian model: those outside of what is found are 0."""
    torch.manual_seed(seed)
    latents, observed = 4, 3
    W, graph = random_graph(latents, observed)
    names = [f"v{i}" for i in range(latents)][:: -1 if inverted else 1]
    found = inversion.inverse(graph, names)
    inverse = torch.linalg.inv(torch.eye(len(W)) - W)
    covariance = inverse @ inverse.T
    for i, name in enumerate(names):
        before = [*names[:i], *(f"v{j}" for j in range(latents, latents + observed))]
        at = [int(other[1:]) for other in before]
        cross = covariance[int(name[1:]), at]
        weights = torch.linalg.solve(covariance[at][:, at], cross)
        needed = {other for other, weight in zip(before, weights.tolist(), strict=True) if abs(weight) > 1e-9}
        assert needed <= found[name] <= set(before)
        if all(any(f"v{j}" in parents for parents in graph.values()) for j in range(latents)):
            # where each latent has a child, there is nothing that is not needed
            assert found[name] == needed, (graph, name)


def chain(x: Tensor) -> None:
    """z2 -> z1 -> x."""
    with pyro.plate("data", x.shape[0]):
        z2 = pyro.sample("z2", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        z1 = pyro.sample("z1", dist.Normal(z2.cumsum(-1), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z1.repeat_interleave(2, -1), 1.0).to_event(1), obs=x)


def causes(x: Tensor) -> None:
    """a -> x <- s, which are independent before x is seen; d says nothing of the others."""
    with pyro.plate("data", x.shape[0]):
        a = pyro.sample("a", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 1.0))
        pyro.sample("d", dist.Gamma(x.new_ones(()), 1.0))
        pyro.sample("x", dist.Normal(a.repeat_interleave(2, -1), s.unsqueeze(-1)).to_event(1), obs=x)


@pytest.mark.parametrize(
    ("model", "order", "seen"),
    [
        (chain, "model", {"z2": ([], True), "z1": (["z2"], True)}),
        (chain, "inverted", {"z1": ([], True), "z2": (["z1"], False)}),
        (causes, "model", {"a": ([], True), "s": (["a"], True), "d": ([], True)}),
        (causes, "inverted", {"d": ([], True), "s": ([], True), "a": (["s"], True)}),
    ],
)
def test_the_structure_of_a_program(model: Any, order: Any, seen: dict[str, Any]) -> None:
    for x in (torch.randn(5, 4), torch.zeros(2, 4)):  # a run is opened with zeros
        found = inversion.structure(model, (x,), order)
        assert {z.name: (list(z.parents), z.sees_data) for z in found.latents} == seen
        assert (found.fields, found.kinds, found.masked, found.images) == ([0], None, False, False)


def test_the_trace_leaves_nothing_behind() -> None:
    """Neither a parameter, nor a random number, nor a row in the running mean of a batch normalization."""
    norm = nn.BatchNorm1d(4)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> None:
            pyro.module("model", self)
            chain(self.norm(x))

    pyro.clear_param_store()
    model, x = Model(), torch.randn(5, 4)
    before, state = norm.running_mean.clone(), torch.get_rng_state()
    inversion.structure(model, (x,))
    assert torch.equal(norm.running_mean, before)
    assert norm.training
    assert len(pyro.get_param_store()) == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_a_dependence_is_found_where_a_tag_is_lost() -> None:
    """`vmap` returns tensors that do not know where they come from; autograd does."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            a = pyro.sample("a", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.func.vmap(lambda row: row.repeat(2))(a), 1.0).to_event(1), obs=x)
            pyro.sample("b", dist.Normal(torch.func.vmap(lambda row: row.sum())(a), 1.0))

    _, b = inversion.structure(model, (torch.randn(5, 4),)).latents
    assert b == inversion.Latent("b", ("a",), sees_data=False)


# ---- families by support ----

FAMILIES = ["diagonal_normal", "full_normal", "mixture_normal", "iaf"]
PUSHED: dict[str, Callable[[], Any]] = {
    "scalar": lambda: dist.Normal(torch.zeros(()), 1.0),
    "vector": lambda: dist.Normal(torch.zeros(3), 1.0).to_event(1),
    "matrix": lambda: dist.Normal(torch.zeros(2, 3), 1.0).to_event(2),
    "positive": lambda: dist.Gamma(torch.ones(()), 1.0),
    "positive vector": lambda: dist.LogNormal(torch.zeros(3), 1.0).to_event(1),
    "half line": lambda: dist.HalfNormal(torch.ones(2)).to_event(1),
    "above a bound": lambda: dist.Pareto(torch.full((2,), 3.0), 1.0).to_event(1),
    "interval": lambda: dist.Uniform(torch.full((3,), -1.0), 2.0).to_event(1),
    "unit interval": lambda: dist.Beta(torch.ones(()), 1.0),
    "simplex": lambda: dist.Dirichlet(torch.ones(4)),
}


def made(fn: Any, family: str = "diagonal_normal", rows: int = 5) -> tuple[Any, Tensor]:
    torch.manual_seed(1)
    q = inversion.family_for("z", fn, family).double()
    for parameter in q.parameters():
        nn.init.normal_(parameter, std=0.5)
    return q, torch.randn(rows, q.width, dtype=torch.float64)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", PUSHED)
def test_the_density_is_that_of_the_change_of_variables(kind: str, family: str) -> None:
    """log q(z) = log q_u(u) − log |det ∂z/∂u|, z = b(u), with the Jacobian by automatic differentiation.

    A density on the simplex of n numbers is one of the first n − 1.
    """
    fn = PUSHED[kind]()
    q, raw = made(fn, family)
    z = q(raw).rsample()
    assert z.shape == (len(raw), *fn.event_shape)
    assert fn.support.check(z).all()
    u = q.features(z)
    assert u.shape == (len(raw), q.size)
    bijection = biject_to(fn.support)
    shape = bijection.inverse_shape(fn.event_shape)

    def number(u: Tensor) -> Tensor:
        return bijection(u.reshape(shape)).flatten()[: q.size]

    log_det = torch.stack([torch.linalg.slogdet(jacobian(number, row))[1] for row in u.detach()])
    q_u = families.build(family if q.size > 1 or family != "iaf" else "diagonal_normal", q.size).double()
    q_u.load_state_dict(q.base.state_dict())
    torch.testing.assert_close(q(raw).log_prob(z), q_u(raw).log_prob(u) - log_det, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["scalar", "vector", "matrix"])
def test_real_numbers_have_the_family_itself(kind: str) -> None:
    """So that its KL to a Normal prior has a closed form."""
    fn = PUSHED[kind]()
    q, raw = made(fn)
    assert isinstance(q(raw), dist.Normal if kind == "scalar" else dist.Independent)
    assert q(raw).event_shape == fn.event_shape


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (dist.Categorical(torch.ones(4)), dist.Categorical),
        (dist.Bernoulli(torch.ones(()) / 2), dist.Bernoulli),
        (dist.OneHotCategorical(torch.ones(4)), dist.OneHotCategorical),
        (dist.RelaxedOneHotCategorical(torch.tensor(0.7), torch.ones(4)), dist.RelaxedOneHotCategorical),
        (ExpRelaxedCategorical(torch.tensor(0.7), torch.ones(4)), ExpRelaxedCategorical),
    ],
)
def test_a_class_has_the_family_of_the_model(fn: Any, expected: type) -> None:
    """With the model's own temperature, where it has one; a discrete one is to be summed over."""
    q, raw = made(fn)
    assert type(q(raw)) is expected
    assert getattr(q(raw), "temperature", torch.tensor(0.7)).item() == pytest.approx(0.7)
    z = q(raw).sample()
    assert fn.support.check(z).all()
    assert q.features(z).shape == (len(raw), q.size)
    assert bool(q.infer) == fn.has_enumerate_support


def test_discrete_events_and_spheres() -> None:
    several, raw = made(dist.Categorical(torch.ones(2, 4)).to_event(1))
    z = several(raw).sample()
    assert z.shape == (len(raw), 2)
    assert torch.equal(several.features(z).unflatten(-1, (2, 4)).argmax(-1), z)
    bits, raw = made(dist.Bernoulli(torch.ones(2, 3) / 2).to_event(2))
    assert bits(raw).sample().shape == (len(raw), 2, 3)
    point, raw = made(SphericalUniform(torch.zeros(3)))
    torch.testing.assert_close(point(raw).rsample().norm(dim=-1), torch.ones(len(raw)).double())


@pytest.mark.parametrize(
    ("fn", "family", "message"),
    [
        (dist.Poisson(torch.ones(())), "diagonal_normal", "no family for Poisson, whose support is"),
        (dist.Wishart(torch.tensor(4.0), torch.eye(2)), "diagonal_normal", "no family for Wishart"),
        (dist.VonMises(torch.zeros(()), 1.0), "diagonal_normal", "no family for VonMises"),
        (dist.Normal(torch.zeros(3), 1.0).to_event(1), "power_spherical", "power_spherical is no family of those"),
        (dist.Uniform(torch.zeros(2), torch.tensor([1.0, 2.0])).to_event(1), "iaf", "are not one constant"),
        (dist.Uniform(0.0, nn.Parameter(torch.ones(()))), "iaf", "are not one constant"),
    ],
)
def test_what_no_family_is_for_is_refused(fn: Any, family: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        inversion.family_for("z", fn, family)


# ---- what is refused of a program ----


def outside(x: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", x.shape[0]):
        pyro.sample("x", dist.Normal(z, 1.0).expand([4]).to_event(1), obs=x)


def inner_plate(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]), pyro.plate("parts", 3):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def nothing_latent(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        pyro.sample("x", dist.Normal(0.0, 1.0).expand([4]).to_event(1), obs=x)


def partly(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(x.new_zeros(4), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x, obs_mask=x[:, 0] > 0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (outside, "site 'z' stands in the plates none: the guide `auto` needs it in the plate 'data' alone"),
        (inner_plate, "site 'z' stands in the plates 'data' and 'parts'"),
        (nothing_latent, "no latent site"),
        (partly, "observes no field for all rows"),
    ],
)
def test_a_model_that_it_can_not_serve_is_refused(model: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        inversion.structure(model, (torch.randn(5, 4),))
