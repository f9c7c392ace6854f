"""Small model-guide pairs. One line of PAIRS adds a pair to every test that runs over it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.guides.diagonal_normal import Guide
from ppl_vae.models import bernoulli, gaussian

B, D, Z = 6, 3, 2
MASK = torch.tensor([True, False, True, True, False, True])


class Written(nn.Module):
    """A program whose body is a function of parameters and batch: `w` (D, Z), `v` (Z, D), `t` (Z,), `s` ()."""

    def __init__(self, name: str, body: Callable[..., Any]) -> None:
        super().__init__()
        self.name, self.body = name, body
        self.w, self.v = nn.Parameter(torch.randn(D, Z) / 2), nn.Parameter(torch.randn(Z, D) / 2)
        self.t, self.s = nn.Parameter(torch.randn(Z) / 2), nn.Parameter(torch.zeros(()))

    def forward(self, *batch: Tensor) -> None:
        pyro.module(self.name, self)
        self.body(self, *batch)


def write(model: Callable[..., Any], guide: Callable[..., Any], vectorized: bool = True) -> tuple[nn.Module, nn.Module]:
    programs = Written("model", model), Written("guide", guide)
    if not vectorized:
        programs[0].vectorized = False
    return programs


def rows(x: Tensor, dim: int | None = None) -> Any:
    return pyro.plate("data", x.shape[0], dim=dim)


def mask_of(x: Tensor) -> Tensor:
    """MASK again and again, for as many rows as there are."""
    return MASK.repeat(-(-x.shape[0] // B))[: x.shape[0]]


def normal(loc: Tensor | float, log_scale: Tensor | float = 0.0) -> dist.Distribution:
    """A diagonal Normal over the last dimension."""
    return dist.Normal(loc, torch.as_tensor(log_scale).exp()).to_event(1)


# ---- bodies ----


def model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", normal(m.t))
        pyro.sample("x", normal(z @ m.v, m.s), obs=x)


def guide(m: Any, x: Tensor) -> None:
    with rows(x):
        pyro.sample("z", normal(x @ m.w, m.s))


def full_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        tril = torch.eye(Z) + m.v[:, :Z].tril(-1)
        pyro.sample("z", dist.MultivariateNormal(x @ m.w, scale_tril=tril))


def two_model(m: Any, x: Tensor) -> None:
    with rows(x):
        a = pyro.sample("a", normal(m.t))
        b = pyro.sample("b", dist.Normal(0.0, m.s.exp()))
        pyro.sample("x", normal(a @ m.v + b.unsqueeze(-1)), obs=x)


def two_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        pyro.sample("a", normal(x @ m.w, m.s))
        pyro.sample("b", dist.Normal(x.sum(-1) * m.s, 0.7))


def deep_model(m: Any, x: Tensor) -> None:
    with rows(x):
        top = pyro.sample("top", normal(m.t))
        z = pyro.sample("z", normal(torch.tanh(top) * m.t, m.s))
        pyro.sample("x", normal(z @ m.v), obs=x)


def deep_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        top = pyro.sample("top", normal(x @ m.w, m.s))
        pyro.sample("z", normal(x @ m.w + top * m.t, -0.5))


def categorical_model(m: Any, x: Tensor) -> None:
    with rows(x):
        c = pyro.sample("c", dist.Categorical(logits=m.t))
        pyro.sample("x", normal(m.v[c], m.s), obs=x)


def categorical_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        pyro.sample("c", dist.Categorical(logits=x @ m.w))


def bits_model(m: Any, x: Tensor) -> None:
    with rows(x):
        b = pyro.sample("b", dist.Bernoulli(logits=m.t).to_event(1))
        z = pyro.sample("z", normal(b, m.s))
        pyro.sample("x", normal(z @ m.v), obs=x)


def bits_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        b = pyro.sample("b", dist.Bernoulli(logits=x @ m.w).to_event(1))
        pyro.sample("z", normal(x @ m.w * b + m.t))


def scored_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        pyro.sample("a", normal(x @ m.w, m.s))
        pyro.sample("b", dist.Normal(x @ m.w[:, 0] + m.t[0], m.s.exp()).has_rsample_(False))


def right_model(m: Any, x: Tensor) -> None:
    """An inner plate to the right of `data`, with a latent and the data in it."""
    with rows(x, dim=-2):
        a = pyro.sample("a", dist.Normal(m.s, 1.0))
        with pyro.plate("inner", D, dim=-1):
            z = pyro.sample("z", dist.Normal(a * m.t[0], 1.0))
            pyro.sample("x", dist.Normal(z + m.v[0], 1.0), obs=x)


def right_guide(m: Any, x: Tensor) -> None:
    with rows(x, dim=-2):
        a = pyro.sample("a", dist.Normal(x.sum(-1, keepdim=True) * m.t[0], 1.0))
        with pyro.plate("inner", D, dim=-1):
            pyro.sample("z", dist.Normal(x * m.t[1] + a, m.s.exp()))


def left_model(m: Any, x: Tensor) -> None:
    """An inner plate to the left of `data`."""
    with rows(x, dim=-1):
        a = pyro.sample("a", dist.Normal(m.s, 1.0))
        with pyro.plate("inner", D, dim=-2):
            z = pyro.sample("z", dist.Normal(a * m.t[0], 1.0))
            pyro.sample("x", dist.Normal(z + m.v[0].unsqueeze(-1), 1.0), obs=x.T)


def left_guide(m: Any, x: Tensor) -> None:
    with rows(x, dim=-1):
        a = pyro.sample("a", dist.Normal(x.sum(-1) * m.t[0], 1.0))
        with pyro.plate("inner", D, dim=-2):
            pyro.sample("z", dist.Normal(x.T * m.t[1] + a, m.s.exp()))


def convolution(m: Any, x: Tensor) -> None:
    """A decoder that takes (B, ...) alone: a leading sample dimension is an error."""
    with rows(x):
        z = pyro.sample("z", normal(m.t))
        assert z.dim() == 2, "a convolution takes no sample dimension"
        mean = torch.nn.functional.conv1d(z.unsqueeze(1), m.v[:, :1].unsqueeze(0).mT, padding=1).squeeze(1)
        pyro.sample("x", normal(mean, m.s), obs=x)


def factor_model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", normal(m.t))
        pyro.factor("penalty", -(z**2).sum(-1))
        pyro.sample("x", normal(z @ m.v, m.s), obs=x)


def masked(body: Callable[..., Any]) -> Callable[..., Any]:
    def program(m: Any, x: Tensor) -> None:
        with poutine.mask(mask=mask_of(x)):
            body(m, x)

    return program


def masked_data(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", normal(m.t))
        with poutine.mask(mask=mask_of(x)):
            pyro.sample("x", normal(z @ m.v, m.s), obs=x)


def scaled(body: Callable[..., Any]) -> Callable[..., Any]:
    def program(m: Any, x: Tensor) -> None:
        with poutine.scale(scale=10.0):
            body(m, x)

    return program


def subsampled(body: Callable[..., Any]) -> Callable[..., Any]:
    """The data plate is of ten times as many rows as the batch, which is a part of them: scale 10."""

    def program(m: Any, x: Tensor) -> None:
        def part(*_: Any, **__: Any) -> Any:
            return pyro.plate("data", 10 * x.shape[0], subsample=torch.arange(x.shape[0]))

        body(m, x, part)

    return program


def part_model(m: Any, x: Tensor, plate: Callable[[], Any]) -> None:
    with plate():
        z = pyro.sample("z", normal(m.t))
        pyro.sample("x", normal(z @ m.v, m.s), obs=x)


def part_guide(m: Any, x: Tensor, plate: Callable[[], Any]) -> None:
    with plate():
        pyro.sample("z", normal(x @ m.w, m.s))


class Case(NamedTuple):
    make: Callable[[], tuple[nn.Module, nn.Module]]
    nesting: int = 1
    scale: float = 1.0
    closed_form: bool = True
    """Pyro's TraceMeanField_ELBO has every KL in closed form."""

    binary: bool = False

    def data(self) -> Tensor:
        return torch.randn(B, D).sign().clamp(min=0) if self.binary else torch.randn(B, D)


