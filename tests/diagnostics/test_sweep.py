"""A sweep against a computation by hand, stopped and gone on with, and with a setting that fails."""

import contextlib
import json
import math
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from support.fits import ROWS, contents, killed_before
from support.runs import binary_rows
from torch import nn

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.diagnostics.sweep import Behind, Sweep
from ppl_vae.diagnostics.sweeps import active_units
from ppl_vae.diagnostics.workers import stopping
from ppl_vae.models.gaussian import Model as Gaussian
from ppl_vae.programs import resolve_pair
from ppl_vae.runs.grid import grid
from ppl_vae.runs.recording import FRESH_DRAWS, FRESH_SEED
from ppl_vae.training.interrupt import Interrupted

DIMS = {"latent_dim": [1, 2, 3]}
SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 10, "lr": 1e-2, "set": {"hidden": 8}}
STEPS = 10  # of one run: 48 training rows, two epochs


def small(out: Path | None, sweep: Any = DIMS, seeds: int | None = 3, **options: Any) -> Sweep:
    return ppl_vae.fit("gaussian", "diagonal_normal", ROWS, out, seeds=seeds, sweep=sweep, **SMALL | options)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return small(tmp_path_factory.mktemp("sweep") / "out")


def by_hand(run: ppl_vae.Run) -> np.ndarray:
    """The ELBO of each validation row at the common draws, by Pyro's own distributions, without the project's terms."""
    pair, (x,) = run.pair(), run.data(ROWS).whole("valid")
    found = []
    for draw in range(FRESH_DRAWS):
        torch.manual_seed(FRESH_SEED + draw)
        q = pair.guide.posterior(x)
        z = q.rsample()
        found.append(pair.model.likelihood(z).log_prob(x) + pair.model.prior(x).log_prob(z) - q.log_prob(z))
    return torch.stack(found).mean(0).double().detach().numpy()


def test_the_pairing_is_that_of_a_computation_by_hand(swept: Sweep) -> None:
    bounds = {label: np.stack([by_hand(run) for run in runs]) for label, runs in swept.runs.items()}
    assert {b.shape for b in bounds.values()} == {(3, 6)}
    means = {label: b.mean() for label, b in bounds.items()}
    best = max(means, key=means.__getitem__)
    assert swept.first.label == best
    for line in swept.settings:
        b = bounds[line.label]
        assert line.bound.value == pytest.approx(b.mean(), abs=1e-5)
        assert line.bound.se == pytest.approx(b.mean(1).std(ddof=1) / math.sqrt(3), abs=1e-5)
        assert [*line.by_seed.values()] == pytest.approx(b.mean(1).tolist(), abs=1e-5)
        if line.label == best:
            assert line.behind is None
            continue
        d = b - bounds[best]
        se_seeds, se_data = d.mean(1).std(ddof=1) / math.sqrt(3), d.mean(0).std(ddof=1) / math.sqrt(6)
        assert line.behind is not None
        found = line.behind.fields()
        assert found["difference"] == pytest.approx(d.mean(), abs=1e-5)
        assert found["se_seeds"] == pytest.approx(se_seeds, rel=1e-4)
        assert found["se_data"] == pytest.approx(se_data, rel=1e-4)
        se = math.sqrt(se_seeds**2 + se_data**2)
        df = se**4 / (se_seeds**4 / 2 + se_data**4 / 5)
        assert found["df"] == pytest.approx(df, rel=1e-3)
        assert found["p"] == pytest.approx(2 * stats.t(df).cdf(-abs(d.mean() / se)), rel=1e-2)


def test_the_numbers_are_those_of_the_runs(swept: Sweep) -> None:
    for line in swept.settings:
        assert line.bound.value == pytest.approx(np.mean([run.best.elbo.value for run in line.runs]), abs=1e-6)
        assert line.rate == pytest.approx(np.mean([run.best.rate.value for run in line.runs]), abs=1e-6)
    best = swept.first
    assert swept.best.best.elbo.value == pytest.approx(max(best.by_seed.values()), abs=1e-6)
    assert swept.best.folder.parent.name == best.label


def test_one_seed_is_paired_by_rows_alone() -> None:
    d = np.random.default_rng(0).normal(0.5, 1, (1, 40))
    found, expected = Behind.of(d), stats.ttest_1samp(d[0], 0)
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert math.isnan(found.over_seeds.se)


