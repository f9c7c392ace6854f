"""A warm-up weights the rate by the step, follows the gradient of that, and reports the ELBO without a weight."""

from pathlib import Path
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from support.fits import ROWS, SET, STEPS, killed_before, outcome, small
from torch import Tensor

from ppl_vae import objectives
from ppl_vae.core.errors import InputError
from ppl_vae.data import open_data
from ppl_vae.distributions.kl import kl
from ppl_vae.programs import resolve_pair, terms
from ppl_vae.programs.scores import sum_sites
from ppl_vae.runs.fitting import fit
from ppl_vae.training.config import FitConfig
from ppl_vae.training.schedule import Warmup
from ppl_vae.training.step import Trainer

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

W = 0.3
BITS = (ROWS > 0).astype("float32")


# ---- the weight ----


def test_one_rise_is_linear() -> None:
    weight = Warmup(4)
    assert [weight(step) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert weight.steps == 4
    assert Warmup(0)(0) == 1, "without a warm-up the weight is 1 from the first step on"


def test_each_cycle_is_a_rise_and_as_many_steps_at_one() -> None:
    weight = Warmup(2, cycles=3)
    assert [weight(step) for step in range(14)] == [0, 0.5, 1, 1] * 3 + [1, 1]
    assert weight.steps == 10
    assert all(weight(step) == 1 for step in range(10, 100))


def test_cycles_without_a_rise_are_refused() -> None:
    with pytest.raises(InputError, match="warmup_cycles is 4, without warmup"):
        FitConfig(warmup_cycles=4)
    with pytest.raises(InputError, match="warmup"):
        FitConfig(warmup=0)


# ---- what is followed ----


def gradients(objective: Any, weight: float, make: Any = None) -> list[Tensor]:
    """Of one step, at the noise of one seed, or of the loss that `make` makes of the terms."""
    batch = open_data(ROWS).first(20)
    torch.manual_seed(0)
    pair = resolve_pair("gaussian", "diagonal_normal", batch, SET)
    trainer = Trainer(pair, objective, rate_weight=weight)
    torch.manual_seed(5)
    if make is None:
        trainer.backward(batch)
    else:
        t = terms(pair.model, pair.guide, batch, objective.num_particles, detached=objective.detached)
        (-make(t).mean(0).mean()).backward()
    return [p.grad.clone() for p in trainer.parameters.values() if p.grad is not None]


def by_hand(name: str, w: float) -> Any:
    """log p(x|z) − w R, `(K, B)`, with the R of an objective."""

    def rate(t: Any) -> Tensor:
        closed = t.rows("z", kl(t.q["z"], t.p["z"]))
        if name == "trace":
            return sum_sites(t.log_q) - sum_sites(t.log_prior)
        if name == "free-bits:floor=0.2":
            q = t.q["z"].base_dist
            each = kl(q, dist.Normal(torch.zeros_like(q.loc), 1.0))
            each = each.expand(t.log_q["z"].shape + each.shape[-1:])
            return torch.where(each.mean((0, 1)) < 0.2, 0.2, each).sum(-1)
        return 4 * closed if name == "beta:beta=4" else closed

    return lambda t: sum_sites(t.log_lik) - w * rate(t)


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("w", [0.0, W, 1.0])
@pytest.mark.parametrize("name", ["trace", "analytic-kl", "mean-field", "beta:beta=4", "free-bits:floor=0.2"])
def test_the_gradient_is_that_of_the_weighted_objective(name: str, w: float, K: int) -> None:
    objective = objectives.named(name).make({"num_particles": K})
    ours, theirs = gradients(objective, w), gradients(objective, w, by_hand(name, w))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    if w < 1:
        unweighted = gradients(objective, 1.0)
        assert not all(torch.allclose(a, b, rtol=1e-3) for a, b in zip(ours, unweighted, strict=True))


def test_sticking_the_landing_is_trace_in_expectation_at_any_weight() -> None:
    """The gradient that it leaves out has mean 0: over many particles the two agree."""
    found = [
        torch.cat([g.flatten() for g in gradients(objectives.named(name).make({"num_particles": 4000}), W)])
        for name in ("sticking-the-landing", "trace")
    ]
    assert (found[0] - found[1]).norm() < 0.03 * found[1].norm()


def test_a_sum_over_classes_is_weighted_exactly() -> None:
    """`trace-enum` has the expectation itself: its gradient is that of Σ_y q(y) (log p(x|y) − w log q(y)/p(y))."""
    batch = open_data(BITS).first(20)
    found = []
    for followed in (True, False):
        torch.manual_seed(0)
        pair = resolve_pair("categorical", "categorical", batch, {"latent_dim": 3, "hidden": 8})
        objective = objectives.get("trace-enum")()
        trainer = Trainer(pair, objective, rate_weight=W)
        if followed:
            trainer.backward(batch)
        else:
            t = objective.estimate(pair.model, pair.guide, batch).terms
            log_q, log_p, log_lik = (sum_sites(x) for x in (t.log_q, t.log_prior, t.log_lik))
            (-(log_q.exp() * (log_lik - W * (log_q - log_p))).sum(0).mean()).backward()
        found.append([p.grad.clone() for p in trainer.parameters.values() if p.grad is not None])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


# ---- what is refused ----


@pytest.mark.parametrize("name", ["iwae", "iwae:K=1", "renyi", "dreg", "score-function"])
def test_objectives_without_a_rate_of_their_own_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name.partition(':')[0]}: a warm-up weights the rate"):
        small(tmp_path / "run", objective=name, warmup=1)
    assert not (tmp_path / "run").exists()


