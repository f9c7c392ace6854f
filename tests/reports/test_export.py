"""The NetCDF file of draws: what is in it, whether its numbers are right, and who can open it."""

import errno
import math
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import arviz
import numpy as np
import pytest
import torch
import xarray as xr
from support.programs import CONVOLUTION, PAIRS
from support.runs import D, Z, binary_rows, fitted

import ppl_vae
from ppl_vae.core.errors import InputError
from ppl_vae.evidence.posterior import by_hmc
from ppl_vae.objectives import Trace_ELBO

pytestmark = pytest.mark.filterwarnings("ignore:the loss does not depend on")  # some small programs have spare tensors
STANDARD_ERRORS = 4
ROWS, DRAWS = 7, 41
GROUPS = {"posterior", "posterior_predictive", "log_likelihood", "observed_data", "sample_stats"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ppl_vae.Run:
    return fitted(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def tree(run: ppl_vae.Run) -> Iterator[xr.DataTree]:
    ppl_vae.export(run, rows=ROWS, draws=DRAWS).close()
    with xr.open_datatree(run.folder / "arviz.nc", engine="h5netcdf") as tree:
        yield tree


def test_groups_dimensions_and_dtypes(run: ppl_vae.Run, tree: xr.DataTree) -> None:
    assert {name.strip("/") for name in tree.groups} == GROUPS | {""}
    draws = {"chain": 1, "draw": DRAWS, "row": ROWS}
    assert dict(tree["posterior"]["z"].sizes) == draws | {"z_dim_0": Z}
    assert dict(tree["posterior_predictive"]["x"].sizes) == draws | {"x_dim_0": D}
    assert dict(tree["log_likelihood"]["x"].sizes) == draws
    assert dict(tree["observed_data"]["x"].sizes) == {"row": ROWS, "x_dim_0": D}
    assert set(tree["sample_stats"].data_vars) == {"log_p", "log_q"}
    for name in ("log_p", "log_q"):
        assert dict(tree["sample_stats"][name].sizes) == draws
    for group in GROUPS:
        for x in tree[group].data_vars.values():
            assert x.dtype == np.float32
            assert np.isfinite(x).all()
    numbers = ppl_vae.open_run(run).dataset.numbers("test")[:ROWS]
    np.testing.assert_array_equal(tree["posterior"]["row"], numbers)
    np.testing.assert_array_equal(tree["observed_data"]["x"], binary_rows()[numbers])
    np.testing.assert_array_equal(tree["posterior"]["draw"], range(DRAWS))


def test_the_file_says_what_its_draws_are(tree: xr.DataTree) -> None:
    for group in GROUPS:
        attributes = tree[group].attrs
        assert attributes["inference_library"] == "ppl_vae"
        assert attributes["inference_library_version"] == ppl_vae.__version__
        assert "not of a Markov chain nor of the exact posterior" in attributes["sampling"]


def test_the_numbers_are_those_of_the_programs(run: ppl_vae.Run, tree: xr.DataTree) -> None:
    opened = ppl_vae.open_run(run)
    x = opened.dataset.test[0][:ROWS]
    z = torch.tensor(tree["posterior"]["z"].values[0])
    with torch.no_grad():
        q, p = opened.pair.guide.posterior(x), opened.pair.model.prior(x)
        log_lik = opened.pair.model.likelihood(z).log_prob(x)
    expected = {
        "log_likelihood/x": log_lik,
        "sample_stats/log_p": p.log_prob(z) + log_lik,
        "sample_stats/log_q": q.log_prob(z),
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(tree[name].values[0], numbers, rtol=1e-4, atol=1e-4)
    spread = ((z - q.mean) / q.stddev).flatten()
    assert abs(spread.mean()) < STANDARD_ERRORS / math.sqrt(len(spread))
    assert spread.std() == pytest.approx(1, abs=0.15)
    with torch.no_grad():
        means = opened.pair.model.likelihood(z).mean.mean(0).numpy()
    predicted = tree["posterior_predictive"]["x"].values[0]
    assert set(np.unique(predicted)) == {0.0, 1.0}
    assert abs(predicted.mean(0) - means).max() < 5 * 0.5 / math.sqrt(DRAWS)


def test_log_p_minus_log_q_is_the_elbo(run: ppl_vae.Run, tree: xr.DataTree) -> None:
    opened = ppl_vae.open_run(run)
    ratio = (tree["sample_stats"]["log_p"] - tree["sample_stats"]["log_q"]).values[0].astype(float)
    se = math.sqrt(ratio.var(0, ddof=1).sum() / DRAWS)
    other = Trace_ELBO(num_particles=200)
    with ppl_vae.runs.run.isolated(1):
        elbo = -other.loss(opened.pair.model, opened.pair.guide, opened.dataset.test[0][:ROWS])
    assert abs(ratio.mean(0).sum() - elbo) < STANDARD_ERRORS * se * math.sqrt(1 + DRAWS / 200)


def test_the_same_seed_gives_the_same_file_and_another_another(run: ppl_vae.Run, tmp_path: Path) -> None:
    z = []
    for seed in (1, 1, 2):
        data = ppl_vae.export(run, rows=2, draws=3, seed=seed, out=tmp_path / "a.nc")
        z.append(data.posterior["z"].values.copy())
        data.close()
    np.testing.assert_array_equal(z[0], z[1])
    assert (z[0] != z[2]).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]


@pytest.mark.parametrize("name", ["two", "inner right", "inner left", "factor", "categorical"])
@pytest.mark.parametrize("draws", [1, 21])
def test_several_sites_and_inner_plates(name: str, draws: int, tmp_path: Path) -> None:
    """With as many rows as the inner plate is long, so that one could pass for the other."""
    torch.manual_seed(0)
    rows, data = 3, torch.randn(30, 3)
    model, guide = PAIRS[name].make()
    run = ppl_vae.fit(model, guide, data, tmp_path / "run", epochs=1, batch_size=rows)
    named = {"model": model, "guide": guide, "data": data}
    ppl_vae.export(run, rows=rows, draws=draws, **named).close()
    with xr.open_datatree(run.folder / "arviz.nc", engine="h5netcdf") as tree:
        leading = {"chain": 1, "draw": draws, "row": rows}
        sites = {"two": "a b", "factor": "z", "categorical": "c"}.get(name, "a z").split()
        assert set(tree["posterior"].data_vars) == set(sites)
        assert set(tree["posterior_predictive"].data_vars) == set(tree["observed_data"].data_vars) == {"x"}
        assert set(tree["log_likelihood"].data_vars) == ({"penalty", "x"} if name == "factor" else {"x"})
        for group in GROUPS - {"observed_data"}:
            for x in tree[group].data_vars.values():
                assert dict(list(x.sizes.items())[:3]) == leading
        observed = tree["observed_data"]["x"].values
        np.testing.assert_array_equal(observed.reshape(rows, 3), data[:rows])
        if name.startswith("inner"):
            z, a = (torch.tensor(tree["posterior"][site].values[0]) for site in ("z", "a"))
            a, v = a.reshape(draws, rows, 1), model.v[0].detach()
            log_lik = torch.distributions.Normal(z + v, 1.0).log_prob(torch.tensor(observed)).sum(-1)
            np.testing.assert_allclose(tree["log_likelihood"]["x"].values[0], log_lik, rtol=1e-4, atol=1e-4)
            guide_z = torch.distributions.Normal(
                torch.tensor(observed) * guide.t[1].detach() + a, guide.s.exp().detach()
            )
            total = a.squeeze(-1) - torch.tensor(observed).sum(-1) * guide.t[0].detach()
            log_q = guide_z.log_prob(z).sum(-1) + torch.distributions.Normal(0.0, 1.0).log_prob(total)
            np.testing.assert_allclose(tree["sample_stats"]["log_q"].values[0], log_q, rtol=1e-4, atol=1e-4)


def test_a_program_that_takes_no_sample_dimension(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, guide = CONVOLUTION.make()
    data = torch.randn(40, 3)
    run = ppl_vae.fit(model, guide, data, tmp_path / "run", epochs=1)
    ppl_vae.export(run, rows=4, draws=5, model=model, guide=guide, data=data).close()
    with xr.open_datatree(run.folder / "arviz.nc", engine="h5netcdf") as tree:
        x = torch.tensor(tree["observed_data"]["x"].values)
        q = torch.distributions.Normal(x @ guide.w.detach(), guide.s.exp().detach())
        log_q = q.log_prob(torch.tensor(tree["posterior"]["z"].values[0])).sum(-1)
        np.testing.assert_allclose(tree["sample_stats"]["log_q"].values[0], log_q, rtol=1e-4, atol=1e-4)


# ---- who opens it ----


def test_the_installed_arviz_opens_it(run: ppl_vae.Run, tree: xr.DataTree) -> None:
    data = arviz.from_netcdf(run.folder / "arviz.nc")
    assert set(data.groups()) == GROUPS
    table = arviz.summary(data, var_names=["z"], kind="stats")
    assert len(table) == ROWS * Z
    np.testing.assert_allclose(
        table["mean"].to_numpy().reshape(ROWS, Z), data.posterior["z"].mean(("chain", "draw")), atol=1e-3
    )
    assert arviz.extract(data)["z"].sizes["sample"] == DRAWS
    data.close()


PROBE = """
import sys
import arviz, xarray
assert "torch" not in sys.modules
data = arviz.from_netcdf(sys.argv[1])
assert isinstance(data, xarray.DataTree), type(data)
table = arviz.summary(data, var_names=["z"], kind="stats")
print(arviz.__version__, len(table), sorted(data.children))
"""


def test_arviz_1_opens_it(run: ppl_vae.Run, tree: xr.DataTree) -> None:
    """By the interpreter that PPL_VAE_ARVIZ1_PYTHON names, for ArviZ 1.x needs Python 3.12; else xarray, its reader."""
    file = run.folder / "arviz.nc"
    python = os.environ.get("PPL_VAE_ARVIZ1_PYTHON")
    if not python:
        with xr.open_datatree(file) as opened:
            assert set(opened.children) == GROUPS
        return
    done = subprocess.run([python, "-c", PROBE, str(file)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    version, count, groups = done.stdout.split(maxsplit=2)
    print(f"opened by ArviZ {version}")
    assert int(version.partition(".")[0]) >= 1
    assert int(count) == ROWS * Z
    assert groups.strip() == str(sorted(GROUPS))


# ---- refusals ----


def test_a_failing_export_leaves_nothing(run: ppl_vae.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> None:
        self.write_text("half")
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"no space left: .*a\.nc"):
        ppl_vae.export(run, rows=1, draws=1, out=tmp_path / "a.nc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rows": 0}, "at least 1"),
        ({"draws": 0}, "at least 1"),
        ({"out": "no/a.nc"}, "make it first"),
        ({"out": "."}, "is a folder"),
        ({"seed": 2**64}, "seed is"),
    ],
)
def test_bad_options(run: ppl_vae.Run, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ppl_vae.export(run, **options)


# ---- draws of the posterior ----


@pytest.fixture
def few_transitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppl_vae.reports.arviz.by_hmc", partial(by_hmc, transitions=20, warmup=10))


@pytest.mark.usefixtures("few_transitions")
@pytest.mark.parametrize(("way", "names"), [("resampled", {"khat", "ess"}), ("hmc", {"rhat", "acceptance"})])
def test_draws_of_the_posterior_say_what_they_are(run: ppl_vae.Run, tmp_path: Path, way: Any, names: set[str]) -> None:
    draws = 40
    found = ppl_vae.export(run, rows=ROWS, draws=draws, posterior=way, out=tmp_path / "a.nc")
    stats = found.data.sample_stats
    assert set(stats.data_vars) == {"log_p", "log_q", "reliable"} | names
    for name in {"reliable"} | names:
        assert stats[name].dims == ("row",)
    chains = 8 if way == "hmc" else 1
    z = found.data.posterior["z"]
    assert z.sizes == {"chain": chains, "draw": draws // chains, "row": ROWS, "z_dim_0": Z}
    numbers = ppl_vae.open_run(run).dataset.numbers("test")[:ROWS]
    expected = numbers[torch.tensor(stats["reliable"].values) == 0].tolist()
    assert list(found.unreliable) == found.asdict()["unreliable_rows"] == expected
    for group in GROUPS:
        attributes = found.data[group].attrs
        assert "draws of the posterior p(z|x)" in attributes["sampling"]
        assert attributes["unreliable_rows"] == (", ".join(map(str, expected)) or "none")
    opened = ppl_vae.open_run(run)
    x = opened.dataset.test[0][:ROWS]
    at = torch.tensor(z.values.reshape(draws, ROWS, Z))
    with torch.no_grad():
        log_p = opened.pair.model.prior(x).log_prob(at) + opened.pair.model.likelihood(at).log_prob(x)
    np.testing.assert_allclose(stats["log_p"].values.reshape(draws, ROWS), log_p, rtol=1e-4, atol=1e-4)
    assert len(arviz.summary(found.data, var_names=["z"], kind="diagnostics" if way == "hmc" else "stats")) == ROWS * Z
    found.data.close()


def test_unreliable_rows_are_said(run: ppl_vae.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppl_vae.evidence.khat.MOST_KHAT", -10.0)
    found = ppl_vae.export(run, rows=2, draws=4, posterior="resampled", out=tmp_path / "a.nc")
    assert "the draws of 2 rows are unreliable" in str(found)
    assert ppl_vae.export(run, rows=2, draws=4, out=tmp_path / "b.nc").unreliable is None


@pytest.mark.usefixtures("few_transitions")
@pytest.mark.parametrize("name", ["two", "inner left", "inner right"])
def test_draws_of_the_posterior_with_several_sites(name: str, tmp_path: Path) -> None:
    data = torch.randn(30, 3)
    model, guide = PAIRS[name].make()
    run = ppl_vae.fit(model, guide, data, tmp_path / "run", epochs=1)
    for way in ("resampled", "hmc"):
        named = {"model": model, "guide": guide, "data": data, "posterior": way}
        found = ppl_vae.export(run, rows=3, draws=24, **named).data
        sites = {"a", "b"} if name == "two" else {"a", "z"}
        assert set(found.posterior.data_vars) == sites
        assert all(np.isfinite(x).all() for x in found.posterior.data_vars.values())
        found.close()


@pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping")  # ArviZ 0.23 under matplotlib 3.11
def test_arviz_shows_the_posterior_predictive(run: ppl_vae.Run, tree: xr.DataTree) -> None:
    if not arviz.__version__.startswith("0."):
        pytest.skip("plot_ppc is of ArviZ 0.x")
    import matplotlib

    matplotlib.use("agg")
    data = arviz.from_netcdf(run.folder / "arviz.nc")
    axes = arviz.plot_ppc(data, num_pp_samples=10, random_seed=1)
    assert len(np.ravel(axes)[0].lines) > 0
    data.close()
