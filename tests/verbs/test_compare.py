"""The comparison of estimators against a naive one, against exact answers, and against its own description."""

import json
import math
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyro.poutine as poutine
import pytest
import torch
from support.runs import MIXTURE, SMALL, binary_rows, fitted
from torch import Tensor
from torch.distributions import kl_divergence

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.core.moments import Moments
from ppl_vae.core.randomness import draw_seed, seed_torch
from ppl_vae.core.results import as_text
from ppl_vae.diagnostics.compare import WARM_UP, compare_estimators
from ppl_vae.diagnostics.results import Comparison
from ppl_vae.diagnostics.run_comparison import RunComparison
from ppl_vae.objectives import AnalyticKL_ELBO, Objective, Trace_ELBO
from ppl_vae.objectives.base import Pass
from ppl_vae.programs import Pair, resolve_pair
from ppl_vae.programs.scores import Batch

STANDARD_ERRORS = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ppl_vae.Run:
    return fitted(tmp_path_factory.mktemp("compare"))


def small_pair(rows: int, dtype: torch.dtype = torch.float32) -> tuple[Pair, Batch]:
    batch = (torch.tensor(binary_rows(rows)),)
    pair = resolve_pair("bernoulli", "diagonal_normal", batch, {"hidden": 5, "latent_dim": 2})
    pair.model.to(dtype)
    pair.guide.to(dtype)
    return pair, (batch[0].to(dtype),)


# ---- against a naive computation ----


