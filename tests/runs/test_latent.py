"""The latent space of a run: codes, what is decoded at them, and one dimension moved at a time."""

import numpy as np
import pytest
import torch

import ppl_vae
from ppl_vae.core.errors import InputError
from ppl_vae.runs.latent import REACH, Decoder
from ppl_vae.runs.run import Run

ROWS = (np.random.default_rng(0).random((80, 6)) < 0.4).astype(np.float32)
SMALL = {"latent_dim": 3, "hidden": 8}


def decoder(tmp_path, model="bernoulli", guide="diagonal_normal", rows=ROWS, **settings):
    run = Run.of(ppl_vae.fit(model, guide, rows, tmp_path / "run", epochs=1, set=SMALL | settings))
    pair = run.pair()
    return pair, Decoder(run, pair, (torch.from_numpy(rows[:10]),))


def test_codes_are_the_guides_means_and_what_the_model_makes_of_them(tmp_path):
    pair, made = decoder(tmp_path)
    x = torch.from_numpy(ROWS[:10])
    codes = made.codes()
    with torch.no_grad():
        loc = pair.guide.posterior(x).mean
        mean = pair.model.likelihood(loc).mean
    assert np.allclose(codes.z, loc.numpy())
    assert np.allclose(codes.again, mean.numpy(), atol=1e-6)
    assert np.array_equal(codes.x, ROWS[:10])
    assert codes.names == ("z[0]", "z[1]", "z[2]")


def test_a_traversal_moves_one_dimension(tmp_path):
    pair, made = decoder(tmp_path)
    found = made.traversals([2, 0], steps=5)
    z = made.z
    for i, j in enumerate([2, 0]):
        for step, by in enumerate(np.linspace(-REACH, REACH, 5)):
            at = z[0].clone()
            at[j] = z[:, j].mean() + by * z[:, j].std()
            with torch.no_grad():
                assert np.allclose(found[i, step], pair.model.likelihood(at).mean.numpy(), atol=1e-6)


def test_two_levels_are_one_vector(tmp_path):
    _, made = decoder(tmp_path, "hierarchical", "bottom_up", top_dim=2)
    assert made.codes().z.shape == (10, 5)
    assert made.codes().names == ("z1[0]", "z1[1]", "z1[2]", "z2[0]", "z2[1]")
    assert made(made.z, made.batch).shape == (10, 6)


def test_a_flows_mean_is_that_of_draws(tmp_path):
    pair, made = decoder(tmp_path, "bernoulli", "iaf", flow_hidden=8)
    x = torch.from_numpy(ROWS[:10]).repeat(2000, 1)
    with torch.no_grad():
        z = pair.guide.posterior(x).sample().unflatten(0, (2000, 10))
    error = z.std(0) / 100**0.5
    assert ((made.z - z.mean(0)).abs() < 5 * error).all()


def test_a_latent_that_is_no_vector_of_real_numbers_is_refused(tmp_path):
    with pytest.raises(InputError, match="'z' is no vector of any real numbers"):
        decoder(tmp_path, "spherical", "power_spherical")
