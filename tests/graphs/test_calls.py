"""Functions that are compiled when it pays: when, that their numbers stay, and what is left as it is."""

import math
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch
from support.palette import data_for
from torch import Tensor, nn

from ppl_vae import objectives
from ppl_vae.core.errors import InputError, NumericalError
from ppl_vae.diagnostics.compare import value_and_gradient
from ppl_vae.evidence.annealed import annealed
from ppl_vae.evidence.fitted import fitted
from ppl_vae.evidence.gap import refined
from ppl_vae.evidence.importance import importance, log_weights
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.posterior import by_hmc
from ppl_vae.graphs import calls, static
from ppl_vae.graphs.calls import Compiling, compilable, compiling, settle, was_compiled
from ppl_vae.programs import Terms, parameters, resolve_pair
from ppl_vae.training.prepare import isolated

SETTINGS = {"latent_dim": 3, "hidden": 8}
X = data_for("bernoulli", 12).contiguous()


@pytest.fixture
def traced(monkeypatch):
    """Graphs run operation by operation, by torch's products, so that they give the same bits as the programs."""
    monkeypatch.setattr(static, "compiled", lambda module, inputs: module)
    monkeypatch.setattr(static, "faster", lambda module, rows: "mm")


def pair_of(model: str = "bernoulli", guide: str = "diagonal_normal", **settings) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    pair = resolve_pair(model, guide, (X,), SETTINGS | settings)
    return pair.model.eval(), pair.guide.eval()


def found(how: str, function, seed: int = 1) -> tuple[Tensor, Compiling]:
    with isolated(seed), compiling(how) as made:
        return function(), made


PAIRS = {
    "normal": {},
    "low rank": {"guide": "amortized", "model": "vae", "family": "low_rank_normal"},
    "mixture": {"guide": "amortized", "model": "vae", "prior": "mixture", "prior.components": 3},
    "sphere": {"guide": "amortized", "model": "vae", "prior": "sphere", "family": "power_spherical"},
    "ladder": {"guide": "ladder", "model": "hierarchical"},
}
WORK = {
    "importance": lambda p, q: importance(p, q, X, 30).log_px,
    "fitted": lambda p, q: fitted(p, q, X, 20).log_px,
    "annealed": lambda p, q: annealed(p, q, X, temperatures=12, chains=3, batch_size=6).log_w,
    "chains": lambda p, q: by_hmc(p, q, (X,), 4, chains=2, transitions=4, warmup=4).diagnostics["acceptance"],
    "refined": lambda p, q: refined(p, q, X, steps=3, num_samples=8).elbo,
}


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("pair", PAIRS)
def test_an_evaluation_is_the_same_to_the_last_bit(traced, pair, work):
    """Several batches, by one graph for each shape."""
    if pair == "ladder" and work == "refined":
        pytest.skip("a ladder's second q depends on the first draw, so that no numbers of a row stand for it")
    programs = pair_of(**PAIRS[pair])
    plain, _ = found("off", lambda: WORK[work](*programs))
    ours, made = found("on", lambda: WORK[work](*programs))
    if pair == "ladder" and work == "annealed":
        torch.testing.assert_close(ours, plain)
    else:
        assert torch.equal(ours, plain)
    assert made.made or all(called.count == 1 for called in made.calls.values())
    assert not made.refused


@pytest.mark.parametrize("name", ["trace", "analytic-kl", "score-function", "sticking-the-landing", "dreg", "iwae"])
def test_gradients_are_those_of_the_parameters(traced, name):
    model, guide = pair_of()
    objective = objectives.get(name)()

    def gradients() -> Tensor:
        trained = list(parameters(model, guide).values())
        both = [value_and_gradient(model, guide, objective, trained, (X,)) for _ in range(3)]
        return torch.cat([x.flatten() for value, gradient in both for x in (value, *gradient)])

    plain, _ = found("off", gradients)
    ours, made = found("on", gradients)
    assert torch.equal(ours, plain)
    assert made.made == ["value_and_gradient"]