def naive_draw(pair: Pair, x: Tensor, seed: int) -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Value per row, and gradient of the mean loss by tensor, of both estimators at the noise of one seed."""
    out = {}
    for name in ("trace", "analytic-kl"):
        seed_torch(seed)
        guide = poutine.trace(pair.guide).get_trace(x)
        model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(x)
        p, q, z = model.nodes["z"]["fn"], guide.nodes["z"]["fn"], guide.nodes["z"]["value"]
        log_lik = model.nodes["x"]["fn"].log_prob(x)
        rate = q.log_prob(z) - p.log_prob(z) if name == "trace" else kl_divergence(q.base_dist, p.base_dist).sum(-1)
        value = log_lik - rate
        for program in (pair.model, pair.guide):
            program.zero_grad()
        (-value.mean()).backward()
        gradient = {
            f"{kind}.{key}": parameter.grad.numpy().copy()
            for kind, program in (("model", pair.model), ("guide", pair.guide))
            for key, parameter in program.named_parameters()
        }
        out[name] = value.detach().numpy(), gradient
    return out


def test_numbers_are_those_of_a_loop() -> None:
    rows, batch_size, draws, seed = 7, 3, 6, 5
    pair, (x,) = small_pair(rows, torch.float64)
    got = compare_estimators(
        pair, {"trace": Trace_ELBO(), "analytic-kl": AnalyticKL_ELBO()}, (x,), batch_size=batch_size, draws=draws,
        seed=seed,
    ).asdict()  # fmt: skip

    seen = [
        [naive_draw(pair, x[at : at + batch_size], draw_seed(seed, index, r, 0)) for r in range(draws)]
        for index, at in enumerate(range(0, rows, batch_size))
    ]
    values = {}
    for name in ("trace", "analytic-kl"):
        value = values[name] = np.concatenate([[d[name][0] for d in batch] for batch in seen], axis=1)  # (draws, rows)
        assert value.shape == (draws, rows)
        e = got["estimators"][name]
        assert e["elbo"] == pytest.approx(value.mean(), rel=1e-12)
        assert e["variance"] == pytest.approx(value.var(0, ddof=1).mean(), rel=1e-10)
        assert e["elbo_se"] == pytest.approx(math.sqrt(value.var(0, ddof=1).sum() / draws) / rows, rel=1e-10)
        assert e["elbo_se_data"] == pytest.approx(value.mean(0).std(ddof=1) / math.sqrt(rows), rel=1e-10)
        whole = seen[:2]  # the batch of one row is not "one batch" of three
        by_tensor = {
            key: np.mean([np.var([d[name][1][key] for d in batch], axis=0, ddof=1).sum() for batch in whole])
            for key in seen[0][0][name][1]
        }
        assert e["gradient_variance_by_tensor"] == pytest.approx(by_tensor, rel=1e-9)
        for kind in ("model", "guide"):
            total = sum(v for key, v in by_tensor.items() if key.startswith(kind))
            assert e["gradient_variance"][kind] == pytest.approx(total, rel=1e-9)
            assert 0 < e["gradient_variance_se"][kind] < total
    difference = values["trace"] - values["analytic-kl"]
    (pair_,) = got["pairs"]
    assert (pair_["a"], pair_["b"]) == ("trace", "analytic-kl")
    se = math.sqrt(difference.var(0, ddof=1).sum() / draws) / rows
    assert pair_["difference"] == pytest.approx(difference.mean(), rel=1e-9)
    assert pair_["se"] == pytest.approx(se, rel=1e-9)
    assert pair_["z"] == pytest.approx(difference.mean() / se, rel=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_moments_are_numpys(offset: float) -> None:
    draws = [[torch.randn(3, 2, dtype=torch.float64) + offset, torch.randn((), dtype=torch.float64)] for _ in range(50)]
    moments = Moments()
    for draw in draws:
        moments.add(draw)
    for i in range(2):
        stacked = np.stack([draw[i].numpy() for draw in draws])
        np.testing.assert_allclose(moments.mean[i], stacked.mean(0), rtol=1e-12)
        np.testing.assert_allclose(moments.variance[i], stacked.var(0, ddof=1), rtol=1e-7)


# ---- against exact answers ----


def test_the_exact_guide_has_no_noise() -> None:
    x = torch.randn(9, 4)
    pair = resolve_pair("linear_gaussian", "linear_gaussian", (x,), {"latent_dim": 2})
    pair.model.double()
    x = x.double()
    named = {"trace": Trace_ELBO(), "again": Trace_ELBO(), "analytic-kl": AnalyticKL_ELBO()}
    got = compare_estimators(pair, named, (x,), batch_size=4, draws=30).asdict()
    trace = got["estimators"]["trace"]
    assert trace["variance"] < 1e-20
    assert trace["elbo"] == pytest.approx(pair.model.log_px(x).mean().item(), rel=1e-12)
    assert trace["gradient_variance"]["guide"] == 0.0, "the guide borrows every tensor"
    assert got["estimators"]["analytic-kl"]["variance"] > 1e-3, "here the analytic KL is the noisier one"
    pairs = {(p["a"], p["b"]): p for p in got["pairs"]}
    assert pairs["trace", "again"]["se"] == pairs["trace", "again"]["difference"] == 0.0
    assert pairs["trace", "again"]["z"] is None
    assert abs(pairs["trace", "analytic-kl"]["z"]) < STANDARD_ERRORS


def test_the_two_estimators_agree(run: ppl_vae.Run) -> None:
    result = ppl_vae.compare(run, draws=100, seed=1)
    assert abs(result["pairs"][0]["z"]) < STANDARD_ERRORS
    trace, analytic = (result["estimators"][name] for name in ("trace", "analytic-kl"))
    assert analytic["gradient_variance"]["guide"] < trace["gradient_variance"]["guide"]


def test_the_noise_is_shared() -> None:
    """A Bernoulli decoder's gradient depends on ε alone, not on how the rate is estimated."""
    pair, batch = small_pair(20)
    named = {"analytic-kl": AnalyticKL_ELBO(), "trace": Trace_ELBO()}
    got = compare_estimators(pair, named, batch, batch_size=20, draws=10)["estimators"]
    tensors = [
        {k: v for k, v in got[name]["gradient_variance_by_tensor"].items() if k.startswith("model.")} for name in named
    ]
    assert tensors[0] == pytest.approx(tensors[1], rel=1e-5)
    assert min(tensors[0].values()) > 0


@pytest.mark.parametrize("objective", [Trace_ELBO, AnalyticKL_ELBO])
def test_gradient_variance_falls_as_one_over_num_particles(objective: Any) -> None:
    pair, batch = small_pair(40)
    named = {"1": objective(), "4": objective(4)}
    got = compare_estimators(pair, named, batch, batch_size=40, draws=300)["estimators"]
    for kind in ("model", "guide"):
        ratio = got["1"]["gradient_variance"][kind] / got["4"]["gradient_variance"][kind]
        assert ratio == pytest.approx(4, rel=0.2), kind
    assert [got[name]["num_samples"] for name in named] == [1, 4]


# ---- what is written ----