def test_trace_without_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a warm-up: the guide's site '.*' has no reparameterized draw"):
        fit("categorical", "categorical", BITS, tmp_path / "run", warmup=1, set={"latent_dim": 3}, epochs=1)
    assert not (tmp_path / "run").exists()


# ---- a run ----


@pytest.mark.parametrize("cycles", [1, 2])
def test_a_run_stopped_in_the_middle_goes_on_bit_for_bit(tmp_path: Path, cycles: int) -> None:
    options: dict[str, Any] = {"epochs": 4, "warmup": 2 // cycles, "warmup_cycles": cycles, "checkpoint_every": 2}
    whole = small(tmp_path / "whole", **options)
    assert outcome(small(tmp_path / "plain", epochs=4)) != outcome(whole)
    for step in (4, 9, 14):
        with killed_before(step):
            small(tmp_path / f"cut{step}", **options)
        cut = fit(data=ROWS, out=tmp_path / f"cut{step}", resume=True)
        assert outcome(cut) == outcome(whole), step


def test_the_elbo_and_the_weight_are_reported_beside_what_was_trained(tmp_path: Path) -> None:
    run = small(tmp_path / "run", objective="analytic-kl", epochs=3, warmup=2)
    epochs = run.metrics[1:]
    last = [STEPS - 1, 2 * STEPS - 1, 3 * STEPS - 1]
    assert [line["rate_weight"] for line in epochs] == [min(1.0, step / (2 * STEPS)) for step in last]
    for line in epochs:
        train = line["train"]
        assert train["elbo"] == pytest.approx(-train["distortion"] - train["rate"], rel=1e-5)
        assert train["objective"] > train["elbo"] or line is epochs[-1]
        assert "objective" not in line["valid"], "the validation value is the ELBO itself"
    assert epochs[-1]["train"]["objective"] == pytest.approx(epochs[-1]["train"]["elbo"], rel=1e-6)
    assert run.config.warmup == 2
    best = max(run.metrics, key=lambda line: line["valid"]["elbo"])
    assert run.checkpoints.manifest["best"] == best["step"]
    assert "rate_weight" not in small(tmp_path / "plain").metrics[-1]


def test_a_run_that_ends_in_its_warmup_says_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"had not ended after 2 epochs: it takes 4, .* the weight 0\.45"):
        small(tmp_path / "run", epochs=2, warmup=4)
    assert fit(data=ROWS, out=tmp_path / "run", resume=True, epochs=4).metrics[-1]["epoch"] == 4


def test_patience_does_not_count_the_warmup(tmp_path: Path) -> None:
    """With steps so large that no epoch is better than the start, a fit ends `patience` epochs after the warm-up."""
    options: dict[str, Any] = {"epochs": 9, "lr": 10.0, "patience": 2, "clip": 1.0}
    plain, warm = (small(tmp_path / str(w), warmup=w, **options) for w in (None, 4))
    assert plain.metrics[-1]["epoch"] == 2
    assert warm.metrics[-1]["epoch"] == 6
