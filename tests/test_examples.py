"""Each example runs and prints what it claims; and what docs/theory.md states without another test holds."""

import functools
import math
import re
from collections.abc import Callable
from pathlib import Path

import jupytext
import matplotlib
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from support.examples import ROOT, load
from support.pages import Page
from torch import Tensor

from ppl_vae.distributions.kl import kl
from ppl_vae.guides.linear_gaussian import Guide as Posterior
from ppl_vae.models.linear_gaussian import Model as LinearGaussian

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run an example in an empty folder, and return what it prints."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")

    def call(name: str, *argv: str) -> str:
        load(name).main(argv)
        return capsys.readouterr().out

    return call


def numbers(line: str) -> list[float]:
    return [float(n) for n in re.findall(r"(?<![\w²])-?\d+\.?\d*(?:e[-+]?\d+)?(?!\w)", line)]


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.py")), ids=lambda p: p.stem)
def test_an_example_is_short_and_says_how_to_run_it(path: Path) -> None:
    assert sum(len(cell.source.splitlines()) for cell in jupytext.read(path).cells) <= 115
    assert f"python examples/{path.name}" in (load(path.stem).__doc__ or "")


@pytest.mark.slow
def test_why_reparameterize(run: Run) -> None:
    text = run("why_reparameterize", "--epochs", "1", "--draws", "2000", "--compare-draws", "5", "--out", "why.png")
    assert Path("why.png").stat().st_size > 10_000
    ratios = [numbers(line)[0] for line in text.splitlines() if "times that of trace" in line]
    assert ratios[0] == 1.0
    assert ratios[1] > 10, "orders of magnitude"
    assert ratios[2] > 2 * ratios[1], "the baseline helps"


@pytest.mark.slow
def test_priors_and_guides(run: Run) -> None:
    only = ["--seeds", "1", "--samples", "5", "--out", "runs", "--only", "standard prior, diagonal guide", "GTM prior"]
    first = run("priors_and_guides", "--epochs", "1", *only)
    assert len(first.splitlines()) == 3
    elbo, iwae = (numbers(line)[0] for line in (first.splitlines()[1], first.splitlines()[2]))
    assert -300 < elbo < -150
    assert -300 < iwae < -150
    assert run("priors_and_guides", "--epochs", "1", *only) == first, "what is there is not fitted again"
    with pytest.raises(SystemExit, match="was fitted with epochs 1, not 2"):
        run("priors_and_guides", "--epochs", "2", *only)
    with pytest.raises(SystemExit, match="was fitted with binarize None, not epoch"):
        run("priors_and_guides", "--epochs", "1", "--binarize", "epoch", *only)


@pytest.mark.slow
def test_collapse_and_cures(run: Run) -> None:
    only = ["--out", "runs", "--samples", "5", "--only", "default", "δ-VAE, 0.2 a dimension"]
    text = run("collapse_and_cures", "--epochs", "12", *only)
    assert line_of(text, "default").endswith("collapsed")
    cured = line_of(text, "δ-VAE")
    *_, rate, information, active, dimensions = numbers(cured)
    assert rate >= 10 * 0.2
    assert 0.1 < information < rate
    assert 0 < active <= dimensions == 10
    assert not cured.endswith("  collapsed")
    assert run("collapse_and_cures", "--epochs", "12", *only) == text, "what is there is not fitted again"


def test_the_variances_of_the_toy() -> None:
    example = load("why_reparameterize")
    for d in (1, 3, 10):
        for name, draws in example.gradients(d, 400_000).items():
            square = (draws - draws.mean()).square()
            assert abs(draws.mean() - 2) < 4 * draws.std() / len(draws) ** 0.5, name
            assert abs(square.mean() - example.variances(d)[name]) < 4 * square.std() / len(draws) ** 0.5, name


@pytest.mark.slow
def test_the_parts_of_the_gap_add_up(run: Run) -> None:
    text = run("gap_parts", "--epochs", "1", "--rows", "10", "--samples", "500")
    for name in ("diagonal", "full", "IAF"):
        _, _, gap, _, approximation, _, amortization, _, _ = numbers(line_of(text, name))
        assert gap == pytest.approx(approximation + amortization, abs=0.03)
        assert amortization > 0


