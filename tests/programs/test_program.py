"""A plain Pyro function as a module, and who owns which tensor of a pair."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from support.programs import B, D, Z, normal, rows
from torch import Tensor, nn

from ppl_vae.core.errors import InputError
from ppl_vae.guides import diagonal_normal
from ppl_vae.guides import linear_gaussian as borrowing
from ppl_vae.models import linear_gaussian
from ppl_vae.objectives import AnalyticKL_ELBO, Trace_ELBO
from ppl_vae.programs import Program, load_owned, owned, parameters, simulate, terms

WEIGHTS = torch.tensor([0.2, 0.3, 0.5])


def function_of(network: nn.Module) -> Callable[[Tensor], None]:
    """A model with a module, a real, a positive and a simplex parameter."""

    def model(x: Tensor) -> None:
        pyro.module("net.work", network)
        loc = pyro.param("loc", lambda: torch.randn(Z))
        pyro.param("a.sigma", torch.full((D,), 2.0), constraint=constraints.positive)
        weights = pyro.param("weights", WEIGHTS.clone(), constraint=constraints.simplex)
        with rows(x):
            z = pyro.sample("z", normal(loc))
            flat = network(z.reshape(-1, Z)).reshape(*z.shape[:-1], D)
            pyro.sample("x", dist.Normal(flat * weights, pyro.param("a.sigma")).to_event(1), obs=x)

    return model


def guide(x: Tensor) -> None:
    with rows(x):
        pyro.sample("z", normal(x[:, :Z]))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(Z, D), nn.BatchNorm1d(D))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(B, D)


def test_a_program_owns_modules_with_their_buffers_and_free_params(x: Tensor) -> None:
    net = network()
    program = Program(function_of(net), (x,))
    state = program.state_dict(keep_vars=True)
    assert {id(t) for t in net.state_dict(keep_vars=True).values()} < {id(t) for t in state.values()}
    free = {name for name in state if name.startswith("free.")}
    assert free == {"free.loc", "free.a_sigma", "free.weights"}
    assert len(list(program.parameters())) == 4 + 3


def test_constrained_params_keep_their_value_and_their_constraint(x: Tensor) -> None:
    program = Program(function_of(network()), (x,))
    torch.testing.assert_close(program.param("a.sigma"), torch.full((D,), 2.0))
    torch.testing.assert_close(program.param("weights"), WEIGHTS)
    with torch.no_grad():
        for p in program.free.values():
            p.normal_(std=3)
    assert (program.param("a.sigma") > 0).all()
    torch.testing.assert_close(program.param("weights").sum(), torch.ones(()))
    t = terms(program, guide, x)
    assert torch.equal(t.p["x"].base_dist.scale[0], program.param("a.sigma"))


def test_a_program_gives_every_parameter_a_gradient(x: Tensor) -> None:
    program = Program(function_of(network()), (x,))
    AnalyticKL_ELBO()(program, Program(guide, (x,)))(x).backward()
    assert [name for name, p in program.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("assign", [False, True])
def test_state_dict_goes_round_into_another_instance(assign: bool, x: Tensor) -> None:
    one, two = (Program(function_of(network()), (x,)) for _ in range(2))
    saved = {name: t.clone() for name, t in one.state_dict().items()}
    two.load_state_dict(saved, assign=assign)
    one.eval(), two.eval()
    outs = []
    for program in (one, two):
        torch.manual_seed(1)
        outs.append(terms(program, guide, x).log_lik["x"])
    torch.testing.assert_close(*outs)
    assert outs[1].requires_grad


def test_two_instances_do_not_share(x: Tensor) -> None:
    programs = [Program(function_of(network()), (x,)) for _ in range(2)]
    ids = [{id(t) for t in p.state_dict(keep_vars=True).values()} for p in programs]
    assert not ids[0] & ids[1]
    assert (programs[0].param("loc") != programs[1].param("loc")).any(), "both begin at the same random numbers"


def test_a_program_leaves_the_parameter_store_alone(x: Tensor) -> None:
    pyro.param("loc", torch.full((Z,), 7.0))
    program = Program(function_of(network()), (x,))
    assert (program.param("loc") != 7).all(), "the store's value got in"
    Trace_ELBO(5)(program, Program(guide, (x,)))(x).backward()
    assert list(pyro.get_param_store().keys()) == ["loc"]
    assert (pyro.param("loc") == 7).all()


def test_tracing_leaves_the_statistics_of_a_batchnorm_alone(x: Tensor) -> None:
    net = network()
    before = {name: t.clone() for name, t in net[1].state_dict().items()}
    Program(function_of(net), (x,))
    torch.testing.assert_close(dict(net[1].state_dict()), before)


def test_a_program_trains_in_plain_svi(x: Tensor) -> None:
    program = Program(function_of(network()), (x,))
    before = {name: p.clone() for name, p in program.named_parameters()}
    svi = pyro.infer.SVI(program, guide, pyro.optim.Adam({"lr": 0.1}), pyro.infer.Trace_ELBO())
    svi.step(x)
    assert [name for name, p in program.named_parameters() if torch.equal(p, before[name])] == []


def test_a_program_follows_its_dtype(x: Tensor) -> None:
    program = Program(function_of(network()), (x,)).double()
    assert simulate(program, x.double())["x"].dtype is torch.float64


class VAE(nn.Module):
    vectorized = False

    def __init__(self) -> None:
        super().__init__()
        self.decoder, self.encoder = nn.Linear(Z, D), nn.Linear(D, Z)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with rows(x):
            z = pyro.sample("z", normal(torch.zeros(Z)))
            pyro.sample("x", normal(self.decoder(z)), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with rows(x):
            pyro.sample("z", normal(self.encoder(x)))


def test_a_method_is_a_program_and_says_what_its_object_says(x: Tensor) -> None:
    vae = VAE()
    model = Program(vae.model, (x,))
    assert {id(p) for p in model.parameters()} == {id(p) for p in vae.decoder.parameters()}
    assert model.vectorized is False


def test_free_params_of_one_name_become_one_parameter(x: Tensor) -> None:
    def shared(x: Tensor) -> None:
        with rows(x):
            pyro.sample("z", normal(pyro.param("loc", torch.ones(Z)) + pyro.param("own", torch.ones(Z))))

    model, borrower = Program(function_of(network()), (x,)), Program(shared, (x,))
    borrower.share(model)
    assert borrower.free["loc"] is model.free["loc"]
    assert [n for n, _ in owned(model, borrower) if n.startswith("guide")] == ["guide.free.own"]


# ---- ownership ----


def borrowing_guide() -> tuple[nn.Module, nn.Module, str]:
    model = linear_gaussian.Model((D,), Z)
    return model, borrowing.Guide((D,), model), "guide"


class Vamp(nn.Module):
    """A prior made of the guide's posteriors at pseudo-inputs, like VampPrior: borrows the guide's encoder."""

    def __init__(self, guide: Any) -> None:
        super().__init__()
        self.guide, self.pseudo = guide, nn.Parameter(torch.randn(4, D))
        self.register_buffer("weights", torch.ones(4))


def borrowing_model() -> tuple[nn.Module, nn.Module, str]:
    guide = diagonal_normal.Guide((D,), Z, 4)
    return Vamp(guide), guide, "model"


def tied() -> tuple[nn.Module, nn.Module, str]:
    model = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.Linear(D, D))
    model[2].weight = model[0].weight
    return model, nn.Linear(D, D), "guide"


BORROWERS = {
    borrowing_guide: {"model.W", "model.b", "model.log_sigma"},
    borrowing_model: {
        "model.pseudo",
        "model.weights",
        *("guide.scale.center", "guide.scale.spread"),
        *(f"guide.encoder.{i}.{of}" for i in (0, 2) for of in ("weight", "bias")),
    },
    tied: {
        *("model.0.weight", "model.0.bias", "model.2.bias", "model.1.weight", "model.1.bias"),
        *("model.1.running_mean", "model.1.running_var", "model.1.num_batches_tracked", "guide.weight", "guide.bias"),
    },
}
every_borrower = pytest.mark.parametrize("make", BORROWERS, ids=lambda f: f.__name__)


@every_borrower
def test_every_tensor_is_owned_once_and_by_the_lender(make: Callable[[], Any]) -> None:
    model, guide, borrower = make()
    mine = dict(owned(model, guide, borrower))
    assert set(mine) == BORROWERS[make]
    both = [*model.state_dict(keep_vars=True).values(), *guide.state_dict(keep_vars=True).values()]
    assert sorted(map(id, mine.values())) == sorted({id(t) for t in both})


@every_borrower
def test_parameters_are_the_owned_tensors_that_train(make: Callable[[], Any]) -> None:
    model, guide, borrower = make()
    frozen = next(iter(guide.parameters()))
    frozen.requires_grad_(False)
    train = parameters(model, guide, borrower)
    expected = {id(p) for p in (*model.parameters(), *guide.parameters())} - {id(frozen)}
    assert {id(p) for p in train.values()} == expected
    assert len(train) == len(expected)


@every_borrower
def test_owned_state_goes_round(make: Callable[[], Any]) -> None:
    one, two = make(), make()
    saved = {name: t.detach().clone() for name, t in owned(*one)}
    load_owned(two[0], two[1], saved, two[2])
    for a, b in zip(one[:2], two[:2], strict=True):
        torch.testing.assert_close(dict(a.state_dict()), dict(b.state_dict()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("model.W"), "differ in model.W"),
        (lambda s: s.update({"model.other": torch.ones(1)}), "differ in model.other"),
        (
            lambda s: s.update({"model.log_sigma": torch.zeros(2)}),
            r"model.log_sigma has the shape \(\), but was saved with \(2,\)",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change: Callable[..., Any], says: str) -> None:
    model, guide, _ = borrowing_guide()
    state = {name: torch.full_like(t, 9.0) for name, t in owned(model, guide)}
    change(state)
    with pytest.raises(InputError, match=says):
        load_owned(model, guide, state)
    assert not any((t == 9).any() for _, t in owned(model, guide))
