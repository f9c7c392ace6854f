"""The latent space of a run as arrays: where rows are, what is decoded at a place, and single dimensions varied."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.wrappers import support_of
from ppl_vae.programs import Pair, Terms, draw, simulate, terms
from ppl_vae.programs.passes import mean_of
from ppl_vae.programs.scores import Batch
from ppl_vae.runs.opening import running
from ppl_vae.runs.run import Run

REACH = 2.5
"""How many standard deviations of the codes a traversal reaches on either side of their mean."""
DRAWS = 100
"""Of q(z|x), where its mean has no closed form."""


@dataclass(frozen=True)
class Codes:
    """E[z|x] of N rows, all latents of a row in one vector, beside the rows and what is decoded of them.

    Args:
        z: the codes, `(N, D)`.
        x: the rows of the observed site, `(N, *shape)`.
        again: E[x|z] at the codes, `(N, *shape)`.
        names: of the dimensions.
    """

    z: np.ndarray
    x: np.ndarray
    again: np.ndarray
    names: tuple[str, ...]


class Decoder:
    """A run's pair, with its real-valued latents as one vector: rows to codes, and codes to E[x|z].

    Raises:
        InputError: a latent is not a vector of any real numbers, or E[x|z] has no closed form.
    """

    def __init__(self, run: Run, pair: Pair, batch: Batch) -> None:
        self.run, self.pair, self.batch = run, pair, batch
        with torch.no_grad(), running(f"the pair of {run.folder}"):
            t = terms(pair.model, pair.guide, batch)
            for site, q in t.q.items():
                if support_of(q) is not constraints.real:
                    raise InputError(
                        f"the latent {site!r} is no vector of any real numbers, so that there is no plane through it"
                    )
            means = {site: self._mean(t, site) for site in t.q}
        seen = [site for site, x in t.observed.items() if x.numel() and x.is_floating_point()]
        if len(seen) != 1:
            raise InputError("the model observes no site of real numbers, or several, of which there is no one picture")
        self.site = seen[0]
        self.shapes = {site: tuple(mean.shape[1:]) for site, mean in means.items()}
        self.z = torch.cat([mean.flatten(1) for mean in means.values()], 1)
        self.x = t.by_row(self.site, t.observed[self.site])[0]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(
            f"{site}[{', '.join(map(str, place))}]"
            for site, shape in self.shapes.items()
            for place in np.ndindex(shape)
        )

    def __call__(self, z: Tensor, like: Batch | None = None) -> Tensor:
        """E[x|z] of codes `(M, D)`, `(M, *shape)`, given what the rows of `like` are given: by default the first."""
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        parts = z.split(sizes, 1)
        at = {site: part.unflatten(1, shape) for (site, shape), part in zip(self.shapes.items(), parts, strict=True)}
        like = like or tuple(x[:1].expand(len(z), *x.shape[1:]) for x in self.batch)
        with torch.no_grad(), running(f"the model of {self.run.folder}"):
            return simulate(self.pair.model, like, means=True, at=at)[self.site]

    def _mean(self, t: Terms, site: str) -> Tensor:
        """E[z|x] of each row: in closed form, or where there is none, over draws."""
        try:
            return t.by_row(site, mean_of(site, t.q[site]))[0]
        except InputError:
            return draw(self.pair.guide, self.batch, DRAWS)[site].mean(0)

    def codes(self) -> Codes:
        """The codes of the batch, its rows, and what is decoded of them."""
        again = self(self.z, self.batch)
        return Codes(self.z.cpu().numpy(), self.x.cpu().numpy(), again.cpu().numpy(), self.names)

    def traversals(self, dimensions: list[int], steps: int = 9) -> np.ndarray:
        """E[x|z] as one dimension moves through the codes' mean ± REACH sd and the others stay at the first row's:
        `(dimensions, steps, *shape)`."""
        centre, spread = self.z.mean(0), self.z.std(0)
        moved = torch.linspace(-REACH, REACH, steps).to(self.z)
        at = self.z[0].repeat(len(dimensions), steps, 1)
        for i, j in enumerate(dimensions):
            at[i, :, j] = centre[j] + moved * spread[j]
        return self(at.flatten(0, 1)).unflatten(0, (len(dimensions), steps)).cpu().numpy()