@pytest.mark.slow
def test_which_estimator(run: Run) -> None:
    text = run("which_estimator", "--draws", "400", "--out", "which.png")
    assert Path("which.png").stat().st_size > 10_000
    assert len(text.splitlines()) == 6


def test_svi_trains_and_repeats(run: Run) -> None:
    first = run("svi", "--epochs", "2")
    test_elbos = [float(line.split()[-1]) for line in first.splitlines()]
    assert len(test_elbos) == 2
    assert -784 * math.log(2) < test_elbos[0] < test_elbos[1] < 0
    assert run("svi", "--epochs", "1") == first.splitlines(keepends=True)[0]


def test_the_swapped_prior_trains_and_has_no_closed_form(run: Run, tmp_path: Path) -> None:
    text = run("swap_the_prior", "--epochs", "1", "--draws", "2")
    names = ("normal", "mixture, learned", "mixture, fixed")
    elbos = [numbers(line_of(text, f"p(z) a {name}"))[0] for name in names]
    assert all(-784 * math.log(2) < elbo < 0 for elbo in elbos)
    assert len(set(elbos)) == 3
    assert "site 'z': no closed-form KL(Normal with event shape (20,) ‖ MixtureSameFamily" in text
    assert (tmp_path / "swap_the_prior.png").stat().st_size > 10_000


def test_the_swapped_prior_is_a_density() -> None:
    p = load("swap_the_prior").TwoNormals(1)()
    z = torch.linspace(-12, 12, 4001)
    assert torch.trapezoid(p.log_prob(z[:, None]).exp(), z).item() == pytest.approx(1, abs=1e-4)
    assert isinstance(p, dist.MixtureSameFamily)


def test_likelihoods_with_all_constants(run: Run) -> None:
    text = run("swap_the_likelihood", "--epochs", "1", "--draws", "2", "--sigma", "0.3")
    wide, narrow, continuous, binary = (
        float(re.search(r"(-?\d+\.\d\d) ", line_of(text, name)).group(1))  # type: ignore[union-attr]
        for name in ("Normal, σ = 1", "Normal, σ = 0.3", "ContinuousBernoulli", "Bernoulli, on 0 and 1")
    )
    assert wide < -784 / 2 * math.log(2 * math.pi)  # σ = 1: no datum has more than that density
    assert wide < narrow < continuous
    assert binary < 0
    by_model, by_formula, difference = numbers(line_of(text, "σ = 0.3").partition(":")[2].replace("(D/2) log 2π", ""))[
        -3:
    ]
    assert by_model == by_formula
    assert abs(difference) < 1e-9
    assert "outside the support of Bernoulli" in text


def test_estimators_agree_and_differ_in_noise(run: Run) -> None:
    fitted, exact = run("compare_elbos", "--epochs", "1", "--draws", "40").strip().split("\n\n")
    for block in (fitted, exact):
        assert abs(float(block.rpartition("z = ")[2])) < 4
    trace, analytic = ([float(n) for n in line_of(fitted, name).split()[1:]] for name in ("trace  ", "analytic-kl  "))
    assert trace[3] > analytic[3], "the analytic KL quiets the guide's gradient"
    trace, analytic = ([float(n) for n in line_of(exact, name).split()[1:]] for name in ("trace  ", "analytic-kl  "))
    assert trace[1] < 1e-10 < analytic[1], "with the exact posterior, trace has no noise"
    assert trace[2] < 1e-20 < analytic[2]


def test_missing_cells_of_a_table(run: Run) -> None:
    text = run("impute_table", "--seeds", "0", "1", "--epochs", "100", "--samples", "500")
    assert [line.split()[0] for line in text.splitlines()[3:7]] == ["binary", "ordinal", "whole", "all"]
    cells, column, vae, gain, *_ = numbers(line_of(text, "all").replace("+", ""))
    assert 120 < cells < 260
    assert vae - column == pytest.approx(gain, abs=2e-3)
    jointly, _, _ = numbers(line_of(text, "a row's missing cells jointly").replace("+", ""))
    assert column < jointly < 0


def test_synthetic_rows_are_told_from_real_ones(run: Run) -> None:
    only = ["--only", "VAE", "columns alone", "copula", "training rows"]
    text = run("synthetic_rows", "--seeds", "1", "--epochs", "2", *only)
    found = {name: numbers(line_of(text, name).replace("± nan", "")) for name in only[1:]}
    assert found["copula"][0] < found["columns alone"][0], "columns have to do with each other"
    assert found["training rows"][0] < 0.6
    assert found["training rows"][1:] == [1, 1], "copies"
    assert all(0.45 < near < 0.6 and same < 0.01 for _, near, same in list(found.values())[:-1])


