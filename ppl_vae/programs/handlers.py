"""Pyro effect handlers of a pass: give latent sites their values, or stop the gradient at the draws."""

from collections.abc import Mapping

import torch
from pyro.distributions import Delta
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.distributions.wrappers import is_point
from ppl_vae.programs.layout import Layout


class Substitute(Messenger):
    """Give latent sites the given values. A point (Delta) without a given value follows from the draws before it.

    A point with a given value keeps its log-density if it would return this value itself, up to rounding. Else the
    value has no density.
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
    """Let no gradient flow through a draw.

    The draw becomes a new tensor, for which a flow has no cached inverse with a gradient.
    """

    def _pyro_post_sample(self, msg: dict) -> None:
        if not (msg["is_observed"] or site_is_subsample(msg) or is_point(msg["fn"])):
            msg["value"] = msg["value"].detach()