def test_it_is_compiled_when_that_pays(traced, monkeypatch):
    """By twice the calls that came; a function that is called once is left, and so is another shape."""
    model, guide = pair_of()
    monkeypatch.setattr(calls, "saved", lambda number, operations: number)
    monkeypatch.setattr(calls, "WORTH", 6.0)
    seen = []
    with isolated(0), torch.no_grad(), compiling("auto"):
        for _ in range(5):
            log_weights(model, guide, (X,), 4)
            seen.append(was_compiled())
        log_weights(model, guide, (X,), 5)
        assert not was_compiled()
        log_weights(model, guide, (X,), 4)
        assert was_compiled()
    assert seen == [False, False, False, True, True]
    log_weights(model, guide, (X,), 4)
    assert not was_compiled()


@pytest.mark.parametrize(("each", "expected"), [(10, False), (100, True)])
def test_functions_that_are_compared_are_compiled_alike(traced, monkeypatch, each, expected):
    model, guide = pair_of()
    monkeypatch.setattr(calls, "saved", lambda number, operations: number * 0.1)
    with isolated(0), torch.no_grad(), compiling("auto"):
        for K in (2, 3):
            log_weights(model, guide, (X,), K)
        settle(each)
        for K in (2, 3):
            log_weights(model, guide, (X,), K)
            assert was_compiled() is expected
        log_weights(model, guide, (X[:5],), 2)
        log_weights(model, guide, (X[:5],), 2)
        assert not was_compiled(), "a shape that was not there is not settled"
        settle(0)
        log_weights(model, guide, (X,), 2)
        assert not was_compiled()


def test_operations_are_counted(traced):
    """Of the matrix products alone: 2 n k m each, of the guide's two layers and outputs and the decoder's."""
    model, guide = pair_of()
    with isolated(0), torch.no_grad():
        log_weights(model, guide, (X,), 4)  # the first pass of all also looks at the plates of the programs
        with compiling("auto") as made:
            log_weights(model, guide, (X,), 4)
    (called,) = made.calls.values()
    n, (d, h, z) = len(X), (X.shape[1], 8, 3)
    assert called.operations == 2 * n * (d * h + h * 2 * z) + 2 * 4 * n * (z * h + h * d)


def test_parameters_may_change(traced):
    model, guide = pair_of()
    with isolated(0), torch.no_grad(), compiling("on") as made:
        for _ in range(3):
            before = log_weights(model, guide, (X,), 4)
        for p in (*model.parameters(), *guide.parameters()):
            p.mul_(1.5)
        torch.manual_seed(3)
        after = log_weights(model, guide, (X,), 4)
        assert made.made
    torch.manual_seed(3)
    with isolated(), torch.no_grad():
        assert torch.equal(after, log_weights(model, guide, (X,), 4))
    assert not torch.allclose(before, after)


def often(times: int, model: nn.Module, guide: nn.Module) -> Tensor:
    return [log_weights(model, guide, (X,), 1) for _ in range(times)][-1]


class Turning(nn.Module):
    """A model whose Python changes: another likelihood from a call on, which is counted where no attribute tells."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, [0]

    def forward(self, x: Tensor) -> None:
        self.calls[0] += 1
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
            probs = (0.2 if self.calls[0] < self.at else 0.3) * x.new_ones(x.shape[1]) + 0 * z[..., :1]
            pyro.sample("x", dist.Bernoulli(probs).to_event(1), obs=x)


class Deciding(Turning):
    """A model that looks at a number."""

    def forward(self, x: Tensor) -> None:
        if x.sum() > 1:
            super().forward(x)


class Moving(Turning):
    """A model that moves a buffer in evaluation mode too."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> None:
        self.seen += 1
        super().forward(x)


def test_a_program_that_has_changed_before_its_graph_is_used_is_left_as_it_is(traced):
    _, guide = pair_of()
    model = Turning(at=4)  # a call that is counted, one to look and one to trace; then the first comparison
    with isolated(0), torch.no_grad(), compiling("on") as made:
        for _ in range(6):
            last = log_weights(model, guide, (X,), 1)
    assert made.refused == {"log_weights": "the compiled result is another than that of the programs"}
    assert model.calls[0] > 4
    assert last.isfinite().all()


