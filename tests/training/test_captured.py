"""A captured step is the programs' own step: weights, moments, noise and errors; compiled up to rounding."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from support.captures import Captured as Case
from torch import Tensor, nn

import ppl_vae
from ppl_vae import objectives
from ppl_vae.core.errors import NumericalError
from ppl_vae.graphs import compiled
from ppl_vae.graphs.captured import Captured, Seen
from ppl_vae.graphs.graph import NotCaptured
from ppl_vae.programs import Pair, resolve_pair
from ppl_vae.runs.record import note_eager
from ppl_vae.training import stepping
from ppl_vae.training.captured import CapturedTrainer, Differs
from ppl_vae.training.config import FitConfig
from ppl_vae.training.prepare import isolated
from ppl_vae.training.step import Trainer

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
SET = {"latent_dim": 3, "hidden": 8}
BITS = (torch.arange(40 * 9).reshape(40, 9) * 7 % 5 < 2).float()
STEPS = [BITS[:12], BITS[12:24], BITS[24:31], BITS[:12], BITS[3:15]]

COMPILED = [
    Case("bernoulli", "diagonal_normal", "trace", SET),
    Case("bernoulli", "diagonal_normal", "dreg", SET),
    Case("gaussian", "diagonal_normal", "analytic-kl", SET),
    Case("vae", "amortized", "iwae", SET | {"prior": "vamp", "prior.components": 5}),
    Case("vae", "amortized", "sticking-the-landing", SET | {"prior": "flow", "family": "full_normal"}),
    Case("vae", "amortized", "free-bits", SET | {"network": "convolutional", "network.channels": 4}),
    Case("hierarchical", "ladder", "trace", {}),
    Case("vae", "amortized", "trace", SET | {"prior": "sphere", "family": "power_spherical"}),
]


def pair_of(case: Case, batch: tuple[Tensor, ...]) -> tuple[Pair, Any]:
    return case.pair(batch)


def trained(case: Case, make: Callable[..., Trainer], batches: list[tuple[Tensor, ...]]) -> tuple[Trainer, list[Any]]:
    trainer = make(*case.pair(batches[0]))
    torch.manual_seed(1)
    return trainer, [trainer.step(batch) for batch in batches]


def captured(pair: Pair, objective: Any, compile: bool = False, **options: Any) -> CapturedTrainer:
    return CapturedTrainer(pair, objective, captured=Captured(pair, objective, compile=compile), **options)


def far(ours: Trainer, theirs: Trainer) -> float:
    """How far the parameters are apart, as a share of how far they have come, at least of their own size."""
    pairs = list(zip(ours.parameters.values(), theirs.parameters.values(), strict=True))
    return max(((a - b).norm() / b.norm().clamp(min=1e-2)).item() for a, b in pairs)


def test_uncompiled_steps_are_equal_bit_for_bit() -> None:
    """Weights, Adam's moments and counts, and the state of the generator; with clipping and a rate to be set."""
    case = Case("hierarchical", "ladder", "dreg", {})
    batches = [(x,) for x in STEPS]
    with isolated(0):
        made = []
        for make in (Trainer, captured):
            trainer, seen = trained(case, make, batches)
            trainer.learning_rate = 1e-2
            seen += [trainer.step(batches[0])]
            made.append((trainer.tensors(), seen))
    (theirs, told), (ours, said) = made
    assert said == told
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_clipping_is_the_trainers() -> None:
    with isolated(0):
        case = Case("bernoulli", "diagonal_normal", "trace", SET)
        (a, _), (b, _) = (
            trained(case, lambda p, o, make=make: make(p, o, clip=0.5), [(x,) for x in STEPS])
            for make in (Trainer, captured)
        )
        assert far(b, a) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_compiled_steps_are_equal_to_rounding(case: Case) -> None:
    """Each of five steps, two sizes of a batch, one graph. Adam divides by a gradient's size, so weights get more."""
    batches = [(x,) for x in STEPS]
    if "network" in case.settings:
        batches = [(torch.rand(len(x), 1, 8, 8).round(),) for x in STEPS]
    with isolated(0):
        theirs, told = trained(case, Trainer, batches)
        ours, said = trained(case, lambda p, o: captured(p, o, compile=True), batches)
        assert isinstance(ours, CapturedTrainer)
        assert ours.captured is not None
        assert len(ours.captured.graphs) == 1
        assert torch.allclose(torch.tensor(said), torch.tensor(told), rtol=1e-4, atol=1e-4)
        assert far(ours, theirs) < 1e-3
        assert torch.equal(ours.tensors()["rng"], theirs.tensors()["rng"])


