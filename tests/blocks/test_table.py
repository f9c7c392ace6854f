"""The mixed table: cells against scipy, missing cells integrated out, the guide's features, `--missing nan`."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

import ppl_vae
from ppl_vae.blocks import MixedTable, TableFeatures
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.data import open_data
from ppl_vae.programs import resolve_pair, terms

KINDS = "count,real,categorical:3,positive,binary,real,ordinal:4"  # no two groups side by side
D = 7
COUNT, CATEGORY, BIT, GRADE = 0, 2, 4, 6
NAN = math.nan


def rows(n: int, missing: float = 0.0, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    columns = [
        rng.poisson(4, n), rng.normal(50, 10, n), rng.integers(0, 3, n), rng.lognormal(3, 1, n),
        rng.integers(0, 2, n), rng.normal(0, 0.1, n), rng.integers(0, 4, n),
    ]  # fmt: skip
    x = np.stack(columns, 1)
    x[rng.random(x.shape) < missing] = np.nan
    return torch.as_tensor(x)


def likelihood() -> MixedTable:
    made = MixedTable((D,), KINDS, rows(200)).double()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return made


def cells(*batch: int) -> Any:
    made = likelihood()
    return made(torch.randn(*batch, made.size, dtype=torch.float64))


# ---- the likelihood ----


@torch.no_grad()
def test_each_cell_has_the_density_of_its_column() -> None:
    """Against scipy, from the parameters that the parts report."""
    made = likelihood()
    p = made(torch.randn(made.size, dtype=torch.float64))
    count, real, category, positive, bit, grade = p.parts
    x = rows(1)[0]
    θ, logit = count.total_count.item(), count.logits.item()
    exact = [
        stats.nbinom(θ, 1 / (1 + math.exp(logit))).logpmf(x[0]),
        stats.norm(real.loc[0].item(), real.scale[0].item()).logpdf(x[1]),
        math.log(category.probs[0, int(x[2])]),
        stats.lognorm(positive.scale.item(), scale=math.exp(positive.loc.item())).logpdf(x[3]),
        stats.bernoulli(bit.probs.item()).logpmf(x[4]),
        stats.norm(real.loc[1].item(), real.scale[1].item()).logpdf(x[5]),
        math.log(grade.probs[0, int(x[6])]),
    ]
    np.testing.assert_allclose(p.cell_log_prob(x), exact, rtol=1e-9)
    assert p.log_prob(x).item() == pytest.approx(sum(exact))


@torch.no_grad()
def test_a_missing_cell_is_integrated_out() -> None:
    p, x = cells(), rows(1)[0]
    values = {COUNT: range(300), CATEGORY: range(3), BIT: range(2), GRADE: range(4)}
    for column, possible in values.items():
        each = torch.stack([x.index_fill(0, torch.tensor(column), value) for value in possible])
        without = x.index_fill(0, torch.tensor(column), NAN)
        assert p.log_prob(without).item() == pytest.approx(p.log_prob(each).logsumexp(0).item(), abs=1e-9)
    real = torch.arange(-500, 500, 0.01, dtype=torch.float64)
    each = x.expand(len(real), D).clone()
    each[:, 1] = real
    without = x.index_fill(0, torch.tensor(1), NAN)
    assert p.log_prob(without).item() == pytest.approx(p.log_prob(each).logsumexp(0).item() + math.log(0.01), abs=1e-6)
    assert p.log_prob(torch.full((D,), NAN, dtype=torch.float64)).item() == 0


def test_a_missing_cell_sends_no_gradient_and_no_nan() -> None:
    made = likelihood()
    raw = torch.zeros(5, made.size, dtype=torch.float64, requires_grad=True)
    x = rows(5)
    for column, numbers in ((COUNT, [0]), (BIT, None), (1, None)):
        holes = x.index_fill(1, torch.tensor([column]), NAN)
        (gradient,) = torch.autograd.grad(made(raw).log_prob(holes).sum(), raw)
        (whole,) = torch.autograd.grad(made(raw).log_prob(x).sum(), raw)
        assert gradient.isfinite().all()
        gone = ((gradient == 0) & (whole != 0)).any(0).nonzero().flatten().tolist()
        assert len(gone) == 1
        assert numbers is None or gone == numbers


@torch.no_grad()
def test_shaped_and_whole_columns_stand_beside_others_and_may_be_missing() -> None:
    """A missing cell of a column that begins at 4.7 is filled by no number below."""
    rng = np.random.default_rng(0)
    columns = [
        rng.normal(size=300),
        np.where(rng.random(300) < 0.4, 4.7, 4.7 + rng.gamma(2, size=300)),
        rng.poisson(30, 300),
    ]
    x = torch.as_tensor(np.stack(columns, 1))
    made = MixedTable((3,), "real, shaped@4.7, whole", x).double()
    assert [group.spikes for group in made.groups] == [(), (4.7,), ()]
    p = made(torch.zeros(300, made.size, dtype=torch.float64))
    holes = x.masked_fill(torch.as_tensor(rng.random(x.shape) < 0.5), NAN)
    each = p.cell_log_prob(holes)
    assert p.support.check(holes).all()
    assert (each[holes.isnan()] == 0).all()
    alone = [part.log_prob(x[:, i : i + 1])[:, 0] for i, part in enumerate(p.parts)]
    torch.testing.assert_close(each, torch.where(holes.isnan(), 0.0, torch.stack(alone, 1)))
    assert not p.support.base_constraint.check(torch.tensor([0.0, 4.6, 0.5], dtype=torch.float64))[1:].any()
    draws = p.sample()
    assert p.support.check(draws).all()
    assert 0.25 < ((draws[:, 1] - 4.7).abs() < 1e-5).double().mean() < 0.55
    out = TableFeatures((3,), "real,shaped@4.7,whole", x)(x)
    assert out.shape == (300, 3 + 1 + 3)
    assert torch.equal(out[:, 2] == 1, x[:, 1] == 4.7)


@torch.no_grad()
def test_draws_and_means_stand_in_the_columns_of_their_kinds() -> None:
    p = cells(4)
    x = p.sample((3000,))
    assert x.shape == (3000, 4, D)
    assert p.support.check(x).all()
    mean = p.mean
    assert mean.shape == (4, D)
    moving = [COUNT, 1, BIT, 5]
    se = x.std(0) / 3000**0.5
    assert ((x.mean(0) - mean).abs() < 4.5 * se + 1e-9)[:, moving].all()
    for column in (CATEGORY, GRADE):
        modes = [torch.bincount(x[:, i, column].long()).argmax() for i in range(4)]
        assert mean[:, column].tolist() == modes
    torch.testing.assert_close(mean[:, 3], torch.exp(p.parts[3].loc + p.parts[3].scale ** 2 / 2)[:, 0])


def test_the_support_is_that_of_each_column_and_lets_missing_cells_be() -> None:
    p = cells()
    x = rows(1)[0]
    support = p.support.base_constraint
    assert support.check(x).all()
    wrong = {COUNT: 0.5, CATEGORY: 3, 3: 0.0, BIT: 2, GRADE: -1}
    for column, value in wrong.items():
        assert support.check(x.index_fill(0, torch.tensor(column), value)).logical_not().nonzero().tolist() == [
            [column]
        ]
        with pytest.raises(ValueError, match="support"):
            p.log_prob(x.index_fill(0, torch.tensor(column), value))
    assert support.check(torch.full((D,), NAN)).all()
    assert str(support).startswith("count in column 0; real in columns 1, 5; categorical:3 in column 2")
    assert not support.is_discrete
    bits = MixedTable((2,), "binary", torch.zeros(3, 2))
    assert bits(torch.zeros(bits.size)).support.is_discrete


@torch.no_grad()
def test_leading_dimensions_and_expand() -> None:
    made, x = likelihood(), rows(4, 0.3)
    raw = torch.randn(5, 4, made.size, dtype=torch.float64)
    p = made(raw)
    assert (p.batch_shape, p.event_shape, p.log_prob(x).shape) == ((5, 4), (D,), (5, 4))
    torch.testing.assert_close(p.log_prob(x)[3], made(raw[3]).log_prob(x))
    one = made(raw[0, 0])
    torch.testing.assert_close(one.expand((5, 4)).log_prob(x), one.log_prob(x).expand(5, 4))
    assert isinstance(one.mask(False), dist.MaskedDistribution)


def test_units_come_from_the_cells_that_are_there() -> None:
    data = rows(500, 0.3)
    made = MixedTable((D,), KINDS, data)
    mean = made(torch.zeros(made.size, dtype=torch.float64)).mean
    torch.testing.assert_close(mean[[1, 5]], data[:, [1, 5]].nanmean(0))


# ---- the guide ----


def test_features_are_standardized_numbers_codes_and_the_mask() -> None:
    data = rows(500, 0.2)
    features = TableFeatures((D,), KINDS, data)
    out = features(data)
    assert out.shape == (500, features.size) == (500, 5 + 3 + 4 + D)
    assert torch.equal(out[:, -D:], (~data.isnan()).double())
    there = out[:, 1:3][~data[:, [1, 5]].isnan().any(1)]
    assert there.mean(0).abs().max() < 0.1
    assert (there.std(0) - 1).abs().max() < 0.1
    codes = out[:, 3:6]
    seen = ~data[:, CATEGORY].isnan()
    assert torch.equal(codes[seen].argmax(1).double(), data[seen, CATEGORY])
    assert (codes[~seen] == 0).all()


def test_nothing_depends_on_what_may_have_stood_in_a_missing_cell() -> None:
    features = TableFeatures((D,), KINDS, rows(500))
    x = rows(1)[0]
    for column in range(D):
        out = features(x.index_fill(0, torch.tensor(column), NAN))
        changed = (out != features(x)).nonzero().flatten()
        assert (out[changed] == 0).all()
        assert out[-D + column] == 0


# ---- kinds ----


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ("real,real", "kinds names 2 columns, the table has 3"),
        ("real,integer,real", "column 1 has no kind 'integer': there are real, positive"),
        ("real,categorical,real", "column 1 is 'categorical': say how many levels, 2 or more, such as categorical:3"),
        ("real,real,ordinal:1", "column 2 is 'ordinal:1': say how many levels"),
        ("real,count:4,real", "column 1 is 'count:4': only categorical and ordinal"),
        ("real,real@0,real", "column 1 is 'real@0': only shaped has numbers with a probability of their own"),
        ("real,shaped@nan,real", "column 1 is 'shaped@nan': behind each @ stands a number, such as shaped@0"),
    ],
)
def test_wrong_kinds_are_refused(kinds: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        MixedTable((3,), kinds, torch.zeros(5, 3))
    assert message in str(error.value)


def test_an_image_is_no_table() -> None:
    with pytest.raises(InputError, match=r"shape \(4, 4\)"):
        TableFeatures((4, 4), "real", torch.zeros(5, 4, 4))


def test_zeros_give_the_same_tensors_as_data() -> None:
    shapes = []
    for data in (rows(50, 0.2).float(), torch.zeros(50, D)):
        made = resolve_pair("table", "table", (data,), {"kinds": KINDS})
        shapes.append({n: t.shape for m in (made.model, made.guide) for n, t in m.state_dict().items()})
    assert shapes[0] == shapes[1]


# ---- missing cells, from a file to a result ----


def write_csv(folder: Path, x: Tensor) -> Path:
    pd.DataFrame(x.numpy(), columns=list("abcdefg")).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def options(file: Path) -> list[str]:
    return ["--model", "table", "--guide", "table", "--data", str(file), "--set", f"kinds={KINDS}"]


def test_nan_is_an_error_unless_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_csv(tmp_path, rows(100, 0.1))
    assert main(["check", *options(file)]) == 2
    assert "--missing nan" in capsys.readouterr().err
    assert main(["check", *options(file), "--missing", "nan"]) == 0


def test_fit_and_what_follows_with_missing_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = rows(200, 0.1)
    file, run = write_csv(tmp_path, x), tmp_path / "run"
    small = ["--set", "latent_dim=2", "--set", "hidden=8", "--epochs", "3", "--lr", "0.01"]
    assert main(["fit", *options(file), "--missing", "nan", "--out", str(run), *small]) == 0
    assert f"with {int(x.isnan().sum())} of 1400 cells missing" in capsys.readouterr().err
    assert json.loads((run / "config.json").read_text())["fit"]["missing"] == "nan"
    opened = ppl_vae.Run(run)
    assert opened.data().test[0].isnan().any()
    encoding = ppl_vae.encode(run)
    assert np.isfinite(encoding["z_mean"]).all()
    drawn = ppl_vae.sample(run, num=5, show="draws")
    assert np.isfinite(drawn["x"]).all()
    result = ppl_vae.reconstruct(run, num=20)
    assert np.isnan(result["x"]).any()
    assert np.isfinite(result["x_mean"]).all()
    pair = opened.pair()
    t = terms(pair.model, pair.guide, opened.data().test)
    per_cell = t.p["x"].cell_log_prob(t.observed["x"])
    assert (per_cell[t.observed["x"].isnan()] == 0).all()
    torch.testing.assert_close(per_cell.sum(-1), t.log_lik["x"][0])


def test_check_names_the_cell_that_its_kind_does_not_allow(tmp_path: Path) -> None:
    x = rows(100, 0.1).float()
    x[17, CATEGORY], x[3, 3] = 3, NAN
    report = ppl_vae.check("table", "table", x, missing="nan", set={"kinds": KINDS})
    (error,) = report.errors
    assert "site 'x': row 17, column 2 of the data is 3, outside the support of Cells" in str(error)


def test_check_names_the_first_of_many_codes_that_begin_at_one() -> None:
    x = rows(100, 0.0).float()
    x[:, CATEGORY] += 1
    (error,) = ppl_vae.check("table", "table", x, set={"kinds": KINDS}).errors
    assert "column 2 of the data is 3, outside the support of Cells" in str(error)


def test_a_code_is_the_nearest_whole_number() -> None:
    features = TableFeatures((1,), "categorical:3", torch.zeros(2, 1))
    torch.testing.assert_close(features(torch.tensor([[1.99], [2.01]]))[:, :3], torch.tensor([[0.0, 0, 1], [0, 0, 1]]))


def test_other_models_refuse_missing_cells_by_name() -> None:
    x = rows(100, 0.1)[:, [1, 5]].float()
    report = ppl_vae.check("gaussian", "table", x, missing="nan", set={"latent_dim": 2})
    assert "scale of Normal is nan" in str(report.errors[0])
    assert "missing cells must be filled before a network sees them" in str(report.errors[0])


def test_options_that_do_not_go_with_missing_cells() -> None:
    x = torch.rand(20, 3)
    with pytest.raises(InputError, match="neither 0 nor 1"):
        open_data(x, missing="nan", binarize="once")
    with pytest.raises(InputError, match="unknown missing 'drop'"):
        open_data(x, missing="drop")
    with pytest.raises(InputError, match="every cell is missing"):
        open_data(x * NAN, missing="nan")
    x[3, 1] = math.inf
    with pytest.raises(InputError, match="not finite"):
        open_data(x, missing="nan")
    with pytest.raises(InputError, match="field y") as error:
        open_data((torch.rand(20, 3), torch.rand(20, 1) * NAN), missing="nan")
    assert "--missing" not in str(error.value)
