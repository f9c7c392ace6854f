"""What `compare` says beyond the values: references, signal, memory, advice, checkpoints, and runs side by side."""

import json
import math
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from support.oracles import cached_scenario
from support.runs import SMALL, binary_rows, fitted
from torch import Tensor

import ppl_vae
from ppl_vae.core.errors import InputError
from ppl_vae.core.moments import Moments
from ppl_vae.core.randomness import draw_seed, seed_torch
from ppl_vae.core.statistics import Estimate
from ppl_vae.diagnostics.advice import advice
from ppl_vae.diagnostics.compare import compare_estimators
from ppl_vae.diagnostics.estimators import named, references
from ppl_vae.diagnostics.gradients import Gradients
from ppl_vae.diagnostics.memory import PeakMemory
from ppl_vae.diagnostics.results import Estimator, ValueBias
from ppl_vae.diagnostics.runs import compare_groups, groups_of
from ppl_vae.objectives import IWAE_ELBO, Beta_ELBO, DReG_ELBO, Renyi_ELBO, Trace_ELBO
from ppl_vae.programs import Pair
from ppl_vae.reports import figures
from ppl_vae.reports.style import save

STANDARD_ERRORS = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ppl_vae.Run:
    return fitted(tmp_path_factory.mktemp("laboratory"), epochs=4, checkpoint_every=3, keep_every=3)


@pytest.fixture
def wide() -> tuple[Pair, Tensor]:
    s = cached_scenario("one site", False)
    return Pair(s.model, s.guide, {}, "guide"), s.x


# ---- naming estimators ----