def test_malignant_rows_are_unlikely_under_a_density_of_benign_ones(run: Run) -> None:
    only = ["--only", "IsolationForest", "VAE, 2 latents, σ by the"]
    text = run("anomaly_scores", "--splits", "1", "--epochs", "20", *only)
    forest, vae = text.splitlines()[1:]
    assert 0.94 < numbers(forest.replace("IsolationForest", ""))[0] < 0.98
    assert 0.9 < numbers(vae.partition("decoder")[2])[0] < 0.99


def test_the_picture_of_the_theory(run: Run, tmp_path: Path) -> None:
    text = run("theory", "--steps", "30", "--out", "picture.png")
    rows = [[float(n) for n in line.split()] for line in text.splitlines()[1:-1]]
    assert [rows[0][0], rows[-1][0]] == [0, 30]
    for _, log_px, elbo, gap, family in rows:
        assert log_px - elbo == pytest.approx(gap, abs=2e-4)
        assert 0 < family < gap
    assert rows[-1][3] < rows[0][3]
    largest, error = numbers(text.splitlines()[-1])
    assert all(log_px < largest for _, log_px, *_ in rows)
    assert error < 1e-10
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"


# ---- statements of docs/theory.md ----


def test_the_best_diagonal_normal() -> None:
    A = torch.randn(4, 4).double()
    Λ, m = A @ A.T + torch.eye(4), torch.randn(4).double()
    posterior = dist.MultivariateNormal(m, precision_matrix=Λ)
    least = kl(dist.Normal(m, Λ.diagonal().rsqrt()).to_event(1), posterior)
    torch.testing.assert_close(least, (Λ.diagonal().log().sum() - torch.logdet(Λ)) / 2)
    for _ in range(20):
        μ, log_s = m + 0.1 * torch.randn(4), Λ.diagonal().log() / -2 + 0.1 * torch.randn(4)
        assert kl(dist.Normal(μ, log_s.exp()).to_event(1), posterior) > least


def test_variances_at_the_posterior() -> None:
    x, R = torch.tensor(1.7).double(), 400_000
    m, s, ε = (x / 2).repeat(R).requires_grad_(), 0.5**0.5, torch.randn(R).double()
    z, q, p = m + s * ε, dist.Normal(m, s), dist.Normal(torch.zeros(()).double(), 1.0)
    log_lik = dist.Normal(z, 1.0).log_prob(x)
    values = log_lik + p.log_prob(z) - q.log_prob(z), log_lik - kl(q, p)
    slopes = [torch.autograd.grad(value.sum(), m, retain_graph=True)[0] for value in values]
    assert values[0].var() < 1e-20
    assert values[1].var().item() == pytest.approx((1.7**2 + 1) / 8, rel=0.02)
    assert [slope.var().item() for slope in slopes] == pytest.approx([2, 0.5], rel=0.02)
    assert [slope.mean().item() for slope in slopes] == pytest.approx([0, 0], abs=0.01)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0])
def test_the_best_sigma_is_the_root_mean_squared_error(sigma: float) -> None:
    errors = sigma * torch.randn(1000, 8).double()
    S = errors.square().sum(1).mean()
    distortion = {f: -dist.Normal(0.0, f * (S / 8).sqrt()).log_prob(errors).sum(1).mean() for f in (0.9, 1.0, 1.1)}
    assert distortion[1.0] < min(distortion[0.9], distortion[1.1])
    torch.testing.assert_close(distortion[1.0], 4 * (2 * math.pi * math.e * S / 8).log())


@pytest.mark.parametrize("b", [0.01, 0.3, 0.9])
def test_a_bernoulli_is_no_density_on_grey_values(b: float) -> None:
    x = torch.linspace(0, 1, 10_001).double()
    integral = torch.trapezoid(b**x * (1 - b) ** (1 - x), x).item()
    assert integral == pytest.approx((2 * b - 1) / (math.log(b) - math.log(1 - b)), rel=1e-6)
    continuous = dist.ContinuousBernoulli(torch.tensor(b).double())
    assert continuous.log_prob(x[70]).exp().item() == pytest.approx(
        b ** x[70].item() * (1 - b) ** (1 - x[70].item()) / integral
    )


