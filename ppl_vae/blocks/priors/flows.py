"""Priors p(z) that are normalizing flows: ε = f(z) by invertible layers, ε ~ N(0, I).

log p(z) = log N(f(z); 0, I) + log |det ∂f/∂z|. The layers go from z to ε, since a prior is scored at each step and
sampled seldom. zuko's flows are offered too, and imported only where one is made.
"""

import contextlib
import importlib
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions import transforms as T
from pyro.nn import AutoRegressiveNN, DenseNN
from torch import Tensor, nn

from ppl_vae.core.errors import InputError


class Flow(nn.Module):
    """A flow of affine layers, each followed by a reversal of the dimensions.

    A layer scales by e^s, where |s| < 3: s = 6/π arctan(r/3) of the network's output r (Ardizzone et al. 2019). Without
    a bound, layers overflow; a hard clip has no gradient beyond it, or, as Pyro's, one that is not the density's. The
    arctangent's gradient is the density's and falls as 1/r², so that no layer is stuck.

    Args:
        kind: `coupling`, half of z moves the other half (Dinh et al. 2017): scoring and sampling take one pass each;
            `autoregressive`, each dimension is moved by those before it (Papamakarios et al. 2017): richer, and
            sampling takes `latent_dim` passes.
        layers: how many.
        hidden: the width of each layer's network.
    """

    name = "flow"

    zero: Tensor

    def __init__(
        self,
        latent_dim: int,
        kind: Literal["coupling", "autoregressive"] = "coupling",
        layers: int = 4,
        hidden: int = 100,
    ) -> None:
        super().__init__()
        if kind not in _LAYERS:
            raise InputError(f"there is no flow of kind {kind!r}: it is {' or '.join(_LAYERS)}")
        if latent_dim < 2:
            raise InputError("a flow needs latent_dim 2 or more: its layers move some dimensions by others")
        self.register_buffer("zero", torch.zeros(latent_dim), persistent=False)
        self.layers = nn.ModuleList(_LAYERS[kind](latent_dim, hidden) for _ in range(layers))

    def forward(self) -> dist.Distribution:
        reverse = torch.arange(len(self.zero) - 1, -1, -1, device=self.zero.device)
        z_to_ε = [t for layer in self.layers for t in (layer, T.Permute(reverse))]
        return FlowDistribution(dist.Normal(self.zero, 1.0).to_event(1), [t.inv for t in reversed(z_to_ε)])


class FlowDistribution(dist.TransformedDistribution):
    """A distribution by layers that keeps nothing of one call for the next.

    Pyro's layers hold the last input and output. Across two steps, or two backward passes, these would be stale.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        with self._forgetting():
            return super().log_prob(value)

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        with self._forgetting():
            return super().rsample(sample_shape)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    @contextlib.contextmanager
    def _forgetting(self) -> Iterator[None]:
        try:
            yield
        finally:
            for transform in self.transforms:
                transform.inv.clear_cache()
                transform.inv._cached_log_scale = None


BOUND = 3.0  # of the log-scale of a layer


def _bounded(log_scale: Tensor) -> Tensor:
    return 2 * BOUND / math.pi * torch.atan(log_scale / BOUND)


class _Dense(DenseNN):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = super().forward(x)
        return mean, _bounded(log_scale)


class _Masked(AutoRegressiveNN):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = super().forward(x)
        return mean, _bounded(log_scale)


class _Autoregressive(T.AffineAutoregressive):
    """Pyro's layer, its inverse in the dtype of its argument."""

    def _inverse(self, y: Tensor) -> Tensor:
        x = torch.zeros_like(y)
        dims = torch.arange(y.shape[-1], device=y.device)
        for dim in dims:
            mean, log_scale = self.arn(x)
            x = torch.where(dims == dim, (y - mean) * (-log_scale).exp(), x)
        self._cached_log_scale = log_scale  # no output depends on the last dimension: this is the log-scale at x
        return x


_NO_CLIP = {"log_scale_min_clip": -math.inf, "log_scale_max_clip": math.inf}  # Pyro's passes a false gradient


def _coupling(latent_dim: int, hidden: int) -> nn.Module:
    still = latent_dim // 2
    moved = latent_dim - still
    return T.AffineCoupling(still, _Dense(still, [hidden, hidden], [moved, moved]), **_NO_CLIP)


def _autoregressive(latent_dim: int, hidden: int) -> nn.Module:
    order = torch.arange(latent_dim)
    return _Autoregressive(_Masked(latent_dim, [max(hidden, latent_dim)] * 2, permutation=order), **_NO_CLIP)


_LAYERS = {"coupling": _coupling, "autoregressive": _autoregressive}


class Zuko(nn.Module):
    """A flow of the package zuko, by name: NSF, a spline flow (Durkan et al. 2019), MAF, NAF, CNF and others.

    Args:
        flow: a class of `zuko.flows`.
        options: its arguments, such as `transforms=3` and `hidden_features=(64, 64)`.

    Raises:
        InputError: zuko is not installed, or has no such flow.
    """

    name = "zuko"

    def __init__(self, latent_dim: int, flow: str = "NSF", **options: Any) -> None:
        super().__init__()
        make = getattr(_zuko_flows(), flow, None)
        if make is None:
            raise InputError(f"zuko.flows has no {flow!r}: NSF, MAF and NICE are some that it has")
        self.flow = make(latent_dim, **options)

    def forward(self) -> dist.Distribution:
        return ZukoDistribution(self.flow())


class ZukoDistribution(dist.TorchDistribution):
    """zuko's distribution as one of Pyro's; unlike `pyro.contrib.zuko` it has `rsample` and caches nothing."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, flow: torch.distributions.Distribution) -> None:
        self.flow = flow
        super().__init__(flow.batch_shape, flow.event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ZukoDistribution":
        return ZukoDistribution(self.flow.expand(batch_shape))

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return self.flow.rsample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.flow.log_prob(value)


def _zuko_flows() -> Any:
    """`zuko.flows`; importing it turns off the argument validation of all torch distributions, which is undone."""
    before = torch.distributions.Distribution._validate_args
    try:
        return importlib.import_module("zuko.flows")
    except ImportError as error:
        raise InputError("this prior needs the package zuko: pip install zuko") from error
    finally:
        torch.distributions.Distribution.set_default_validate_args(before)
