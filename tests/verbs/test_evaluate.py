"""The verb `evaluate`: what it prints, what it writes, what it refuses."""

import json
from pathlib import Path
from typing import Any

import arviz
import numpy as np
import pytest

import ppl_vae
from ppl_vae import cli
from ppl_vae.core.errors import InputError

LIGHT: dict[str, Any] = {
    "rows": 12, "num_samples": 60, "gap_rows": 4, "annealed_rows": 2, "temperatures": 20, "simulations": 3,
    "calibrations": 40,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("evaluate") / "run"
    x = np.random.default_rng(0).random((200, 6)) < 0.4
    return ppl_vae.fit(
        "bernoulli", "diagonal_normal", x.astype("float32"), out, epochs=2, set={"latent_dim": 4, "hidden": 8}
    )


@pytest.fixture(scope="module")
def data() -> Any:
    return (np.random.default_rng(0).random((200, 6)) < 0.4).astype("float32")


@pytest.fixture(scope="module")
def found(run: Any, data: Any) -> Any:
    return ppl_vae.evaluate(run, data, **LIGHT)


def test_everything_is_written(run: Any, found: Any) -> None:
    written = json.loads((run.folder / "evaluate.json").read_text())
    assert written == found.asdict()
    for name in ("elbo", "log_px", "gap", "bits_per_dim", "approximation_gap", "amortization_gap"):
        assert np.isfinite(written[name])
        assert written[f"{name}_se_data"] > 0
    assert written["gap"] == pytest.approx(written["log_px"] - written["elbo"])
    assert written["bits_per_dim"] == pytest.approx(-written["log_px"] / 6 / np.log(2))
    assert written["active_units"].keys() >= {"covariance", "rate"}
    assert written["rows"] == 12
    assert written["gap_rows"] == 4
    assert {"lower", "upper", "gap", "gap_se_data"} <= written["simulated"].keys()
    assert written["calibration"]["simulations"] == 40
    assert written["predictive"].keys() == {"mean", "sd"}
    for name in ("evaluate.png", "khat.png", "latent_use.png", "calibration.png", "predictive.png"):
        assert (run.folder / name).read_bytes()[:4] == b"\x89PNG"
    opened = arviz.from_netcdf(str(run.folder / "evidence.nc")).constant_data
    assert opened["log_px"].shape == (12,)
    assert opened["log_px"].values.mean() == pytest.approx(written["log_px"])
    assert np.isfinite(opened["approximation"].values).sum() == 4
    assert set(opened["method"].values) <= {"importance", "fitted", "annealed"}


def test_what_a_person_reads(found: Any) -> None:
    text = str(found)
    for words in ("ELBO", "log p(x)", "approximation", "amortization", "bits per dimension", "± s.e.", "written:"):
        assert words in text
    assert "12 new rows of data given from Python, step" in text


def test_the_same_seed_gives_the_same_numbers_whatever_else_is_asked(run: Any, data: Any, found: Any) -> None:
    a = found.asdict()
    b = ppl_vae.evaluate(run, data, **LIGHT | {"gap_rows": 0, "calibrations": 0, "simulations": 0}).asdict()
    assert a["log_px"] == b["log_px"]
    assert a["mutual_information"] == b["mutual_information"]
    assert "approximation_gap" not in b
    assert "simulated" not in b


def test_refined_posteriors_are_written(run: Any, data: Any) -> None:
    found = ppl_vae.evaluate(run, data, **LIGHT | {"gap_rows": 0, "calibrations": 0, "simulations": 0}, refine=True)
    with np.load(run.folder / "refined.npz") as best:
        assert best["z_mean"].shape == (12, 4)
        assert best["z_sd"].shape == (12, 4)
        assert best["elbo"].mean() > found["elbo"] - 0.1


def test_what_a_pair_does_not_allow_is_left_out_in_words(tmp_path: Path) -> None:
    x = (np.random.default_rng(0).random((100, 6)) < 0.4).astype("float32")
    run = ppl_vae.fit("categorical", "categorical", x, tmp_path / "run", epochs=1, objective="trace-enum")
    found = ppl_vae.evaluate(run, x, **LIGHT)
    assert found["methods"] == {"exact": 12}
    assert found["log_px_is"] == "estimate"
    assert "annealing of simulated data" in found["refused"]
    assert "is left out" in str(found)
    by_sum = ppl_vae.evaluate(run, x, **LIGHT, method="sum")
    assert by_sum["log_px"] == pytest.approx(found["log_px"], abs=1e-4)


def test_scaled_data_get_the_change_of_variables(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(100, 3)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    options: dict[str, Any] = {"epochs": 1, "set": {"latent_dim": 2, "hidden": 4}}
    file = str(tmp_path / "x.npy")
    run = ppl_vae.fit("gaussian", "diagonal_normal", file, tmp_path / "run", scale=10.0, **options)
    found = ppl_vae.evaluate(run, **LIGHT)
    assert found["methods"] == {"quadrature": 10}
    assert found["data"] == file
    assert ppl_vae.evaluate(run, file, **LIGHT)["data"] == file
    shifted = -(found["log_px"] - 3 * np.log(10)) / 3 / np.log(2)
    assert found["bits_per_dim"] == pytest.approx(shifted, rel=1e-6)
    assert "before they were divided by 10" in found["change_of_variables"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_samples": 1}, "num_samples"),
        ({"rows": 0}, "rows"),
        ({"gap_rows": -1}, "gap_rows"),
        ({"method": "sum"}, "is not discrete"),
        ({"statistics": ["median"]}, "no statistic is called 'median'"),
    ],
)
def test_bad_input_is_an_error_and_nothing_is_written(run: Any, data: Any, options: Any, words: str) -> None:
    for name in ("evaluate.json", "evidence.nc"):
        (run.folder / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match=words):
        ppl_vae.evaluate(run, data, **LIGHT | options)
    assert not (run.folder / "evaluate.json").exists()


def test_statistics_of_the_users_own(run: Any, data: Any) -> None:
    first = {"first": lambda x: x[:, 0]}
    found = ppl_vae.evaluate(run, data, **LIGHT | {"gap_rows": 0, "calibrations": 0}, statistics=first)
    assert found["predictive"]["first"]["observed"] == pytest.approx(data[:12, 0].mean())
    none = ppl_vae.evaluate(run, data, **LIGHT | {"gap_rows": 0, "calibrations": 0}, statistics=())
    assert "predictive" not in none.asdict()


def test_a_wrong_method_is_told_which_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(tmp_path), "--method", "nope"]) == 2
    assert "'annealed', 'exact', 'fitted', 'importance', 'quadrature', 'sum')" in capsys.readouterr().err


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(tmp_path), "--json"]) == 2
    assert "is no run" in capsys.readouterr().err