def test_a_program_that_changes_later_is_an_error(traced):
    """At the calls 2, 4, 8, ... of the graph: what was computed in between may have been used already."""
    _, guide = pair_of()
    model = Turning(at=7)
    with (
        isolated(0),
        torch.no_grad(),
        compiling("on"),
        pytest.raises(NumericalError, match=r"at its call .*--compile off"),
    ):
        often(20, model, guide)


def test_a_program_that_fails_leaves_compiling_as_it_was(traced):
    """An error while the two are compared: what comes after it is compiled as ever."""
    model, guide = pair_of()

    class Failing(Turning):
        def forward(self, x: Tensor) -> None:
            super().forward(x)
            if self.calls[0] == self.at:
                raise InputError("as planted")

    failing = Failing(at=5)
    with isolated(0), torch.no_grad(), compiling("on"):
        with pytest.raises(InputError, match="as planted"):
            often(20, failing, guide)
        often(3, model, guide)
        assert was_compiled()


def test_what_can_not_be_told_apart_by_its_arguments_is_called_as_it_is(traced):
    @dataclass
    class Unhashable(objectives.Objective):
        name = "unhashable"

        def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
            raise NotImplementedError

    with pytest.raises(TypeError):
        hash(Unhashable())

    @compilable
    def of(objective: objectives.Objective, x: Tensor) -> Tensor:
        return 2 * x

    with compiling("on") as made:
        assert torch.equal(of(Unhashable(), X), 2 * X)
    assert not made.calls


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([-500.0, -510.0], [-500.0, -510.0], True),
        ([-500.4, -510.0], [-500.0, -510.0], False),
        ([1e-6, -1e-6], [-1e-6, 1e-6], True),
        ([math.inf, 1.0], [math.inf, 1.0], True),
        ([math.inf, 1.0], [-math.inf, 1.0], False),
        ([math.nan, 1.0], [1.0, 1.0], False),
        ([math.nan, 1.0], [math.nan, 1.0], True),
    ],
)
def test_results_agree_up_to_rounding(ours, theirs, expected):
    assert calls._agree(torch.tensor(ours), torch.tensor(theirs)) is expected


@pytest.mark.parametrize(("kind", "why"), [(Deciding, "if x.sum() > 1"), (Moving, "a buffer of the programs moves")])
def test_what_can_not_be_captured_runs_as_it_is(traced, kind, why):
    _, guide = pair_of()
    model = kind(at=1000)
    with isolated(0), torch.no_grad(), compiling("on") as made:
        for _ in range(3):
            assert log_weights(model, guide, (X,), 1).isfinite().all()
    assert why in made.refused["log_weights"]
    assert not made.made


def test_coordinates_are_known_by_their_supports():
    """Equal for two batches, so that one graph serves both; not where a bound is a number of the batch."""
    model, guide = pair_of()
    first, second = (Latents(model, guide, (x,)).charts for x in (X[:6], X[6:]))
    assert first == second
    assert hash(first) == hash(second)
    assert first != Latents(model, guide, (X,)).charts

    def bounded(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Uniform(-1 - x[:, 0], 2.0))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1).expand(x.shape), 1.0).to_event(1), obs=x)

    def uniform(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Uniform(-1 - x[:, 0], 2.0))

    first, second = (Latents(bounded, uniform, (x,)).charts for x in (X[:6], X[:6]))
    assert first != second


def test_compiled_for_good():
    """By Inductor, with the faster products: equal up to rounding at the same noise."""
    model, guide = pair_of()
    plain, _ = found("off", lambda: importance(model, guide, X, 40, batch_size=4).log_px)
    ours, made = found("on", lambda: importance(model, guide, X, 40, batch_size=4).log_px)
    assert made.made == ["log_weights"]
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-4)


def test_outside_nothing_is_compiled():
    @compilable
    def twice(x: Tensor) -> Tensor:
        return 2 * x

    assert torch.equal(twice(X), 2 * X)
    assert twice.__name__ == "twice"
