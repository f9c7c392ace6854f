"""What a program says in mathematics: read from hand-written programs, and held against the plate diagram's graph."""

import re
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from support.pairs import Case, every_pair
from torch import Tensor, nn

from ppl_vae.programs import Program
from ppl_vae.programs.notation import Factor, factors
from ppl_vae.reports import mathematics
from ppl_vae.reports.plates import graph_of

X = (torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) < 0.5).float()


class Model(nn.Module):
    """A prior that is fixed, one that is learned, a likelihood with a fixed, a learned and an amortized parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.loc, self.scale, self.net = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(3)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z1 = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            z2 = pyro.sample("z2", dist.Normal(self.loc, 0.5).to_event(1))
            loc = self.net(torch.cat([z1, z2], -1))
            pyro.sample("x", dist.StudentT(4.0, loc, self.scale).to_event(1), obs=x)


def read(program: Any, *batch: Tensor, fields: tuple[str, ...] = ("x", "y")) -> dict[str, Factor]:
    return {factor.site: factor for factor in factors(program, batch, fields[: len(batch)])}


def told(factor: Factor) -> dict[str, tuple[float | None, bool, bool]]:
    return {p.name: (p.value, p.of_given, p.trained) for p in factor.parameters}


def test_a_model_as_it_is_written() -> None:
    found = read(Model(), X)
    assert [*found] == ["z1", "z2", "x"]
    assert [factor.given for factor in found.values()] == [(), (), ("z1", "z2")]
    assert [factor.kind for factor in found.values()] == ["Normal", "Normal", "StudentT"]
    assert [factor.shape for factor in found.values()] == [(2,), (2,), (3,)]
    assert told(found["z1"]) == {"loc": (0.0, False, False), "scale": (1.0, False, False)}
    assert told(found["z2"]) == {"loc": (None, False, True), "scale": (0.5, False, False)}
    assert told(found["x"]) == {
        "df": (4.0, False, False), "loc": (None, True, True), "scale": (None, False, True),
    }  # fmt: skip
    assert found["x"].observed
    assert not found["z1"].observed
    assert all(factor.independent for factor in found.values())


def test_a_field_that_is_given_and_one_that_is_only_in_the_way() -> None:
    layer = nn.Linear(3, 2)

    def guide(x: Tensor, y: Tensor) -> None:
        pyro.module("layer", layer)
        with pyro.plate("data", x.shape[0]):
            z1 = pyro.sample("z1", dist.Normal(layer(x), 1.0).to_event(1))
            pyro.sample("z2", dist.Normal(z1 * y[:, None], 1.0).to_event(1))

    found = read(Program(guide, (X, X[:, 0])), X, torch.arange(5.0))
    assert found["z1"].given == ("x",)
    assert found["z2"].given == ("z1", "y")


def test_a_mixture_is_that_of_its_components() -> None:
    means = nn.Parameter(torch.zeros(7, 2))

    def model(x: Tensor) -> None:
        p_z = dist.MixtureSameFamily(dist.Categorical(torch.ones(7)), dist.Normal(means, 1.0).to_event(1))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", p_z)

    found = read(model, X)["z"]
    assert (found.kind, found.components) == ("Normal", 7)
    assert found.independent


def test_of_probs_and_logits_the_one_that_was_given() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Categorical(logits=torch.zeros(4)))
            pyro.sample("x", dist.NegativeBinomial(3.0, probs=torch.full((3,), 0.5)).to_event(1), obs=x)

    found = read(model, X)
    assert [*told(found["z"])] == ["logits"]
    assert told(found["x"]) == {"total_count": (3.0, False, False), "probs": (0.5, False, False)}


@every_pair
def test_shipped_programs_depend_on_what_their_plate_diagrams_say(case: Case) -> None:
    pair, data = case.pair(), case.data()
    fields = ("x", "library", "batch") if case.model == "cells" else ("x", "y")[: len(data)]
    before = {name: x.clone() for name, x in [*pair.model.named_buffers(), *pair.guide.named_buffers()]}
    state = torch.random.get_rng_state()
    for program in (pair.model, pair.guide):
        graph = graph_of(program, data)
        for factor in factors(program, tuple(x[:8] for x in data), fields):
            node = re.sub("_(un)?observed$", "", factor.site)
            assert {re.sub("_(un)?observed$", "", name) for name in factor.given} - {node} == {*graph.parents(node)}
    assert torch.equal(state, torch.random.get_rng_state())
    after = [*pair.model.named_buffers(), *pair.guide.named_buffers()]
    assert all(torch.equal(before[name].nan_to_num(), x.nan_to_num()) for name, x in after)


@pytest.mark.parametrize(
    ("program", "letter", "formulas"),
    [
        (Model(), "p", ["p(z1)=𝒩(z1;0,I)", "p(z2)=𝒩(z2;μ,0.52I)", "p(x|z1,z2)=∏d=13StudentT(xd;df=4,μd(z1,z2),σd)"]),
    ],
)
def test_formulas(program: Any, letter: str, formulas: list[str]) -> None:
    text = str(mathematics.factors(read(program, X).values(), letter))
    shown = [re.sub(r"<[^>]*>|&#x2061;|\s", "", each) for each in text.split("</math>") if each.strip()]
    assert shown == formulas