def strict_json(path: Path) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_compare_json_has_the_pinned_keys(run: ppl_vae.Run) -> None:
    result = ppl_vae.compare(run, draws=3)
    written = strict_json(run.folder / "compare.json")
    assert written == result.asdict()
    about = {"data", "rows", "split", "batch_size", "draws", "seed", "step"}
    assert set(written) == {"format", "estimators", "pairs", "advice", "left_out"} | about
    assert list(written["estimators"]) == ["trace", "analytic-kl"]
    pinned = {"elbo", "elbo_se", "variance", "gradient_variance", "gradient_variance_by_tensor", "seconds_per_step"}
    for e in written["estimators"].values():
        assert pinned < set(e)
        assert [e[f"elbo{rest}"] for rest in ("", "_se", "_se_data")] == [
            e[f"value{rest}"] for rest in ("", "_se", "_se_data")
        ]
        assert set(e["gradient_variance"]) == {"model", "guide"}
        assert e["seconds_per_step"] > 0
    assert [set(p) for p in written["pairs"]] == [{"a", "b", "difference", "se", "z"}]
    assert (written["draws"], written["split"], written["rows"], written["batch_size"]) == (3, "test", 30, 100)
    assert (run.folder / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_json_stays_standard_where_a_number_is_not_defined(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One test row has no standard error over data."""
    run = fitted(tmp_path, data=binary_rows(3))
    assert ppl_vae.compare(run, draws=2, data=binary_rows(3))["estimators"]["trace"]["elbo_se_data"] is None
    assert strict_json(run.folder / "compare.json")["rows"] == 1
    np.save(tmp_path / "three.npy", binary_rows(3))
    pair = ["--model", "bernoulli", "--guide", "diagonal_normal"]
    data = ["--data", str(tmp_path / "three.npy"), "--out", str(tmp_path / "b")]
    capsys.readouterr()
    assert main(["fit", *pair, *data, "--epochs", "1", "--set", "hidden=4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["valid"]["elbo_se_data"] is None


def without_seconds(comparison: Any) -> dict[str, Any]:
    """Nor what follows from them."""
    result = comparison.asdict()
    timed = {"seconds_per_step", "efficiency"}
    estimators = {name: {k: v for k, v in e.items() if k not in timed} for name, e in result["estimators"].items()}
    return {k: v for k, v in result.items() if k != "advice"} | {"estimators": estimators}


def test_a_repeated_call_gives_the_same_numbers_and_another_seed_others(run: ppl_vae.Run) -> None:
    first = without_seconds(ppl_vae.compare(run, draws=4, seed=2))
    torch.randn(3)
    assert without_seconds(ppl_vae.compare(str(run.folder), draws=4, seed=2)) == first
    other = ppl_vae.compare(run, draws=4, seed=2**63 - 1)
    assert other["estimators"]["trace"]["elbo"] != first["estimators"]["trace"]["elbo"]


def test_results_do_not_depend_on_the_company(run: ppl_vae.Run) -> None:
    both = without_seconds(ppl_vae.compare(run, draws=4))["estimators"]
    for name in both:
        alone = without_seconds(ppl_vae.compare(run, objectives=[name], draws=4))
        assert alone["estimators"][name] == both[name]
        assert alone["pairs"] == []
    turned = ppl_vae.compare(run, objectives=["analytic-kl", "trace"], draws=4)
    assert without_seconds(turned)["estimators"] == both


def test_what_the_run_set_of_its_objective_holds_for_all(tmp_path: Path) -> None:
    run = fitted(tmp_path, set=SMALL | {"objective.num_particles": 3})
    got = ppl_vae.compare(run, draws=2)["estimators"]
    assert {name: e["num_samples"] for name, e in got.items()} == {"trace": 3, "analytic-kl": 3}


# ---- refusals, and memory ----


def test_a_mixture_prior_has_no_analytic_kl(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "mixture.py"
    file.write_text(MIXTURE)
    run = fitted(tmp_path, model=file)
    alone = ["--objectives", "analytic-kl", "free-bits"]
    assert main(["compare", str(run.folder), "--model", str(file), "--draws", "2", *alone]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: analytic-kl: site 'z'")
    assert "MixtureSameFamily" in captured.err
    assert "Normal" in captured.err
    assert len(captured.err.splitlines()) <= 2
    assert not (run.folder / "compare.json").exists()
    assert not (run.folder / "compare.png").exists()
    assert "free-bits: site 'z'" in captured.err, "each with its reason"
    assert main(["compare", str(run.folder), "--model", str(file), "--draws", "2"]) == 0
    assert "analytic-kl is left out: analytic-kl: site 'z': no closed-form KL(Normal" in capsys.readouterr().out
    written = strict_json(run.folder / "compare.json")
    assert (list(written["estimators"]), list(written["left_out"])) == (["trace"], ["analytic-kl"])
    specs = ["analytic-kl", "trace", "trace-enum", "mean-field"]
    found = ppl_vae.compare(run, objectives=specs, model=file, draws=2, checkpoint=["first", "last"])
    assert (list(found["estimators"]), list(found["left_out"])) == (
        ["trace", "mean-field"],
        ["analytic-kl", "trace-enum"],
    )
    assert set(ppl_vae.compare(run, objectives=["trace"], model=file, draws=2)["estimators"]) == {"trace"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draws": 1}, "draws is 1"),
        ({"objectives": []}, "name each objective"),
        ({"objectives": ["trace", "trace"]}, "name each objective"),
        ({"objectives": ["analytic"]}, "did you mean 'analytic-kl'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
    ],
)
def test_bad_options(run: ppl_vae.Run, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ppl_vae.compare(run, **options)


class Saved:
    """A tensor that a graph keeps for its backward pass."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def test_draws_do_not_accumulate() -> None:
    """At the start of a draw nothing of the graphs of those before it is alive."""
    alive: weakref.WeakSet[Saved] = weakref.WeakSet()
    counts: list[int] = []

    def keep(tensor: Tensor) -> Saved:
        saved = Saved(tensor)
        alive.add(saved)
        return saved

    class Counted(Trace_ELBO):
        def estimate(self, *args: Any) -> Pass:
            counts.append(len(alive))
            estimate = super().estimate(*args)
            assert len(alive) > 10
            return estimate

    pair, batch = small_pair(6)
    objective: Objective = Counted()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved.tensor):
        compare_estimators(pair, {"counted": objective}, batch, batch_size=3, draws=4)
    assert counts == [0] * (1 + WARM_UP + 8), "to measure and warm up, then four draws on each of two batches"


# ---- what a person reads, and what is kept ----


def test_the_table_fits_in_80_columns_and_the_wide_one_in_120(run: ppl_vae.Run) -> None:
    specs = ["trace", "analytic-kl", "score-function:baseline=False", "sticking-the-landing", "iwae:K=5", "dreg:K=5"]
    result = ppl_vae.compare(run, objectives=specs, draws=20)
    for wide, width in ((False, 80), (True, 120)):
        lines = as_text(replace(result, wide=wide), width).splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("target,"))
        end = next(i for i, line in enumerate(lines) if line.startswith("trace − "))
        assert max(map(len, lines[start - 1 : end])) <= width
        rows = [line.split() for line in lines[start:end] if line.startswith("  ") and line.split()[0] in specs]
        assert [row[0] for row in rows] == [spec for spec in specs if "False" not in spec], "which takes two lines"
        assert {len(row) for row in rows} == {13 if wide else 7}, "every number is whole"


