"""Data of any scale: what networks see, what log p(x) is of, and that float32 is enough."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from torch import Tensor, nn

import ppl_vae
from ppl_vae.blocks import Standardized, mlp
from ppl_vae.checks.pair import check_pair
from ppl_vae.core.errors import InputError
from ppl_vae.data import open_data
from ppl_vae.evidence.exact import has_exact
from ppl_vae.models import bernoulli, gaussian
from ppl_vae.programs import owned, resolve_pair, simulate, terms
from ppl_vae.programs.scores import log_weight
from ppl_vae.programs.standardize import resolve_standardized
from ppl_vae.training.prepare import isolated

SMALL = {"latent_dim": 2, "hidden": 8}
SCALES = torch.tensor([0.01, 1.0, 300.0, 2.0])


def table(rows: int = 200) -> Tensor:
    """Columns of means from −5 to 1700 and spreads from 0.01 to 300."""
    generator = torch.Generator().manual_seed(0)
    return torch.tensor([2.0, -5.0, 1700.0, 0.0]) + SCALES * torch.randn(rows, 4, generator=generator)


def wine(folder: Path) -> Path:
    path = folder / "wine.csv"
    load_wine(as_frame=True).data.to_csv(path, index=False)
    return path


# ---- the block ----


def test_columns_have_mean_0_and_spread_1_and_come_back() -> None:
    x = table()
    scale = Standardized((4,), x)
    u = scale(x)
    torch.testing.assert_close(u.mean(0), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(u.std(0, correction=0), torch.ones(4), rtol=1e-5, atol=0)
    torch.testing.assert_close(scale.inverse(u), x)


def test_pixels_and_nothing_are_left_as_they_are() -> None:
    x = torch.rand(20, 3)
    for scale in (Standardized((3,), x), Standardized((3,)), Standardized((3,), x.where(x > 0.1, torch.nan))):
        assert torch.equal(scale(x), x)
        assert torch.equal(scale.inverse(x), x)
    assert not torch.equal(Standardized((3,), x, always=True)(x), x)


def test_a_constant_has_spread_1_and_missing_cells_do_not_count() -> None:
    x = table()
    x[:, 1] = 7.0
    holes = x.clone()
    holes[::2, 2] = torch.nan
    scale = Standardized((4,), holes)
    assert scale.spread[1] == 1.0
    assert torch.equal(scale(x)[:, 1], torch.zeros(len(x)))
    assert scale.center[2].item() == pytest.approx(x[1::2, 2].mean().item(), rel=1e-6)


# ---- the shipped pair on tables as they are ----


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_the_gaussian_pair_passes_on_tables_as_they_are(load: Any) -> None:
    rows = torch.tensor(load().data, dtype=torch.float32)
    for seed in range(5):
        torch.manual_seed(seed)
        pair = resolve_pair("gaussian", "diagonal_normal", (rows,))
        with torch.no_grad():
            q = terms(pair.model, pair.guide, (rows,)).q["z"]
        assert q.mean.abs().max() < 10  # float32 resolves it to 1e-6, a hundredth of the least σ
    report = ppl_vae.check("gaussian", "diagonal_normal", rows)
    assert report.passed, str(report)


def test_gaussian_starts_from_the_mean_and_the_spread_of_each_column() -> None:
    x = table()
    model = gaussian.Model((4,), **SMALL, data=x)
    for p in model.decoder.parameters():
        p.data.zero_()
    p_x = model.likelihood(torch.zeros(1, 2))
    torch.testing.assert_close(p_x.mean[0], x.mean(0))
    torch.testing.assert_close(p_x.variance.sqrt()[0], x.std(0, correction=0), rtol=2e-3, atol=0)


def test_linear_gaussian_starts_near_the_data_and_stays_exact() -> None:
    """σ is one for all columns, their root mean square: it costs a column log σ − log s_d, and W less than a nat."""
    x = table().double()
    torch.manual_seed(0)
    pair = resolve_pair("linear_gaussian", "linear_gaussian", (x,), {"latent_dim": 2})
    pair.model.double()
    model: Any = pair.model
    torch.testing.assert_close(model.b.detach(), x.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_weight(terms(pair.model, pair.guide, (x,)))[0], model.log_px(x))
    alone = dist.Normal(x.mean(0), x.std(0)).to_event(1).log_prob(x).mean()
    price = (x.std(0).square().mean().sqrt() / x.std(0)).log().sum()
    assert alone - price - len(x.T) < model.log_px(x).mean() < alone


# ---- where float32 is not enough ----


class Narrow(nn.Module):
    """It sees the data as they are, and its σ comes down to 1e-6."""

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = mlp(data_shape[0], 400, 40)

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        loc, raw = self.encoder(x).chunk(2, dim=-1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(self.spoilt(loc), nn.functional.softplus(raw) + 1e-6).to_event(1))

    def spoilt(self, loc: Tensor) -> Tensor:
        return loc


class Spoilt(Narrow):
    """The mean depends on the size of the batch, here by a thousandth."""

    def spoilt(self, loc: Tensor) -> Tensor:
        return loc * (1 + 1e-3 * loc.shape[0])


@pytest.mark.parametrize("seed", range(5))
def test_rounding_is_called_rounding_and_a_fault_a_fault(seed: int) -> None:
    rows = torch.tensor(load_wine().data, dtype=torch.float32)
    for guide, words in (
        (Narrow, ["--standardize", "σ comes down to 1e-06", "float32"]),
        (Spoilt, ["size of the batch"]),
    ):
        with isolated(seed):
            pair = resolve_pair("gaussian", guide, (rows,))
            (finding,) = check_pair(pair, open_data(rows)).errors
        assert finding.site == "z"
        assert all(word in finding.message for word in words), finding.message


# ---- --standardize: the change of variables ----


def linear(x: Tensor) -> Any:
    torch.manual_seed(1)
    pair = resolve_standardized("linear_gaussian", "linear_gaussian", (x,), {"latent_dim": 2})
    pair.model.double()
    pair.guide.double()
    return pair


@pytest.mark.parametrize("K", [1, 3])
def test_the_elbo_is_the_log_density_of_the_data_in_their_own_units(K: int) -> None:
    """x = c + S u, u ~ N(b, WWᵀ + σ²I): log p(x) = log N(x; c + Sb, S(WWᵀ + σ²I)S), by the exact posterior."""
    x = table().double()
    pair = linear(x)
    m, S = pair.model.program, torch.diag(pair.model.scale.spread)
    covariance = S @ (m.W @ m.W.T + (2 * m.log_sigma).exp() * torch.eye(4, dtype=x.dtype)) @ S
    truth = dist.MultivariateNormal(x.mean(0) + S @ m.b, covariance).log_prob(x)
    elbo = log_weight(terms(pair.model, pair.guide, (x,), K))
    torch.testing.assert_close(elbo, truth.expand(K, -1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(pair.model.log_px(x), truth, rtol=1e-9, atol=1e-9)


def test_there_is_no_exact_answer_where_the_model_has_none() -> None:
    """So that `evaluate` takes another method."""
    pair = resolve_standardized("gaussian", "diagonal_normal", (table(50),), SMALL)
    assert not has_exact(pair.model)


def test_draws_and_means_are_in_units_of_the_data() -> None:
    x = table(4000).double()
    pair = linear(x)
    m, scale = pair.model.program, pair.model.scale
    drawn = simulate(pair.model, (x,))["x"]
    sd = scale.spread * ((m.W @ m.W.T).diagonal() + (2 * m.log_sigma).exp()).sqrt()
    assert ((drawn.mean(0) - scale.inverse(m.b)).abs() < 4 * sd / len(x) ** 0.5).all()
    assert ((drawn.std(0) / sd - 1).abs() < 4 / (2 * len(x)) ** 0.5).all()
    torch.testing.assert_close(
        simulate(pair.model, (x,), means=True)["x"].mean(0), scale.inverse(m.b), rtol=0.1, atol=0.1
    )
    p = terms(pair.model, pair.guide, (x,)).p["x"]
    assert p.variance.shape == x.shape
    torch.testing.assert_close(p.variance, ((2 * m.log_sigma).exp() * scale.spread.square()).expand_as(x))


def test_the_pair_shares_one_scale_which_is_owned_once() -> None:
    pair = linear(table().double())
    names = [name for name, _ in owned(pair.model, pair.guide, pair.borrower)]
    assert [name for name in names if "scale." in name] == ["model.scale.center", "model.scale.spread"]


class Masked(gaussian.Model):
    """Column 0 is left out of the likelihood."""

    def likelihood(self, z: Tensor) -> Any:
        keep = torch.arange(4) > 0
        return super().likelihood(z).base_dist.mask(keep).to_event(1)


def test_what_a_mask_leaves_out_it_leaves_out_with_its_unit() -> None:
    x = table()
    torch.manual_seed(0)
    pair = resolve_standardized(Masked, "diagonal_normal", (x,), SMALL)
    t = terms(pair.model, pair.guide, (x,))
    p = t.p["x"].base_dist.base_dist  # a Normal in units of the data, under mask and event
    loc, sd = p.mean[:, 1:], p.variance.sqrt()[:, 1:]
    torch.testing.assert_close(t.log_lik["x"][0], dist.Normal(loc, sd).log_prob(x[:, 1:]).sum(-1), rtol=1e-4, atol=1e-4)


# ---- --standardize: what it refuses ----


class Reshaped(gaussian.Model):
    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=1.0 * x)


class Positive(gaussian.Model):
    def likelihood(self, z: Tensor) -> Any:
        return dist.LogNormal(self.decoder(z), 1.0).to_event(1)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (Reshaped, {}, ["obs=x", "there are 0"]),
        (Positive, {}, ["'x'", "LogNormal", "any real numbers"]),
        (bernoulli.Model, {}, ["'x'", "Bernoulli", "swap the likelihood"]),
        ("gaussian", {"missing": "nan"}, ["missing cells", "table"]),
        ("gaussian", {"binarize": "threshold"}, ["bits", "leave it out"]),
    ],
)
def test_what_cannot_be_standardized_is_refused(
    tmp_path: Path, model: Any, options: dict[str, Any], words: list[str]
) -> None:
    x = (table() > 0).float() if "binarize" in options else table()
    with pytest.raises(InputError) as refusal:
        ppl_vae.fit(model, "diagonal_normal", x, tmp_path / "run", standardize=True, set=SMALL, **options)
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert not (tmp_path / "run").exists()


# ---- --standardize: a run ----


def run_of(folder: Path, **options: Any) -> ppl_vae.Run:
    arguments: dict[str, Any] = {"epochs": 60, "batch_size": 20, "lr": 1e-2, "standardize": True, "set": SMALL}
    return ppl_vae.fit("gaussian", "diagonal_normal", wine(folder), folder / "run", **arguments | options)


def test_wine_trains_and_all_that_is_written_is_in_its_units(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    x = run.data().train[0]
    plain = dist.Normal(x.mean(0), x.std(0)).to_event(1).log_prob(run.data().valid[0]).mean().item()
    best = max(line["valid"]["elbo"] for line in run.metrics)
    assert best > plain + 2, "it must beat independent columns, in the same units"
    drawn = ppl_vae.sample(run, num=2000)["x"].mean(0)
    assert (np.abs(drawn - x.mean(0).numpy()) < 0.3 * x.std(0).numpy()).all()
    again = ppl_vae.reconstruct(run)
    assert np.array_equal(again["x"], run.data().test[0][:12].numpy())
    assert (np.abs(again["x_mean"] - x.mean(0).numpy()) < 4 * x.std(0).numpy()).all()
    assert ppl_vae.encode(run)["z_mean"].shape == (178, 2)
    assert ppl_vae.check("gaussian", "diagonal_normal", wine(tmp_path), standardize=True).passed


def test_a_fresh_process_has_the_same_numbers(tmp_path: Path) -> None:
    run = run_of(tmp_path, epochs=2)
    here = ppl_vae.encode(run, out=tmp_path / "here.npz")["z_mean"]
    command = [sys.executable, "-m", "ppl_vae.cli", "encode", str(run.folder), "--out", str(tmp_path / "there.npz")]
    subprocess.run(command, check=True, capture_output=True)
    with np.load(tmp_path / "there.npz") as there:
        assert np.array_equal(there["z_mean"], here)
    pair = run.pair()
    rows = run.data().train[0]
    scale: Any = pair.model.scale
    torch.testing.assert_close(scale.center, rows.mean(0))
    torch.testing.assert_close(scale.spread, rows.std(0, correction=0))


def test_resume_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = run_of(tmp_path, epochs=4)
    (tmp_path / "parts").mkdir()
    run_of(tmp_path / "parts", epochs=2)
    parts = ppl_vae.fit(out=tmp_path / "parts" / "run", resume=True, epochs=4)
    a, b = (run.checkpoints.load(run.checkpoints.steps[-1])[0] for run in (whole, parts))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


# ---- collapse ----


class Deaf(gaussian.Model):
    """It can hardly hear z, so that to say anything through it does not pay."""

    def likelihood(self, z: Tensor) -> Any:
        return super().likelihood(1e-3 * z)


def test_a_collapsed_fit_says_so(tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"the latent has collapsed: at the best step, \d+, the rate is -?0\.0\d\d nats"
    ):
        run = ppl_vae.fit(Deaf, "diagonal_normal", table(), tmp_path / "run", epochs=100, lr=1e-2, set=SMALL)
    assert run.metrics[-1]["valid"]["rate"] < 0.05
