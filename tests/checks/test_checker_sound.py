"""No false alarm: pairs that are VAEs pass `check`, with no warning but those that are meant."""

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from support.planted_faults import check
from support.programs import CONVOLUTION, PAIRS, D, Z, normal, rows
from support.sound_programs import SOUND, Own, encoder, linear, plain_guide, plain_model, random_rows
from torch import Tensor, nn

from ppl_vae.data import open_data

UNUSED = "the loss does not depend on"
SCALED = "every site is scaled by 10"


@pytest.mark.parametrize("name", [*PAIRS, "convolution"])
def test_pairs_of_the_other_tests_pass(name):
    case = {**PAIRS, "convolution": CONVOLUTION}[name]
    report = check(*case.make(), open_data(random_rows(case.binary)))
    assert report.passed, report
    others = [f for f in report.findings if UNUSED not in f.message]  # Written has more parameters than most read
    assert len(others) == (case.scale != 1), report
    assert all(SCALED in f.message for f in others)


@pytest.mark.parametrize(
    ("model", "guide", "data", "binarize"),
    [
        ("gaussian", "diagonal_normal", "digits", "none"),
        ("linear_gaussian", "linear_gaussian", "digits", "none"),
        ("linear_gaussian", "diagonal_normal", "digits", "none"),
        ("bernoulli", "diagonal_normal", "digits", "once"),
        ("bernoulli", "diagonal_normal", "mnist-5k", "epoch"),
    ],
)
@pytest.mark.parametrize("objective", ["trace", "analytic-kl"])
def test_shipped_pairs_pass_without_findings(model, guide, data, binarize, objective):
    report = check(model, guide, open_data(data, binarize=binarize), objective, latent_dim=3)
    assert report.findings == (), report


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_pair_passes(name):
    sound = SOUND[name]
    torch.manual_seed(0)
    model = Own("model", sound.model, sound.model_parts())
    guide = Own("guide", sound.guide, sound.guide_parts())
    report = check(model, guide, sound.data())
    assert report.passed, report
    assert len(report.findings) == bool(sound.warning), report
    assert all(sound.warning in f.message for f in report.findings), report


def test_plain_functions_pass_without_findings():
    decoder, encoder = nn.Linear(Z, D), nn.Linear(D, 2 * Z)

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        scale = pyro.param("scale", torch.ones(D), constraint=dist.constraints.positive)
        with rows(x):
            z = pyro.sample("z", normal(x.new_zeros(Z)))
            pyro.sample("x", dist.Normal(decoder(z), scale).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with rows(x):
            loc, raw = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, F.softplus(raw)).to_event(1))

    assert check(model, guide, open_data(random_rows())).findings == ()


def test_double_precision_passes_without_findings():
    torch.set_default_dtype(torch.float64)
    try:
        model, guide = Own("model", plain_model, linear()), Own("guide", plain_guide, encoder())
        report = check(model, guide, open_data(torch.as_tensor(random_rows()).double()))
    finally:
        torch.set_default_dtype(torch.float32)
    assert report.findings == (), report
