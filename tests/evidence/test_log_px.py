"""The choice of a method, and what each says of its rows."""

import math
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.decomposition import PCA, FactorAnalysis
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence import fitted
from ppl_vae.evidence.log_px import METHODS, LogPx, choose, log_px
from ppl_vae.guides import linear_gaussian as posterior
from ppl_vae.models import linear_gaussian
from ppl_vae.programs import resolve_pair


class Without(linear_gaussian.Model):
    """The same model, of which nothing is known in closed form."""

    log_px = None  # type: ignore[assignment]


class Stale(linear_gaussian.Model):
    """Its prior was edited, and its log_px was not."""

    def prior(self, x: Tensor) -> dist.Distribution:
        return dist.Normal(x.new_zeros(self.latent_dim), 2.0).to_event(1)


def wide(model: Any) -> Any:
    exact = posterior.Guide((4,), model)

    def guide(x: Tensor) -> None:
        q = exact.posterior(x)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.MultivariateNormal(q.loc, scale_tril=1.3 * q.scale_tril))

    return guide


@pytest.fixture
def linear() -> tuple[Any, Any, Tensor]:
    model = linear_gaussian.Model((4,), 2).double()
    return model, wide(model), torch.randn(20, 4).double()


def without(model: Any) -> Any:
    other = Without((4,), model.latent_dim).double()
    other.load_state_dict(model.state_dict())
    return other


def test_every_method_gives_the_same_number(linear: Any) -> None:
    model, guide, x = linear
    truth = model.log_px(x)
    for method in ("exact", "quadrature", "importance", "fitted", "annealed"):
        found = log_px(model, guide, x, method, num_samples=2000, temperatures=50)
        assert found.reliable.all(), method
        assert ((found.value - truth).abs() <= 4.5 * found.se + 1e-9).all(), method
        assert found.counts == {method: 20}


