"""Every file in models/, with a guide and data that suit it. One line of MODELS adds a file to all tests."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from support.pairs import PAIRS

import ppl_vae
from ppl_vae.checks.pair import check_pair
from ppl_vae.core.palette import SHORTHANDS
from ppl_vae.data import open_data
from ppl_vae.programs import Pair, resolve_pair, score, simulate, terms
from ppl_vae.programs.find import Finder, Kind, shipped_folder

D, Z = 6, 2
KINDS = "real,positive,count,binary,categorical:3,ordinal:4"
SMALL: dict[str, Any] = {"model.hidden": 8, "guide.hidden": 8}


def binary(rng: np.random.Generator) -> np.ndarray:
    return (rng.random((60, D)) < 0.3).astype(np.float32)


def real(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(60, D)).astype(np.float32)


def counts(rng: np.random.Generator) -> np.ndarray:
    return (rng.poisson(3, (60, D)) * (rng.random((60, D)) < 0.6)).astype(np.float32)


def table(rng: np.random.Generator) -> np.ndarray:
    """A column of each kind, and a tenth of the cells missing."""
    n = 60
    columns = [
        rng.normal(5, 3, n),
        rng.lognormal(2, 1, n),
        rng.poisson(4, n),
        *rng.integers(0, [[2], [3], [4]], (3, n)),
    ]
    x = np.stack(columns, 1).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


class Case(NamedTuple):
    data: Callable[[np.random.Generator], np.ndarray]
    guide: str = "diagonal_normal"
    settings: dict[str, Any] = SMALL
    missing: str = "error"

    def rows(self) -> np.ndarray:
        return self.data(np.random.default_rng(0))

    def options(self) -> dict[str, Any]:
        return {"set": {"latent_dim": Z} | self.settings, "missing": self.missing}


MODELS: dict[str, Case] = {
    "bernoulli": Case(binary),
    "counts": Case(counts),
    "flow": Case(binary),
    "gaussian": Case(real),
    "gtm_vampprior": Case(binary, settings=SMALL | {"grid": 3}),
    "linear_gaussian": Case(real, settings={"guide.hidden": 8}),
    "mixture": Case(binary),
    "table": Case(table, "table", SMALL | {"kinds": KINDS}, missing="nan"),
    "vae": Case(real, "amortized", SMALL | {"prior": "gtm", "prior.grid": 3, "likelihood": "laplace"}),
    "vampprior": Case(binary, settings=SMALL | {"components": 5}),
}


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def pair(name: str) -> Pair:
    """The pair, away from the start of its parameters."""
    case = MODELS[name]
    made = resolve_pair(name, case.guide, (torch.as_tensor(case.rows()),), case.options()["set"])
    with torch.no_grad():
        for p in [*made.model.parameters(), *made.guide.parameters()]:
            p.add_(0.1 * torch.randn_like(p))
    return made


def test_every_file_is_tested_and_is_a_page() -> None:
    files = {path.stem: path for path in shipped_folder("model").glob("[!_]*.py")}
    names = files.keys() | SHORTHANDS["model"].keys()
    assert names == MODELS.keys() | {case.model for case in PAIRS.values()}, "the others: test_guides.py"
    assert {name: n for name, path in files.items() if (n := len(path.read_text().splitlines())) > 90} == {}


ALL_PAIRS = {
    *((model, case.guide) for model, case in MODELS.items()),
    *((case.model, case.guide) for case in PAIRS.values()),
    ("linear_gaussian", "linear_gaussian"),
}
SIZES = ("latent_dim", "top_dim", "y_dim", "kinds")


@pytest.mark.parametrize(("model", "guide"), sorted(ALL_PAIRS))
def test_a_pair_that_goes_together_agrees_without_settings(model: str, guide: str) -> None:
    """What two constructors must agree on has one default."""
    first, second = defaults(model, "model"), defaults(guide, "guide")
    for name in first.keys() & second.keys() & set(SIZES):
        assert first[name] == second[name], name


def defaults(name: str, kind: Kind) -> dict[str, Any]:
    """Of the constructor, or of the shorthand."""
    program, source = Finder().find(f"ppl_vae.{kind}s.{name}", [kind])
    found = {n: p.default for n, p in inspect.signature(program).parameters.items()}
    short = source.shorthand.settings if source.shorthand else {}
    return found | {n.rpartition(".")[2]: value for n, value in short.items()}


def test_check_finds_nothing(name: str) -> None:
    dataset = open_data(MODELS[name].rows(), missing=MODELS[name].missing)
    assert check_pair(pair(name), dataset).findings == ()


def test_five_draws_at_once_are_five_draws_one_by_one(name: str) -> None:
    programs = pair(name)
    programs.model.double()
    programs.guide.double()
    batch = torch.as_tensor(MODELS[name].rows()[:7]).double()
    with torch.no_grad():
        together = terms(programs.model, programs.guide, batch, 5)
        for k in range(5):
            values = {site: v[k : k + 1] for site, v in together.values.items()}
            alone = score(programs.model, programs.guide, batch, values)
            for kind in ("log_prior", "log_lik", "log_q"):
                for site, log_prob in getattr(together, kind).items():
                    assert log_prob.shape == (5, 7)
                    torch.testing.assert_close(log_prob[k], getattr(alone, kind)[site][0], rtol=1e-9, atol=1e-9)


def test_a_run_comes_back_as_it_was_fitted(tmp_path: Path, name: str) -> None:
    case = MODELS[name]
    data = case.rows()
    run = ppl_vae.fit(name, case.guide, data, tmp_path / "run", epochs=2, batch_size=10, **case.options())
    batch = (run.data(data).test[0],)
    values = []
    for checkpoint in ("last", "last", "first"):
        programs = run.pair(checkpoint=checkpoint)
        torch.manual_seed(0)
        with torch.no_grad():
            values.append(sum(terms(programs.model, programs.guide, batch).log_lik.values()))
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_plain_svi_trains_each_parameter_once(name: str) -> None:
    """Pyro's optimizer keeps one state for each name: a tensor under two names would be moved twice."""
    programs = pair(name)
    svi = SVI(programs.model, programs.guide, Adam({"lr": 1e-2}), Trace_ELBO())
    batch = torch.as_tensor(MODELS[name].rows())
    tensors = {id(p): p for p in [*programs.model.parameters(), *programs.guide.parameters()]}
    before = {key: p.detach().clone() for key, p in tensors.items()}
    svi.step(batch)
    store = [p for _, p in pyro.get_param_store().named_parameters()]
    assert sorted(map(id, store)) == sorted(tensors)
    for key, p in tensors.items():
        assert 0 < (p - before[key]).abs().max() <= 1.01e-2


def test_it_can_be_sampled_without_data_and_in_float64(name: str) -> None:
    programs = pair(name)
    programs.model.double(), programs.guide.double()
    zeros = torch.zeros(50, D, dtype=torch.float64)
    values = simulate(programs.model, zeros)
    assert {v.dtype for v in values.values()} == {torch.float64}
    x = values["x"]
    assert x.shape == (50, D)
    assert x.std() > 0
    with torch.no_grad():
        t = terms(programs.model, programs.guide, x, 3)
    assert all(
        torch.isfinite(v).all() and v.dtype == torch.float64 for v in [*t.log_lik.values(), *t.log_prior.values()]
    )
