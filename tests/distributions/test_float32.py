"""Float32 against float64 at extreme parameters: likelihoods, priors, families of q(z|x), KL pairs. In nats.

`pytest tests/test_float32.py -s` prints the worst error of each. What is allowed is what the rounding of the inputs
moves. An input x that is off by half an ulp, u|x| with u = 2⁻²⁴, moves the answer f by u|x ∂f/∂x|; inputs are off
independently, so that these add as squares do. The answer is itself rounded, as a sum of D terms. Both are taken in
float64, and STEPS of them are allowed, for an input goes through some steps before it is used.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ppl_vae import blocks
from ppl_vae.blocks import autoregressive_network, distributions, likelihoods, mlp, priors
from ppl_vae.core.palette import PARTS
from ppl_vae.distributions.kl import kl
from ppl_vae.distributions.kl_rules import RULES

U = 2.0**-24
STEPS = 16
ROWS, D, Z = 5, 784, 50


class Case(NamedTuple):
    """A function of tensors, and tensors that are all of its numbers; `exact` of them are whole, and so not rounded."""

    function: Callable[..., Tensor]
    inputs: list[Tensor]
    exact: int = 0


def of_module(module: nn.Module, raw: list[Tensor]) -> Case:
    """log p of a draw of `module(*raw)`: of the draw, of what the network puts out, of parameters and buffers."""
    numbers = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    state = {name: t for name, t in numbers.items() if t.is_floating_point()}

    def log_prob(*inputs: Tensor) -> Tensor:
        value, rest = inputs[0], inputs[1:]
        twin = copy.deepcopy(module).to(rest[-1].dtype if rest else value.dtype)
        own = dict(zip(state, rest[len(raw) :], strict=True))
        return torch.func.functional_call(twin, own, rest[: len(raw)]).log_prob(value)

    with torch.no_grad():
        p = module(*raw)
        value = p.sample()
    floats = [t.detach() for t in state.values()]
    return Case(log_prob, [value.float(), *raw, *floats], exact=int(p.support.is_discrete))


# ---- one list of extreme places ----


def likelihood(make: Callable[..., Any], *parts: float, wide: float = 1.0, **own: float) -> Callable[[], Case]:
    """`parts`: what the network puts out for each parameter of a dimension, times 1 ± a bit; `own`: learned numbers."""

    def case() -> Case:
        module = make((D,))
        for name, number in own.items():
            getattr(module, name).data.fill_(number)
        centers = torch.tensor(parts).repeat_interleave(module.size // len(parts))
        return of_module(module, [centers * (1 + 0.01 * torch.randn(module.size)) + wide * torch.randn(module.size)])

    return case


def family(module: nn.Module, size: float, shift: float = 0.0) -> Callable[[], Case]:
    """What the encoder puts out is `size` times normal numbers."""
    return lambda: of_module(module, [size * torch.randn(module.width) + shift])


def prior(make: Callable[..., nn.Module], size: float) -> Callable[[], Case]:
    """Parameters are moved by `size` times normal numbers."""

    def case() -> Case:
        module = make()
        with torch.no_grad():
            for p in module.parameters():
                p.add_(size * torch.randn_like(p))
        return of_module(module, [])

    return case


class Encoder(nn.Module):
    """A small posterior for the priors that borrow one."""

    def __init__(self) -> None:
        super().__init__()
        self.family = blocks.DiagonalNormal(Z)
        self.network = mlp(9, 8, self.family.width)

    def posterior(self, x: Tensor) -> Any:
        return self.family(self.network(x))


class Borrowing(nn.Module):
    """A prior and the guide it borrows, so that all numbers are in one module."""

    def __init__(self, make: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.guide = Encoder()
        self.prior = make(self.guide, torch.randn(20, 9))

    def forward(self) -> Any:
        self.prior.borrowed = (self.guide,)
        return self.prior()


class Power(nn.Module):
    def forward(self, loc: Tensor, κ: Tensor) -> Any:
        return blocks.PowerSpherical(normalize(loc, dim=-1), κ)


class Relaxed(nn.Module):
    def forward(self, τ: Tensor, logits: Tensor) -> Any:
        return blocks.ExpRelaxedCategorical(τ, logits=logits)


class InTurn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = autoregressive_network((30,), 4, 40)

    def forward(self, context: Tensor) -> Any:
        return blocks.AutoregressiveBernoulli(self.network, context, (30,))


ELSEWHERE = {
    "likelihood": {"Autoregressive", "MixedTable"},
    "prior": {"Categorical", "RelaxedCategorical", "Zuko"},
    # torch gives no gradient by a batch norm's running statistics; its density is that of DiagonalNormal
    "family": {"Categorical", "RelaxedCategorical", "BatchNormNormal"},
}
"""Parts without an entry of their own: their distributions, columns or logits have one, and zuko's flows are zuko's."""


L = likelihoods
LIKELIHOODS: dict[str, Callable[[], Case]] = {
    "Bernoulli, logits 100": likelihood(L.Bernoulli, 0.0, wide=100),
    "ContinuousBernoulli, logits 30": likelihood(L.ContinuousBernoulli, 0.0, wide=30),
    "ContinuousBernoulli, logits 1e4": likelihood(L.ContinuousBernoulli, 0.0, wide=1e4),
    "Beta, 1e5": likelihood(L.Beta, 1e5, 1e5),
    "Beta, 1e6 and 10": likelihood(L.Beta, 1e6, 10.0),
    "Categorical, logits 100": likelihood(lambda s: L.Categorical(s, 5), 0.0, wide=100),
    "Ordinal, logits 100": likelihood(lambda s: L.Ordinal(s, 5), 0.0, wide=100),
    "Gaussian, μ 10, σ at its floor": likelihood(lambda s: L.Gaussian(s, "datum"), 10.0, -20.0),
    "Gaussian, σ 1e6": likelihood(lambda s: L.Gaussian(s, "datum"), 1.0, 1e6),
    "Laplace, μ 10, σ at its floor": likelihood(lambda s: L.Laplace(s, "datum"), 10.0, -20.0),
    "StudentT, ν 2e4": likelihood(L.StudentT, 1.0, log_df=9.9),
    "StudentT, ν 1.6e5": likelihood(L.StudentT, 1.0, log_df=12.0),
    "StudentT, ν 5e21": likelihood(L.StudentT, 1.0, log_df=50.0),
    "StudentT, ν near 1, σ at its floor": likelihood(lambda s: L.StudentT(s, "datum"), 1.0, -20.0, log_df=-10.0),
    "LogNormal, log x 10, σ at its floor": likelihood(lambda s: L.LogNormal(s, "datum"), 10.0, -20.0),
    "DiscretizedLogistic, σ at its floor": likelihood(L.DiscretizedLogistic, 0.0, log_scale=-20.0),
    "DiscretizedLogisticMixture, 20": likelihood(L.DiscretizedLogisticMixture, 0.0, wide=20),
    "Shaped, μ 30": likelihood(lambda s: L.Shaped(s, 100 * torch.randn(50, *s)), 30.0),
    "Shaped, whole, μ 30": likelihood(lambda s: L.Shaped(s, (100 * torch.randn(50, *s)).round(), whole=True), 30.0),
    "Shaped, whole, up to 1e6": likelihood(
        lambda s: L.Shaped(s, (1e4 * torch.randn(50, *s).exp()).round(), whole=True), 0.0
    ),
    "Binomial, n 1e5": likelihood(lambda s: L.Binomial(s, 100_000), 0.0),
    "Poisson, μ 1e5": likelihood(L.Poisson, 1e5),
    "Poisson, μ 1e6": likelihood(L.Poisson, 1e6),
    "NegativeBinomial, μ 10, θ 1e4": likelihood(L.NegativeBinomial, 10.0, log_theta=20.0),
    "NegativeBinomial, μ 1e6, θ 1e4": likelihood(L.NegativeBinomial, 1e6, log_theta=9.2),
    "NegativeBinomial, μ 1e6, θ e⁻¹⁰": likelihood(L.NegativeBinomial, 1e6, log_theta=-20.0),
    "ZeroInflatedNegativeBinomial, μ 10, θ 1e4": likelihood(L.ZeroInflatedNegativeBinomial, 10.0, 0.0, log_theta=20.0),
    "ZeroInflatedNegativeBinomial, μ 1e6, gates 20": likelihood(
        L.ZeroInflatedNegativeBinomial, 1e6, 20.0, log_theta=9.2
    ),
}
FAMILIES: dict[str, Callable[[], Case]] = {
    "DiagonalNormal, 10": family(blocks.DiagonalNormal(Z), 10.0),
    "DiagonalNormal, σ at its floor": family(blocks.DiagonalNormal(Z), 1.0, -30.0),
    "DeltaNormal, 1": family(blocks.families.DeltaNormal(Z), 1.0),
    "FullNormal, 1": family(blocks.FullNormal(Z), 1.0),
    "LowRankNormal, 1": family(blocks.LowRankNormal(Z), 1.0),
    "LowRankNormal, σ at its floor": family(blocks.LowRankNormal(Z), 3.0, -20.0),
    "HouseholderNormal, 5": family(blocks.HouseholderNormal(Z), 5.0),
    "MixtureNormal, 10": family(blocks.MixtureNormal(Z), 10.0),
    "InverseAutoregressiveFlow, 3": family(blocks.InverseAutoregressiveFlow(10), 3.0),
    "PowerSpherical, κ 1e6": lambda: of_module(Power(), [torch.randn(Z), torch.tensor(1e6)]),
    "PowerSpherical, κ 1e-3": lambda: of_module(Power(), [torch.randn(Z), torch.tensor(1e-3)]),
    "ExpRelaxedCategorical, τ 0.05": lambda: of_module(Relaxed(), [torch.tensor(0.05), 10 * torch.randn(Z)]),
    "AutoregressiveBernoulli, 10": lambda: of_module(InTurn(), [10 * torch.randn(4)]),
}
PRIORS: dict[str, Callable[[], Case]] = {
    "StandardNormal": prior(lambda: priors.StandardNormal(Z), 0.0),
    "DiagonalNormal, 5": prior(lambda: priors.DiagonalNormal(Z), 5.0),
    "Mixture, 3": prior(lambda: priors.Mixture(Z, 20), 3.0),
    "Vamp, 0.5": prior(lambda: Borrowing(lambda q, x: priors.Vamp(q, x, 20)), 0.5),
    "GTM, 0.5": prior(lambda: priors.GTM(Z, 5), 0.5),
    "GTMVamp, 0.5": prior(lambda: Borrowing(lambda q, x: priors.GTMVamp(q, x, 5)), 0.5),
    "Flow, coupling": prior(lambda: priors.Flow(Z), 0.02),
    "Flow, autoregressive": prior(lambda: priors.Flow(10, "autoregressive", 2), 0.02),
    "Spherical": prior(lambda: priors.Spherical(Z), 0.0),
}


def gaussian(kind: str, size: float) -> tuple[Callable[..., Any], list[Tensor]]:
    m, s, A = size * torch.randn(Z), (size * torch.randn(Z)).exp(), torch.randn(Z, Z)
    if kind == "diagonal":
        return lambda m, s: dist.Normal(m, s).to_event(1), [m, s]
    if kind == "full":
        L = A.tril(-1) / Z**0.5 + s.clamp(0.1, 10).diag_embed()
        return lambda m, L: dist.MultivariateNormal(m, scale_tril=L), [m, L]
    return dist.LowRankMultivariateNormal, [m, size * torch.randn(Z, 3), s]


def pair(q: tuple[Callable[..., Any], list[Tensor]], p: tuple[Callable[..., Any], list[Tensor]]) -> Case:
    n = len(q[1])
    return Case(lambda *inputs: kl(q[0](*inputs[:n]), p[0](*inputs[n:])), [*q[1], *p[1]])


def gaussians(q: str, p: str, size: float = 2.0) -> Callable[[], Case]:
    return lambda: pair(gaussian(q, size), gaussian(p, size))


def alike(build: Callable[..., Any], *sizes: float) -> Callable[[], Case]:
    """Two of a family, their parameters near `sizes`."""

    def one() -> tuple[Callable[..., Any], list[Tensor]]:
        return build, [size * (1 + 0.001 * torch.randn(Z)) for size in sizes]

    return lambda: pair(one(), one())


def itself(kind: str, size: float) -> Callable[[], Case]:
    def case() -> Case:
        build, inputs = gaussian(kind, size)
        return pair((build, inputs), (build, [t.clone() for t in inputs]))

    return case


def sphere() -> Case:
    q = (lambda loc, κ: blocks.PowerSpherical(normalize(loc, dim=-1), κ)), [torch.randn(Z), torch.tensor(1e6)]
    return pair(q, (blocks.SphericalUniform, [torch.zeros(Z)]))


KLS: dict[str, Callable[[], Case]] = {
    "Normal ‖ Normal": gaussians("diagonal", "diagonal", 3.0),
    "Normal ‖ MultivariateNormal": gaussians("diagonal", "full"),
    "MultivariateNormal ‖ Normal": gaussians("full", "diagonal"),
    "MultivariateNormal ‖ MultivariateNormal": gaussians("full", "full"),
    "LowRankMultivariateNormal ‖ Normal": gaussians("low rank", "diagonal"),
    "LowRankMultivariateNormal ‖ MultivariateNormal": gaussians("low rank", "full"),
    "LowRankMultivariateNormal ‖ LowRankMultivariateNormal": gaussians("low rank", "low rank"),
    "LowRankMultivariateNormal ‖ LowRankMultivariateNormal, itself": itself("low rank", 2.0),
    "MultivariateNormal ‖ LowRankMultivariateNormal": gaussians("full", "low rank"),
    "PowerSpherical ‖ SphericalUniform": sphere,
    "ContinuousBernoulli ‖ ContinuousBernoulli": alike(
        lambda η: distributions.ContinuousBernoulli(logits=η).to_event(1), 1e4
    ),
    "Beta ‖ Beta": alike(lambda a, b: dist.Beta(a, b).to_event(1), 1e5, 1e5),
    "Dirichlet ‖ Dirichlet": alike(dist.Dirichlet, 1e5),
    "Gamma ‖ Gamma": alike(lambda a, b: dist.Gamma(a, b).to_event(1), 1e5, 10.0),
    "HalfCauchy ‖ HalfCauchy": alike(lambda s: dist.HalfCauchy(s).to_event(1), 1e5),
    "Laplace ‖ Laplace": alike(lambda m, s: dist.Laplace(m, s).to_event(1), 10.0, 1e-4),
    "Bernoulli ‖ Bernoulli": alike(lambda l: dist.Bernoulli(logits=l).to_event(1), 50.0),
    "Categorical ‖ Categorical": alike(lambda l: dist.Categorical(logits=l), 50.0),
    "Poisson ‖ Poisson": alike(lambda r: dist.Poisson(r).to_event(1), 1e6),
}
CASES = LIKELIHOODS | FAMILIES | PRIORS | KLS


def names(entries: dict[str, Callable[[], Case]]) -> set[str]:
    return {name.split(",")[0] for name in entries}


def test_every_likelihood_prior_family_and_rule_has_an_entry() -> None:
    drawn = {n for n, c in vars(blocks).items() if isinstance(c, type) and issubclass(c, dist.Distribution)}
    drawn -= {"SphericalUniform", "ReparameterizedMixture"}
    for kind, entries in {"likelihood": LIKELIHOODS, "prior": PRIORS, "family": FAMILIES}.items():
        parts = {part.__name__ for part in PARTS[kind].values()} - ELSEWHERE[kind]
        assert names(entries) == parts | (drawn if kind == "family" else set())
    assert {f"{q.__name__} ‖ {p.__name__}" for q, p in RULES} <= names(KLS)


def errors(case: Case) -> tuple[float, float]:
    """How far float32 is from float64, and how far it may be."""
    doubles = [t.double().requires_grad_(i >= case.exact) for i, t in enumerate(case.inputs)]
    exact = case.function(*doubles)
    leaves = doubles[case.exact :]
    slopes = torch.autograd.grad(exact, leaves, allow_unused=True) if exact.requires_grad else [None] * len(leaves)
    moved = sum((g * x).square().sum().item() for g, x in zip(slopes, leaves, strict=True) if g is not None) ** 0.5
    with torch.no_grad():
        single = case.function(*case.inputs)
    assert single.dtype == torch.float32
    return (single.double() - exact).abs().item(), STEPS * U * (moved + abs(exact.item()) + len(case.inputs[0]) ** 0.5)


@pytest.mark.parametrize("name", CASES)
def test_float32_is_off_by_no_more_than_its_inputs_rounding(name: str) -> None:
    torch.manual_seed(0)
    with pyro.validation_enabled(False):  # of float32's draws on the sphere, in float64
        found = [errors(CASES[name]()) for _ in range(ROWS)]
    worst, allowed = max(found, key=lambda pair: pair[0] / pair[1])
    print(f"\n{name:60} {max(e for e, _ in found):9.2g} nats, {worst / allowed:7.2g} of what is allowed", end="")
    assert worst <= allowed
