"""A VAE put together from parts: z ~ p(z), x | z ~ p(x|z; f(z)), with a prior, a likelihood and a network f of choice.

Choose a part by editing its line, `self.p_z = priors.Mixture(latent_dim, components=20)`, or without editing by
`--set prior=mixture --set prior.components=20`.
"""

import pyro
from torch import Tensor, nn

from ppl_vae.blocks import Features, Part, likelihoods, networks, priors


class Model(nn.Module):
    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 20,
        hidden: int = 400,
        prior: Part = "standard_normal",
        likelihood: Part = "bernoulli",
        network: Part = "mlp",
        data: Tensor | None = None,
        guide: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.p_z = priors.build(prior, latent_dim, data=data, guide=guide)
        self.p_x = likelihoods.build(likelihood, data_shape, data=data)
        self.decoder = networks.decoder(network, latent_dim, self.p_x, hidden)
        self.features = Features(self.p_z, latent_dim)
        self.space = self.features.space

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.p_z())
            pyro.sample("x", self.p_x(self.decoder(self.features(z))), obs=x)