def test_the_error_holds_both_seeds_and_rows() -> None:
    """Of seeds and rows drawn anew, the difference is outside of ± t se at 5 % about as often as it says, or less."""
    rng = np.random.default_rng(0)
    for of_seeds, of_rows in ((0.3, 0.0), (0.0, 1.0), (0.3, 1.0)):
        d = (
            of_seeds * rng.normal(size=(500, 4, 1))
            + of_rows * rng.normal(size=(500, 1, 25))
            + 0.5 * rng.normal(size=(500, 4, 25))
        )
        wrong = np.mean([Behind.of(each).significant for each in d])
        assert wrong < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 500)
        assert wrong > 0.01


def test_a_difference_of_nothing_is_not_significant() -> None:
    assert not Behind.of(np.zeros((3, 5))).significant
    assert Behind.of(np.full((3, 5), -1.0) + 1e-3 * np.random.default_rng(0).normal(size=(3, 5))).significant


def test_its_table_its_text_and_its_json(swept: Sweep) -> None:
    frame = swept.table
    assert frame["latent_dim"].tolist() == ["1", "2", "3"]
    assert frame["value"].tolist() == [line.bound.value for line in swept.settings]
    at_best = frame[frame["difference"] == 0]
    assert len(at_best) == 1
    assert at_best["p"].isna().all()
    text = str(swept)
    assert "6 validation rows" in text
    assert "3 seeds" in text
    assert f"best is {swept.first.label}; the next, latent_dim=" in text
    assert "significant at 5 %" in text
    assert f"ppl-vae evaluate '{swept.best.folder}'" in text
    assert all(len(line) <= 80 for line in text.splitlines()[:6])
    folder = swept.best.folder.parents[1]
    assert json.loads((folder / "sweep.json").read_text()) == swept.asdict()
    assert {"config.json", "learning.png"} <= {path.name for path in swept.best.folder.iterdir()}


def test_each_run_is_what_fit_makes_alone(swept: Sweep, tmp_path: Path) -> None:
    options = SMALL | {"set": {"hidden": 8, "latent_dim": 2}, "seed": 1}
    alone = ppl_vae.fit("gaussian", "diagonal_normal", ROWS, tmp_path / "alone", **options)
    assert contents(alone.folder) == contents(swept.runs["latent_dim=2"][1].folder)


def test_in_two_processes_it_is_the_same(swept: Sweep, tmp_path: Path) -> None:
    other = small(tmp_path / "two", {"latent_dim": [1, 2]}, 1, jobs=2)
    for a, b in zip(other.settings, swept.settings[:2], strict=True):
        assert a.by_seed[0] == pytest.approx(b.by_seed[0], abs=1e-5)


def test_processes_that_are_there_already_go_where_the_sweep_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        made = small(Path("runs"), {"latent_dim": [1, 2]}, 1, jobs=2)
        assert made.best.folder.is_dir()
        assert {path.name for path in (tmp_path / name / "runs").iterdir()} >= {"latent_dim=1", "latent_dim=2"}


def test_it_goes_on_where_it_stopped(swept: Sweep, tmp_path: Path) -> None:
    out, two = tmp_path / "stopped", {"latent_dim": [1, 2]}
    with killed_before(STEPS + 5):
        small(out, two, 2, checkpoint_every=3)
    begun = [str(path.parent.relative_to(out)) for path in sorted(out.rglob("config.json"))]
    assert begun == ["latent_dim=1/seed-0", "latent_dim=1/seed-1"]
    with pytest.raises(InputError, match=r"no run, but a folder of 2: name one, such as .*=1/seed-0; the fit"):
        ppl_vae.resume(out)
    done = out / "latent_dim=1/seed-0/checkpoints"
    written = done.stat().st_mtime_ns
    found = small(out, two, 2, checkpoint_every=3)
    assert done.stat().st_mtime_ns == written, "what is done is not fitted again"
    for a, b in zip(found.settings, swept.settings[:2], strict=True):
        assert a.by_seed == {seed: b.by_seed[seed] for seed in (0, 1)}
    more = small(out, {"latent_dim": [1]}, 3, checkpoint_every=3)
    assert done.stat().st_mtime_ns == written
    assert more.settings[0].by_seed == swept.settings[0].by_seed
    with pytest.raises(InputError, match=r"was fitted with lr 0\.01, not 0\.02"):
        small(out, checkpoint_every=3, lr=0.02)


