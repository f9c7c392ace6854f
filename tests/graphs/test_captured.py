"""The captured pass is that of the programs: every number and gradient, for any number of rows."""

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import pytest
import torch
from support.captures import ROWS, captures
from support.captures import Captured as Case
from support.pairs import Case as Pairs
from support.pairs import every_pair
from torch import Tensor, nn
from torch._subclasses import FakeTensor

import ppl_vae
from ppl_vae import objectives
from ppl_vae.core.errors import InputError
from ppl_vae.graphs.captured import Captured
from ppl_vae.graphs.graph import NotCaptured
from ppl_vae.graphs.products import by_onednn, products, seconds
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import Pair, resolve_pair
from ppl_vae.training.prepare import isolated
from ppl_vae.training.step import Trainer

SMALL = {"latent_dim": 3, "hidden": 8}


def own(pair: Pair, objective: objectives.Objective, batch: tuple[Tensor, ...], weight: float = 1.0) -> list[Tensor]:
    """What the programs give at the noise of seed 1: the numbers, and every gradient."""
    trainer = Trainer(pair, objective, rate_weight=weight)
    torch.manual_seed(1)
    seen = trainer.backward(batch)
    gradients = (torch.zeros_like(p) if p.grad is None else p.grad for p in trainer.parameters.values())
    return [torch.tensor(seen, dtype=torch.float64), *gradients]


def of_graph(captured: Captured, batch: tuple[Tensor, ...], weight: float = 1.0) -> list[Tensor]:
    torch.manual_seed(1)
    numbers, gradients = captured(batch, weight)
    return [numbers, *gradients]


def distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest relative distance, of the numbers or of all gradients together."""
    numbers = ((ours[0] - theirs[0]).abs() / theirs[0].abs().clamp(min=1)).max().item()
    a, b = (torch.cat([g.flatten().double() for g in gradients[1:]]) for gradients in (ours, theirs))
    return max(numbers, ((a - b).norm() / b.norm().clamp(min=1e-6)).item())


@pytest.mark.parametrize("case", list(captures()), ids=str)
def test_the_graph_equals_the_programs(case: Case) -> None:
    """Also for fewer rows, by one graph. In float32, bit for bit."""
    with isolated(0):
        batch = case.batch()
        captured = Captured(*case.pair(batch), compile=False)
        for rows in (batch, tuple(x[:7] for x in batch)):
            far = distance(of_graph(captured, rows), own(*case.pair(batch), rows))
            assert far < 1e-7
        assert [graph.rows for graph, _ in captured.graphs] == [None]


@every_pair
def test_the_graph_of_a_shipped_pair_equals_its_programs(case: Pairs) -> None:
    with isolated(0):
        pair, batch, objective = case.pair(), case.data(ROWS), objectives.get("trace")()
        captured = Captured(pair, objective, compile=False)
        for rows in (batch, tuple(x[:7] for x in batch)):
            assert distance(of_graph(captured, rows), own(pair, objective, rows)) < 1e-7
        assert [graph.rows for graph, _ in captured.graphs] == [None]


def small(objective: str = "trace", weighted: bool = False, compile: bool = False) -> Captured:
    torch.manual_seed(0)
    pair = resolve_pair("bernoulli", "diagonal_normal", (BITS,), SMALL)
    return Captured(pair, objectives.get(objective)(), weighted, compile)


BITS = (torch.arange(12 * 9).reshape(12, 9) * 7 % 5 < 2).float()


@pytest.mark.parametrize("objective", ["trace", "analytic-kl", "free-bits"])
def test_the_weight_of_the_rate_is_an_input(objective: str) -> None:
    with isolated(0):
        captured = small(objective, weighted=True)
        for weight in (0.0, 0.3, 1.0):
            theirs = own(captured.pair, captured.objective, (BITS,), weight)
            assert distance(of_graph(captured, (BITS,), weight), theirs) < 1e-6
        assert len(captured.graphs) == 1


def test_float64_is_equal_to_its_rounding() -> None:
    with isolated(0):
        captured = small("dreg")
        captured.pair.model.double()
        captured.pair.guide.double()
        captured = Captured(captured.pair, captured.objective, compile=False)
        x = BITS.double()
        assert distance(of_graph(captured, (x,)), own(captured.pair, captured.objective, (x,))) < 1e-12


def test_one_row_gets_a_graph_of_its_own() -> None:
    with isolated(0):
        captured = small("iwae")
        for rows in (BITS, BITS[:1], BITS[:5]):
            assert distance(of_graph(captured, (rows,)), own(captured.pair, captured.objective, (rows,))) < 1e-6
        assert [graph.rows for graph, _ in captured.graphs] == [None, 1]


decoder, encoder = nn.Linear(2, 9), nn.Linear(9, 4)


def model(x: Tensor) -> None:
    pyro.module("decoder", decoder)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), pyro.param("scale", torch.ones(2))).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)


def guide(x: Tensor) -> None:
    pyro.module("encoder", encoder)
    with pyro.plate("data", len(x)):
        loc, log_scale = encoder(x).chunk(2, -1)
        pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def test_plain_functions_and_a_python_number_of_rows() -> None:
    """`len(x)` fixes the number, so that each size gets a graph; the numbers are those of the functions."""
    captured = ppl_vae.capture(Trace_ELBO(), model, guide, BITS, compile=False)
    assert set(captured.parameters) == {
        "model.owned.decoder.weight", "model.owned.decoder.bias", "model.free.scale",
        "guide.owned.encoder.weight", "guide.owned.encoder.bias",
    }  # fmt: skip
    for rows in (BITS, BITS[:5]):
        with isolated(0):
            assert distance(of_graph(captured, (rows,)), own(captured.pair, captured.objective, (rows,))) < 1e-7
    assert [graph.rows for graph, _ in captured.graphs] == [12, 5]


def test_control_flow_on_numbers_is_refused_with_its_statement() -> None:
    def branching(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(x.shape[0], 2), 1.0).to_event(1))
            if z.sum() > 0:
                z = 2 * z
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    with pytest.raises(NotCaptured, match=r"test_captured.py, line \d+, if z.sum\(\) > 0:: this needs the numbers"):
        ppl_vae.capture(Trace_ELBO(), branching, guide, BITS)


def test_what_an_objective_refuses_is_refused() -> None:
    with isolated(0):
        pair = resolve_pair("vae", "amortized", (BITS,), SMALL | {"prior": "mixture"})
        captured = Captured(pair, objectives.get("analytic-kl")(), compile=False)
        with pytest.raises(InputError, match="no closed-form KL"):
            captured((BITS,))


class Keeping(nn.Module):
    """It keeps a draw as an attribute."""

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder, self.kept = nn.Linear(3, data_shape[0]), torch.zeros(3)

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            self.kept = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(self.kept)).to_event(1), obs=x)


def test_no_tensor_without_numbers_stays_in_a_program() -> None:
    with isolated(0):
        pair = resolve_pair(Keeping, "diagonal_normal", (BITS,), SMALL)
        of_graph(Captured(pair, objectives.get("trace")(), compile=False), (BITS,))
        assert not isinstance(pair.model.kept, FakeTensor)


def test_buffers_move_once_and_not_in_a_pass_that_is_not_finite() -> None:
    def norm(pair: Pair) -> list[Tensor]:
        return [b.clone() for name, b in pair.guide.named_buffers() if "running" in name]

    def pair() -> Pair:
        torch.manual_seed(0)
        return resolve_pair("vae", "amortized", (BITS,), SMALL | {"family": "batch_norm_normal"})

    with isolated(0):
        theirs, ours = pair(), pair()
        objective = objectives.get("sticking-the-landing")()
        captured = Captured(ours, objective, compile=False)
        before = norm(ours)
        of_graph(captured, (BITS,))
        own(theirs, objective, (BITS,))
        moved = norm(ours)
        for a, b, start in zip(moved, norm(theirs), before, strict=True):
            assert torch.allclose(a, b)
            assert not torch.allclose(a, start)
        of_graph(captured, (torch.full_like(BITS, torch.inf),))
        assert all(map(torch.equal, norm(ours), moved))


def test_products_by_onednn_are_products(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    with isolated(0):
        captured = small("iwae")
        theirs = of_graph(captured, (BITS,))
        ((graph, _),) = captured.graphs
        assert products(graph.module.graph, 12) == []
        monkeypatch.setattr("ppl_vae.graphs.products.LEAST", 0)
        count = len(products(graph.module.graph, 12))
        assert count == 11, "four layers, forward and backward, but for the gradient of the data"
        taken = seconds(graph.module, 12)
        assert set(taken) == {"mm", "onednn"}
        assert min(taken.values()) > 0
        by_onednn(graph.module, 12)
        assert products(graph.module.graph, 12) == []
        assert distance(of_graph(captured, (BITS,)), theirs) < 1e-5
        assert sum(node.target is torch.ops.ppl_vae.product.default for node in graph.module.graph.nodes) == count