def test_specs_settings_and_samples() -> None:
    made = named(["trace", "renyi:alpha=0.25", "iwae:K=7"], [1, 5])
    assert {name: (o.name, o.num_particles) for name, o in made.items()} == {
        "trace:K=1": ("trace", 1),
        "trace:K=5": ("trace", 5),
        "renyi:alpha=0.25,K=1": ("renyi", 1),
        "renyi:alpha=0.25,K=5": ("renyi", 5),
        "iwae:K=7": ("iwae", 7),
    }
    assert made["renyi:alpha=0.25,K=5"].alpha == 0.25
    assert list(named(["trace", "iwae"], [3])) == ["trace", "iwae"], "one K needs no name"
    with_common = named(["trace", "beta", "beta:beta=2"], common={"num_particles": 3, "beta": 8.0})
    assert [o.num_particles for o in with_common.values()] == [3, 3, 3]
    assert [with_common[name].beta for name in ("beta", "beta:beta=2")] == [8.0, 2]
    assert list(named(["trace-enum"], [1, 5])) == ["trace-enum:K=1", "trace-enum:K=5"], "it may draw beside its sums"


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        (["iwaee"], "did you mean 'iwae'"),
        (["iwae:L=5"], "iwae has no setting 'L'"),
        (["iwae:K=many"], "iwae.num_particles is 'many': expected int"),
        (["iwae:5"], "write it as name=value"),
        (["trace", "trace"], "trace is named twice"),
        (["iwae:K=5,num_particles=6"], "a setting is given twice"),
        (["renyi:alpha=1"], "alpha = 1 is the ELBO"),
        ([], "name each objective"),
    ],
)
def test_bad_specs(specs: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        named(specs)


def test_a_reference_estimates_the_same_target_by_other_means() -> None:
    names = {
        DReG_ELBO(5): ["iwae"],
        IWAE_ELBO(5): ["dreg"],
        Renyi_ELBO(5, alpha=0.0): ["iwae", "dreg"],
        Trace_ELBO(5): ["mean-field", "score-function"],
        Trace_ELBO(1): ["mean-field", "score-function", "iwae", "dreg"],
        IWAE_ELBO(1): ["trace", "mean-field", "score-function", "dreg"],
        Beta_ELBO(beta=3.0): [],
    }
    for objective, expected in names.items():
        assert [other.name for other in references(objective)] == expected
        assert {other.target for other in references(objective)} <= {objective.target}


# ---- against exact answers, and a loop ----


def test_bias_is_seen_where_there_is_some_and_not_where_there_is_none(wide: Any) -> None:
    class Wrong(Trace_ELBO):
        """Says ELBO, and leaves half a nat out."""

        name = "wrong"

        def per_example(self, terms: Any) -> tuple[Tensor, Tensor]:
            value, surrogate = super().per_example(terms)
            return value - 0.5, surrogate

    pair, x = wide
    rows = (x.repeat(20, 1),)
    found = compare_estimators(pair, named(["trace", "iwae:K=5"]) | {"wrong": Wrong()}, rows, batch_size=60, draws=300)
    z = {name: e["bias"]["z"] for name, e in found["estimators"].items()}
    assert abs(z["trace"]) < STANDARD_ERRORS
    assert abs(z["iwae:K=5"]) < STANDARD_ERRORS
    assert z["wrong"] < -10
    assert "the value of wrong is biased" in found["advice"]
    assert {name: e["bias"]["reference"] for name, e in found["estimators"].items()} == {
        "trace": "mean-field",
        "iwae:K=5": "dreg",
        "wrong": "trace",
    }
    assert [(p["a"], p["b"]) for p in found["pairs"]] == [("trace", "wrong")], "two targets are not paired"


def test_signal_cosine_and_draws_are_those_of_a_loop(wide: Any) -> None:
    pair, x = wide
    draws, seed = 400, 3
    found = compare_estimators(pair, {"dreg": DReG_ELBO(5)}, (x,), batch_size=3, draws=draws, seed=seed)
    e = found["estimators"]["dreg"]
    parameters = {"model": list(pair.model.parameters()), "guide": list(pair.guide.parameters())}

    def loop(objective: Any, stream: int, group: str) -> tuple[np.ndarray, np.ndarray]:
        gradients, values = [], []
        for r in range(draws):
            seed_torch(draw_seed(seed, 0, r, stream))
            estimate = objective.estimate(pair.model, pair.guide, (x,))
            found = torch.autograd.grad(-estimate.surrogate.mean(), parameters[group])
            gradients.append(torch.cat([g.flatten() for g in found]).numpy())
            values.append(estimate.value.mean().item())
        return np.stack(gradients), np.array(values)

    for group in parameters:
        stream = 1 + crc32(repr(("iwae", "IWAE_5")).encode()) % 1000
        (own, values), (other, reference_values) = loop(DReG_ELBO(5), 0, group), loop(IWAE_ELBO(5), stream, group)
        signal = [(g.mean(0) ** 2).sum() - g.var(0, ddof=1).sum() / draws for g in (own, other)]
        noise = own.var(0, ddof=1).sum()
        assert e["gradient_variance"][group] == pytest.approx(noise, rel=1e-9)
        assert e["gradient_snr"][group] == pytest.approx(math.sqrt(signal[0] / noise), rel=1e-9)
        cosine = own.mean(0) @ other.mean(0) / math.sqrt(signal[0] * signal[1])
        assert e["gradient_cosine"][group] == pytest.approx(cosine, rel=1e-9)
        assert e["efficiency"][group] == pytest.approx(1 / (noise * e["seconds_per_step"]), rel=1e-9)
    np.testing.assert_allclose(found.arrays["dreg"]["draw_mean"], values, rtol=1e-12)
    assert e["bias"]["difference"] == pytest.approx(values.mean() - reference_values.mean(), rel=1e-6)


def test_the_signal_is_without_the_bias_of_the_noise() -> None:
    """Mean over standard deviation of R draws of pure noise is about 1/√R; the corrected signal averages to 0."""
    signals = []
    for _ in range(400):
        moments, gradients = Moments(increments=True), Gradients(["model.w"])
        for _ in range(5):
            moments.add([torch.randn(10, dtype=torch.float64)])
        gradients.add(moments, moments)
        signals.append(gradients.signal.item())
    mean, se = np.mean(signals), np.std(signals) / len(signals) ** 0.5
    assert abs(mean) < STANDARD_ERRORS * se
    assert se < 0.1, "uncorrected it would be 10 · 1/5"


def test_an_estimator_without_noise_is_said_to_have_none() -> None:
    s = cached_scenario("one site", True)
    pair = Pair(s.model, s.guide, {}, "guide")
    found = compare_estimators(pair, named(["trace", "sticking-the-landing"]), (s.x,), batch_size=3, draws=20).asdict()
    stl = found["estimators"]["sticking-the-landing"]
    assert stl["gradient_variance"]["guide"] < 1e-20
    assert stl["variance"] < 1e-20
    assert "sticking-the-landing" in found["advice"]


# ---- memory ----


def test_peak_memory_is_counted() -> None:
    with PeakMemory() as memory:
        a = torch.empty(1000, 1000)
        b = a * 2
        c = b + 1
        del b
        d = c.exp()
        e = d * 3
        del d, e
    assert memory.peak == 4 * 4_000_000, "a, c, d and e"
    assert memory.now == 2 * 4_000_000, "a and c"
    w = torch.randn(1000, 1000, requires_grad=True)
    with PeakMemory() as memory:
        torch.autograd.grad((w.T @ w.detach()).sum(), w)
    assert 4_000_000 <= memory.peak < 4 * 4_000_000, "w was there before"


def test_memory_grows_with_num_particles(wide: Any) -> None:
    pair, x = wide
    found = compare_estimators(pair, named(["iwae"], [1, 8]), (x.repeat(500, 1),), batch_size=1500, draws=2).asdict()
    small, large = (found["estimators"][f"iwae:K={K}"]["peak_bytes_per_step"] for K in (1, 8))
    assert 4 < large / small < 8.5


# ---- advice ----


def numbers(target: str, guide: float, seconds: float = 1.0, z: float = 0.0, se: float = 0.01) -> Estimator:
    variance = {"model": 1.0, "guide": guide}
    value = Estimate(-100.0, 0.1, "draws")
    return Estimator(
        target=target,
        value=value,
        over_data=value,
        bias=ValueBias("another", Estimate(1e-2 * z, 1e-2, "draws")),
        variance=1.0,
        gradient_bias=None,
        gradient_variance={k: Estimate(v, se * v, "draws") for k, v in variance.items()},
        gradient_snr=dict.fromkeys(variance, math.nan),
        gradient_cosine=dict.fromkeys(variance, math.nan),
        gradient_variance_by_tensor={},
        gradient_snr_by_tensor={},
        num_samples=1,
        seconds_per_step=seconds,
        compiled=False,
        peak_bytes_per_step=0,
        sites={},
    )


def test_advice_follows_the_numbers_target_by_target() -> None:
    def said(**estimators: Any) -> str:
        return advice(estimators, draws=100)

    elbo = "ELBO"
    assert said(a=numbers(elbo, 2.0), b=numbers(elbo, 1.0), c=numbers("IWAE_5", 0.1)) == (
        "ELBO: b, 2 times as efficient as a for the guide's gradient; IWAE_5: c is alone"
    )
    assert said(a=numbers(elbo, 1.0), b=numbers(elbo, 1.0, seconds=1.05)).startswith("ELBO: a or b, which noise")
    assert said(a=numbers(elbo, 1.0, se=0.3), b=numbers(elbo, 2.0, se=0.3)).startswith("ELBO: a or b, which noise")
    assert said(a=numbers(elbo, 1.0, z=-9.0), b=numbers(elbo, 3.0)) == (
        "ELBO: b is alone, the value of a is biased (z = -9.0)"
    )
    assert "b, whose gradient of the guide has no noise" in said(a=numbers(elbo, 1.0), b=numbers(elbo, 0.0))
    assert "model's gradient" in said(a=numbers(elbo, 0.0, 1.0), b=numbers(elbo, 0.0, 2.0))
    assert said(a=replace(numbers(elbo, 1.0), bias=None)) == "ELBO: a is alone"
    rounding = ValueBias("another", Estimate(7e-6, 1e-8, "draws"))
    assert said(a=replace(numbers(elbo, 1.0), bias=rounding)) == "ELBO: a is alone", "a float32 has no more digits"
    assert advice({"a": numbers(elbo, 1.0)}, draws=19) == "none from 19 draws: take 20 or more"


def test_the_standard_error_of_the_gradients_variance_is_its_spread(wide: Any) -> None:
    pair, x = wide
    found = [
        compare_estimators(pair, {"t": Trace_ELBO()}, (x,), batch_size=3, draws=60, seed=s)["estimators"]["t"]
        for s in range(40)
    ]
    for group in ("model", "guide"):
        spread = np.std([e["gradient_variance"][group] for e in found], ddof=1)
        claimed = np.mean([e["gradient_variance_se"][group] for e in found])
        assert claimed == pytest.approx(spread, rel=0.4)


def test_a_cosine_of_pure_noise_is_not_shown() -> None:
    shown = 0
    for _ in range(200):
        both = []
        for _ in range(2):
            moments = Moments(increments=True)
            for _ in range(20):
                moments.add([torch.randn(30, dtype=torch.float64)])
            both.append(moments)
        own, reference = Gradients(["guide.w"]), Gradients(["guide.w"])
        own.add(both[0], both[1])
        reference.add(both[1], both[1])
        shown += not math.isnan(own.cosine(reference)["guide"])
    assert shown <= 2


# ---- what is written ----


def test_several_checkpoints(run: ppl_vae.Run) -> None:
    steps = run.checkpoints.steps
    result = ppl_vae.compare(run, objectives=["trace", "iwae"], draws=3, checkpoint=["first", "middle", "last"])
    assert list(result["checkpoints"]) == [str(s) for s in (steps[0], run.step("middle"), steps[-1])]
    assert result["step"] == steps[0]
    assert result["estimators"] == result["checkpoints"][str(steps[0])]["estimators"]
    values = [c["estimators"]["trace"]["elbo"] for c in result["checkpoints"].values()]
    assert values[0] < values[-1]
    alone = ppl_vae.compare(run, objectives=["trace", "iwae"], draws=3, checkpoint="last")
    assert alone["estimators"]["iwae"]["value"] == result["checkpoints"][str(steps[-1])]["estimators"]["iwae"]["value"]
    assert "elbo" not in alone["estimators"]["iwae"], "it is none"


def test_the_middle_is_the_kept_step_nearest_to_half(run: ppl_vae.Run) -> None:
    steps = run.checkpoints.steps
    assert len(steps) > 4
    assert abs(run.step("middle") - steps[-1] / 2) == min(abs(s - steps[-1] / 2) for s in steps)


def test_arviz_opens_the_netcdf(run: ppl_vae.Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    result = ppl_vae.compare(run, objectives=["trace", "dreg"], draws=4, checkpoint=["first", "best"])
    data = arviz.from_netcdf(str(run.folder / "compare.nc"))
    step = run.step("best")
    draws = data.sample_stats["value"].sel(checkpoint=step, estimator="dreg")
    assert draws.dims == ("chain", "draw")
    value = result["checkpoints"][str(step)]["estimators"]["dreg"]["value"]
    assert float(draws.mean()) == pytest.approx(value)
    rows = data.constant_data["row_mean"].sel(checkpoint=step, estimator="dreg")
    assert float(rows.mean()) == pytest.approx(value)
    assert set(rows.row.values) == set(run.data().numbers("test").tolist())
    tensors = data.constant_data["gradient_variance"].sel(checkpoint=step, estimator="dreg")
    guide = sum(float(v) for name, v in zip(tensors.tensor.values, tensors.values, strict=True) if "guide" in str(name))
    expected = result["checkpoints"][str(step)]["estimators"]["dreg"]["gradient_variance"]["guide"]
    assert guide == pytest.approx(expected)


def test_the_picture_holds_for_estimators_without_noise(tmp_path: Path) -> None:
    s = cached_scenario("one site", True)
    pair = Pair(s.model, s.guide, {}, "guide")
    names = ["trace", "sticking-the-landing", "dreg:K=5"]
    found = compare_estimators(pair, named(names), (s.x,), batch_size=3, draws=3)
    none = dict.fromkeys(("model", "guide"), Estimate(0.0, 0.0, "draws"))
    silent = found.estimators | {"trace": replace(found.estimators["trace"], gradient_variance=none)}
    save(figures.comparison({0: replace(found, estimators=silent)}), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_mean_field_says_what_it_did_at_each_site(run: ppl_vae.Run) -> None:
    result = ppl_vae.compare(run, objectives=["mean-field"], draws=2)
    assert result["estimators"]["mean-field"]["sites"] == {"z": "closed form"}
    assert "mean-field, rate of site 'z': closed form" in str(result)


# ---- runs side by side ----


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ppl_vae.Run]:
    folder, made = tmp_path_factory.mktemp("runs"), {}
    for lr in (1e-3, 1e-2):
        for seed in (0, 1):
            name = f"{lr:g}-{seed}"
            made[name] = fitted(folder, out=folder / name, lr=lr, seed=seed)
    return made


def exact_pair() -> tuple[Any, Any]:
    def model(x: Tensor) -> None:
        shift = pyro.param("shift", torch.zeros(()))
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + shift, 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        shift = pyro.param("shift", torch.zeros(()))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal((x - shift) / 2, 0.5**0.5).to_event(1))

    return model, guide


def test_paired_differences_of_exact_values(tmp_path: Path) -> None:
    """With the exact guide the ELBO is log p(x), so that differences and their errors are known without draws."""
    data = np.random.default_rng(0).normal(2.0, 1.0, (400, 1)).astype(np.float32)
    model, guide = exact_pair()
    runs = [ppl_vae.fit(model, guide, data, tmp_path / f"{lr}", lr=lr, epochs=1, batch_size=50) for lr in (1e-1, 1e-3)]
    result = ppl_vae.compare(runs, draws=2, model=model, guide=guide, data=data, checkpoint="last")
    test = runs[0].data(data).test[0][:, 0].double()
    shifts = [run.checkpoints.load(run.step("last"))[0]["model.free.shift"].double() for run in runs]
    log_px = [torch.distributions.Normal(s, torch.tensor(2.0).double().sqrt()).log_prob(test) for s in shifts]
    rows = (log_px[0] - log_px[1]).numpy()
    (pair,) = result["pairs"]
    assert pair["difference"] == pytest.approx(rows.mean(), abs=1e-5)
    assert pair["se_data"] == pytest.approx(rows.std(ddof=1) / len(rows) ** 0.5, rel=1e-3)
    assert pair["se_mc"] < 1e-6
    assert pair["z"] == pytest.approx(pair["difference"] / pair["se_data"])


def test_runs_that_differ_in_the_seed_alone_are_one_kind(runs: dict[str, ppl_vae.Run], tmp_path: Path) -> None:
    out = tmp_path / "runs.json"
    result = ppl_vae.compare(list(runs.values()), draws=5, out=out)
    assert json.loads(out.read_text()) == result.asdict()
    assert len(result["pairs"]) == 6
    (over,) = result["over_seeds"]
    value = {name: result["runs"][str(r.folder)]["value"] for name, r in runs.items()}
    differences = np.array([value[f"0.001-{s}"] - value[f"0.01-{s}"] for s in (0, 1)])
    assert over["how"] == "paired by seed"
    assert over["difference"] == pytest.approx(differences.mean())
    assert over["se_seeds"] == pytest.approx(differences.std(ddof=1) / 2**0.5)
    assert (over["t"], over["df"]) == (pytest.approx(over["difference"] / over["se_seeds"]), 1)
    two = ppl_vae.compare([runs["0.001-0"], runs["0.01-0"]], draws=5)
    assert two["over_seeds"] == []


def test_groups_without_common_seeds() -> None:
    (found,) = compare_groups({"a": {0: 1.0, 1: 3.0}, "b": {2: 0.0, 3: 0.0, 4: 3.0}, "c": {0: 1.0}})
    assert (found.how, found.difference.value) == ("unpaired", 1.0)
    assert found.difference.se == pytest.approx(math.hypot(1.0, 1.0))
    assert groups_of({"r": {"lr": 1, "seed": 0}, "s": {"lr": 2, "seed": 0}, "t": {"lr": 1, "seed": 5}}) == {
        "r": ["r", "t"],
        "s": ["s"],
    }


def test_runs_on_other_rows_are_refused(runs: dict[str, ppl_vae.Run], tmp_path: Path) -> None:
    other = fitted(tmp_path, split_seed=1)
    before = sorted(other.folder.iterdir())
    with pytest.raises(InputError, match="have other test rows"):
        ppl_vae.compare([runs["0.001-0"], other], draws=2)
    assert sorted(other.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"checkpoint": ["first", "best"]}, "not both"),
        ({"objectives": ["trace", "iwae"]}, "by one objective"),
        ({"out": "no/such/folder/x.json"}, "no folder"),
        ({"num_samples": [0]}, "num_samples is 0"),
    ],
)
def test_refusals_of_several_runs(runs: dict[str, ppl_vae.Run], options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ppl_vae.compare(list(runs.values()), draws=2, **options)


def test_one_run_twice_is_refused(runs: dict[str, ppl_vae.Run], tmp_path: Path) -> None:
    folder = runs["0.001-0"].folder
    for again in (folder, folder.parent / "." / ".." / folder.parent.name / folder.name):
        with pytest.raises(InputError, match="is named twice"):
            ppl_vae.compare([folder, again], draws=2)
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(InputError, match="a second run of one kind and seed"):
        ppl_vae.compare([folder, tmp_path / "copy"], draws=2)


def test_the_largest_seed(runs: dict[str, ppl_vae.Run]) -> None:
    result = ppl_vae.compare(list(runs.values())[:2], draws=2, seed=2**63 - 1)
    assert all(math.isfinite(r["value"]) for r in result["runs"].values())


def test_a_run_trained_by_another_target_reports_both(tmp_path: Path) -> None:
    run = fitted(tmp_path, objective="iwae", set=SMALL | {"objective.num_particles": 8})
    valid = run.metrics[-1]["valid"]
    assert valid["objective"] > valid["elbo"]
    assert valid["elbo"] == pytest.approx(-valid["rate"] - valid["distortion"], abs=0.5), "the rate is a closed form"
    assert "objective" not in fitted(tmp_path, out=tmp_path / "other").metrics[-1]["valid"]
    assert binary_rows(3).shape == (3, 16)