def test_either_stepper_goes_on_with_the_others_checkpoint() -> None:
    case, batches = Case("bernoulli", "diagonal_normal", "trace", SET), [(x,) for x in STEPS]
    with isolated(0):
        whole, _ = trained(case, Trainer, batches)
        for first, then in ((Trainer, captured), (captured, Trainer)):
            begun, _ = trained(case, first, batches[:3])
            kept = {name: t.clone() for name, t in begun.tensors().items()}
            other = then(*case.pair(batches[0]))
            other.load(kept)
            for batch in batches[3:]:
                other.step(batch)
            assert all(torch.equal(x, whole.tensors()[name]) for name, x in other.tensors().items())


def test_a_step_that_is_not_finite_is_not_taken_and_names_its_site() -> None:
    case = Case("gaussian", "diagonal_normal", "trace", SET)
    with isolated(0):
        trainer, _ = trained(case, captured, [(BITS,), (BITS,)])
        before = {name: t.clone() for name, t in trainer.tensors().items()}
        broken = BITS.clone()
        broken[3] = torch.inf
        with pytest.raises(NumericalError, match="site 'z' is not finite") as error:
            trainer.step((broken,))
        assert error.value.rows == [3]
        assert all(torch.equal(x, before[name]) for name, x in trainer.tensors().items())
        trainer.step((BITS,))


class Annealed(nn.Module):
    """Its prior narrows from step to step, by a number that a graph takes for a constant."""

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder, self.calls = nn.Linear(3, data_shape[0]), [0]

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        self.calls[0] += 1
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1 / (1 + self.calls[0])).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)


def test_python_that_changes_from_step_to_step_is_found_out() -> None:
    with isolated(0):
        pair = resolve_pair(Annealed, "diagonal_normal", (BITS,), SET)
        trainer = captured(pair, objectives.get("trace")())
        with pytest.raises(NumericalError, match=r"differs from the programs' own.*--compile off"):
            trainer.step((BITS,))


class Counting(nn.Module):
    """Its prior narrows at its call 500. A graph is no call, so that no comparison would ever see it."""

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder, self.calls = nn.Linear(3, data_shape[0]), 0

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        self.calls += 1
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0 if self.calls < 500 else 0.1).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)


def test_a_program_that_counts_its_calls_is_not_captured() -> None:
    with isolated(0):
        pair = resolve_pair(Counting, "diagonal_normal", (BITS,), SET)
        with pytest.raises(NotCaptured, match="the attribute 'calls' of Counting changes with each call"):
            captured(pair, objectives.get("trace")()).step((BITS,))
        calls = pair.model.calls
        made = stepping.stepper(pair, objectives.get("trace")(), FitConfig(compile="on"), (BITS,), 10)
        assert type(made) is Trainer
        assert pair.model.calls == calls, "looking at it is no call"


def differing_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison before this step, counted from 0, fails; any other is as it is."""
    own = CapturedTrainer.compare

    def compare(self: CapturedTrainer, batch: tuple[Tensor, ...]) -> None:
        own(self, batch)
        if self.taken == step:
            raise Differs("the captured pass differs from the programs' own: as planted")

    monkeypatch.setattr(CapturedTrainer, "compare", compare)


def test_steps_go_on_as_they_are_where_the_captured_pass_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is lost or taken twice, the noise goes on, and a batch normalization's buffers move once."""
    differing_at(3, monkeypatch)
    case = Case("vae", "amortized", "trace", SET | {"family": "batch_norm_normal"})
    batches = [(x,) for x in (*STEPS, BITS[:12])]
    with isolated(0):
        begun, told = trained(case, captured, batches[:3])
        kept = {name: t.clone() for name, t in begun.tensors().items()}
        theirs = Trainer(*case.pair(batches[0]))
        theirs.load(kept)
        told += [theirs.step(batch) for batch in batches[3:]]
        left = {name: t.clone() for name, t in theirs.tensors().items()}
        with pytest.warns(UserWarning, match="not compiled; the steps from 3 on may have followed another loss: "):
            ours, said = trained(case, lambda p, o: captured(p, o, falls_back=True), batches)
        assert said == told
        assert all(torch.equal(x, ours.tensors()[name]) for name, x in left.items())
        assert (ours.eager_from, ours.taken) == (3, 6)


def test_a_pass_that_is_not_finite_where_the_programs_are_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("bernoulli", "diagonal_normal", "trace", SET)
    with isolated(0):
        theirs, told = trained(case, Trainer, [(BITS,)])
        left = {name: t.clone() for name, t in theirs.tensors().items()}
        ours = captured(*case.pair((BITS,)), falls_back=True)
        nothing = Seen(torch.full((5,), torch.nan, dtype=torch.float64), [])
        monkeypatch.setattr(CapturedTrainer, "compare", lambda *_: None)
        monkeypatch.setattr(Captured, "__call__", lambda *_: nothing)
        torch.manual_seed(1)
        with pytest.warns(UserWarning, match="a number that is not finite, where the programs do not"):
            assert ours.step((BITS,)) == told[0]
        assert all(torch.equal(x, ours.tensors()[name]) for name, x in left.items())