def test_each_comparison_of_a_run_keeps_its_own_files(tmp_path: Path) -> None:
    run = fitted(tmp_path)
    first = ppl_vae.compare(run, draws=2)
    second = ppl_vae.compare(run, objectives=["trace", "iwae:K=5"], draws=2)
    kept = sorted((run.folder / "comparisons").iterdir())
    assert len(kept) == 2
    files = {f"compare.{kind}" for kind in ("json", "nc", "png", "svg")}
    assert all({f.name for f in folder.iterdir()} == files for folder in kept)
    written = [json.loads((folder / "compare.json").read_text()) for folder in kept]
    assert sorted(map(str, written)) == sorted(map(str, (first.asdict(), second.asdict())))
    assert strict_json(run.folder / "compare.json") == second.asdict(), "the latest"
    ppl_vae.compare(run, draws=2)
    assert len(list((run.folder / "comparisons").iterdir())) == 2, "the same again is no third"


def test_the_two_kinds_of_comparison_are_two_types(run: ppl_vae.Run, tmp_path: Path) -> None:
    one = ppl_vae.compare(run, draws=2)
    several = ppl_vae.compare([run, fitted(tmp_path, seed=1)], draws=2)
    assert (type(one), type(several)) == (Comparison, RunComparison)
    assert one.estimators["trace"].elbo == one.estimators["trace"].value
    assert one.estimators["trace"].elbo.over == "draws"
    assert one.estimators["trace"].over_data.over == "data"
    assert {r.over_data.over for r in several.runs.values()} == {"data"}
    assert str(several).count("nats") >= 2
    assert max(map(len, str(one.table).splitlines())) < 200
