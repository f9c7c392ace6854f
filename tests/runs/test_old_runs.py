"""Runs that an earlier version wrote still open, say what they said, and go on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import support

import ppl_vae

ROWS = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")  # what it was fitted to
ELBOS = [-5.740658, -5.632141, -5.548899]  # on validation rows: two epochs, as that version went on


@pytest.fixture
def run(tmp_path: Path) -> ppl_vae.Run:
    old = Path(support.__path__[0]) / "old_runs" / "linear_vae"
    return ppl_vae.Run(shutil.copytree(old, tmp_path / "run"))


def test_it_opens_and_says_what_it_said(run: ppl_vae.Run) -> None:
    assert run.config.set == ("latent_dim=2", "objective.num_particles=2")
    assert (run.config.objective, run.target, run.step("best")) == ("analytic-kl", "ELBO", 2)
    assert [line["valid"]["elbo"] for line in run.metrics] == pytest.approx(ELBOS[:2], abs=1e-6)
    assert (run.best.step, run.best.fresh) == (2, True)
    assert run.best.elbo.value == pytest.approx(-5.333366, abs=1e-6)
    assert list(run.rules.range or ()) == [-2.32503080368042, 1.9602583646774292]
    pair = run.pair(trust=True)
    assert [tuple(p.shape) for p in pair.model.parameters()] == [(3, 2), (3,)]
    assert pair.sources["model"].path is not None


def test_every_verb_takes_it(run: ppl_vae.Run) -> None:
    encoded = ppl_vae.encode(run, ROWS, trust=True)
    assert encoded["z_mean"].shape == (20, 2)
    assert ppl_vae.compare(run, draws=2, data=ROWS, trust=True)["rows"] == 2
    assert ppl_vae.sample(run, num=3, trust=True)["x"].shape == (3, 3)


def test_it_goes_on_as_it_would_have_gone_on_then(run: ppl_vae.Run) -> None:
    again = ppl_vae.fit(data=ROWS, out=run.folder, resume=True, epochs=2, trust=True)
    assert [line["valid"]["elbo"] for line in again.metrics] == pytest.approx(ELBOS, rel=1e-4)
