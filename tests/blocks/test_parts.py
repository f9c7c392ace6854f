"""Parts: chosen by name or given as objects, with settings; what goes together, and what is said where it does not."""

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import ppl_vae
from ppl_vae.blocks import Choice, Features, Part, families, likelihoods, networks, priors, space_of
from ppl_vae.blocks.spaces import SPACES
from ppl_vae.core.errors import InputError
from ppl_vae.core.palette import PARTS, SHORTHANDS
from ppl_vae.guides import amortized
from ppl_vae.models import vae
from ppl_vae.programs import Pair, resolve, resolve_pair

X = (torch.rand(40, 6) < 0.3).float()
SMALL: dict[str, Any] = {"latent_dim": 2, "hidden": 4}


def pair(model: Any = "vae", guide: Any = "amortized", **settings: Any) -> Pair:
    """`__` stands for the dot."""
    return resolve_pair(model, guide, (X,), SMALL | {name.replace("__", "."): v for name, v in settings.items()})


class Wide(nn.Module):
    """A prior of one's own."""

    def __init__(self, latent_dim: int, spread: float = 2.0) -> None:
        super().__init__()
        self.spread = spread
        self.register_buffer("zero", torch.zeros(latent_dim), persistent=False)

    def forward(self) -> dist.Distribution:
        return dist.Normal(self.zero, self.spread).to_event(1)


# ---- the same by settings and by an edited line ----


@pytest.mark.parametrize("prefix", ["", "model."])
def test_settings_choose_a_part_and_set_it(prefix: str) -> None:
    chosen = resolve_pair("vae", "amortized", (X,), {f"{prefix}prior": "mixture", f"{prefix}prior.components": 7})
    assert chosen.model.p_z.logits.shape == (7,)


@pytest.mark.parametrize("name", ["components", "model.components", "prior.components", "model.prior.components"])
def test_a_setting_that_the_program_lacks_is_the_parts(name: str) -> None:
    assert resolve_pair("vae", "amortized", (X,), {"prior": "mixture", name: 7}).model.p_z.logits.shape == (7,)


def test_a_program_keeps_its_own_setting_of_that_name() -> None:
    model = pair(prior="gtm", hidden=5).model
    assert model.decoder[0].out_features == 5
    assert model.p_z.network[0].out_features == 100
    assert pair(prior="gtm", prior__hidden=6).model.p_z.network[0].out_features == 6
    assert pair(network__hidden=6).guide.encoder[0].out_features == 6


def test_the_order_of_settings_does_not_matter() -> None:
    settings = {"model.prior.components": 3, "prior.components": 4, "components": 5, "prior": "mixture"}
    for items in (settings.items(), reversed(settings.items())):
        assert resolve_pair("vae", "amortized", (X,), dict(items)).model.p_z.logits.shape == (3,)


def test_a_shorthand_gives_way_to_settings() -> None:
    assert type(pair("mixture", prior="vamp").model.p_z) is priors.Vamp
    assert type(pair("table", "table", kinds="binary", likelihood="bernoulli").model.p_x) is likelihoods.Bernoulli


@pytest.mark.parametrize(
    "prior",
    [Wide, Wide(2), lambda latent_dim: Wide(latent_dim), functools.partial(Wide, spread=2.0), Choice(Wide, {})],
    ids=["class", "instance", "function", "partial", "choice"],
)
def test_a_part_may_be_an_object(prior: Any) -> None:
    assert pair(prior=prior).model.p_z().base_dist.scale.eq(2.0).all()
    direct = vae.Model((6,), latent_dim=2, prior=prior)
    assert type(direct.p_z) is Wide


def test_a_class_of_ones_own_takes_settings() -> None:
    assert pair(prior=Wide, prior__spread=3.0).model.p_z.spread == 3.0


def test_in_python_parts_are_lines_like_any_other() -> None:
    model = vae.Model((6,), 2, 4, prior=priors.Mixture(2, components=3), likelihood=likelihoods.Gaussian((6,)))
    guide = amortized.Guide((6,), 2, 4, family=families.FullNormal(2), network=networks.MLP(6, 5))
    assert resolve_pair(model, guide, (X,)).model.p_z.logits.shape == (3,)


def test_a_guide_is_borrowed_only_by_a_prior_that_asks_for_it() -> None:
    assert pair(prior="vamp").borrower == "model"
    assert pair(prior="mixture").borrower == "guide"
    assert resolve_pair("linear_gaussian", "linear_gaussian", (X,)).borrower == "guide"


def test_a_run_with_an_object_of_ones_own_is_opened_with_it(tmp_path: Path) -> None:
    run = ppl_vae.fit("vae", "amortized", X, tmp_path / "run", epochs=1, set=SMALL | {"prior": Wide})
    with pytest.raises(InputError, match=r"the setting prior of .* was given from Python \(.*Wide\): give it again"):
        run.pair()
    assert type(run.pair(set={"prior": Wide}).model.p_z) is Wide


