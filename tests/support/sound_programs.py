"""Programs that are VAEs, of many kinds. One entry of SOUND adds a pair that `check` must pass."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
import torch.nn.functional as F
from support.programs import D, Z, normal, rows
from torch import Tensor, nn

from ppl_vae.blocks import concat
from ppl_vae.data.dataset import Dataset, open_data


def random_rows(binary: bool = False) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(42, D)).astype("float32")
    return (x > 0).astype("float32") if binary else x


class Own(nn.Module):
    """A program made of a body and the modules and parameters that it reads."""

    def __init__(self, name: str, body: Callable[..., None], parts: dict[str, Any]) -> None:
        super().__init__()
        self.name, self.body = name, body
        self.vectorized = not any(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in parts.values())
        for key, part in parts.items():
            setattr(self, key, part)

    def forward(self, *batch: Tensor) -> None:
        pyro.module(self.name, self)
        self.body(self, *batch)


def plain_model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", normal(x.new_zeros(Z)))
        pyro.sample("x", normal(m.f(z)), obs=x)


def plain_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        loc, raw = m.g(x).chunk(2, -1)
        pyro.sample("z", dist.Normal(loc, F.softplus(raw)).to_event(1))


def normed_model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", normal(x.new_zeros(Z)))
        pyro.sample("x", normal(m.f(m.norm(z.reshape(-1, Z)).reshape(z.shape))), obs=x)


def given_model(m: Any, x: Tensor, y: Tensor) -> None:
    """p(x|z,y): y is given, not observed."""
    with rows(x):
        label = F.one_hot(y, 3).to(x.dtype)
        z = pyro.sample("z", normal(label @ m.e))
        pyro.sample("x", normal(m.f(z) + label @ m.k), obs=x)


def given_guide(m: Any, x: Tensor, y: Tensor) -> None:
    with rows(x):
        pyro.sample("z", normal(m.g(torch.cat([x, F.one_hot(y, 3).to(x.dtype)], -1))))


def ordered_model(m: Any, x: Tensor) -> None:
    """p(x_0|z) p(x_1|x_0,z): the second reads what the first returns."""
    with rows(x):
        loc = m.f(pyro.sample("z", normal(x.new_zeros(Z))))
        first = pyro.sample("x0", dist.Normal(loc[..., 0], 1.0), obs=x[..., 0])
        pyro.sample("x1", normal(loc[..., 1:] + first.unsqueeze(-1)), obs=x[..., 1:])


class Chain(dist.TorchDistribution):
    """An autoregressive x_i | x_<i ~ N(loc_i + x_{i-1}, 1): its log_prob reads x, its parameter does not."""

    arg_constraints: ClassVar = {"loc": dist.constraints.real_vector}
    support = dist.constraints.real_vector

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:])

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> "Chain":
        return Chain(self.loc.expand(*batch_shape, -1))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return (self.loc + torch.randn(*sample_shape, *self.loc.shape)).cumsum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        return dist.Normal(self.loc + F.pad(x, (1, 0))[..., :-1], 1.0).log_prob(x).sum(-1)


def chain_model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", normal(x.new_zeros(Z)))
        pyro.sample("x", Chain(m.f(z)), obs=x)


def missing_model(m: Any, x: Tensor) -> None:
    seen = ~x.isnan()
    with rows(x):
        z = pyro.sample("z", normal(x.new_zeros(Z)))
        pyro.sample("x", dist.Normal(m.f(z), 1.0).mask(seen).to_event(1), obs=torch.where(seen, x, 0.0))


def missing_guide(m: Any, x: Tensor) -> None:
    seen = ~x.isnan()
    plain_guide(m, torch.cat([torch.where(seen, x, 0.0), seen.to(x.dtype)], -1))


def flow_model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", dist.TransformedDistribution(normal(x.new_zeros(Z)), [m.t]))
        pyro.sample("x", normal(m.f(z)), obs=x)


def flow_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        loc, raw = m.g(x).chunk(2, -1)
        base = dist.Normal(loc, F.softplus(raw)).to_event(1)
        pyro.sample("z", dist.TransformedDistribution(base, [m.t]))


def mixture_model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(logits=m.pi), normal(m.means)))
        pyro.sample("x", normal(m.f(z)), obs=x)


def deep_model(m: Any, x: Tensor) -> None:
    with rows(x):
        top = pyro.sample("top", normal(x.new_zeros(Z)))
        z = pyro.sample("z", normal(m.a(top)))
        pyro.sample("x", normal(m.f(z)), obs=x)


def bottom_up_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", normal(m.g(x)))
        pyro.sample("top", normal(m.h(z)))


def gamma_model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", dist.Gamma(x.new_ones(Z), 1.0).to_event(1))
        w = pyro.sample("w", dist.Dirichlet(x.new_ones(D)))
        pyro.sample("x", normal(m.f(z) + w), obs=x)


def gamma_guide(m: Any, x: Tensor) -> None:
    """Rejection samplers: the noise of one row depends on how often another was rejected."""
    with rows(x):
        a, b = m.g(x).exp().chunk(2, -1)
        pyro.sample("z", dist.Gamma(a + 0.5, b).to_event(1))
        pyro.sample("w", dist.Dirichlet(m.h(x).exp() + 0.5))


def relaxed_model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", dist.RelaxedOneHotCategorical(x.new_tensor(0.5), logits=x.new_zeros(D)))
        pyro.sample("x", normal(m.f(z)), obs=x)


def relaxed_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        pyro.sample("z", dist.RelaxedOneHotCategorical(x.new_tensor(0.5), logits=m.g(x)))


def sphere_model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", dist.ProjectedNormal(x.new_zeros(D)))
        pyro.sample("x", normal(m.f(z)), obs=x)


def sphere_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        pyro.sample("z", dist.ProjectedNormal(m.g(x)))


def count_model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", normal(x.new_zeros(Z)))
        fn = dist.ZeroInflatedNegativeBinomial(F.softplus(m.f(z)), logits=m.r, gate_logits=m.r)
        pyro.sample("x", fn.to_event(1), obs=x)


def auxiliary_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        u = pyro.sample("u", normal(m.g(x)), infer={"is_auxiliary": True})
        pyro.sample("z", normal(u))


def auxiliary_model(m: Any, x: Tensor) -> None:
    """p(x, z) r(u|x, z), for `auxiliary_guide`."""
    with rows(x):
        z = pyro.sample("z", normal(x.new_zeros(Z)))
        pyro.sample("x", normal(m.f(z)), obs=x)
        pyro.sample("u", normal(m.r(concat(x, z))), infer={"is_auxiliary": True})


def changed_guide(m: Any, x: Tensor) -> None:
    """z = R u e^t + c, R a turn: a change of variables, with its density."""
    with rows(x):
        u = pyro.sample("u", normal(m.g(x)), infer={"is_auxiliary": True})
        z = u.flip(-1) * m.t.exp() + m.c
        pyro.sample("z", dist.Delta(z, log_density=-Z * m.t.expand(z.shape[:-1]), event_dim=1))


def image_model(m: Any, x: Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", normal(x.new_zeros(Z)))
        maps = F.relu(m.norm(m.up(m.f(z).unflatten(-1, (4, 2, 2)))))
        pyro.sample("x", dist.Bernoulli(logits=m.out(maps)).to_event(3), obs=x)


def image_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        pyro.sample("z", normal(m.g(F.relu(m.norm(m.down(x))).flatten(1))))


def linear(n: int = Z) -> dict[str, Any]:
    return {"f": nn.Linear(n, D)}


def encoder(n: int = D) -> dict[str, Any]:
    return {"g": nn.Linear(n, 2 * Z)}


def images() -> dict[str, Any]:
    return {"f": nn.Linear(Z, 16), "up": nn.ConvTranspose2d(4, 4, 4, 2, 1), "norm": nn.BatchNorm2d(4)} | {
        "out": nn.ConvTranspose2d(4, 1, 3, padding=1)
    }


def zero_init(n_in: int, n_out: int) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(n_in, 4), nn.ReLU(), nn.Linear(4, n_out))
    nn.init.zeros_(net[2].weight)
    return net


def incomplete() -> Dataset:
    dataset = open_data(random_rows())
    for split in (dataset.train, dataset.valid, dataset.test):
        split[0][::3, 1] = float("nan")
    return dataset


def labelled() -> Dataset:
    return open_data((random_rows(), np.random.default_rng(1).integers(0, 3, 42)))


class Sound(NamedTuple):
    model: Callable[..., None] = plain_model
    guide: Callable[..., None] = plain_guide
    model_parts: Callable[[], dict[str, Any]] = linear
    guide_parts: Callable[[], dict[str, Any]] = encoder
    data: Callable[[], Dataset] = lambda: open_data(random_rows())
    warning: str = ""
    """Words of the only warning there may be."""


BATCH_NORM = "in training mode (BatchNorm does this)"
SOUND: dict[str, Sound] = {
    "batch norm and dropout in the guide": Sound(
        guide_parts=lambda: {"g": nn.Sequential(nn.BatchNorm1d(D), nn.Dropout(0.3), nn.Linear(D, 2 * Z))},
        warning=BATCH_NORM,
    ),
    "batch norm in the decoder": Sound(
        normed_model, model_parts=lambda: linear() | {"norm": nn.BatchNorm1d(Z)}, warning=BATCH_NORM
    ),
    "layer norm and dropout": Sound(
        model_parts=lambda: {"f": nn.Sequential(nn.LayerNorm(Z), nn.Dropout(0.5), nn.Linear(Z, D))}
    ),
    "spectral norm, whose buffers each pass moves": Sound(
        model_parts=lambda: {"f": nn.utils.parametrizations.spectral_norm(nn.Linear(Z, D))}
    ),
    "convolutions that declare it": Sound(
        image_model,
        image_guide,
        images,
        lambda: {"down": nn.Conv2d(1, 4, 4, 2, 1), "norm": nn.BatchNorm2d(4), "g": nn.Linear(16, Z)},
        lambda: open_data((np.random.default_rng(0).random((42, 1, 4, 4)) > 0.5).astype("float32")),
        warning=BATCH_NORM,
    ),
    "last layers that begin at 0": Sound(
        model_parts=lambda: {"f": zero_init(Z, D)}, guide_parts=lambda: {"g": zero_init(D, 2 * Z)}
    ),
    "a label that is given": Sound(
        given_model,
        given_guide,
        lambda: linear() | {"e": nn.Parameter(torch.randn(3, Z)), "k": nn.Parameter(torch.randn(3, D))},
        lambda: {"g": nn.Linear(D + 3, Z)},
        labelled,
    ),
    "columns one after the other": Sound(ordered_model),
    "an autoregressive likelihood": Sound(chain_model),
    "missing cells, filled and masked": Sound(
        missing_model, missing_guide, guide_parts=lambda: encoder(2 * D), data=incomplete
    ),
    "a coupling prior": Sound(flow_model, model_parts=lambda: linear() | {"t": T.affine_coupling(Z)}),
    "an autoregressive prior": Sound(
        flow_model, model_parts=lambda: linear() | {"t": T.affine_autoregressive(Z)}, warning="can't be captured"
    ),
    "a spline prior": Sound(flow_model, model_parts=lambda: linear() | {"t": T.spline(Z)}),
    "an autoregressive guide": Sound(
        guide=flow_guide, guide_parts=lambda: encoder() | {"t": T.affine_autoregressive(Z)}
    ),
    "a planar guide, which has no inverse": Sound(
        guide=flow_guide, guide_parts=lambda: encoder() | {"t": T.planar(Z)}, warning="without inverse"
    ),
    "a mixture prior": Sound(
        mixture_model,
        model_parts=lambda: linear() | {"pi": nn.Parameter(torch.zeros(4)), "means": nn.Parameter(torch.randn(4, Z))},
    ),
    "a guide that draws bottom-up": Sound(
        deep_model,
        bottom_up_guide,
        lambda: linear() | {"a": nn.Linear(Z, Z)},
        lambda: {"g": nn.Linear(D, Z), "h": nn.Linear(Z, Z)},
    ),
    "draws by rejection": Sound(
        gamma_model, gamma_guide, guide_parts=lambda: encoder() | {"h": nn.Linear(D, D)}, warning="can't be captured"
    ),
    "a relaxed category": Sound(relaxed_model, relaxed_guide, lambda: linear(D), lambda: {"g": nn.Linear(D, D)}),
    "a latent on the sphere": Sound(sphere_model, sphere_guide, lambda: linear(D), lambda: {"g": nn.Linear(D, D)}),
    "counts": Sound(
        count_model,
        model_parts=lambda: linear() | {"r": nn.Parameter(torch.zeros(D))},
        data=lambda: open_data(np.random.default_rng(0).poisson(3, (42, D)).astype("float32")),
    ),
    "an auxiliary draw of the guide, with an auxiliary model": Sound(
        auxiliary_model, auxiliary_guide, lambda: linear() | {"r": nn.Linear(D + Z, Z)}, lambda: {"g": nn.Linear(D, Z)}
    ),
    "an auxiliary draw of the guide, changed": Sound(
        guide=changed_guide,
        guide_parts=lambda: {"g": nn.Linear(D, Z), "t": nn.Parameter(torch.ones(())), "c": nn.Parameter(torch.ones(Z))},
    ),
    "three rows": Sound(data=lambda: open_data(random_rows()[:3])),
    "twice the same row": Sound(data=lambda: open_data(np.ones((3, D), "float32"))),
}
