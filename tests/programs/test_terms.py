"""draw, score and simulate against Pyro's own traces."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import support.programs as programs
import torch
from pyro import poutine
from support.programs import CONVOLUTION, PAIRS, B, Case, D, Z, normal, rows, write
from torch import Tensor, nn

from ppl_vae.core.errors import InputError
from ppl_vae.programs import Terms, draw, score, simulate, terms

ALL = PAIRS | {"convolution": CONVOLUTION}
every_pair = pytest.mark.parametrize("case", ALL.values(), ids=ALL.keys())
every_k = pytest.mark.parametrize("K", [1, 5])


def all_terms(t: Terms) -> dict[str, Tensor]:
    groups = {"p": t.log_prior, "x": t.log_lik, "q": t.log_q}
    return {f"{group} {site}": value for group, of in groups.items() for site, value in of.items()}


def total(t: Terms) -> Tensor:
    return sum(t.log_prior.values()) + sum(t.log_lik.values()) - sum(t.log_q.values())


@every_k
@every_pair
def test_terms_are_k_by_b_and_unscaled(case: Case, K: int) -> None:
    t = terms(*case.make(), case.data(), K)
    assert {v.shape for v in all_terms(t).values()} == {(K, B)}
    assert all(v.shape[0] == K for v in t.values.values())
    assert t.scale == case.scale
    assert set(t.values) == set(t.log_q) == set(t.log_prior) == set(t.q)
    assert set(t.p) == set(t.log_prior) | set(t.log_lik)


@every_k
@every_pair
def test_terms_sum_to_the_log_joint_that_pyro_computes_for_each_sample_alone(case: Case, K: int) -> None:
    (model, guide), x = case.make(), case.data()
    t = terms(model, guide, x, K)
    for k in range(K):
        given = {site: value[k] for site, value in t.values.items()}
        log_p = poutine.trace(poutine.condition(model, given)).get_trace(x).log_prob_sum()
        log_q = poutine.trace(poutine.condition(guide, given)).get_trace(x).log_prob_sum()
        ours_p = sum(v[k].sum() for v in (t.log_prior | t.log_lik).values())
        torch.testing.assert_close(case.scale * ours_p, log_p, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(case.scale * sum(v[k].sum() for v in t.log_q.values()), log_q, rtol=1e-5, atol=1e-4)


@every_k
@every_pair
def test_score_of_draw_is_terms_in_value_and_gradient(case: Case, K: int) -> None:
    (model, guide), x = case.make(), case.data()
    parameters = [*model.parameters(), *guide.parameters()]

    def both(t: Terms) -> tuple[dict[str, Tensor], tuple[Tensor | None, ...]]:
        loss = total(t).sum() + sum(v.sum() for v in t.score_function.values())
        return all_terms(t), torch.autograd.grad(loss, parameters, allow_unused=True)

    torch.manual_seed(1)
    together = both(terms(model, guide, x, K))
    torch.manual_seed(1)
    values = draw(guide, x, K)
    apart = both(score(model, guide, x, values))
    torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-5)


@every_k
@every_pair
def test_a_row_does_not_see_the_other_rows(case: Case, K: int) -> None:
    (model, guide), x = case.make(), case.data()
    values = {site: v.detach() for site, v in draw(guide, x, K).items()}
    before = all_terms(score(model, guide, x, values))
    other = x.clone()
    other[1:] = 1 - other[1:]
    after = all_terms(score(model, guide, other, values))
    for name, value in before.items():
        torch.testing.assert_close(value[:, 0], after[name][:, 0], msg=name)


@every_k
@every_pair
def test_the_generator_is_used_for_the_draws_alone(case: Case, K: int) -> None:
    (model, guide), x = case.make(), case.data()
    states = []
    for _ in range(2):  # the first pass finds the nesting of plates
        torch.manual_seed(1)
        terms(model, guide, x, K)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_rows_sums_a_smaller_tensor_over_every_element_of_an_inner_plate() -> None:
    t = terms(*PAIRS["inner right"].make(), torch.randn(B, D), 5)
    assert torch.equal(t.rows("z", torch.ones(B, 1)), torch.full((5, B), float(D)))
    assert torch.equal(t.rows("z", torch.ones(())), torch.full((5, B), float(D)))


@every_k
def test_plain_functions_have_terms(K: int) -> None:
    def model(x: Tensor) -> None:
        with rows(x):
            z = pyro.sample("z", normal(torch.zeros(Z)))
            pyro.sample("x", normal(z @ pyro.param("v", torch.ones(Z, D))), obs=x)

    def guide(x: Tensor) -> None:
        with rows(x):
            pyro.sample("z", normal(x @ pyro.param("w", torch.ones(D, Z))))

    t = terms(model, guide, torch.randn(B, D), K)
    assert total(t).shape == (K, B)
    assert total(t).requires_grad


class VAE(nn.Module):
    """Both programs in one class, the way of Pyro's own examples; its decoder takes no sample dimension."""

    vectorized = False

    def model(self, x: Tensor) -> None:
        programs.convolution(self.parameters_of, x)

    def guide(self, x: Tensor) -> None:
        programs.guide(self.parameters_of, x)

    def __init__(self) -> None:
        super().__init__()
        self.parameters_of = programs.Written("vae", programs.model)