# ---- what is wrong, where, and what to do ----

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prior": "mixtur"}, "no prior is called 'mixtur': there are .*gtm, .*; did you mean 'mixture'"),
    ({"likelihood": "bernouli"}, "no likelihood is called 'bernouli'.*did you mean 'bernoulli'"),
    ({"family": "ful_normal"}, "no family is called 'ful_normal'.*did you mean 'full_normal'"),
    ({"network": "cnn"}, "no network is called 'cnn': there are .*residual"),
    ({"prior": 3}, "prior is 3: expected one of .*mixture.*, or a class that makes a prior"),
    (
        {"prior": "mixture", "prior.componets": 3},
        "prior mixture has no setting 'componets': it has components; did you mean components?",
    ),
    (
        {"prior.components": 3},
        "prior standard_normal has no setting 'components': it has none; vamp or mixture has it: --set prior=",
    ),
    ({"family": "full_normal", "family.rank": 3}, "family full_normal has no setting 'rank'.*low_rank_normal has it"),
    ({"prior": "mixture", "prior.components": "a"}, "prior.components is 'a': expected int"),
    ({"prior": "mixture", "components": 0}, "components is 0: it must be at least 1"),
    ({"prior": "flow", "prior.kind": "planar"}, "prior.kind is 'planar': expected 'coupling' or 'autoregressive'"),
    ({"prior": "mixture", "prior.latent_dim": 3}, "has no setting 'latent_dim': it has components"),
    ({"likelihood": "categorical"}, "likelihood categorical needs levels: --set likelihood.levels=..."),
    ({"likelihood": "binomial"}, "likelihood binomial needs total: --set likelihood.total=..."),
    ({"prior": Wide(2), "prior.spread": 3.0}, "prior is given as an object, which has its settings"),
    ({"network": "convolutional"}, r"a datum of shape \(6,\) is no image"),
    ({"levels": 3}, "no program has a setting 'levels'.*; categorical or ordinal .* has it: --set likelihood="),
    ({"prier.components": 3}, "no program has a setting 'prier.components': there are .*model.prior"),
    ({"model.data": 3}, "model has no setting 'data'"),
]


@pytest.mark.parametrize(("settings", "says"), WRONG, ids=[str(list(s.items())) for s, _ in WRONG])
def test_what_does_not_fit_is_said(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        resolve_pair("vae", "amortized", (X,), SMALL | settings)


class Chosen(vae.Model):
    """Its prior has another default."""

    def __init__(self, data_shape: tuple[int, ...], prior: Part = Choice("mixture", {"components": 3})) -> None:  # noqa: B008
        super().__init__(data_shape, 2, 4, prior=prior)


class Strange(vae.Model):
    def __init__(self, data_shape: tuple[int, ...], thing: Part = "mixture") -> None:
        super().__init__(data_shape, 2, 4)


def test_a_default_may_have_settings() -> None:
    for settings, components in (({}, 3), ({"components": 4}, 4)):
        model = resolve_pair(Chosen, "amortized", (X,), {"guide.latent_dim": 2} | settings).model
        assert model.p_z.logits.shape == (components,)


def test_an_argument_of_no_kind_is_refused() -> None:
    with pytest.raises(InputError, match="argument 'thing' is a Part: let its name end with prior or likelihood"):
        resolve_pair(Strange, "amortized", (X,))


def test_a_page_without_parts_says_so() -> None:
    with pytest.raises(InputError, match=r"no program has a setting 'prior': there are model\.latent_dim"):
        pair("bernoulli", "diagonal_normal", prior="mixture")


def test_a_vamp_prior_without_a_guide_says_what_it_needs() -> None:
    with pytest.raises(InputError, match="prior vamp needs guide: this program has none to give"):
        resolve("vae", data_shape=(6,), prior="vamp")


# ---- spaces ----


@pytest.mark.parametrize("space", SPACES)
def test_every_space_has_a_prior_and_a_family(space: str) -> None:
    for kind in ("prior", "family"):
        assert space in {space_of(part) for part in PARTS[kind].values()}


@pytest.mark.parametrize(("prior", "family"), [("sphere", "diagonal_normal"), ("categorical", "power_spherical")])
def test_two_spaces_are_refused_before_training(prior: str, family: str) -> None:
    with pytest.raises(InputError, match=r"the model's z is .*, and the guide's is .*--set family=.*--set prior="):
        pair(prior=prior, family=family)


def test_a_guide_that_states_no_space_is_refused_by_its_draws(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"site 'z': the guide draws .*, outside the support of its prior"):
        ppl_vae.fit("vae", "diagonal_normal", X, tmp_path / "run", epochs=1, set=SMALL | {"prior": "sphere"})


def test_features_are_what_the_space_says() -> None:
    def features(prior: str, z: Tensor) -> Tensor:
        return Features(priors.build(prior, 4), 4)(z)

    z = torch.randn(3, 4)
    assert torch.equal(features("standard_normal", z), z)
    assert torch.equal(features("sphere", z), 2 * z)
    assert features("categorical", torch.tensor([1, 3])).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(features("relaxed_categorical", z), z.exp())


def test_a_vamp_prior_is_of_its_guides_space() -> None:
    model = pair(prior="vamp", family="power_spherical").model
    assert (model.space, model.features.space) == ("sphere", "sphere")


# ---- the registries ----


def test_lists_of_parts_and_shorthands_import_no_torch() -> None:
    code = (
        "import sys; from ppl_vae.core.palette import PARTS, SHORTHANDS; print([list(r) for r in PARTS.values()], "
        "str(SHORTHANDS['model']['vampprior'])); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "vae with --set prior=vamp" in done.stdout


@pytest.mark.parametrize("kind", PARTS)
def test_every_part_says_what_it_is_and_is_named_once(kind: str) -> None:
    assert all(entry.summary for entry in PARTS[kind].entries.values())
    modules = {"prior": priors, "likelihood": likelihoods, "family": families, "network": networks}
    for part in PARTS[kind].values():
        assert getattr(modules[kind], part.__name__) is part


def test_shorthands_set_what_there_is() -> None:
    for kind, shorthands in SHORTHANDS.items():
        for name, shorthand in shorthands.items():
            for part, chosen in shorthand.settings.items():
                assert part not in PARTS or chosen in PARTS[part], (kind, name)
