"""Effect handlers of a pass: latent sites answered from given values, draws cut out of the gradient."""

from collections.abc import Mapping

import torch
from pyro.distributions import Delta
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.distributions.wrappers import is_point
from ppl_vae.programs.layout import Layout


class Substitute(Messenger):
    """Answer latent sites from given values. A point for which none is given follows from the draws before it.

    A point that is given keeps its log-density where the value is its own up to rounding; elsewhere it has none.
    """

    def __init__(self, values: Mapping[str, Tensor], layout: Layout) -> None:
        super().__init__()
        self.values, self.layout = values, layout
        self.missing: list[str] = []

    def _pyro_sample(self, msg: dict) -> None:
        if msg["is_observed"] or site_is_subsample(msg):
            return
        fn, point = msg["fn"], is_point(msg["fn"])
        if msg["name"] not in self.values:
            self.missing += [] if point else [msg["name"]]
            return
        msg["value"] = value = self.layout.at(msg).lift(self.values[msg["name"]], fn)
        msg["done"] = True
        if point and torch.allclose(own := fn(), value, rtol=1e-4, atol=1e-6):
            msg["fn"] = Delta(value, fn.log_prob(own), event_dim=fn.event_dim)


class Detach(Messenger):
    """Let no gradient flow through a draw. A new tensor, so that no cached inverse of a flow answers for it."""

    def _pyro_post_sample(self, msg: dict) -> None:
        if not (msg["is_observed"] or site_is_subsample(msg) or is_point(msg["fn"])):
            msg["value"] = msg["value"].detach()
