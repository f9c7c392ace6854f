"""Importance sampling, sums and closed forms of log p(x), held against each other."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.exact import disagreement, exact
from ppl_vae.evidence.importance import CHUNK, chunks, importance, summary
from ppl_vae.evidence.summation import summation
from ppl_vae.guides import linear_gaussian as posterior
from ppl_vae.models import categorical, linear_gaussian
from ppl_vae.programs import resolve_pair


def linear(D: int = 4, Z: int = 2) -> tuple[Any, Tensor]:
    model = linear_gaussian.Model((D,), Z).double()
    model.log_sigma.data.fill_(math.log(0.8))
    return model, model.b + torch.randn(30, D).double() @ torch.randn(D, D).double()


def wide(model: Any, widen: float = 1.3) -> Any:
    """The posterior, wider: the weights have a finite variance."""
    exact_guide = posterior.Guide((4,), model)

    def guide(x: Tensor) -> None:
        q = exact_guide.posterior(x)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.MultivariateNormal(q.loc, scale_tril=widen * q.scale_tril))

    return guide


def test_it_is_log_px_within_its_error_and_the_elbo_is_below_by_the_gap() -> None:
    model, x = linear()
    found = importance(model, wide(model), x, 4000)
    truth = model.log_px(x)
    assert found.reliable.all()
    z = (found.log_px - truth) / found.se
    assert z.abs().max() < 4.5
    assert 0.6 < z.std() < 1.5
    gap = 2 * (math.log(1 / 1.3) + (1.3**2 - 1) / 2)  # KL of the wider Normal to the posterior, two dimensions
    assert ((truth - found.elbo - gap) / found.elbo_se).abs().max() < 4.5


def test_an_exact_guide_is_exact() -> None:
    model, x = linear()
    found = importance(model, posterior.Guide((4,), model), x, 50)
    assert (found.log_px - model.log_px(x)).abs().max() < 1e-10
    assert (found.elbo - model.log_px(x)).abs().max() < 1e-10
    assert found.reliable.all()  # though 50 draws are fewer than an ESS of 100
    assert (found.khat == -math.inf).all()
    assert found.se.max() < 1e-6


@pytest.mark.slow
def test_intervals_cover_where_the_weights_are_good() -> None:
    """Nominal 95 %, of 400 repetitions."""
    model, x = linear()
    guide, truth = wide(model, 1.5), model.log_px(x[:1])
    rows = x[:1].expand(400, -1)
    found = importance(model, guide, rows, 1000)
    assert found.reliable.all()
    covered = ((found.log_px - truth).abs() <= 1.96 * found.se).double().mean()
    assert 0.90 <= covered <= 0.985


def test_a_narrow_guide_is_not_believed() -> None:
    model, x = linear()
    found = importance(model, wide(model, 0.4), x, 1000)
    assert not found.reliable.any()
    assert (found.log_px < model.log_px(x)).double().mean() > 0.7


def test_the_error_is_that_of_the_mean_of_the_weights() -> None:
    log_w = torch.randn(1000, 3).double()
    w = log_w.exp()
    torch.testing.assert_close(summary(log_w).se, w.std(0) / w.mean(0) / 1000**0.5)
    torch.testing.assert_close(summary(log_w - 2000).se, w.std(0) / w.mean(0) / 1000**0.5)


def test_a_chunk_is_not_larger_than_it_may_be() -> None:
    batch = (torch.zeros(100, 784),)
    sizes = list(chunks(batch, 5000))
    assert sum(sizes) == 5000
    assert max(sizes) * 100 * 784 <= CHUNK
    assert list(chunks((torch.zeros(10, 10**7),), 3)) == [1, 1, 1]


def test_rows_of_other_batches_are_other_rows() -> None:
    """Batches only decide how many rows are in memory."""
    model, x = linear()
    done: list[int] = []
    found = importance(model, posterior.Guide((4,), model), x, 10, batch_size=7, advance=done.append)
    torch.testing.assert_close(found.log_px, model.log_px(x))
    assert done == [7, 7, 7, 7, 2]


# ---- sums


def test_the_sum_over_classes_is_log_px() -> None:
    x = torch.bernoulli(torch.full((9, 5), 0.4))
    pair = resolve_pair("categorical", "categorical", (x,), {"classes": 4, "latent_dim": 4})
    torch.testing.assert_close(
        summation(pair.model, pair.guide, x, batch_size=4).float(), pair.model.log_px(x), rtol=1e-5, atol=1e-5
    )


def bits(x: Tensor, observe: bool, sites: int = 3) -> None:
    """Three bits at one site, and a class of two that depends on the first."""
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("bits", dist.Bernoulli(x.new_tensor([0.2, 0.5, 0.7])).to_event(1))
        p = torch.stack([0.3 + 0.4 * z[..., 0], 0.7 - 0.4 * z[..., 0]], -1)
        y = pyro.sample("class", dist.Categorical(p))
        if observe:
            pyro.sample("x", dist.Normal(z.sum(-1) + 2 * y, 0.5), obs=x)


def test_several_sites_and_several_bits() -> None:
    x = torch.tensor([0.1, 1.2, 4.0]).double()
    found = summation(lambda x: bits(x, True), lambda x: bits(x, False), x)
    terms = []
    for i in range(16):
        z = torch.tensor([(i >> k) & 1 for k in range(3)]).double()
        y = i >> 3
        q = torch.tensor([0.2, 0.5, 0.7]).double()
        p_y = 0.3 + 0.4 * z[0] if y == 0 else 0.7 - 0.4 * z[0]
        prior = (z * q + (1 - z) * (1 - q)).log().sum() + p_y.log()
        terms.append(prior + dist.Normal(z.sum() + 2 * y, 0.5).log_prob(x))
    torch.testing.assert_close(found, torch.stack(terms).logsumexp(0))


def test_what_can_not_be_summed_is_refused() -> None:
    model, x = linear()
    with pytest.raises(InputError, match="'z': Normal with event shape \\(2,\\) is not discrete"):
        summation(model, wide(model), x)

    def many(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Bernoulli(x.new_full((40,), 0.5)).to_event(1))

    with pytest.raises(InputError, match=r"2\^40 values"):
        summation(many, many, torch.zeros(2))


# ---- closed forms


def test_a_stale_log_px_is_found() -> None:
    model, x = linear()
    weighted, truth = importance(model, wide(model), x, 2000), model.log_px(x)
    assert not disagreement(truth, weighted, x.dtype)
    one = truth.clone()
    one[7] += 1
    assert "row 7: log_px says" in disagreement(one, weighted, x.dtype)
    assert disagreement(truth + 0.02, weighted, x.dtype)  # in the mean of all rows
    narrow = importance(model, wide(model, 0.4), x, 2000)
    assert not disagreement(truth, narrow, x.dtype)
    assert disagreement(truth - 25, narrow, x.dtype)  # too small, even for weights that are not reliable


def test_log_px_has_to_be_a_number_for_each_row() -> None:
    class Model(categorical.Model):
        def log_px(self, x: Tensor) -> Tensor:
            return super().log_px(x).mean()

    with pytest.raises(InputError, match="one number for each row"):
        exact(Model((3,)), torch.zeros(4, 3))
    with pytest.raises(InputError, match="no method log_px"):
        exact(wide(None), torch.zeros(4, 3))