def test_the_gap_is_the_kl_to_the_posterior(linear: Any) -> None:
    """log p(x) − ELBO − KL(q(z|x) ‖ p(z|x)) = 0, with nothing estimated."""
    model, _, x = linear
    exact = posterior.Guide((4,), model).posterior(x)
    q = dist.Normal(exact.mean + 0.3, 0.7).to_event(1)
    W, sigma = model.W, model.log_sigma.exp()
    noise = x - q.mean @ W.T - model.b
    expected = dist.Normal(0.0, sigma).log_prob(noise).sum(-1) - 0.49 * W.square().sum() / sigma**2 / 2
    rate = torch.distributions.kl_divergence(q, dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
    Λ = exact.precision_matrix
    d = q.mean - exact.mean
    gap = (0.49 * Λ.diagonal(dim1=-2, dim2=-1).sum(-1) + torch.einsum("bi,bij,bj->b", d, Λ, d) - 2) / 2
    gap = gap - torch.logdet(Λ) / 2 - 2 * math.log(0.7)
    found = log_px(model, wide(model), x, "exact")
    assert (found.value - (expected - rate) - gap).abs().max() < 1e-10


def test_the_method_is_the_first_that_there_is(linear: Any) -> None:
    model, guide, x = linear
    assert choose(model, guide, (x,)) == "exact"
    assert choose(without(model), guide, (x,)) == "quadrature"
    bits = torch.bernoulli(torch.full((6, 5), 0.4))
    pair = resolve_pair("categorical", "categorical", (bits,), {"classes": 4, "latent_dim": 4})
    pair.model.log_px = None  # type: ignore[assignment]
    assert choose(pair.model, pair.guide, (bits,)) == "sum"
    pair = resolve_pair("bernoulli", "diagonal_normal", (bits,), {"latent_dim": 4})
    assert choose(pair.model, pair.guide, (bits,)) == "importance"


def test_a_model_that_was_edited_can_not_keep_its_answer(linear: Any) -> None:
    _, guide, x = linear
    with pytest.raises(InputError, match="log_px is not its log p"):
        log_px(Stale((4,), 2).double(), guide, x)


def narrow(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal(x.new_zeros(5), 0.2).to_event(1))


def test_rows_that_can_not_be_relied_on_get_a_proposal_of_their_own() -> None:
    model, x = linear_gaussian.Model((4,), 5).double(), torch.randn(12, 4).double()
    parts: list[float] = []
    found = log_px(without(model), narrow, x, num_samples=1000, advance=parts.append)
    assert found.counts == {"fitted": 12}
    assert not found.weighted.reliable.any()
    assert found.reliable.all()
    assert ((found.value - model.log_px(x)).abs() <= 4.5 * found.se).all()
    assert (found.khat < 0.5).all()
    assert sum(parts) == pytest.approx(2)
    named = log_px(without(model), narrow, x, "importance", num_samples=500)
    assert named.counts == {"importance": 12}
    assert not named.reliable.any()


def test_rows_whose_proposal_can_not_be_relied_on_are_annealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proposals are as narrow as the guide, since their steps are 0."""
    for steps in ("DIAGONAL", "FULL"):
        monkeypatch.setattr(fitted, steps, (1, 0.0))
    model, x = linear_gaussian.Model((4,), 5).double(), torch.randn(12, 4).double()
    found = log_px(without(model), narrow, x, num_samples=500, most_annealed=4, temperatures=400)
    assert found.counts["annealed"] == 4
    assert not found.reliable[~found.of("annealed")].any()
    rows = found.of("annealed")
    assert found.reliable[rows].all()
    assert found.khat[rows].isnan().all()
    assert ((found.value - model.log_px(x))[rows].abs() <= 4.5 * found.se[rows]).all()
    assert "400 temperatures" in found.remarks[0]


def test_a_pair_without_coordinates_says_what_it_can_not_have() -> None:
    """Each row is 2 or 3 by the class of it, and the guide knows nothing."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            y = pyro.sample("y", dist.Bernoulli(x.new_tensor(0.5)))
            z = pyro.sample("z", dist.Normal(y, 1.0))
            pyro.sample("x", dist.Normal(z, 0.01), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Bernoulli(x.new_tensor(0.5)))
            pyro.sample("z", dist.Normal(x.new_tensor(0.0), 1.0))

    x = torch.tensor([2.0, 3.0]).double()
    found = log_px(model, guide, x, num_samples=200)
    assert found.counts == {"importance": 2}
    assert not found.reliable.any()
    assert ["could not be fitted" in found.remarks[0], "could not be annealed" in found.remarks[1]] == [True, True]
    with pytest.raises(InputError, match="no coordinates"):
        log_px(model, guide, x, "fitted")


def test_the_elbo_is_there_whatever_the_method(linear: Any) -> None:
    model, guide, x = linear
    found: LogPx = log_px(model, guide, x, num_samples=2000)
    assert (found.value > found.weighted.elbo).all()
    assert METHODS[int(found.method[0])] == "exact"


def test_a_method_that_does_not_go_with_the_pair_is_refused(linear: Any) -> None:
    model, guide, x = linear
    with pytest.raises(InputError, match="is not discrete"):
        log_px(model, guide, x, "sum")
    with pytest.raises(InputError, match="no method log_px"):
        log_px(without(model), guide, x, "exact")


def test_scikit_learn_agrees() -> None:
    """PCA of scikit-learn is the same model as the exact one; FactorAnalysis is the same by quadrature."""
    x = np.random.default_rng(0).normal(size=(200, 5)) @ np.random.default_rng(1).normal(size=(5, 5))
    rows = torch.as_tensor(x)
    pca = PCA(2).fit(x)
    model = linear_gaussian.Model((5,), 2).double()
    size = np.sqrt(pca.explained_variance_ - pca.noise_variance_)
    with torch.no_grad():
        model.W.copy_(torch.as_tensor(pca.components_.T * size))
        model.b.copy_(torch.as_tensor(pca.mean_))
        model.log_sigma.fill_(0.5 * math.log(pca.noise_variance_))
    guide = posterior.Guide((5,), model)
    found = log_px(model, guide, rows)
    assert found.counts == {"exact": 200}
    assert np.abs(found.value.numpy() - pca.score_samples(x)).max() < 1e-9

    factors = FactorAnalysis(2).fit(x)
    W, noise = torch.as_tensor(factors.components_), torch.as_tensor(factors.noise_variance_).sqrt()

    def analysis(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ W + torch.as_tensor(factors.mean_), noise).to_event(1), obs=x)

    found = log_px(analysis, guide, rows[:20])
    assert found.counts == {"quadrature": 20}
    assert found.reliable.all()
    assert np.abs(found.value.numpy() - factors.score_samples(x[:20])).max() < 1e-6