def test_a_method_takes_samples_as_its_object_says() -> None:
    vae = VAE()
    assert total(terms(vae.model, vae.guide, torch.randn(B, D), 5)).shape == (5, B)


def test_finding_the_nesting_leaves_the_statistics_of_a_batchnorm_alone() -> None:
    model, guide = PAIRS["gaussian"].make()
    guide.encoder = nn.Sequential(nn.BatchNorm1d(D), guide.encoder)
    terms(model, guide, torch.randn(B, D), 5)
    assert int(guide.encoder[0].num_batches_tracked) == 1


# ---- refusals ----


def body(*sites: Callable[[Tensor], Any], plate: bool = True) -> Callable[..., None]:
    def program(m: Any, x: Tensor) -> None:
        if plate:
            with rows(x):
                for site in sites:
                    site(x)
        else:
            for site in sites:
                site(x)

    return program


def z_of(size: int = Z, name: str = "z") -> Callable[[Tensor], Any]:
    return lambda x: pyro.sample(name, normal(torch.zeros(x.shape[0], size)))


def x_of(*shape: int, events: int = 1) -> Callable[[Tensor], Any]:
    return lambda x: pyro.sample("x", dist.Normal(torch.zeros(shape), 1.0).to_event(events), obs=x)


def observed_z(x: Tensor) -> Any:
    return pyro.sample("z", normal(torch.zeros(Z)), obs=x[:, :Z])


def mean_x(x: Tensor) -> Any:
    return pyro.sample("x", normal(torch.zeros(D)), obs=x.mean(0))


def scaled_z(x: Tensor) -> Any:
    with poutine.scale(scale=2.0):
        return z_of()(x)


REFUSED = {
    "silent broadcast": (body(z_of(), x_of(B, 1)), body(z_of()), r"site 'x': .*\(1,\).*\(3,\)"),
    "an observation without rows": (body(z_of(), mean_x), body(z_of()), r"site 'x': .*\(3,\).*expand"),
    "latent of another size": (body(z_of(3), x_of(B, D)), body(z_of(2)), r"site 'z': .*\(3,\).*\(2,\)"),
    "missing in the guide": (body(z_of(), z_of(name="b"), x_of(B, D)), body(z_of()), "the model draws 'b'"),
    "extra in the guide": (body(z_of(), x_of(B, D)), body(z_of(), z_of(name="b")), "the guide draws 'b'"),
    "observed in both": (body(z_of(), x_of(B, D)), body(z_of(), x_of(B, D)), "the guide observes 'x'"),
    "guide observes a latent": (body(z_of(), x_of(B, D)), body(observed_z), "the guide observes 'z'"),
    "guide draws the data": (body(z_of(), x_of(B, D)), body(z_of(), z_of(D, "x")), "the guide draws 'x'"),
    "different scales": (body(z_of(), x_of(B, D)), body(scaled_z), r"scaled differently.*z \(guide\) 2"),
    "guide outside data": (body(z_of(), x_of(B, D)), body(z_of(), plate=False), "'z' stands outside the plate 'data'"),
    "model outside data": (body(z_of(), plate=False), body(z_of()), "'z' stands outside the plate 'data'"),
    "data outside data": (
        lambda m, x: (body(z_of())(m, x), body(x_of(B, D), plate=False)(m, x)),
        body(z_of()),
        "'x' stands outside the plate 'data'",
    ),
}