def test_what_ends_the_processes_of_a_sweep_is_said_in_words() -> None:
    def ctrl_c() -> None:
        raise KeyboardInterrupt

    def dies() -> None:
        raise BrokenProcessPool

    before = signal.getsignal(signal.SIGTERM)
    for end, code in ((ctrl_c, 130), (lambda: os.kill(os.getpid(), signal.SIGTERM), 143), (dies, 2)):
        with pytest.raises((Interrupted, InputError), match="the same command goes on") as caught, stopping():
            end()
        assert caught.value.exit_code == code
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_a_kill_left_without_a_record_is_fitted_anew(tmp_path: Path) -> None:
    (tmp_path / "out/latent_dim=1/seed-0/sources").mkdir(parents=True)
    assert len(small(tmp_path / "out", {"latent_dim": [1]}, seeds=1).settings) == 1


class Breaking(Gaussian):
    """A model that can't be fitted with two latents."""

    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 1, how: str = "") -> None:
        super().__init__(data_shape, latent_dim, 8)
        self.broken, self.how = latent_dim == 2, how

    def likelihood(self, z: torch.Tensor) -> Any:
        if self.broken and self.training and torch.is_grad_enabled() and self.how == "raises":
            raise RuntimeError("two is not\na number that I like")
        return super().likelihood(z * math.inf if self.broken and self.how == "overflows" else z)


@pytest.mark.parametrize(("how", "why"), [("raises", "two is not"), ("overflows", "")])
def test_a_setting_that_fails_does_not_lose_the_others(how: str, why: str, tmp_path: Path) -> None:
    options = SMALL | {"set": {"how": how}}
    found = ppl_vae.fit(Breaking, "diagonal_normal", ROWS, tmp_path / "out", seeds=2, sweep=DIMS, **options)
    assert [line.label for line in found.settings] == ["latent_dim=1", "latent_dim=3"]
    assert [(failure.label, failure.seed) for failure in found.failed] == [("latent_dim=2", 0), ("latent_dim=2", 1)]
    assert "latent_dim=2 is left out, for seed 0 failed: " in str(found)
    assert why in found.failed[0].why
    assert found.exit_code == 1
    assert found.best.model.latent_dim in (1, 3)
    with pytest.raises(InputError, match="every setting of the sweep failed; latent_dim=2, seed 0: "):
        ppl_vae.fit(Breaking, "diagonal_normal", ROWS, tmp_path / "none", sweep={"latent_dim": [2]}, **options)


@contextlib.contextmanager
def untouched(out: Path) -> Iterator[None]:
    yield
    assert not out.exists(), "nothing is fitted before what is asked is known to be right"


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"latent": [1, 2]}, "latent=1: no program has a setting 'latent'.*did you mean latent_dim"),
        ({"latent_dim": [1, 2.5]}, "latent_dim=2.5: .*expected int"),
        ({"latent_dim": []}, "has no value"),
        ({"latent_dim": [2, 1, 2]}, "has 2 twice"),
        ({"latent_dim": "2,5"}, "give a list of values"),
        ({"hidden": [8, 9]}, "hidden is among the settings and in the sweep"),
        ({"latent_dim": [nn.Linear(2, 2)]}, "made anew for each run"),
        (["latent_dim"], "write it as name=value,value"),
        (["latent_dim=1", "latent_dim=2"], "has latent_dim twice"),
        (["latent_dim="], "has no value"),
    ],
)
def test_bad_values_are_refused_before_anything_is_trained(sweep: Any, words: str, tmp_path: Path) -> None:
    with untouched(tmp_path / "out"), pytest.raises(InputError, match=words):
        small(tmp_path / "out", sweep)


def test_bad_options_are_refused_before_anything_is_trained(tmp_path: Path, swept: Sweep) -> None:
    out = tmp_path / "out"
    with untouched(out):
        for options, words in (
            ({"seeds": 0}, "seeds is 0"),
            ({"seeds": 2.5}, "seeds=2.5 must be an integer"),
            ({"jobs": 0}, "jobs is 0"),
            ({"epochs": 0}, "epochs is 0"),
            ({"resume": True}, "the same command goes on"),
        ):
            with pytest.raises(InputError, match=words):
                small(out, **options)
        with pytest.raises(InputError, match="jobs is for several runs"):
            small(out, (), None, jobs=2)
        with pytest.raises(InputError, match="is a run or a file"):
            small(swept.best.folder)
        with pytest.raises(InputError, match="fit needs a guide"):
            ppl_vae.fit("gaussian", None, ROWS, out, seeds=2)
        with pytest.raises(InputError, match="the model of a sweep is made anew"):
            ppl_vae.fit(Gaussian((5,)), "diagonal_normal", ROWS, out, seeds=2)
        with pytest.raises(InputError, match=r"likelihood=bernoulli gives probabilities of 'x', and .* densities"):
            ppl_vae.fit("vae", "amortized", binary_rows(60), out, sweep=["likelihood=gaussian,bernoulli"], epochs=1)


