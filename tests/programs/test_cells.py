"""The model and the guide of counts: against scipy's densities and a sum over a grid of z, from the weights by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import log_softmax, logsumexp

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.importance import importance
from ppl_vae.objectives import AnalyticKL_ELBO
from ppl_vae.programs import Pair, resolve_pair, score, terms
from ppl_vae.training.prepare import isolated

G, BATCHES = 4, 2
STANDARD_ERRORS = 4


def rows(n: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    x = rng.negative_binomial(2, 2 / (2 + np.array([3.0, 40.0, 0.5, 9.0])), (n, G))
    x[:, 1] += 1
    return torch.from_numpy(x).float(), torch.from_numpy(x.sum(1) * 1.5).float(), torch.arange(n) % BATCHES


def pair(likelihood: str = "negative_binomial", latent_dim: int = 1, batches: int = BATCHES) -> Pair:
    settings = {"latent_dim": latent_dim, "hidden": 5, "batches": batches, "likelihood": likelihood}
    with isolated(1):
        made = resolve_pair("cells", "cells", rows(100)[: 3 if batches else 2], settings)
        with torch.no_grad():
            for p in [*made.model.parameters(), *made.guide.parameters()]:
                p.add_(0.3 * torch.randn_like(p))
    return made


def by_hand(made: Pair, likelihood: str, z: np.ndarray, batched: bool = True) -> np.ndarray:
    """log p(x|z, l, s), `(K, B)`, of z `(K, B, D)`."""
    x, library, batch = (field.numpy() for field in rows())
    w = {name: tensor.detach().numpy().astype(np.float64) for name, tensor in made.model.state_dict().items()}
    one_hot = np.broadcast_to(np.eye(BATCHES)[batch], (*z.shape[:2], BATCHES))
    given = np.concatenate([z, one_hot], -1) if batched else z
    hidden = np.logaddexp(0, given @ w["decoder.0.weight"].T + w["decoder.0.bias"])
    raw = hidden @ w["decoder.2.weight"].T + w["decoder.2.bias"]
    mean = library[:, None] * np.exp(log_softmax(raw[..., :G], -1))
    if likelihood == "poisson":
        return stats.poisson(mean).logpmf(x).sum(-1)
    theta = np.exp(w["p_x.log_theta"])
    counted = stats.nbinom(theta, theta / (theta + mean)).logpmf(x)
    if likelihood == "negative_binomial":
        return counted.sum(-1)
    gate = 1 / (1 + np.exp(-raw[..., G:]))
    return np.log(gate * (x == 0) + (1 - gate) * np.exp(counted)).sum(-1)


LIKELIHOODS = ("negative_binomial", "poisson", "zero_inflated_negative_binomial")


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("batches", [BATCHES, 0])
def test_the_likelihood_is_scipys(likelihood: str, batches: int) -> None:
    made, batch = pair(likelihood, 3, batches), rows()[: 3 if batches else 2]
    t = terms(made.model, made.guide, batch, 4)
    expected = by_hand(made, likelihood, t.values["z"].detach().numpy().astype(np.float64), bool(batches))
    np.testing.assert_allclose(t.log_lik["x"].detach(), expected, rtol=1e-5)


def test_the_mean_is_a_share_of_the_library_size() -> None:
    made, (x, library, batch) = pair(), rows()
    t = terms(made.model, made.guide, (x, library, batch), 3)
    mean, more = t.p["x"].mean, terms(made.model, made.guide, (x, 7 * library, batch), 1)
    torch.testing.assert_close(mean.sum(-1), library.expand(3, -1), rtol=1e-5, atol=0.0)
    again = score(made.model, made.guide, (x, 7 * library, batch), t.values)
    torch.testing.assert_close(again.p["x"].mean, 7 * mean, rtol=1e-4, atol=0.0)
    torch.testing.assert_close(more.q["z"].mean, t.q["z"].mean[:1].reshape(more.q["z"].mean.shape))


def test_a_share_that_float32_can_not_tell_from_zero() -> None:
    made, (x, library, batch) = pair(), rows()
    with torch.no_grad():
        made.model.decoder[2].bias[0] = -200.0
    for likelihood in LIKELIHOODS[:2]:
        other = pair(likelihood)
        other.model.load_state_dict({**other.model.state_dict(), **made.model.state_dict()}, strict=False)
        log_lik = terms(other.model, other.guide, (x, library, batch), 2).log_lik["x"]
        assert log_lik.isfinite().all()


@torch.no_grad()
def test_elbo_and_log_px_are_those_of_a_grid() -> None:
    made, batch = pair(), rows()
    made.guide.encoder[2].weight *= 0.2  # a wide q, by which importance sampling is reliable
    made.guide.encoder[2].bias.copy_(torch.tensor([0.0, 1.5]))
    grid = np.linspace(-9, 9, 4001)
    log_lik = by_hand(made, "negative_binomial", np.broadcast_to(grid[:, None, None], (len(grid), 6, 1)))
    log_joint = log_lik + stats.norm.logpdf(grid)[:, None]
    step = np.log(grid[1] - grid[0])
    q = terms(made.model, made.guide, batch, 1).q["z"]
    mean, sd = (x.double().numpy().reshape(6) for x in (q.mean, q.variance.sqrt()))
    log_q = stats.norm.logpdf(grid[:, None], mean, sd)
    elbo = (np.exp(log_q + step) * (log_joint - log_q)).sum(0)
    torch.manual_seed(0)
    t = terms(made.model, made.guide, batch, 20_000)
    value, _ = AnalyticKL_ELBO().per_example(t)
    se = t.log_lik["x"].std(0).numpy() / 20_000**0.5
    assert (np.abs(value.numpy() - elbo) < STANDARD_ERRORS * se + 1e-4).all()
    found = importance(made.model, made.guide, batch, 20_000)
    assert (found.ess > 1000).all()
    error = found.log_px.numpy() - logsumexp(log_joint + step, axis=0)
    assert (np.abs(error) < STANDARD_ERRORS * found.se.numpy() + 1e-4).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda batch: (*batch[:2], batch[2] + 1), "batch holds labels from 1 to 2, outside 0 to 1: set batches to"),
        (lambda batch: (*batch[:2], batch[1]), r"batch holds covariates of shape \(1,\), not \(2,\): set batches to"),
    ],
)
def test_another_batch_is_refused(change: Any, words: str) -> None:
    made = pair()
    with pytest.raises(InputError, match=words):
        terms(made.model, made.guide, change(rows()))
