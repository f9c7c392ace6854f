"""What the verbs on a run return and write, and what they leave alone."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyro
import pytest
import support.programs as programs
import torch
from matplotlib.figure import Figure
from support.programs import PAIRS, rows
from support.runs import MIXTURE, ROWS, SMALL, D, Z, binary_rows, fitted, write_pictures, write_rows

import ppl_vae
from ppl_vae.core.errors import InputError
from ppl_vae.data.newrows import rows_in_order

pytestmark = pytest.mark.filterwarnings("ignore:the loss does not depend on")  # some small programs have spare tensors
PAIR = {"model": "bernoulli", "guide": "diagonal_normal"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ppl_vae.Run:
    return fitted(tmp_path_factory.mktemp("verbs"))


# ---- sample ----


def test_samples_of_binary_data_are_bits_and_their_means_are_not(run: ppl_vae.Run, tmp_path: Path) -> None:
    draws = ppl_vae.sample(run, num=50)
    assert {name: x.shape for name, x in draws.items()} == {"z": (50, Z), "x": (50, D)}
    assert set(np.unique(draws["x"])) == {0.0, 1.0}
    means = ppl_vae.sample(run, num=50, show="means", out=tmp_path / "means.npz")
    assert ((means["x"] > 0) & (means["x"] < 1)).all()
    assert len(np.unique(means["x"])) > 2
    np.testing.assert_array_equal(draws["z"], means["z"], err_msg="the same seed, so the same z")
    torch.manual_seed(0)
    simulated = ppl_vae.simulate(ppl_vae.open_run(run).pair.model, torch.zeros(50, D))
    np.testing.assert_array_equal(draws["x"], simulated["x"], err_msg="nothing else is drawn before")
    for path, values in ((run.folder / "samples.npz", draws), (tmp_path / "means.npz", means)):
        with np.load(path) as file:
            assert set(file) == set(values)
            np.testing.assert_array_equal(file["x"], values["x"])
    assert {p.name for p in tmp_path.iterdir()} == {"means.npz"}, "a flat row is no picture"


def test_the_means_are_the_decoders(run: ppl_vae.Run) -> None:
    values = ppl_vae.sample(run, num=5, show="means")
    decoder = ppl_vae.open_run(run).pair.model.likelihood
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(values["x"]), decoder(torch.tensor(values["z"])).mean)


def test_samples_of_real_data_are_means_by_default(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = torch.randn(100, D)
    run = fitted(tmp_path, model="gaussian", data=data)
    default, draws = (ppl_vae.sample(run, num=9, show=show) for show in (None, "draws"))
    means = ppl_vae.sample(run, num=9, show="means")
    np.testing.assert_array_equal(default["x"], means["x"])
    np.testing.assert_array_equal(draws["z"], means["z"])
    assert (draws["x"] - means["x"]).std() > 0.1


def test_the_same_seed_gives_the_same_samples_and_another_others(run: ppl_vae.Run) -> None:
    first = ppl_vae.sample(run, num=4, seed=3)
    torch.randn(2)
    np.testing.assert_array_equal(ppl_vae.sample(run, num=4, seed=3)["z"], first["z"])
    assert (ppl_vae.sample(run, num=4, seed=4)["z"] != first["z"]).all()


def test_samples_need_no_data(tmp_path: Path) -> None:
    run = fitted(tmp_path)
    before = [ppl_vae.sample(run, num=6, show=show)["x"] for show in (None, "means")]
    (tmp_path / "rows.npy").unlink()
    after = [ppl_vae.sample(run, num=6, show=show)["x"] for show in (None, "means")]
    np.testing.assert_array_equal(before, after)


def test_the_picture_shows_the_data_and_never_the_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ppl_vae.reports import figures

    shown: list[np.ndarray] = []

    def kept(images: np.ndarray, title: str) -> Figure:
        shown.append(images)
        return Figure()

    monkeypatch.setattr(figures, "image_grid", kept)
    pictures = write_pictures(tmp_path)
    values = ppl_vae.sample(fitted(tmp_path, data=pictures, set={"latent_dim": 16, "hidden": 4}), num=3)
    np.testing.assert_array_equal(shown[0], values["x"])


def test_a_picture_of_many_is_of_the_first(tmp_path: Path) -> None:
    run = fitted(tmp_path, data=write_pictures(tmp_path))
    assert ppl_vae.sample(run, num=9000, out=tmp_path / "many.npz")["x"].shape == (9000, 4, 4)
    assert ppl_vae.reconstruct(run, num=30, out=tmp_path / "r.npz")["x"].shape == (30, 4, 4)
    for name in ("many.png", "r.png"):
        size = (tmp_path / name).read_bytes()[16:24]
        assert max(int.from_bytes(size[:4], "big"), int.from_bytes(size[4:], "big")) < 3000, "pixels"


def test_a_run_gives_the_same_arrays_without_a_file(tmp_path: Path) -> None:
    run = fitted(tmp_path)
    before = sorted(run.folder.iterdir())
    drawn, codes = run.sample(5, seed=2), run.encode(binary_rows(3))
    assert sorted(run.folder.iterdir()) == before
    np.testing.assert_array_equal(drawn["x"], ppl_vae.sample(run, 5, seed=2)["x"])
    np.testing.assert_array_equal(codes["z_mean"], ppl_vae.encode(run, binary_rows(3))["z_mean"])


def test_a_run_prints_itself_and_is_its_folder(run: ppl_vae.Run) -> None:
    assert os.fspath(run) == str(run.folder)
    assert str(run).splitlines()[-2] == f"run: {run.folder}"
    assert f"best step {run.best.step}: ELBO" in str(run)
    assert run.asdict()["best"] == run.best.step
    assert repr(run).startswith("Run(folder=")


def test_what_was_scaled_is_written_in_units_of_the_data(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = 100 + 20 * torch.randn(100, D)
    scaled = fitted(tmp_path, out=tmp_path / "scaled", model="gaussian", data=data, scale=20.0)
    plain = fitted(tmp_path, out=tmp_path / "plain", model="gaussian", data=data / 20)
    drawn, inside = (ppl_vae.sample(run, num=9, show="draws") for run in (scaled, plain))
    np.testing.assert_allclose(drawn["x"], 20 * inside["x"], rtol=1e-4)
    np.testing.assert_allclose(scaled.sample(9, show="draws")["x"], drawn["x"])
    np.testing.assert_array_equal(drawn["z"], inside["z"])
    again = ppl_vae.reconstruct(scaled, data, num=5)
    np.testing.assert_allclose(again["x"], data[:5], rtol=1e-5)
    np.testing.assert_allclose(again["x_mean"], 20 * ppl_vae.reconstruct(plain, data / 20, num=5)["x_mean"], rtol=1e-4)
    other = ppl_vae.reconstruct(scaled, data / 2, scale=10.0, num=5)
    np.testing.assert_allclose(other["x"], data[:5] / 2, rtol=1e-5)


def test_samples_are_compared_with_the_data(run: ppl_vae.Run, tmp_path: Path) -> None:
    found = ppl_vae.sample(run, 200, copies=True, out=tmp_path / "s.npz")
    assert found.copies is not None
    assert (found.copies.samples, found.copies.training, found.copies.held_out) == (200, 240, 60)
    assert not found.copies.copied
    assert "identical to a training row" in str(found)
    assert found.fields()["copies"]["samples"] == 200
    with pytest.raises(InputError, match="means are no samples"):
        ppl_vae.sample(run, copies=True, show="means")
    mine = fitted(tmp_path, data=binary_rows(), out=tmp_path / "mine")
    with pytest.raises(InputError, match="give data= again"):
        ppl_vae.sample(mine, copies=True)
    assert ppl_vae.sample(mine, 20, copies=True, data=binary_rows()).copies is not None


def test_samples_like_rows_come_from_their_posteriors(run: ppl_vae.Run, tmp_path: Path) -> None:
    rows = binary_rows()[[3, 7]]
    found = ppl_vae.sample(run, 4000, like=rows, out=tmp_path / "like.npz")
    assert found["x"].shape == (8000, D)
    assert found["like"].tolist() == [0] * 4000 + [1] * 4000
    codes = ppl_vae.encode(run, rows, out=tmp_path / "z.npz")
    z = found["z"].reshape(2, 4000, Z)
    np.testing.assert_allclose(z.mean(1), codes["z_mean"], atol=5 * codes["z_sd"].max() / 4000**0.5)
    np.testing.assert_allclose(z.std(1), codes["z_sd"], rtol=5 / 8000**0.5)
    with torch.no_grad():
        p = run.model.likelihood(torch.tensor(z)).mean.mean(1)
    share = found["x"].reshape(2, 4000, D).mean(1)
    assert (np.abs(share - p.numpy()) < 5 * np.sqrt(0.25 / 4000)).all()
    ppl_vae.sample(run, 2, like=rows, out=tmp_path / "like.csv")
    assert pd.read_csv(tmp_path / "like.csv")["like"].tolist() == [0, 0, 1, 1]
    assert set(np.unique(found["x"])) == {0.0, 1.0}
    with pytest.raises(InputError, match="with like, each row brings what the model is given"):
        ppl_vae.sample(run, like=rows, given={"y": 1})


# ---- reconstruct and encode ----


def test_reconstructions_stand_beside_their_test_rows(run: ppl_vae.Run) -> None:
    values = ppl_vae.reconstruct(run, num=5)
    test_rows = ppl_vae.open_run(run).dataset.numbers("test")[:5]
    np.testing.assert_array_equal(values["x"], binary_rows()[test_rows])
    assert values["x_mean"].shape == (5, D)
    assert ((values["x_mean"] > 0) & (values["x_mean"] < 1)).all()
    with np.load(run.folder / "reconstructions.npz") as file:
        assert set(file) == {"x", "x_mean"}


def test_encoding_is_the_guides_in_the_order_of_the_data(run: ppl_vae.Run) -> None:
    values = ppl_vae.encode(run)
    guide = ppl_vae.open_run(run).pair.guide
    with torch.no_grad():
        q = guide.posterior(torch.tensor(binary_rows())).base_dist
    np.testing.assert_allclose(values["z_mean"], q.mean, atol=1e-6)
    np.testing.assert_allclose(values["z_sd"], q.stddev, atol=1e-6)
    with np.load(run.folder / "encoding.npz") as file:
        np.testing.assert_array_equal(file["z_mean"], values["z_mean"])


def test_encoding_does_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    one.mkdir()
    shutil.copytree(fitted(one).folder, other)
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace('"batch_size": 100', '"batch_size": 7'))
    values = [ppl_vae.encode(folder)["z_mean"] for folder in (one / "run", other)]
    assert values[0].shape == (ROWS, Z)
    np.testing.assert_allclose(*values, atol=1e-6)


def test_other_data_is_encoded_without_the_runs_own(tmp_path: Path) -> None:
    """Also by a run that was fitted to arrays, which it does not keep."""
    data = binary_rows()
    run = fitted(tmp_path, data=data)
    new = 1 - data[:20]
    values = ppl_vae.encode(run, new)
    with torch.no_grad():
        q = ppl_vae.open_run(run, data=data).pair.guide.posterior(torch.tensor(new))
    np.testing.assert_allclose(values["z_mean"], q.mean, atol=1e-6)
    with pytest.raises(InputError, match="data given from Python"):
        ppl_vae.encode(run)
    for wrong in (data[:, :9], (data, data), torch.tensor(data).double()):
        with pytest.raises(InputError, match=r"a datum is .*; the run was fitted to \(16,\) of float32"):
            ppl_vae.encode(run, wrong)


def test_under_fresh_bits_each_epoch_all_rows_are_encoded_as_bits(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).random((60, D)).astype(np.float32)
    np.save(tmp_path / "grey.npy", grey)
    run = fitted(tmp_path, data=tmp_path / "grey.npy", binarize="epoch")
    values = ppl_vae.encode(run)
    bits = rows_in_order(ppl_vae.data.dataset.open_data(grey, binarize="once")).batch[0]
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    with torch.no_grad():
        q = ppl_vae.open_run(run).pair.guide.posterior(bits)
    np.testing.assert_allclose(values["z_mean"], q.mean, atol=1e-6)


@pytest.mark.parametrize("name", ["inner left", "inner right", "two"])
def test_rows_stand_first_wherever_the_plates_are(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data, (model, guide) = torch.randn(40, 3), PAIRS[name].make()
    run = ppl_vae.fit(model, guide, data, tmp_path / "run", epochs=1, batch_size=7)
    named = {"model": model, "guide": guide, "data": data}
    encoding = ppl_vae.encode(run, data, model=model, guide=guide)
    assert {x.shape[0] for x in encoding.values()} == {40}
    values = ppl_vae.reconstruct(run, num=3, **named)
    np.testing.assert_array_equal(values["x"].reshape(3, 3), data[:3])
    if name == "inner left":
        a, t = encoding["a_mean"], guide.t.detach().numpy()
        np.testing.assert_allclose(a, data.sum(-1) * t[0], rtol=1e-4, atol=1e-5)
        slope = (encoding["z_mean"] - data.numpy() * t[1]).std(1)  # z = x t₁ + a: what is left is one number per row
        np.testing.assert_allclose(slope, 0, atol=1e-5)


def test_a_class_is_encoded_by_its_probabilities(tmp_path: Path) -> None:
    model, guide = PAIRS["categorical"].make()
    data = torch.randn(40, 3)
    run = ppl_vae.fit(model, guide, data, tmp_path / "run", epochs=1, batch_size=7)
    with torch.no_grad():
        q = pyro.poutine.trace(guide).get_trace(data).nodes["c"]["fn"]
    for draws in (None, 5):
        values = ppl_vae.encode(run, data, draws=draws, model=model, guide=guide)
        assert set(values) == {"c_probs"}
        np.testing.assert_allclose(values["c_probs"], q.probs, atol=1e-6)
        np.testing.assert_allclose(values["c_probs"].sum(1), 1, atol=1e-6)
    assert ppl_vae.sample(run, num=3, model=model, guide=guide)["c"].shape == (3,)


def categorical_x(m: Any, x: torch.Tensor) -> None:
    with rows(x):
        z = pyro.sample("z", programs.normal(m.t))
        pyro.sample("x", pyro.distributions.Categorical(logits=(z @ m.v).unsqueeze(-2).expand(-1, 3, 3)).to_event(1),
                    obs=x)  # fmt: skip


def test_a_flow_is_encoded_by_draws(tmp_path: Path, run: ppl_vae.Run) -> None:
    flow = fitted(tmp_path, guide="iaf", set=SMALL | {"guide.flow_hidden": 8})
    with pytest.raises(InputError, match=r"site 'z': .* has no mean: ask for draws"):
        ppl_vae.encode(flow)
    assert ppl_vae.encode(flow, draws=3)["z_sd"].shape == (ROWS, Z)
    exact, drawn = ppl_vae.encode(run), ppl_vae.encode(run, draws=2000)
    error = (drawn["z_mean"] - exact["z_mean"]) / (exact["z_sd"] / 2000**0.5)
    assert abs(error).max() < 5.2, "of 600 numbers"
    np.testing.assert_allclose(drawn["z_sd"], exact["z_sd"], rtol=0.1)
    with pytest.raises(InputError, match="draws is 1"):
        ppl_vae.encode(run, draws=1)
    codes = fitted(tmp_path, model="categorical", guide="categorical", set={"hidden": 8}, out=tmp_path / "codes")
    assert ppl_vae.encode(codes, draws=5)["z_probs"].shape == (ROWS, 10)
    assert "no reparameterized draw" in ppl_vae.compare(codes, draws=2)["left_out"]["analytic-kl"]


def test_reconstructions_by_draws(run: ppl_vae.Run, tmp_path: Path) -> None:
    values = ppl_vae.reconstruct(run, num=5, show="draws", out=tmp_path / "r.npz")
    assert set(values) == {"x", "x_draw"}
    assert set(np.unique(values["x_draw"])) <= {0.0, 1.0}
    made = fitted(tmp_path, model="autoregressive", set=SMALL | {"decoder_hidden": 16})
    with pytest.raises(InputError, match="has no mean: ask for draws"):
        ppl_vae.reconstruct(made, num=2)
    assert ppl_vae.reconstruct(made, num=2, show="draws")["x_draw"].shape == (2, D)


def test_a_likelihood_without_a_mean_is_refused_in_words(tmp_path: Path) -> None:
    model, guide = programs.write(categorical_x, programs.guide)
    model.vectorized = False
    data = torch.randint(0, 3, (40, 3)).float()
    run = ppl_vae.fit(model, guide, data, tmp_path / "run", epochs=1)
    named = {"model": model, "guide": guide}
    with pytest.raises(InputError, match=r"site 'x'.*has no mean"):
        ppl_vae.reconstruct(run, num=3, data=data, **named)
    with pytest.raises(InputError, match=r"site 'x'.*has no mean"):
        ppl_vae.sample(run, num=3, show="means", **named)
    assert set(np.unique(ppl_vae.sample(run, num=30, **named)["x"])) <= {0, 1, 2}


@pytest.mark.parametrize("verb", [ppl_vae.sample, ppl_vae.reconstruct, ppl_vae.encode])
def test_a_bad_place_is_named_before_any_work(run: ppl_vae.Run, tmp_path: Path, verb: Callable[..., Any]) -> None:
    (tmp_path / "folder.npz").mkdir()
    for out, words in (("x.txt", ".npz"), ("no/x.npz", "make it first"), ("folder.npz", "is a folder")):
        with pytest.raises(InputError, match=words):
            verb(run, out=tmp_path / out)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.npz"]


# ---- new ----


def test_new_copies_programs_that_fit_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "mine"
    files = ppl_vae.new(place).files
    assert {p.relative_to(place).as_posix() for p in files} >= {"models/bernoulli.py", "guides/diagonal_normal.py"}
    assert {p for p in place.rglob("*") if p.is_file()} == set(files)
    for file in files:
        shipped = Path(ppl_vae.programs.find.shipped_folder(file.parent.name[:-1])) / file.name  # type: ignore[arg-type]
        assert file.read_bytes() == shipped.read_bytes()
    edited = place / "models" / "bernoulli.py"
    edited.write_text(edited.read_text() + "\nEDITED = True\n")
    monkeypatch.chdir(place)
    write_rows(place)
    run = ppl_vae.fit("bernoulli", "diagonal_normal", "rows.npy", "run", epochs=1, set=SMALL)
    assert Path(run.record["programs"]["model"]["path"]) == edited
    assert not run.record["programs"]["model"]["shipped"]
    assert run.record["programs"]["guide"]["shipped"], "not edited"
    with pytest.raises(InputError, match="not a shipped one: name it again"):
        ppl_vae.sample(run)
    assert ppl_vae.sample(run, model="bernoulli", num=2)["x"].shape == (2, D)


def test_new_never_overwrites(tmp_path: Path) -> None:
    guide = tmp_path / "guides" / "diagonal_normal.py"
    guide.parent.mkdir()
    guide.write_text("mine")
    with pytest.raises(InputError, match=r"diagonal_normal\.py exists"):
        ppl_vae.new(tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [guide]
    assert guide.read_text() == "mine"


# ---- check ----


def test_check_reports_what_is_wrong(tmp_path: Path) -> None:
    assert ppl_vae.check(**PAIR, data=binary_rows(), set={"objective.num_particles": 2, "hidden": 4}).passed
    assert ppl_vae.check(**PAIR, data=binary_rows(), set="hidden=4").passed
    report = ppl_vae.check(**PAIR, data=binary_rows() / 3)
    assert not report.passed
    assert "site 'x'" in str(report.errors[0])
    with pytest.raises(InputError, match="num_particle"):
        ppl_vae.check(**PAIR, data=binary_rows(), set={"objective.num_particle": 2})
    (tmp_path / "mixture.py").write_text(MIXTURE)
    report = ppl_vae.check(tmp_path / "mixture.py", "diagonal_normal", binary_rows(), objective="analytic-kl")
    assert "MixtureSameFamily" in str(report.errors[0])


# ---- no side effects ----


def world() -> dict[str, Any]:
    return {
        "validation": [pyro.settings.get(f"validate_{name}_pyro") for name in ("distributions",)]
        + [pyro.settings.get(f"validate_{name}") for name in ("infer", "poutine")],
        "torch validation": torch.distributions.Distribution._validate_args,
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "random state": torch.get_rng_state().tolist(),
        "numpy's": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "params": dict(pyro.get_param_store().items()),
        "matplotlib": {**mpl.rcParams, "backend": mpl.get_backend(auto_select=False)},
        "folder": os.getcwd(),
    }


def refused(verb: Callable[..., Any], run: ppl_vae.Run) -> None:
    with pytest.raises(InputError):
        verb(run, checkpoint=77)


VERBS: dict[str, Callable[[ppl_vae.Run, Path], Any]] = {
    "fit": lambda run, tmp: fitted(tmp),
    "check": lambda run, tmp: ppl_vae.check(**PAIR, data=binary_rows()),
    "compare": lambda run, tmp: ppl_vae.compare(run, draws=2),
    "sample": lambda run, tmp: ppl_vae.sample(run, num=2),
    "reconstruct": lambda run, tmp: ppl_vae.reconstruct(run, num=2),
    "encode": lambda run, tmp: ppl_vae.encode(run),
    "export": lambda run, tmp: ppl_vae.export(run, rows=2, draws=3, out=tmp / "a.nc"),
    "new": lambda run, tmp: ppl_vae.new(tmp / "new"),
    "sample, failing": lambda run, tmp: refused(ppl_vae.sample, run),
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_changes_the_world(run: ppl_vae.Run, tmp_path: Path, verb: str) -> None:
    torch.set_default_dtype(torch.float32)  # whatever the fixture has left
    pyro.param("mine", torch.ones(2))
    torch.randn(1)
    before = world()
    VERBS[verb](run, tmp_path)
    after = world()
    for name in before:
        assert str(after[name]) == str(before[name]), name


# ---- tables ----


def test_codes_and_samples_are_tables_by_the_ending_of_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"height": rng.normal(170, 9, 60), "weight": rng.normal(70, 8, 60)})
    data.to_csv(tmp_path / "rows.csv", index=False)
    run = fitted(tmp_path, model="gaussian", data=tmp_path / "rows.csv", set={"latent_dim": 2, "hidden": 4})
    codes = ppl_vae.encode(run, out=tmp_path / "z.csv")
    table = pd.read_csv(tmp_path / "z.csv", index_col="row")
    assert list(table) == ["z1", "z2", "z1_sd", "z2_sd"]
    np.testing.assert_array_equal(table.to_numpy(np.float32), np.hstack([codes["z_mean"], codes["z_sd"]]))
    assert list(table.index) == list(range(60))
    assert "60 rows; columns z1, z2, z1_sd, z2_sd" in str(codes)
    assert codes.fields()["columns"] == list(table)
    pd.testing.assert_frame_equal(codes.frame, table, check_dtype=False)
    drawn = ppl_vae.sample(run, 5, show="draws", out=tmp_path / "s.csv")
    assert list(pd.read_csv(tmp_path / "s.csv")) == ["height", "weight"], "no latents: it can be read as data"
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "s.csv").to_numpy(np.float32), drawn["x"])
    ppl_vae.encode(run, tmp_path / "s.csv", out=tmp_path / "again.parquet")
    ppl_vae.sample(run, 5, show="draws", out=tmp_path / "s.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy"), drawn["x"])
    beside = ppl_vae.reconstruct(run, num=3, out=tmp_path / "r.parquet")
    table = pd.read_parquet(tmp_path / "r.parquet")
    assert list(table) == ["height", "weight", "height_mean", "weight_mean"]
    np.testing.assert_array_equal(table["height"].to_numpy(), data["height"].astype(np.float32)[table.index])
    assert beside.frame.index.name == "row"


def test_codes_of_several_sites_and_of_classes_are_named(tmp_path: Path) -> None:
    deep = fitted(tmp_path, model="hierarchical", guide="bottom_up", set={"hidden": 4, "latent_dim": 3, "top_dim": 2})
    columns = list(ppl_vae.encode(deep, out=tmp_path / "deep.csv").frame)
    assert {"z1_1", "z1_3_sd", "z2_2", "z2_1_sd"} < set(columns)
    assert len(columns) == 10
    codes = fitted(tmp_path, model="categorical", guide="categorical", set={"hidden": 8}, out=tmp_path / "codes")
    frame = ppl_vae.encode(codes, out=tmp_path / "codes.csv").frame
    assert list(frame) == [f"z_prob_{code}" for code in range(10)]
    np.testing.assert_allclose(frame.sum(axis=1), 1, atol=1e-5)


def test_pictures_are_no_table(tmp_path: Path) -> None:
    run = fitted(tmp_path, data=write_pictures(tmp_path))
    with pytest.raises(InputError, match=r"x holds \(4, 4\) numbers for each row.*write .npz"):
        ppl_vae.sample(run, num=3, out=tmp_path / "s.csv")
    assert not list(tmp_path.glob("s.*"))
