"""A run as a user holds it: its programs, its numbers, its folder, and a folder that goes with it."""

import gc
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from support.runs import fitted
from torch import Tensor, nn

import ppl_vae
from ppl_vae.core.errors import InputError
from ppl_vae.guides import diagonal_normal
from ppl_vae.models import gaussian
from ppl_vae.programs import owned
from ppl_vae.runs.fitting import fit

ROWS = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 10, "set": {"hidden": 4, "latent_dim": 2}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ppl_vae.Run:
    return fitted(tmp_path_factory.mktemp("user"), epochs=3)


def test_its_programs_are_those_of_the_best_step_and_loaded_once(run: ppl_vae.Run) -> None:
    wanted = dict(owned(run.pair().model, run.pair().guide, "guide"))
    found = dict(owned(run.model, run.guide, "guide"))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert run.model is run.model
    assert not run.model.training
    assert not run.guide.training


def test_history_is_a_table_of_the_metrics(run: ppl_vae.Run) -> None:
    history = run.history
    assert history["step"].tolist() == [line["step"] for line in run.metrics]
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    assert set(history) == {
        "step", "epoch", "valid_elbo", "valid_elbo_se_data", "valid_rate", "valid_rate_se_data", "valid_distortion",
        "train_elbo", "train_rate", "train_distortion", "gradient_norm", "lr", "seconds",
    }  # fmt: skip
    assert math.isnan(history["train_elbo"][0])
    for name in ("elbo", "rate", "distortion"):
        assert history[f"train_{name}"].tolist()[1:] == [line["train"][name] for line in run.metrics[1:]]
        assert history[f"valid_{name}"].tolist() == [line["valid"][name] for line in run.metrics]


def test_best_is_measured_afresh(run: ppl_vae.Run) -> None:
    best, fresh = run.best, run.fresh
    assert fresh is not None
    assert (best.step, best.fresh) == (run.step("best"), True)
    assert (best.elbo.value, best.elbo.se, best.elbo.over) == (fresh["elbo"], fresh["elbo_se_data"], "data")
    assert (best.rate.value, best.rate.se) == (fresh["rate"], fresh["rate_se_data"])
    assert best.distortion.value == fresh["distortion"]
    assert math.isnan(best.distortion.se)
    assert str(best.elbo).count("±") == 1


def test_best_before_the_end_of_a_fit_is_as_it_was_selected(tmp_path: Path) -> None:
    run = fitted(tmp_path)
    (run.folder / "best.json").unlink()
    line = next(line for line in run.metrics if line["step"] == run.step("best"))
    assert not run.best.fresh
    assert run.best.elbo.value == line["valid"]["elbo"]


def test_it_is_a_path(run: ppl_vae.Run) -> None:
    assert os.fspath(run) == str(run.folder)
    assert (Path(run) / "config.json").is_file()
    assert ppl_vae.Run.of(run) is run
    assert ppl_vae.Run.of(run.folder) == ppl_vae.Run.of(str(run.folder)) == run
    with pytest.raises(InputError, match="is no run"):
        ppl_vae.Run.of(run.folder / "none")


# ---- a temporary folder


def test_a_run_without_a_folder_lives_as_long_as_the_object() -> None:
    run = fit("gaussian", "diagonal_normal", ROWS, **OPTIONS)
    folder = run.folder
    assert ppl_vae.encode(run, ROWS)["z_mean"].shape == (40, 2)
    longer = fit(data=ROWS, out=run, resume=True, epochs=3)
    del run
    gc.collect()
    assert longer.history["epoch"].tolist() == [0, 1, 2, 3], "a run that goes on keeps the folder"
    del longer
    gc.collect()
    assert not folder.exists()


def test_a_fit_that_fails_leaves_no_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InputError):
        fit("bernoulli", "diagonal_normal", ROWS, **OPTIONS)
    gc.collect()
    assert not list(tmp_path.iterdir())


# ---- programs from Python


def test_classes_given_from_python_need_not_be_given_again_to_the_run_that_fit_returns(tmp_path: Path) -> None:
    run = fit(gaussian.Model, diagonal_normal.Guide, ROWS, tmp_path / "run", **OPTIONS)
    assert isinstance(run.model, gaussian.Model)
    with pytest.raises(InputError, match="given from Python: give it again as model="):
        _ = ppl_vae.Run(run.folder).model


def test_instances_keep_their_own_weights(tmp_path: Path) -> None:
    model, guide = gaussian.Model((4,), 2, 4), diagonal_normal.Guide((4,), 2, 4)
    run = fit(model, guide, ROWS, tmp_path / "run", epochs=3, batch_size=10, lr=0.5)
    last = {name: tensor.detach().clone() for name, tensor in owned(model, guide, "guide")}
    assert run.step("best") < run.step("last")
    assert any(not torch.equal(tensor, last[name]) for name, tensor in owned(run.model, run.guide, "guide"))
    assert all(torch.equal(tensor, last[name]) for name, tensor in owned(model, guide, "guide"))


class Both(nn.Module):
    """Model and guide as two methods of one object, which share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((4,), 0.1))

    def model(self, x: Tensor) -> None:
        pyro.module("both", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z * self.w, 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("both", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal((x * self.w).sum(-1, keepdim=True), 0.5).to_event(1))


def test_methods_of_one_object_are_loaded_into_a_copy(tmp_path: Path) -> None:
    both = Both()
    run = fit(both.model, both.guide, ROWS, tmp_path / "run", epochs=2, batch_size=10)
    last = both.w.detach().clone()
    assert next(run.model.parameters()) is not both.w
    assert torch.equal(both.w, last)