def vae_bernoulli() -> tuple[nn.Module, nn.Module]:
    return bernoulli.Model((D,), Z, 4), Guide((D,), Z, 4)


def vae_gaussian() -> tuple[nn.Module, nn.Module]:
    return gaussian.Model((D,), Z, 4), Guide((D,), Z, 4)


PAIRS: dict[str, Case] = {
    "bernoulli": Case(vae_bernoulli, binary=True),
    "gaussian": Case(vae_gaussian),
    "two": Case(lambda: write(two_model, two_guide)),
    "deep": Case(lambda: write(deep_model, deep_guide)),
    "full": Case(lambda: write(model, full_guide), closed_form=False),
    "factor": Case(lambda: write(factor_model, guide)),
    "masked": Case(lambda: write(masked(model), masked(guide))),
    "masked data": Case(lambda: write(masked_data, guide)),
    "scaled": Case(lambda: write(scaled(model), scaled(guide)), scale=10.0),
    "part": Case(lambda: write(subsampled(part_model), subsampled(part_guide)), scale=10.0),
    "inner right": Case(lambda: write(right_model, right_guide), nesting=2),
    "inner left": Case(lambda: write(left_model, left_guide), nesting=2),
    "categorical": Case(lambda: write(categorical_model, categorical_guide), closed_form=False),
    "bits": Case(lambda: write(bits_model, bits_guide), closed_form=False),
    "scored": Case(lambda: write(two_model, scored_guide), closed_form=False),
    "scored, masked": Case(lambda: write(masked(two_model), masked(scored_guide)), closed_form=False),
    "scored, scaled": Case(lambda: write(scaled(two_model), scaled(scored_guide)), scale=10.0, closed_form=False),
}
CONVOLUTION = Case(lambda: write(convolution, guide, vectorized=False))
