"""A guide made from the model itself: q(z|x) = Π_i q(z_i | x, parents of z_i), a factor for each latent site.

The latents are found by a trace of the model. Each has a family by where it lives: Normal for real numbers, pushed onto
an interval or a simplex; classes, spheres. Its parents are the latents before it on which it depends given x, in the
order of the model (q(z2|x) q(z1|x, z2) where z1 depends on z2), in which a KL in closed form stays valid, or with
`order=inverted` in the reverse, from the data upwards (Webb et al. 2018, "Faithful inversion of generative models").
"""

from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import Part, inversion


class Guide(nn.Module):
    """Where a model borrows the guide, as with a VampPrior, it is made after it: then z is `latent_dim` real numbers.

    `family` is that of real numbers, and of what is pushed. `network` is by default convolutional where the model is,
    else `mlp`. A further field of the data that holds labels has `y_dim` classes. `kinds` is by default that of the
    model's columns, if it is one of a table.
    """

    def __init__(
        self,
        example: tuple[Tensor, ...],
        model: Any = None,
        latent_dim: int = 20,
        hidden: int = 400,
        family: Part = "diagonal_normal",
        network: Part | None = None,
        order: inversion.Order = "model",
        y_dim: int = 10,
        kinds: str | None = None,
    ) -> None:
        super().__init__()
        self.model = (model,)  # in a tuple: a module stored as an attribute would be owned
        found = inversion.structure(model, example, order, latent_dim)
        self.sites = found.latents
        self.inputs = inversion.Inputs(found, example, y_dim, kinds)
        self.families = inversion.BySite(
            {name: inversion.family_for(name, fn, family) for name, fn in found.priors.items()}
        )
        self.encoders = inversion.BySite(
            {z.name: inversion.Encoder(self.inputs, z, self.families, hidden, network) for z in self.sites}
        )

    def q(self, site: inversion.Latent, x: Tensor, *seen: Tensor) -> dist.Distribution:
        """q(site | x, its parents): the family at what the network makes of them."""
        return self.families[site.name](self.encoders[site.name](x, *seen))

    def posterior(self, *batch: Tensor) -> dist.Distribution:
        """q(z|x) of the first site."""
        known = inversion.known(self.model[0], batch, self.sites)
        return self.q(self.sites[0], self.inputs(*batch), *inversion.seen(self.sites[0], self.families, {}, known))

    def forward(self, *batch: Tensor) -> None:
        pyro.module("guide", self)
        x, known = self.inputs(*batch), inversion.known(self.model[0], batch, self.sites)
        drawn: dict[str, Tensor] = {}
        with pyro.plate("data", batch[0].shape[0]):
            for site in self.sites:
                q = self.q(site, x, *inversion.seen(site, self.families, drawn, known))
                drawn[site.name] = inversion.draw(site, q, known, self.families[site.name].infer)
