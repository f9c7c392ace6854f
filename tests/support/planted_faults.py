"""Faults as users make them, each one edit of a sound file. One entry of FAULTS adds a fault to the tests.

`python tests/planted_faults.py` prints the table fault → message.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppl_vae import objectives
from ppl_vae.checks.pair import CheckReport, check_pair
from ppl_vae.data.dataset import Dataset, open_data
from ppl_vae.programs import resolve_pair
from ppl_vae.training.prepare import isolated

SOUND = """\
import random
import numpy as np
import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.distributions.testing import fakes
from torch import nn

STRAY = torch.zeros(5, requires_grad=True)

class Model(nn.Module):
    def __init__(self, data_shape):
        super().__init__()
        self.f = nn.Linear(2, 5)

    def forward(self, x):
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = self.f(z)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

class Guide(nn.Module):
    def __init__(self, data_shape):
        super().__init__()
        self.g = nn.Linear(5, 2)
        self.calls = 0

    def forward(self, x):
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            loc = self.g(x)
            pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
"""
MODEL_Z = 'z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))'
MODEL_LOC = "loc = self.f(z)"
MODEL_X = 'pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)'
MODEL_PLATE = 'pyro.module("model", self)\n        with pyro.plate("data", x.shape[0]):'
GUIDE_Z = 'pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))\n'
GUIDE_LOC = "loc = self.g(x)"
GUIDE_PLATE = 'pyro.module("guide", self)\n        with pyro.plate("data", x.shape[0]):'
NORMAL = "dist.Normal(loc, 1.0).to_event(1)"
GUIDE_NET = "self.g = nn.Linear(5, 2)"
OUTSIDE = "u = pyro.sample('u', dist.Normal(0.0, 1.0))\n        "
NO_DRAWS = """class Own(dist.Normal):
    def rsample(self, shape=()):
        raise NotImplementedError("no sample")

