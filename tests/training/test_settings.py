"""Settings are passed on as they are; a run records what has a text, and asks again for the rest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ppl_vae
from ppl_vae.core.errors import InputError
from ppl_vae.models import gaussian
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.run import Run
from ppl_vae.training import settings

ROWS = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
OPTIONS: dict[str, Any] = {"epochs": 1, "batch_size": 10}
seen: list[Any] = []


class Taking(gaussian.Model):
    """It takes a class, a tensor and an instance."""

    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 2,
        activation: type[nn.Module] = nn.ReLU,
        offset: Tensor | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__(data_shape, latent_dim, 4)
        seen.append((activation, offset, head))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 4), activation(), head or nn.Linear(4, *data_shape))


def given() -> dict[str, Any]:
    torch.manual_seed(1)
    return {"latent_dim": 3, "activation": nn.Tanh, "offset": torch.ones(4), "head": nn.Linear(4, 4)}


def test_any_value_reaches_the_program_as_it_is(tmp_path: Path) -> None:
    values = given()
    seen.clear()
    run = fit(Taking, "diagonal_normal", ROWS, tmp_path / "run", set=values, **OPTIONS)
    activation, offset, head = seen[0]
    assert activation is nn.Tanh
    assert offset is values["offset"]
    assert head is values["head"]
    assert json.loads((run.folder / "config.json").read_text())["fit"]["set"] == [
        "latent_dim=3",
        {"name": "activation", "python": "torch.nn.modules.activation.Tanh"},
        {"name": "offset", "python": "torch.Tensor"},
        {"name": "head", "python": "torch.nn.modules.linear.Linear"},
    ]
    assert isinstance(run.model.decoder[1], nn.Tanh), "the run that fit returns has them"


def test_a_fresh_process_asks_for_what_has_no_text(tmp_path: Path) -> None:
    run = fit(Taking, "diagonal_normal", ROWS, tmp_path / "run", set=given(), **OPTIONS)
    words = r"the setting activation of .* was given from Python \(torch.nn.modules.activation.Tanh\): give it again"
    with pytest.raises(InputError, match=words):
        Run(run.folder).pair(model=Taking)
    with pytest.raises(InputError, match=words):
        fit(Taking, data=ROWS, out=run.folder, resume=True, epochs=2)
    again = {name: value for name, value in given().items() if name != "latent_dim"}
    pair = Run(run.folder).pair(model=Taking, set=again)
    for name, tensor in pair.model.state_dict().items():
        assert torch.equal(tensor, run.model.state_dict()[name])
    encoded = ppl_vae.encode(run.folder, ROWS, model=Taking, set=again)
    assert encoded["z_mean"].shape == (40, 3)


def test_resume_with_the_settings_again_is_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = fit(Taking, "diagonal_normal", ROWS, tmp_path / "whole", set=given(), epochs=2, batch_size=10)
    run = fit(Taking, "diagonal_normal", ROWS, tmp_path / "run", set=given(), epochs=1, batch_size=10)
    run = fit(Taking, data=ROWS, out=run.folder, resume=True, epochs=2, set=given())
    last = [r.checkpoints.load(r.step("last"))[0] for r in (whole, run)]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])
    with pytest.raises(InputError, match=r"not activation \(torch.nn.modules.activation.ELU\): leave it out"):
        fit(Taking, data=ROWS, out=run.folder, resume=True, set=given() | {"activation": nn.ELU})


def test_some_of_the_settings_may_be_said_again(tmp_path: Path) -> None:
    run = fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", set={"hidden": 4, "latent_dim": 2}, **OPTIONS)
    for again in ({"latent_dim": 2}, "latent_dim=2", ("latent_dim= 2", "hidden=4"), ["latent_dim=2", "latent_dim=2"]):
        fit(data=ROWS, out=run.folder, resume=True, set=again)
    with pytest.raises(InputError, match="started with set hidden=4, latent_dim=2, not latent_dim=3"):
        fit(data=ROWS, out=run.folder, resume=True, set={"latent_dim": 3})


@pytest.mark.parametrize(
    "value", [3, -1.5, True, None, "text", "3", "a=b", [1, "x"], (2, 3), {"a": [1]}, 1e-300, b"raw"]
)
def test_what_python_can_write_down_comes_back_from_its_text(value: Any) -> None:
    recorded = settings.record({"name": value})
    assert all(isinstance(entry, str) for entry in recorded)
    found = settings.restore(recorded, {}, "run")["name"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (nn.ReLU, "torch.nn.modules.activation.ReLU"),
        (nn.ReLU(), "torch.nn.modules.activation.ReLU"),
        (torch.zeros(2), "torch.Tensor"),
        (float("nan"), "builtins.float"),
        (np.float32(0.5), "numpy.float32"),
        (Path("a"), "pathlib.PosixPath"),
    ],
)
def test_what_has_no_text_is_noted(value: Any, kind: str) -> None:
    assert settings.record({"name": value}) == ({"name": "name", "python": kind},)


def test_settings_of_an_objective_are_recorded_with_the_others(tmp_path: Path) -> None:
    run = fit(
        "gaussian", "diagonal_normal", ROWS, tmp_path / "run", objective="iwae",
        set={"hidden": 4, "latent_dim": 2, "objective.num_particles": 3}, **OPTIONS,
    )  # fmt: skip
    assert run.target == "IWAE_3"
    assert run.objective_settings == {"num_particles": 3}