@pytest.mark.parametrize("μ", [0.0, 2.0])
def test_variances_of_two_gradients(μ: float) -> None:
    ε, weight = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(10))  # exact up to degree 19
    weight = weight / weight.sum()

    approx = functools.partial(pytest.approx, abs=1e-9)

    def moments(draw: Tensor) -> list[float]:
        mean = (weight * draw).sum()
        return [mean.item(), (weight * (draw - mean).square()).sum().item()]

    assert moments(2 * (μ + ε)) == approx([2 * μ, 4])
    assert moments((μ + ε) ** 2 * ε) == approx([2 * μ, μ**4 + 14 * μ**2 + 15])
    assert moments(((μ + ε) ** 2 - μ**2 - 1) * ε) == approx([2 * μ, 8 * μ**2 + 10])


def test_rates_of_the_linear_vae() -> None:
    x = torch.randn(2000, 5).double() @ torch.diag(torch.tensor([2.0, 1.5, 1.0, 0.4, 0.3]).double())
    λ, U = (t.flip(-1) for t in torch.linalg.eigh(x.T.cov(correction=0)))
    σ2 = 0.5
    model = LinearGaussian((5,), latent_dim=5).double()
    model.W.data = U * (λ - σ2).clamp(min=0).sqrt()
    model.b.data, model.log_sigma.data = x.mean(0), torch.tensor(σ2).double().log() / 2
    q = Posterior((5,), model).posterior(x)
    mean, variance = q.mean, q.covariance_matrix.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(q.covariance_matrix, variance.expand(2000, 5).diag_embed(), atol=1e-12, rtol=0)
    rates = kl(dist.Normal(mean, variance.sqrt()), dist.Normal(mean.new_zeros(()), 1.0)).mean(0)
    torch.testing.assert_close(rates, (λ / σ2).clamp(min=1).log() / 2)
    assert (rates > 1e-12).tolist() == [True, True, True, False, False]
    best = model.log_px(x).mean()
    for _ in range(10):
        model.W.data = U * (λ - σ2).clamp(min=0).sqrt() + 0.05 * torch.randn(5, 5)
        assert model.log_px(x).mean() < best


def test_rows_without_a_label_help_a_classifier(run: Run) -> None:
    """After some epochs better than chance by far; the figure of the docs takes a minute."""
    found = dict(re.findall(r"^(M2|logistic regression) +([0-9.]+)", run("semi_supervised", "--epochs", "8"), re.M))
    assert float(found["M2"]) > 0.6
    assert 0.8 < float(found["logistic regression"]) < 0.9


@pytest.mark.filterwarnings("ignore:.*the latent has collapsed")
def test_how_many_latents(run: Run) -> None:
    only = ["--dims", "1", "3", "--seeds", "2", "--rows", "20", "--out", "runs"]
    text = run("how_many_latents", "--epochs", "2", *only)
    elbos = [numbers(line_of(text, f"{dims}  "))[1] for dims in (1, 3)]
    assert all(-45 < elbo < -20 for elbo in elbos)
    assert f"best is latent_dim={(1, 3)[elbos[1] > elbos[0]]}" in text
    elbo, _, log_px, _ = numbers(line_of(text, "20 test rows").partition(":")[2])
    assert elbo < log_px
    assert Path("runs/how_many_latents.png").stat().st_size > 10_000


@pytest.mark.slow
def test_counts_in_nats_of_the_same_data(run: Run) -> None:
    text = run("counts", "--rows", "1000", "--epochs", "15")
    elbos = {name: numbers(line_of(text, name).partition("ELBO")[2])[0] for name in ("poisson", "normal", "negative")}
    assert elbos["poisson"] < min(elbos["normal"], elbos["negative"]) - 5


def test_a_rounded_normal_is_a_probability_of_counts() -> None:
    p = load("counts").RoundedNormal(torch.tensor(0.7), torch.tensor(0.8))
    x = torch.arange(2000.0)
    assert p.log_prob(x).exp().sum().item() == pytest.approx(1, abs=1e-4)
    drawn = p.sample((100_000,))
    for count in (0, 1, 3):
        share = (drawn == count).double()
        assert abs(share.mean() - p.log_prob(x[count]).exp()) < 4 * share.std() / len(share) ** 0.5