class Model"""


def real() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, 5)).astype("float32")


def held(column: int, value: float) -> np.ndarray:
    x = real()
    x[:, column] = value
    return x


def binary() -> np.ndarray:
    return (real() > 0).astype("float32")


class Fault(NamedTuple):
    """What to edit in SOUND, and what must be found: at which site, at a line that holds `line`, in which words."""

    edits: dict[str, str]
    site: str | None
    words: list[str]
    level: str = "error"
    line: str = ""
    data: Callable[[], np.ndarray] = real
    missing: bool = False
    objective: str = "trace"

    def text(self) -> str:
        text = SOUND
        for old, new in self.edits.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text


def likelihood(family: str) -> dict[str, str]:
    return {MODEL_X: MODEL_X.replace("dist.Normal(loc, 1.0)", family)}


def prior(family: str) -> dict[str, str]:
    return {MODEL_Z: MODEL_Z.replace("dist.Normal(torch.zeros(2), 1.0)", family)}


def posterior(family: str) -> dict[str, str]:
    return {GUIDE_Z: GUIDE_Z.replace("dist.Normal(loc, 1.0)", family)}


def decoder(*lines: str) -> dict[str, str]:
    return {MODEL_LOC: "\n            ".join(lines)}


def encoder(*lines: str) -> dict[str, str]:
    return {GUIDE_LOC: "\n            ".join(lines)}


MIXTURE = {
    MODEL_Z: "z = pyro.sample('z', dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), "
    "dist.Normal(torch.zeros(2, 2), 1.0).to_event(1)))"
}
FILLED = encoder("loc = self.g(torch.nan_to_num(x))")

FAULTS: dict[str, Fault] = {
    # ---- the sites ----
    "the guide lacks a site": Fault({GUIDE_Z: "pass\n"}, "z", ["sample it in the guide"]),
    "the guide has a site of its own": Fault(
        {GUIDE_Z: f"{GUIDE_Z}            pyro.sample('u', dist.Normal(loc, 1.0).to_event(1))\n"},
        "u",
        ["no latent site of the model"],
    ),
    "two sites of one name": Fault(
        {MODEL_X: f"{MODEL_X}\n            {MODEL_X}"}, "x", ["the model fails", "Multiple", "a name of its own"]
    ),
    "the model observes nothing": Fault({MODEL_X: "pass"}, "z", ["observes nothing", "obs=x"]),
    "no latent": Fault({MODEL_Z: "z = torch.zeros(x.shape[0], 2)", GUIDE_Z: "pass\n"}, "x", ["no latent site"]),
    "the guide observes": Fault(
        {GUIDE_Z: f"{GUIDE_Z}            {MODEL_X.replace('loc', 'x')}\n"}, "x", ["the guide observes 'x'"]
    ),
    # ---- plates ----
    "a latent of the model outside the plate": Fault(
        {MODEL_PLATE: OUTSIDE + MODEL_PLATE}, "u", ["'u' of the model stands outside the plate"]
    ),
    "a latent of both outside the plate": Fault(
        {plate: OUTSIDE + plate for plate in (MODEL_PLATE, GUIDE_PLATE)},
        "u",
        ["outside the plate 'data'", 'with pyro.plate("data", x.shape[0])'],
    ),
    "the guide's plate has another name": Fault(
        {GUIDE_PLATE: GUIDE_PLATE.replace('"data"', '"rows"')},
        "z",
        ["'z' of the guide stands outside the plate 'data'"],
    ),
    "both plates have another name": Fault(
        {plate: plate.replace('"data"', '"rows"') for plate in (MODEL_PLATE, GUIDE_PLATE)},
        "z",
        ["outside the plate 'data'"],
    ),
    "a site that is called as the plate should be": Fault(
        {plate: plate.replace('"data"', '"rows"') for plate in (MODEL_PLATE, GUIDE_PLATE)}
        | {MODEL_X: MODEL_X.replace('"x"', '"data"')},
        "z",
        ["outside the plate 'data'"],
    ),
    "the guide's plate of constant size": Fault(
        {GUIDE_PLATE: GUIDE_PLATE.replace("x.shape[0]", "100")},
        "data",
        ["plate 'data' of the guide is of size 100 for a batch of 7 rows", "make it x.shape[0]"],
    ),
    "the model's plate as long as another tensor": Fault(
        {MODEL_PLATE: MODEL_PLATE.replace("x.shape[0]", "len(self.f.weight)")},
        "data",
        ["plate 'data' of the model is of size 5", "make it x.shape[0]"],
    ),
    "a plate of size 1, over which Pyro would broadcast": Fault(
        {plate: plate.replace("x.shape[0]", "1") for plate in (MODEL_PLATE, GUIDE_PLATE)},
        "data",
        ["of size 1 ", "make it x.shape[0]"],
    ),
    "the model changes the draw in place": Fault(
        decoder("z[..., 0] = z[..., 0].exp()", "loc = self.f(z)"), "z", ["the model changes its value in place", "copy"]
    ),
    "the guide changes its draw in place": Fault(
        {GUIDE_Z: f"z = {GUIDE_Z}            z.mul_(2.0)\n"}, "z", ["the guide changes its value in place", "copy"]
    ),
    # ---- shapes ----
    "the guide draws more dimensions": Fault(
        {GUIDE_NET: "self.g = nn.Linear(5, 3)"}, "z", ["the guide draws (7, 3), the model (7, 2)"]
    ),
    "a prior of one number": Fault(
        {MODEL_Z: 'z = pyro.sample("z", dist.Normal(0.0, 1.0))'}, "z", ["the guide draws (7, 2), the model (7,)"]
    ),
    "the prior lacks to_event": Fault({MODEL_Z: MODEL_Z.replace(".to_event(1)", "")}, "z", ["add .to_event"]),
    "the guide lacks to_event": Fault({GUIDE_Z: GUIDE_Z.replace(".to_event(1)", "")}, "z", ["add .to_event"]),
    "the likelihood lacks to_event": Fault({MODEL_X: MODEL_X.replace(".to_event(1)", "")}, "x", ["add .to_event"]),
    "a missing to_event that fits a batch of seven rows": Fault(
        {
            MODEL_Z: 'z = pyro.sample("z", dist.Normal(torch.zeros(7), 1.0))',
            MODEL_LOC: "loc = self.f(z[..., None])",
            "nn.Linear(2, 5)": "nn.Linear(1, 5)",
            GUIDE_NET: "self.g = nn.Linear(5, 1)",
            GUIDE_Z: 'pyro.sample("z", dist.Normal(loc[..., 0], 1.0))\n',
        },
        "z",
        ["runs on (7, 5) but fails on (6, 5)", "add .to_event"],
    ),
    "the prior's to_event takes the rows in": Fault(
        {MODEL_Z: MODEL_Z.replace("zeros(2), 1.0).to_event(1)", "zeros(x.shape[0], 2), 1.0).to_event(2)")},
        "z",
        ["the guide draws (7, 2), the model (7, 7, 2)", "one .to_event"],
    ),
    "the likelihood's to_event takes the rows in": Fault(
        {MODEL_X: MODEL_X.replace("to_event(1)", "to_event(2)")}, "x", ["(7, 5)", "the rows belong to the plate"]
    ),
    "a likelihood that broadcasts over columns": Fault(
        likelihood("dist.Normal(loc[..., :1], 1.0)"),
        "x",
        ["(1,)", "(5,)", "broadcast silently", "give both the same shape"],
    ),
    "a likelihood of another width": Fault(likelihood("dist.Normal(loc[..., :3], 1.0)"), "x", ["(3,)", "(5,)"]),
    "an observation that broadcasts over rows": Fault(
        {MODEL_X: MODEL_X.replace("obs=x", "obs=x[0]")}, "x", ["broadcast silently", "expand it"]
    ),
    "an exception in the model": Fault(
        {MODEL_X: f"raise RuntimeError('boom')\n            {MODEL_X}"},
        None,
        ["the model fails on (7, 5)", "boom"],
        line="raise RuntimeError",
    ),
    "a KL that is weighted": Fault(
        {
            MODEL_Z: f"with pyro.poutine.scale(scale=0.1):\n                {MODEL_Z}",
            GUIDE_Z: f"with pyro.poutine.scale(scale=0.1):\n                {GUIDE_Z}",
        },
        "z",
        ["is scaled by 0.1, another site by 1", "no bound on log p(x)"],
    ),
    "a weight for each row": Fault(
        {MODEL_X: f"with pyro.poutine.scale(scale=torch.rand(x.shape[0])):\n                {MODEL_X}"},
        "x",
        ["of the model", "one number, not one per row"],
    ),
    "a mask in the guide alone": Fault(
        {GUIDE_Z: f"with pyro.poutine.mask(mask=x[:, 0] > 0):\n                {GUIDE_Z}"},
        "z",
        ["masked in only one program", "both the same mask"],
    ),
    "a mask in the guide's distribution alone": Fault(
        posterior("dist.Normal(loc, 1.0).mask(x[:, :1] > 0)"),
        "z",
        ["masked in only one program", "both the same mask"],
    ),
    "a masked latent that the likelihood reads": Fault(
        posterior("dist.Normal(loc, 1.0).mask(x[:, :1] > 0)")
        | prior("dist.Normal(torch.zeros(2), 1.0).mask(x[:, :1] > 0)"),
        "z",
        ["reads its value where it is masked", "above log p(x)", "mask what reads it"],
    ),
    # ---- auxiliary draws ----
    "an auxiliary draw that nothing balances": Fault(
        {GUIDE_Z: f"loc = pyro.sample('u', {NORMAL}, infer={{'is_auxiliary': True}})\n            {GUIDE_Z}"},
        "u",
        ["auxiliary draw 'u' has no counterpart", "r(u|x, z)", "log_density"],
    ),
    "an auxiliary model that the likelihood reads": Fault(
        {
            GUIDE_Z: f"loc = pyro.sample('u', {NORMAL}, infer={{'is_auxiliary': True}})\n            {GUIDE_Z}",
            MODEL_LOC: f"loc = z + x[:, :2]\n            {MODEL_LOC} + pyro.sample('u', {NORMAL}, infer={{"
            "'is_auxiliary': True}).sum(-1, keepdim=True)",
        },
        "u",
        ["reads its auxiliary draw", "leave is_auxiliary out"],
    ),
    "a change of variables without its density": Fault(
        {
            GUIDE_Z: f"u = pyro.sample('u', {NORMAL}, infer={{'is_auxiliary': True}})\n"
            "            pyro.sample('z', dist.Delta(2 * u, event_dim=1))\n"
        },
        "z",
        ["log_density 0", "is -1.386", "give the Delta this log_density"],
    ),
    "a program without an argument for the batch": Fault(
        {'forward(self, x):\n        pyro.module("guide", self)': 'forward(self):\n        pyro.module("guide", self)'},
        None,
        ["the guide fails on (7, 5)", "one tensor for each field"],
    ),
    "an encoder that reads three of five columns": Fault(
        encoder("loc = self.g(x[:, :3])"),
        None,
        ["the guide fails", "mat1 and mat2", "a layer's first size"],
        line="x[:, :3]",
    ),
    "a guide of points": Fault(
        {GUIDE_Z: "pyro.sample('z', dist.Delta(loc).to_event(1))\n"}, "z", ["a point", "no bound"], level="warning"
    ),
    # ---- scales ----
    "the model alone scales": Fault(
        {MODEL_PLATE: MODEL_PLATE.replace("x.shape[0]", "1000, subsample_size=x.shape[0]")},
        "z",
        ["'z' of the model is scaled by 142.857, another site by 1", "no subsample_size"],
    ),
    "one site alone is scaled": Fault(
        {MODEL_X: f"with pyro.poutine.scale(scale=0.5):\n                {MODEL_X}"},
        "x",
        ["of the model is scaled by 0.5, another site by 1", "one poutine.scale"],
    ),
    "a subsampling plate in both": Fault(
        {p: p.replace("x.shape[0]", "1000, subsample_size=x.shape[0]") for p in (MODEL_PLATE, GUIDE_PLATE)},
        "data",
        ["every site is scaled by 142.857", "needs no subsample_size"],
        level="warning",
    ),
    "a plate that leaves out a part of the batch": Fault(
        {MODEL_PLATE: MODEL_PLATE.replace("x.shape[0]", "x.shape[0], subsample_size=3")},
        "data",
        ["of the model is of size 3 for a batch of 7 rows"],
    ),
    # ---- parameters and supports ----
    "a scale that may be negative": Fault(
        posterior("dist.Normal(loc, loc)"), "z", ["scale of Normal is -", "above 0", "softplus or exp"]
    ),
    "logits given as probabilities": Fault(
        likelihood("dist.Bernoulli(loc)"), "x", ["probs of Bernoulli is", "between 0 and 1", "logits="], data=binary
    ),
    "a sigmoid before logits": Fault(
        likelihood("dist.Bernoulli(logits=loc.sigmoid())"), "x", ["between 0 and 1", "probs="], "warning", data=binary
    ),
    "grey values under a Bernoulli": Fault(
        likelihood("dist.Bernoulli(logits=loc)"),
        "x",
        ["column", "of the data is", "outside the support of Bernoulli (0 or 1)", "binarize"],
    ),
    "real values under a Poisson": Fault(
        likelihood("dist.Poisson(loc.exp())"), "x", ["outside the support of Poisson", "swap the likelihood"]
    ),
    "a Normal guide for a positive latent": Fault(
        prior("dist.LogNormal(torch.zeros(2), 1.0)"),
        "z",
        ["guide draws -", "support of its prior, LogNormal (above 0)"],
    ),
    "a Normal guide for a latent on the simplex": Fault(
        {MODEL_Z: 'z = pyro.sample("z", dist.Dirichlet(torch.ones(2)))'},
        "z",
        ["the guide draws [", "outside the support of its prior, Dirichlet", "let the guide draw in it"],
    ),
    "a latent on the sphere, its prior in space": Fault(
        {
            GUIDE_Z: 'pyro.sample("z", PowerSpherical(torch.nn.functional.normalize(loc, dim=-1), torch.ones(len(x))))',
            "import pyro\n": "import pyro\nfrom ppl_vae.blocks import PowerSpherical\n",
        },
        "z",
        ["the guide's PowerSpherical", "over a sphere", "the prior's Normal", "over numbers", "over the same space"],
    ),
    "a discrete guide for a continuous prior": Fault(
        {GUIDE_Z: 'pyro.sample("z", dist.Bernoulli(logits=loc).to_event(1))'},
        "z",
        ["the guide's Bernoulli", "over separate values", "the prior's Normal", "over numbers"],
    ),
    # ---- what is trained ----
    "a free pyro.param in a module": Fault(
        likelihood("dist.Normal(loc + pyro.param('shift', torch.zeros(5)), 1.0)"),
        "x",
        ["pyro.param 'shift'", "would never be trained", "make it an nn.Parameter of the module"],
    ),
    "a global tensor that nobody owns": Fault(
        likelihood("dist.Normal(loc + STRAY, 1.0)"),
        "x",
        ["a tensor of shape (5,)", "would never be trained", "make it an nn.Parameter"],
    ),
    "layers in a plain list": Fault(
        {GUIDE_NET: "self.g = nn.Sequential(); self.layers = [nn.Linear(5, 2)]"} | encoder("loc = self.layers[0](x)"),
        "z",
        ["a tensor of shape (2, 5)", "would never be trained", "nn.ModuleList"],
    ),
    "a parameter that nothing reads": Fault(
        {GUIDE_NET: f"{GUIDE_NET}; self.idle = nn.Linear(1, 1)"},
        None,
        ["does not depend on guide.idle.weight, guide.idle.bias"],
        level="warning",
    ),
    "the encoder is cut off": Fault(
        encoder("loc = self.g(x).detach()"), "z", ["guide.g.weight", "the guide has no others", "detach()"]
    ),
    "the encoder runs under no_grad": Fault(
        encoder("with torch.no_grad():", "    loc = self.g(x)"), "z", ["the guide has no others", "no_grad"]
    ),
    "the draw is cut off from the likelihood": Fault(
        decoder("loc = self.f(z.detach())"), "z", ["no gradient flows back to the guide", "detach()"]
    ),
    "the draw is rounded": Fault(decoder("loc = self.f(z.round())"), "z", ["no gradient flows back", "round"]),
    "the decoder does not read z": Fault(
        decoder("loc = self.f(torch.zeros_like(z))"), "z", ["nothing in the model depends on its value"]
    ),
    "the guide does not read x": Fault(
        encoder("loc = self.g(torch.zeros_like(x))"), "z", ["the same for every x", "network read x"], level="warning"
    ),
    "a likelihood that is masked out": Fault(
        {MODEL_X: f"with pyro.poutine.mask(mask=False):\n                {MODEL_X}"},
        "x",
        ["model.f.weight", "the model has no others"],
    ),
    "a factor 0": Fault(encoder("loc = 0 * self.g(x)"), "z", ["exactly 0 in 5 steps", "the guide has no others"]),
    "a gradient that is NaN": Fault(
        likelihood("dist.Normal(loc, 1.0 + (loc - loc).sqrt())"),
        "x",
        ["gradient of its log-probability in model.f.weight is not finite at the first parameters", "guard"],
    ),
    "a likelihood that overflows": Fault(
        likelihood("dist.Normal(loc, 1e-30)"), "x", ["its log-probability is not finite", "floor under scales"]
    ),
    "a mixture prior under analytic-kl": Fault(
        MIXTURE, "z", ["Mixture", "no closed-form", "use trace"], objective="analytic-kl"
    ),
    "a draw without rsample under analytic-kl": Fault(
        posterior("fakes.NonreparameterizedNormal(loc, 1.0)"),
        "z",
        ["no reparameterized draw", "use trace"],
        objective="analytic-kl",
    ),
    # ---- seeds ----
    "numpy's random numbers": Fault(
        encoder("loc = self.g(x) + float(np.random.normal())"),
        "z",
        ["two passes with the same seed differ", "numpy.random"],
    ),
    "Python's random numbers": Fault(
        decoder("loc = self.f(z) + random.random()"), "x", ["two passes with the same seed differ", "not with random"]
    ),
    "a seed that is set in the program": Fault(
        encoder("torch.manual_seed(0)", "loc = self.g(x)"), None, ["the guide seeds the generator", "before fit"]
    ),
    "a counter": Fault(
        encoder("self.calls += 1", "loc = self.g(x) * self.calls"),
        "z",
        ["two passes with the same seed differ", "counter"],
    ),
    "dropout that evaluation does not turn off": Fault(
        encoder("loc = F.dropout(self.g(x))"),
        "z",
        ["noise outside pyro.sample", "training=self.training"],
        level="warning",
    ),
    # ---- rows ----
    "a softmax over the rows": Fault(
        encoder("loc = torch.softmax(self.g(x), 0)"), "z", ["changes with the other rows", "no softmax", "dim 0"]
    ),
    "a mean over the batch in the encoder": Fault(
        encoder("loc = self.g(x - x.mean(0))"), "z", ["of the guide", "changes with the other rows of its batch"]
    ),
    "a little of the batch's mean in the encoder": Fault(
        encoder("loc = self.g(x - 0.01 * x.mean(0))"), "z", ["of the guide", "changes with the other rows"]
    ),
    "a mean over the batch in the decoder": Fault(
        decoder("loc = self.f(z - z.mean(-2, keepdim=True))"), "x", ["of the model", "changes with the other rows"]
    ),
    "a BatchNorm": Fault(
        {GUIDE_NET: f"{GUIDE_NET}; self.norm = nn.BatchNorm1d(2)"} | encoder("loc = self.norm(self.g(x))"),
        "z",
        ["in training mode", "BatchNorm", "LayerNorm"],
        level="warning",
    ),
    "a number that depends on the size of the batch": Fault(
        encoder("loc = self.g(x) / x.shape[0]"), "z", ["in a batch of 7 rows", "by itself", "size of the batch"]
    ),
    "a squeeze that drops a row": Fault(
        encoder("loc = self.g(x.squeeze().softmax(1))"),
        None,
        ["fails on a batch of one row", "squeeze()"],
        line="squeeze",
    ),
    "data standardized batch by batch": Fault(
        {MODEL_X: MODEL_X.replace("obs=x", "obs=(x - x.mean(0)) / x.std(0)")}, "x", ["changes with the other rows"]
    ),
    # ---- samples ----
    "a decoder that flattens all but the first dimension": Fault(
        decoder("loc = self.f(z.flatten(1))"),
        None,
        ["fails with 3 samples per row", "flatten(-2)", "vectorized = False"],
        level="warning",
        line="flatten(1)",
    ),
    "a convolution that does not say so": Fault(
        decoder("loc = F.interpolate(z.unsqueeze(1), 5)[:, 0] + self.f(z)"),
        None,
        ["fails with 3 samples per row", "vectorized = False"],
        level="warning",
        line="interpolate",
    ),
    "a decoder that mixes samples and rows": Fault(
        decoder("loc = self.f(z.reshape(x.shape[0], -1, 2)[:, 0])"),
        "x",
        ["with 3 samples per row", "by itself", "last dimensions"],
    ),
    "a decoder that averages over samples": Fault(
        decoder("loc = self.f(z.reshape(-1, x.shape[0], 2).mean(0))"), "x", ["with 3 samples per row", "by itself"]
    ),
    # ---- p(x|z) without x ----
    "a decoder that reads x": Fault(
        decoder("loc = self.f(z) + 0.5 * x"), "x", ["at one z, the parameters of p(x|z) change", "from z alone"]
    ),
    "a decoder that reads a little of x": Fault(
        decoder("loc = self.f(z) + 1e-5 * x[..., :1]"), "x", ["at one z, the parameters of p(x|z) change"]
    ),
    "a scale taken from the data": Fault(
        likelihood("dist.Normal(loc, x.std(-1, keepdim=True))"),
        "x",
        ["parameters of p(x|z) change with the values of 'x'"],
    ),
    "a prior that reads x": Fault(
        prior("dist.Normal(x[..., :2], 1.0)"),
        "z",
        ["its prior changes with the values of 'x'", "read only its shape"],
    ),
    "a second likelihood that reads the data": Fault(
        {MODEL_X: f"{MODEL_X}\n            pyro.sample('y', dist.Normal(x.sum(-1), 1.0), obs=torch.zeros(x.shape[0]))"},
        "y",
        ["reads 'x', which another site observes", "pyro.sample returns"],
        level="warning",
    ),
    "columns that are not observed": Fault(
        likelihood("dist.Normal(loc[..., :3], 1.0)") | {"obs=x": "obs=x[..., :3]"},
        "x",
        ["observes 3 of the 5 numbers of a datum of 'x'", "no part of log p(x)"],
        level="warning",
    ),
    "a likelihood that can't be sampled": Fault(
        {"class Model": NO_DRAWS} | likelihood("Own(loc, 1.0)"),
        "x",
        ["can't be sampled without data", "no sample"],
        line="raise NotImplementedError",
    ),
    # ---- columns ----
    "a constant column": Fault(
        {}, None, ["column 2 of field 'x' holds one value", "Leave out"], level="warning", data=lambda: held(2, 7.0)
    ),
    # ---- missing cells ----
    "an encoder that sees missing cells": Fault(
        {}, "z", ["loc of Normal is nan", "missing cells must be filled"], missing=True
    ),
    "a likelihood of missing cells": Fault(
        FILLED, "x", ["column 1 of the data is missing", "fill it before log_prob", ".mask(~x.isnan())"], missing=True
    ),
    "missing cells filled in place": Fault(
        encoder("x[x.isnan()] = 0", "loc = self.g(x)"),
        None,
        ["the guide changes its batch in place", "clone"],
        missing=True,
    ),
    "missing cells filled from other rows": Fault(
        encoder("loc = self.g(torch.where(x.isnan(), x.nanmean(0), x))")
        | likelihood("dist.Normal(loc, 1.0).mask(~x.isnan())")
        | {"obs=x": "obs=torch.nan_to_num(x)"},
        "z",
        ["changes with the other rows of its batch"],
        missing=True,
    ),
    # ---- capture ----
    "len(x) as the plate's size": Fault(
        {MODEL_PLATE: MODEL_PLATE.replace("x.shape[0]", "len(x)")},
        None,
        ["the batch size becomes a constant", "len(x)", "write x.shape[0]"],
        level="warning",
        line="len(x)",
    ),
    "a branch on the data": Fault(
        encoder("loc = self.g(x if x.sum() > -1e9 else -x)"),
        None,
        ["can't be captured", "x.sum() > -1e9"],
        level="warning",
        line="x.sum() > -1e9",
    ),
    "a detour through numpy": Fault(
        encoder("loc = self.g(torch.as_tensor(np.tanh(x.numpy())))"),
        None,
        ["can't be captured", "numpy"],
        level="warning",
        line="np.tanh",
    ),
}


def dataset_of(fault: Fault) -> Dataset:
    dataset = open_data(fault.data())
    if fault.missing:
        for split in (dataset.train, dataset.valid, dataset.test):
            split[0][::3, 1] = float("nan")
    return dataset


def check(model: Any, guide: Any, dataset: Dataset, objective: str = "trace", **settings: object) -> CheckReport:
    with isolated(0):
        pair = resolve_pair(model, guide, tuple(x[:1000] for x in dataset.train), settings)
        return check_pair(pair, dataset, objectives.get(objective)(), thorough=True)


def find(fault: Fault, folder: Path) -> CheckReport:
    """What `check` says of a file with this fault."""
    file = folder / "vae.py"
    file.write_text(fault.text())
    return check(str(file), str(file), dataset_of(fault), fault.objective)


def main() -> None:
    print("| Fault | Level | Site | Line | Message |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, fault in FAULTS.items():
            for finding in find(fault, Path(folder)).findings:
                line = (finding.where or "").rpartition("/")[2]
                message = finding.message.replace("|", "\\|")
                print(f"| {name} | {finding.level} | {finding.site or ''} | {line} | {message} |")


if __name__ == "__main__":
    main()