def test_settings_are_named_and_combined() -> None:
    settings = grid(["latent_dim=2,5", "prior=standard_normal,vamp"])
    assert [setting.label for setting in settings][:2] == [
        "latent_dim=2, prior=standard_normal",
        "latent_dim=2, prior=vamp",
    ]
    assert settings[3].folder == "latent_dim=5,prior=vamp"
    assert grid("a=[1,2],[3]")[0].values == {"a": [1, 2]}
    assert grid({"prior": [Gaussian]})[0].folder == "prior=Model"
    assert [setting.values for setting in grid(())] == [{}]
    with pytest.raises(InputError, match="would have one folder"):
        grid({"kinds": ["a b", "a/b"]})


def test_seeds_alone(tmp_path: Path) -> None:
    found = small(tmp_path / "out", (), 2, seed=5)
    assert [run.folder.name for run in found.runs["as asked"]] == ["seed-5", "seed-6"]
    assert "less the" not in str(found)
    assert found.best in found.runs["as asked"]


def test_without_out_the_runs_are_there_as_long_as_the_result() -> None:
    found = small(None, {"latent_dim": [1, 2]}, None)
    folder = found.best.folder
    assert found.best.encode(ROWS)["z_mean"].shape == (60, int(found.first.setting["latent_dim"]))
    assert "with one seed no error says" in str(found)
    best = found.best
    del found
    assert folder.is_dir()
    del best
    assert not folder.exists()


def test_iwae_is_ranked_by_its_own_bound_where_it_is_one_and_the_same(tmp_path: Path) -> None:
    options: dict[str, Any] = {"objective": "iwae", "epochs": 1}
    found = small(tmp_path / "a", {"latent_dim": [1, 2]}, 1, set={"hidden": 8, "objective.num_particles": 5}, **options)
    assert found.bound == "IWAE_5"
    assert found.settings[0].bound.value == pytest.approx(found.runs["latent_dim=1"][0].fresh["objective"], abs=1e-6)
    found = small(tmp_path / "b", {"objective.num_particles": [1, 5]}, 1, set={"hidden": 8}, **options)
    assert found.bound == "ELBO"
    assert found.settings[1].bound.value == pytest.approx(found.runs["objective.num_particles=5"][0].best.elbo.value)


def test_active_units() -> None:
    x = torch.randn(200, 5)
    pair = resolve_pair("gaussian", "diagonal_normal", (x,), {"latent_dim": 4, "hidden": 8})
    means = pair.guide.posterior(x).mean
    with torch.no_grad():
        assert active_units(pair, iter([(x[:90],), (x[90:],)])) == (means.var(0) > 0.01).sum()
        bits = (x > 0).float()
        classes = resolve_pair("categorical", "categorical", (bits,), {})
        assert math.isnan(active_units(classes, iter([(bits,)])))


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS)
    common = ["fit", "--model", "gaussian", "--guide", "diagonal_normal", "--data", "rows.npy", "--epochs", "1"]
    common += ["--set", "hidden=8", "--out", "runs", "--seeds", "2"]
    assert main([*common, "--sweep", "latent_dim=1,2", "--sweep", "guide.hidden=6"]) == 0
    out, err = capsys.readouterr()
    assert "latent_dim  guide.hidden" in out
    assert "latent_dim=2, guide.hidden=6, seed 1: ELBO -" in err
    assert {path.name for path in Path("runs").iterdir()} == {
        *(f"latent_dim={z},guide.hidden=6" for z in (1, 2)),
        "sweep.json",
    }
    assert main([*common, "--sweep", "latent_dim=1,2", "--sweep", "guide.hidden=6", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["settings"][1]["setting"] == {"latent_dim": "2", "guide.hidden": "6"}
    assert err == ""
    assert main([*common, "--sweep", "latent_dmi=1,2"]) == 2
    assert "did you mean latent_dim" in capsys.readouterr().err
    shutil.rmtree("runs")
    assert main([*common[:-2], "--sweep", "latent_dim=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == [0]
