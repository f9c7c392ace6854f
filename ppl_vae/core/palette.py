"""What there is to choose from, as names alone: the kinds of parts, and the names that stand for a line of settings.

No torch is imported here, so that help texts can list what there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ppl_vae.core.registry import Registry

PARTS: dict[str, Registry[Any]] = {
    "prior": Registry("ppl_vae.blocks.priors", "prior"),
    "likelihood": Registry("ppl_vae.blocks.likelihoods", "likelihood"),
    "family": Registry("ppl_vae.blocks.families", "family"),
    "network": Registry("ppl_vae.blocks.networks", "network"),
}
"""The parts of each kind by name. An argument `prior` or `top_prior` of a program is a part of the kind `prior`."""


@dataclass(frozen=True)
class Shorthand:
    """A name for a program with settings, such as `vampprior` for `vae` with `prior=vamp`.

    Args:
        program: the file that it stands for.
        settings: what it sets; a user's own settings have the last word.
        renamed: what settings were called in the file that once had this name, and what they are called now.
        sha256: of that file. A run that was fitted with it opens with the program that stands here, whose numbers are
            the same.
    """

    program: str
    settings: Mapping[str, Any]
    sha256: str
    renamed: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.program, "with", *(f"--set {name}={value}" for name, value in self.settings.items())])


SHORTHANDS: dict[str, dict[str, Shorthand]] = {
    "model": {
        "convolutional": Shorthand(
            "vae",
            {"network": "convolutional"},
            "59bc7fcc0dad35d3d87a93fe103f575cb39104281127c4818eb413c66fd83dbb",
        ),
        "counts": Shorthand(
            "vae",
            {"likelihood": "zero_inflated_negative_binomial", "hidden": 128},
            "5f12af335c696c53bbf12c7fc439186cf06e319544fbc129538aa002002e2ca4",
        ),
        "flow": Shorthand(
            "vae",
            {"prior": "flow"},
            "82dfe689a1f042c99a34038d23d5f291cc651aaf3c62c957c326550cc894a76a",
            {"flow": "prior.kind"},
        ),
        "gtm_vampprior": Shorthand(
            "vae", {"prior": "gtm_vamp"}, "63ff199395bcc1ceb74330a9f12bc43b78dbd40068426e25446a17b681c45dae"
        ),
        "mixture": Shorthand(
            "vae", {"prior": "mixture"}, "cb537b2d775d7f40aa0e914e8c3affd5bdc0c2733f195ecdbe2d0a882f8c9209"
        ),
        "spherical": Shorthand(
            "vae", {"prior": "sphere"}, "7072ef8a664718b240821f4515e194a998606aabe6517a2b1c9faa3531cc54f5"
        ),
        "table": Shorthand(
            "vae",
            {"likelihood": "table", "likelihood.kinds": "real", "latent_dim": 10, "hidden": 100},
            "8923ed0f53ed316da0a1cf2d0464e43eb2468101b0a1beef9714926b2d7772c3",
        ),
        "vampprior": Shorthand(
            "vae", {"prior": "vamp"}, "fdb73539ecdb9851ff328809469e886430633390270c9bce551bc8b1e581599c"
        ),
    },
    "guide": {
        "categorical": Shorthand(
            "amortized",
            {"family": "categorical", "latent_dim": 10},
            "2ad59fed7817ffb6dadb9ce14904c3c0305b6f8b9c55f57d31605ee468c02fa1",
            {"classes": "latent_dim"},
        ),
        "convolutional": Shorthand(
            "amortized",
            {"network": "convolutional", "standardized": False},
            "4cdb83a71444e65c307d83ff9d94254dd91c55cf82a93f8127139ad27174bf80",
        ),
        "full_normal": Shorthand(
            "amortized", {"family": "full_normal"}, "e31842d1315c055efb149252a1bccbbc061e9c07f95da211b18dcb2e1d072e0f"
        ),
        "iaf": Shorthand(
            "amortized",
            {"family": "iaf"},
            "930cc9b87fbb4b30531d11af7550d61620a273ffd8a20d13cd8a00b9134340c5",
            {"flow_hidden": "family.hidden"},
        ),
        "power_spherical": Shorthand(
            "amortized",
            {"family": "power_spherical"},
            "2ff59eaffdce8f6f9c0841044a95ba3237a4b36c2db90d13929321f117da3d88",
        ),
    },
}
"""Names of models and guides that are a line of settings of another one."""

REWRITTEN = {
    "model": {
        "autoregressive": "5ff3d206d82bb63ecf508fd3ba0746ce6fc9ed45ac1af9141399fc9493a0559f",
        "categorical": "14eff07043a523ebe9f4f06b90589a4db1ce8fedf69d11640eabf90d2f90c67d",
        "conditional": "20683afa5289c2c2dbed26660d3517f7708e9fbe44506ab6d64b664f2c33ede0",
    },
    "guide": {
        "conditional": "5a4202b0d151271763a7a7ace985e24bd723e62b8e9bfeb4c920f3fa5c2632c0",
        "table": "eaf4119d23f71f843f13491e58ec40169df93045c41432abce096e978191c8c4",
    },
}
"""The SHA-256 that a shipped file had before it was rewritten without a change of its numbers."""