def test_pictures_of_digits(run: Run) -> None:
    text = run("images", "--epochs", "1", "--columns", "3", "--out", "images.png")
    elbo, _, bits = numbers(text)
    assert bits == pytest.approx(-elbo / math.log(2) / 784, abs=1e-3)
    assert Path("images.png").stat().st_size > 10_000


@pytest.mark.slow
def test_auto_guide(run: Run) -> None:
    """Where the automatic guide is the hand-written one, the difference is none."""
    text = run("auto_guide", "--epochs", "2", "--seeds", "1", "--only", "semi_supervised")
    theirs, auto, difference = numbers(line_of(text, "semi_supervised"))
    assert -40 < theirs < -25
    assert theirs == auto
    assert difference == 0


@pytest.mark.slow
def test_codes_fill_the_prior_and_those_of_an_autoencoder_do_not(run: Run) -> None:
    text = run("first_vae", "--epochs", "5", "--out", "runs")
    spread, noise = numbers(line_of(text, "VAE"))
    wider, quieter = numbers(line_of(text, "autoencoder"))
    assert spread < wider
    assert noise > 3 * quieter
    assert 0 < numbers(text.splitlines()[-1].replace("%", ""))[0] < 100
    assert {path.name for path in Path("runs").glob("*.png")} == {"codes.png", "decoded.png"}


def test_the_aggregate_is_a_density() -> None:
    example = load("first_vae")
    axis = np.linspace(-8, 8, 401)
    codes = {"z_mean": np.array([[0.0, 1.0], [-2.0, 0.5]]), "z_sd": np.array([[0.3, 1.0], [0.5, 0.2]])}
    for q in (functools.partial(example.aggregated, codes), example.prior):
        mass = q(np.stack(np.meshgrid(axis, axis), -1)).sum() * (axis[1] - axis[0]) ** 2
        assert mass == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_a_likely_image_need_not_be_a_digit(run: Run) -> None:
    text = run("out_of_distribution", "--epochs", "2", "--rows", "10", "--out", "runs")
    found = {name: numbers(line_of(text, name).removeprefix(name)) for name in ("test digits", "blank", "noise")}
    assert found["test digits"][1:] == [0.5] * 4
    assert found["blank"][0] > found["test digits"][0] > found["noise"][0]
    assert found["blank"][1] < 0.1, "what is blank is more likely than any digit"
    assert found["noise"][1] == 1
    assert Path("runs/out_of_distribution.png").stat().st_size > 10_000


@pytest.mark.slow
def test_what_lies_between_two_images(run: Run) -> None:
    """The table of docs/faq.md."""
    text = run("interpolation", "--out", "runs")
    told = {"mean": "pixels", "codes": "ends", "straight": "straight", "arc": "arc", "draws": "prior"}
    for row in Page("faq.md").table("| length of z"):
        shown = [float(cell) for cell in row[1:] if cell != "–"]
        assert numbers(line_of(text, told[row[0].split()[0]])) == pytest.approx(shown, rel=0.05), row[0]
    assert Path("runs/interpolation.png").stat().st_size > 10_000


@pytest.mark.docs
def test_which_scores_tell_other_images_from_digits(run: Run) -> None:
    """The table of docs/faq.md, of 100 images a set: the standard error of an AUC is 0.03."""
    text = run("out_of_distribution", "--out", "runs")
    told = {"letters": ["letters"], "one stroke": ["one stroke"], "blank page": ["blank"]}
    told["shuffled, noise, inverted"] = ["shuffled", "noise", "inverted"]
    for row in Page("faq.md").table("| −log p(x)"):
        for name in told[row[0]]:
            found = numbers(line_of(text, name).removeprefix(name))[1:]
            assert found == pytest.approx([float(cell) for cell in row[1:]], abs=0.06), name


def test_the_arc_turns_evenly_from_one_code_to_the_other() -> None:
    example = load("interpolation")
    a, b = np.array([[2.0, 0.0]]), np.array([[0.0, 4.0]])
    for t in (0.0, 0.25, 0.5, 1.0):
        length, angle = 2 + 2 * t, t * math.pi / 2
        assert example.arc(a, b, t)[0] == pytest.approx([length * math.cos(angle), length * math.sin(angle)])
    assert example.straight(a, b, 0.5).tolist() == [[1.0, 2.0]]
