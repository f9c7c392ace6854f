"""The rate that `fit` reports, in closed form where there is one; and the best state measured by other draws."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from support.runs import MIXTURE, binary_rows, fitted
from torch import Tensor

from ppl_vae.distributions import kl as kl_module
from ppl_vae.distributions.kl import kl
from ppl_vae.objectives import AnalyticKL_ELBO, MeanField_ELBO, Objective, Trace_ELBO, TraceEnum_ELBO
from ppl_vae.objectives import rate as rate_module
from ppl_vae.programs import Pair, resolve_pair, terms
from ppl_vae.programs.scores import batches
from ppl_vae.training.evaluation import evaluate
from ppl_vae.training.step import Trainer

LOGITS = torch.tensor([0.2, -0.4, 0.1])


def shifted(shift: float, sigma: float, prior: dist.Distribution | None = None) -> Pair:
    """A guide N(shift, σ²) that reads nothing of x, nearly or wholly the prior."""

    def model(x: Tensor) -> None:
        bias = pyro.param("bias", torch.zeros(x.shape[1]))
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", prior or dist.Normal(x.new_zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z.sum(-1, keepdim=True) + bias).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        scale = pyro.param("scale", torch.full((3,), sigma))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(shift + 0 * scale, scale).to_event(1))

    return resolve_pair(model, guide, (torch.as_tensor(binary_rows(20)),))


@pytest.mark.parametrize("objective", [Trace_ELBO(), Trace_ELBO(3), MeanField_ELBO(), AnalyticKL_ELBO()])
@pytest.mark.parametrize(("shift", "sigma"), [(0.0, 1.0), (1e-2, 0.99)])
def test_the_rate_of_a_collapsed_pair_is_its_kl(objective: Objective, shift: float, sigma: float) -> None:
    """20 draws of log q − log p average below 0 half of the time; the KL never does."""
    rows = (torch.as_tensor(binary_rows(20)),)
    pair = shifted(shift, sigma)
    exact = kl(dist.Normal(torch.full((3,), shift), sigma).to_event(1), dist.Normal(torch.zeros(3), 1.0).to_event(1))
    for seed in range(4):
        seen = evaluate(pair, objective, batches(rows, 7), seed)
        assert (seen.rate >= 0).all()
        assert seen.rate.tolist() == pytest.approx([exact.item()] * 20, rel=1e-6, abs=0)
        assert seen.summary()["rate_how"] == {"z": "closed form"}
        torch.manual_seed(seed)
        step = Trainer(pair, objective).backward(rows)
        assert step.rate / 20 == pytest.approx(exact.item(), rel=1e-6, abs=0)


def test_without_a_closed_form_the_rate_is_of_the_draws_and_has_their_error() -> None:
    prior = dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2)), dist.Normal(torch.tensor([[-0.1], [0.1]]).expand(2, 3), 1.0).to_event(1)
    )
    pair = shifted(0.0, 1.0, prior)
    x = torch.as_tensor(binary_rows(20))
    seen = evaluate(pair, Trace_ELBO(), batches((x,), 20), seed=1)
    torch.manual_seed(1)
    t = terms(pair.model, pair.guide, (x,))
    rate = (t.log_q["z"] - t.log_prior["z"])[0].detach().double()
    assert seen.rate.tolist() == rate.tolist()
    assert seen.summary()["rate_se_data"] == pytest.approx(rate.std().item() / 20**0.5)
    assert seen.summary()["rate_how"]["z"].startswith("Monte Carlo (no closed-form KL")


def test_the_rate_of_a_sum_over_values_is_the_sum() -> None:
    """trace-enum weights values by q: neither a mean over values nor one draw."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Categorical(logits=torch.zeros(3)))
            pyro.sample("x", dist.Normal(z.to(x), 1.0), obs=x[:, 0])

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Categorical(logits=LOGITS * x[:, :1]))

    x = torch.randn(5, 1, generator=torch.Generator().manual_seed(0))
    seen = evaluate(Pair(model, guide, {}, None), TraceEnum_ELBO(), batches((x,), 5), seed=0)  # type: ignore[arg-type]
    q = (LOGITS * x).softmax(-1).double()
    exact = (q * (q.log() + np.log(3))).sum(-1)
    torch.testing.assert_close(seen.rate, exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(-seen.distortion - seen.rate, seen.elbo, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("objective", [AnalyticKL_ELBO(), MeanField_ELBO(), Trace_ELBO()])
def test_a_step_computes_a_closed_form_once(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def counted(q: Any, p: Any) -> Tensor:
        calls.append(q)
        return kl_module.kl(q, p)

    monkeypatch.setattr(rate_module, "kl", counted)
    monkeypatch.setattr(rate_module.closed_form, "__defaults__", (counted,))
    Trainer(shifted(0.1, 0.9), objective).backward((torch.as_tensor(binary_rows(20)),))
    assert len(calls) == 1


def test_a_closed_form_had_without_a_graph_takes_no_gradient_away() -> None:
    pair = shifted(0.1, 0.9)
    t = terms(pair.model, pair.guide, (torch.as_tensor(binary_rows(20)),))
    with torch.no_grad():
        MeanField_ELBO().how(t)
    assert sum(rate_module.rates_of(t)[0].values()).requires_grad  # type: ignore[union-attr]


def test_metrics_and_the_summary_say_how_the_rate_was_had(tmp_path: Path) -> None:
    (tmp_path / "mixture.py").write_text(MIXTURE)
    mixture = fitted(tmp_path, model=tmp_path / "mixture.py")
    valid = mixture.summary.valid
    assert f"rate {valid['rate']:.2f} ± {valid['rate_se_data']:.2f} (Monte Carlo" in str(mixture.summary)
    normal = fitted(tmp_path, out=tmp_path / "normal")
    assert "(Monte Carlo" not in str(normal.summary)
    assert all(line["valid"]["rate"] >= 0 for line in normal.metrics)
    assert all(line["train"]["rate"] >= 0 for line in normal.metrics[1:])
    assert json.loads((normal.folder / "metrics.jsonl").read_text().splitlines()[-1])["valid"]["rate_how"] == {
        "z": "closed form"
    }


# ---- the best state, measured by other draws ----


def test_the_best_state_is_measured_at_fresh_noise(tmp_path: Path) -> None:
    run = fitted(tmp_path, epochs=6, lr=3e-2, patience=4)
    result = run.asdict()
    valid, best = run.data().valid, run.pair(checkpoint="best")
    seeds = [20_131_221 + draw for draw in range(5)]
    elbos = torch.stack([evaluate(best, Trace_ELBO(), batches(valid, 100), seed).elbo for seed in seeds]).mean(0)
    assert result["fresh"]["elbo"] == pytest.approx(elbos.mean().item(), rel=1e-12)
    assert result["fresh"]["elbo_se_data"] == pytest.approx(elbos.std().item() / len(elbos) ** 0.5, rel=1e-12)
    assert result["fresh"]["elbo"] != result["valid"]["elbo"], "which stays what selected it"
    assert json.loads((run.folder / "best.json").read_text())["step"] == result["best"]
    _, last = run.checkpoints.load(run.checkpoints.steps[-1])
    assert last["step"] == run.checkpoints.steps[-1]


def test_a_selected_value_is_optimistic_and_a_fresh_one_is_not() -> None:
    """The larger of the values of two equal states at one noise, against the mean of many draws: by simulation."""
    pair, rows = shifted(0.0, 1.0), (torch.as_tensor(binary_rows(20)),)
    pair.model.requires_grad_(False)
    many = np.array([evaluate(pair, Trace_ELBO(), batches(rows, 20), seed).summary()["elbo"] for seed in range(200)])
    selected, fresh = many.reshape(-1, 10).max(1), many.reshape(-1, 10)[:, 0]
    truth, se = many.mean(), many.std() / 20**0.5
    assert selected.mean() - truth > 4 * se
    assert abs(fresh.mean() - truth) < 4 * se


def test_a_resumed_run_has_it_and_is_trained_as_an_uninterrupted_one(tmp_path: Path) -> None:
    import ppl_vae

    whole = fitted(tmp_path, epochs=3)
    cut = fitted(tmp_path, out=tmp_path / "cut", epochs=2)
    (cut.folder / "best.json").unlink()
    assert cut.fresh is None
    cut = ppl_vae.fit(out=cut.folder, resume=True, epochs=3)
    assert cut.fresh == whole.fresh is not None
    assert cut.metrics[-1]["valid"] == whole.metrics[-1]["valid"]
    again, _ = cut.checkpoints.load(cut.checkpoints.steps[-1])
    expected, _ = whole.checkpoints.load(whole.checkpoints.steps[-1])
    assert all(torch.equal(again[name], expected[name]) for name in expected)