# ---- fit ----

FIT = {"epochs": 2, "batch_size": 10, "set": SET, "seed": 3}


def config(run: Any) -> dict[str, Any]:
    return json.loads((Path(run.folder) / "config.json").read_text())


@pytest.mark.slow
def test_fit_compiled_goes_on_bit_for_bit(tmp_path: Path) -> None:
    x = BITS.repeat(2, 1).numpy()
    eager = ppl_vae.fit("bernoulli", "diagonal_normal", x, **FIT)
    whole = ppl_vae.fit("bernoulli", "diagonal_normal", x, tmp_path / "whole", compile="on", **FIT)
    part = ppl_vae.fit("bernoulli", "diagonal_normal", x, tmp_path / "part", compile="on", **FIT | {"epochs": 1})
    part = ppl_vae.resume(part, epochs=2, data=x)
    for run in (whole, part):
        assert config(run)["step"] == {"captured": True, "products": config(whole)["step"]["products"]}
    weights = [run.checkpoints.load(run.step("last"))[0] for run in (whole, part, eager)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(torch.allclose(weights[0][name], weights[2][name], atol=1e-3) for name in weights[0] if name != "rng")


@pytest.mark.slow
def test_a_fit_that_falls_back_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a checkpoint before that step, though this time nothing differs; `on` is an error."""
    x, many = BITS.repeat(2, 1).numpy(), FIT | {"epochs": 3}
    monkeypatch.setattr(stepping, "WORTH", 0.0)
    part = ppl_vae.fit("bernoulli", "diagonal_normal", x, tmp_path / "part", compile="auto", **FIT | {"epochs": 1})
    assert part.step("last") < 15
    with monkeypatch.context() as planted:
        differing_at(15, planted)
        with pytest.warns(UserWarning, match="from step 16 on the programs are trained as they are"):
            whole = ppl_vae.fit("bernoulli", "diagonal_normal", x, tmp_path / "whole", compile="auto", **many)
        with pytest.raises(NumericalError, match=r"step 16 .*as planted\. Does a statement .*--compile off"):
            ppl_vae.fit("bernoulli", "diagonal_normal", x, tmp_path / "on", compile="on", on_nan="skip", **many)
    assert config(whole)["step"]["eager_from"] == 15
    note_eager(part.folder, 15)  # as by a process that was killed after this step, and before a checkpoint
    for epochs in (2, 3):
        part = ppl_vae.resume(part, epochs=epochs, data=x)
    assert config(part)["step"] == config(whole)["step"]
    weights = [run.checkpoints.load(run.step("last"))[0] for run in (whole, part)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("how", ["no compiler", "control flow", "too large"])
def test_what_is_not_compiled_is_trained_as_it_is_and_said(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand more")

    model: Any = "bernoulli"
    if how == "no compiler":
        monkeypatch.setattr(torch._inductor, "compile", refuse)
    elif how == "too large":
        monkeypatch.setattr(compiled, "MOST", 100)
    else:
        model = Branching
    with isolated(0):
        pair = resolve_pair(model, "diagonal_normal", (BITS,), SET)
        made = stepping.stepper(pair, objectives.get("trace")(), FitConfig(compile="on"), (BITS,), 10)
        assert type(made) is Trainer
        assert stepping.record(made) == {"captured": False}
        told = {
            "no compiler": "No working C++ compiler",
            "control flow": "if z.sum() > 0",
            "too large": "operations would take too long to compile; at most 100 are",
        }
        assert told[how] in made.how
        made.step((BITS,))


class Branching(nn.Module):
    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder = nn.Linear(3, data_shape[0])

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
            if z.sum() > 0:
                z = z + 1
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)


def test_auto_compiles_where_it_is_expected_to_save_a_minute() -> None:
    """By counts alone: the same fit is always trained in the same way."""
    with isolated(0):
        pair = resolve_pair("bernoulli", "diagonal_normal", (torch.zeros(5, 784),), {"hidden": 400, "latent_dim": 50})
        objective, config = objectives.get("trace")(), FitConfig(batch_size=256)
        numbers = 2 * 784 * 400 + 400 + 784 + 400 * 150 + 100 + 400
        per_step = 1e-3 + 2.5e-12 * 6 * numbers * 256
        assert stepping.saving(pair, objective, config, 1000) == pytest.approx(1000 * per_step)
        small = stepping.stepper(pair, objective, config, (torch.zeros(5, 784),), 100)
        assert type(small) is Trainer
        assert small.how.startswith("not compiled: that would save about 0 s in 100 steps")
