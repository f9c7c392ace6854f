"""What docs/write_your_own.md says of an objective."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyro import poutine
from support.own import DIGITS, PAGE, B, K, changed, pair
from support.pages import code

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.objectives import named
from ppl_vae.programs import terms
from ppl_vae.programs.scores import log_weight, sum_sites

pytestmark = pytest.mark.usefixtures("here")


def of(spec: str, file: str = "objectives.py", **settings: Any) -> Any:
    return named(f"{file}:{spec}").make(settings)


def test_an_objective_returns_one_number_a_row() -> None:
    for name in ("Tempered", "Reinforce"):
        p = pair()
        value, surrogate, _ = of(name, num_particles=K).estimate(p.model, p.guide, (torch.ones(B, 64),))
        assert value.shape == surrogate.shape == (B,)


def test_the_best_state_is_that_of_the_best_value() -> None:
    PAGE.says("`fit` keeps the state with the best value.")
    Path("sinking.py").write_text(PAGE.files["objectives.py"].replace("return value, value", "return -value, value"))
    settings = {"model": "mine.py", "guide": "mine.py", "epochs": 3, "out": "runs/sinking", **DIGITS}
    run = ppl_vae.fit(**settings, objective="sinking.py:Tempered")
    values = [line["valid"]["objective"] for line in run.metrics]
    assert values == sorted(values, reverse=True), "it sinks while its surrogate rises"
    assert run.step("best") == 0


def test_the_value_of_the_surrogate_is_not_read() -> None:
    PAGE.says("Its own value is not read.")
    shifted = changed("objectives.py", "return value, value", "return value, value + 100")
    p, losses = pair(), []
    for file in ("objectives.py", shifted):
        torch.manual_seed(0)
        losses.append(of("Tempered", file).loss_and_grads(p.model, p.guide, torch.ones(B, 64)))
    assert losses[0] == pytest.approx(losses[1])


def test_what_terms_hold() -> None:
    p, x = pair(), torch.ones(B, 64)
    t = terms(p.model, p.guide, x, K)
    named = [name for row in PAGE.table("Term") for name in code(row[0])]
    assert named == ["log_prior", "log_lik", "log_q", "score_function", "p", "q", "values", "observed"]
    for name in ("log_prior", "log_lik", "log_q"):
        assert all(log_p.shape == (K, B) for log_p in getattr(t, name).values())
    assert (set(t.log_prior), set(t.log_lik), set(t.log_q)) == ({"z"}, {"x"}, {"z"})
    assert t.score_function == {}
    assert t.values["z"].shape == (K, B, 8)
    assert t.observed["x"] is x
    torch.testing.assert_close(t.p["x"].log_prob(x), t.log_lik["x"])
    torch.testing.assert_close(log_weight(t), t.log_lik["x"] + t.log_prior["z"] - t.log_q["z"])
    PAGE.says("without the factor of a `poutine.scale`")
    torch.manual_seed(1)
    plain = terms(p.model, p.guide, x)
    torch.manual_seed(1)
    scaled = terms(poutine.scale(p.model, 7.0), poutine.scale(p.guide, 7.0), x)
    torch.testing.assert_close(sum_sites(scaled.log_lik), sum_sites(plain.log_lik))
    assert scaled.scale == 7.0


def test_a_draw_without_a_path_is_refused_by_its_name() -> None:
    PAGE.says("`need_paths` refuses all other guides, and names the site.")
    file = changed("mine.py", "dist.Normal(x.new_zeros(self.latent_dim), 1.0)", "dist.Bernoulli(0.5 * x.new_ones(8))")
    Path(file).write_text(
        Path(file).read_text().replace("dist.Normal(loc, softplus(raw) + 1e-3)", "dist.Bernoulli(logits=loc)")
    )
    p, x = pair(file, file), torch.ones(B, 64)
    assert set(terms(p.model, p.guide, x).score_function) == {"z"}
    with pytest.raises(InputError, match="tempered: the guide's site 'z' has no reparameterized draw"):
        of("Tempered").loss(p.model, p.guide, x)
    assert np.isfinite(of("Reinforce").loss(p.model, p.guide, x))


def test_detached_cuts_the_draws_out_of_the_gradient() -> None:
    PAGE.says("`detached = True`, so that no gradient flows through a draw")
    p, x = pair(), torch.ones(B, 64)
    assert of("Tempered").estimate(p.model, p.guide, (x,)).terms.values["z"].requires_grad
    estimate = of("Reinforce").estimate(p.model, p.guide, (x,))
    assert not estimate.terms.values["z"].requires_grad
    assert set(estimate.terms.score_function) == {"z"}


def test_compare_keeps_targets_apart_and_finds_a_biased_gradient(
    printed: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (sound,) = [out for command, out in printed.items() if command.startswith("ppl-vae compare")]
    assert "biased" not in sound
    assert "tempered ELBO (T=2)" in sound
    assert "trace − objectives.py:Reinforce" in sound
    assert "− objectives.py:Tempered" not in sound
    (quoted,) = [each for each in code(PAGE.prose) if "is biased" in each]
    text = PAGE.files["objectives.py"].replace("log_w.mean(0), surrogate.mean(0)", "log_w.mean(0), log_w.mean(0)")
    Path("objectives.py").write_text(text)
    try:
        assert main(["compare", "runs/mine", "--objectives", "trace", "objectives.py:Reinforce", "--draws", "30"]) == 0
    finally:
        Path("objectives.py").write_text(PAGE.files["objectives.py"])
    assert quoted in " ".join(capsys.readouterr().out.split())


def test_the_target_is_the_elbo_where_none_is_named() -> None:
    assert of("Reinforce").target == "ELBO"
    assert of("Tempered", temperature=3.0).target == "tempered ELBO (T=3)"