@every_k
@pytest.mark.parametrize(("model", "guide", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_a_pair_that_is_wrong_is_refused_by_name(model: Any, guide: Any, says: str, K: int) -> None:
    with pytest.raises(InputError, match=says) as refusal:
        terms(*write(model, guide), torch.randn(B, D), K)
    assert len(str(refusal.value).splitlines()) <= 2


@every_k
def test_a_missing_to_event_is_refused_by_name(K: int) -> None:
    square = write(body(z_of(), x_of(B, B, events=0)), body(z_of()))
    with pytest.raises(InputError, match=r"site 'x'.*to_event"):
        terms(*square, torch.randn(B, B), K)


@every_k
def test_draw_alone_refuses_a_latent_outside_the_plate_data(K: int) -> None:
    with pytest.raises(InputError, match="'z' stands outside the plate 'data'"):
        draw(write(programs.model, body(z_of(), plate=False))[1], torch.randn(B, D), K)


@every_k
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "no values"),
        ({"y": (B, Z)}, "no value is given for the latent site 'z'"),
        ({"z": (1, Z)}, "site 'z'.*broadcast"),
        ({"z": (B, 1)}, "site 'z'.*broadcast"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, tuple[int, ...]], says: str, K: int) -> None:
    given = {site: torch.zeros(K, *shape) for site, shape in values.items()}
    with pytest.raises(InputError, match=says) as refusal:
        score(*write(programs.model, programs.guide), torch.randn(B, D), given)
    assert len(str(refusal.value).splitlines()) <= 2


def test_values_of_different_numbers_of_samples_are_refused() -> None:
    given = {"a": torch.zeros(5, B, Z), "b": torch.zeros(4, B)}
    with pytest.raises(InputError, match=r"\[4, 5\]"):
        score(*PAIRS["two"].make(), torch.randn(B, D), given)


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="num_samples is 0"):
        terms(*PAIRS["two"].make(), torch.randn(B, D), 0)


# ---- simulate ----


@every_pair
def test_prior_samples_do_not_depend_on_the_values_of_x(case: Case) -> None:
    (model, _), x = case.make(), case.data()
    draws = []
    for like in (x, 1 - x):
        torch.manual_seed(1)
        draws.append(simulate(model, like))
    torch.testing.assert_close(*draws, rtol=0, atol=0)
    assert draws[0]["x"].shape in (x.shape, x.T.shape)
    assert not draws[0]["x"].requires_grad


def test_prior_samples_have_the_moments_of_the_prior() -> None:
    model = write(programs.model, programs.guide)[0]
    N = 20_000
    out = simulate(model, torch.zeros(N, D))
    covariance = model.v.T @ model.v + torch.eye(D)  # z ~ N(t, I), x|z ~ N(v'z, I)
    error = (out["x"].mean(0) - model.t @ model.v) / (covariance.diagonal() / N).sqrt()
    assert error.abs().max() < 4
    spread = out["x"].var(0) / covariance.diagonal() - 1  # of a Normal, the variance has the relative error √(2/N)
    assert (spread / (2 / N) ** 0.5).abs().max() < 4
    assert ((out["z"].mean(0) - model.t) * N**0.5).abs().max() < 4


def test_means_replace_the_draws_of_observed_sites_alone() -> None:
    model = write(programs.model, programs.guide)[0]
    out = simulate(model, torch.zeros(B, D), means=True)
    torch.testing.assert_close(out["x"], out["z"] @ model.v)


def test_a_distribution_without_a_mean_is_refused() -> None:
    def model(x: Tensor) -> None:
        with rows(x):
            pyro.sample("x", dist.Categorical(logits=torch.zeros(B, 3)), obs=x)

    with pytest.raises(InputError, match="'x': Categorical has no mean"):
        simulate(model, torch.zeros(B), means=True)
