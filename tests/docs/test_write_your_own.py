"""docs/write_your_own.md runs as it stands, and each of its claims fails here if it is untrue."""

import contextlib
import hashlib
import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from support.pages import DOCS, Page, code, run_command
from torch import Tensor

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.objectives import named
from ppl_vae.programs import Pair, parameters, resolve_pair, terms
from ppl_vae.programs.find import Finder
from ppl_vae.programs.scores import log_weight, sum_sites

PAGE = Page("write_your_own.md")
RULES = PAGE.table("Write")
DIGITS = {"data": "digits", "binarize": "threshold"}
K, B = 3, 5
# the classes in examples/vae/vae.py of Pyro 1.9.1: SHA-256
PYRO_VAE = "02d6c4811909511327f2312428df1641b799141bfb3202932e3fc7b6cd8ae986"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("write_your_own")
    PAGE.write(place)
    shutil.copy(DOCS / "vae.py", place)
    return place


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, str]:
    """Every command of the page, in its order, and what it printed."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        for command in PAGE.commands:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                run_command(command)
            found[command] = out.getvalue()
    return found


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is where the reader is, who has named the files for the runs."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))


def pair(model: str = "mine.py", guide: str = "mine.py", data: Any = None, **settings: Any) -> Pair:
    batch = data if isinstance(data, tuple) else ((torch.rand(B, 64) > 0.5).float(),)
    return resolve_pair(model, guide, batch, settings)


def changed(name: str, old: str, new: str) -> str:
    """A file of the page, edited and saved under another name."""
    text = PAGE.files[name]
    assert old in text
    Path(f"changed_{name}").write_text(text.replace(old, new))
    return f"changed_{name}"


# ---- the page as it stands ----


def test_every_command_runs(printed: dict[str, str]) -> None:
    for command, out in printed.items():
        if "check" in command:
            assert out.endswith("this pair is a VAE for this data\n"), command
    assert {"mine", "conv", "tempered", "pyro"} <= {run.name for run in Path("runs").iterdir()}
    assert set(PAGE.files) >= {"mine.py", "convolutional.py", "tied.py", "labelled.py", "objectives.py"}
    assert all(block.name for block in PAGE.blocks if block.language == "python"), "each block of Python is a file"


def test_a_file_is_executed_again_only_when_it_is_named(
    printed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    PAGE.says("A run never executes a file of yours unless you name the file again, which you do once for each run.")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["sample", "runs/mine"]) == 2
    assert "name it again" in capsys.readouterr().err
    assert main(["sample", "runs/mine", "--model", "mine.py", "--guide", "mine.py"]) == 0
    assert main(["sample", "runs/mine"]) == 0


def test_a_run_keeps_no_file_that_a_program_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    PAGE.says("a run keeps a copy of it and of no file that it imports")
    monkeypatch.syspath_prepend(Path.cwd())
    Path("helper_of_mine.py").write_text("FLOOR = 1e-3\n")
    importing = changed("mine.py", "import pyro\n", "import helper_of_mine\nimport pyro\n")
    run = ppl_vae.fit(importing, importing, epochs=1, out="runs/importing", **DIGITS)
    assert [copy.read_text() for copy in (run.folder / "sources").iterdir()] == [Path(importing).read_text()]


@pytest.mark.parametrize("statement", ["", 'pyro.module("model", self)'])
def test_a_module_needs_pyro_module_only_for_pyros_own_svi(statement: str) -> None:
    PAGE.says('Add `pyro.module("model", self)` if you also train it with Pyro\'s own `SVI`.')
    with_it = changed("mine.py", "def forward(self, x):\n", f"def forward(self, x):\n        {statement}\n")
    p = pair(with_it, with_it)
    assert len(parameters(p.model, p.guide)) == 8
    assert not pyro.get_param_store().keys()
    step = SVI(p.model, p.guide, Adam({"lr": 1e-3}), Trace_ELBO())
    if statement:
        step.step(torch.ones(B, 64))
        assert "model$$$decoder.0.weight" in pyro.get_param_store()
    else:
        assert ppl_vae.check(with_it, with_it, **DIGITS).passed
        assert not poutine.trace(p.model).get_trace(torch.ones(B, 64)).param_nodes


# ---- the rules of a program ----


def test_what_the_page_calls_sound_has_no_findings() -> None:
    assert ppl_vae.check("mine.py", "mine.py", **DIGITS).findings == ()


@pytest.mark.parametrize("rule", RULES, ids=[row[1].replace("`", "") for row in RULES])
def test_a_broken_rule_is_found(rule: list[str]) -> None:
    write, never, _, says = rule
    (old,), (new,) = code(write), code(never) or [""]
    edited = changed("mine.py", old, new)
    level, message = says.split(":")[0], code(says)[0]
    report = ppl_vae.check(edited, edited, **DIGITS)
    assert [f.level for f in report.findings if message in f.message][:1] == [level], str(report)
    assert report.passed == (level == "warning")


def test_every_site_stands_in_the_plate() -> None:
    PAGE.says("All sites stand in one plate, which is called `data` and has the size B.")
    sample = 'z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))'
    plate = '        with pyro.plate("data", x.shape[0]):\n            '
    everywhere = sample.replace("x.new_zeros(self.latent_dim)", "x.new_zeros(x.shape[0], self.latent_dim)")
    outside = changed("mine.py", plate + sample, "        " + everywhere + "\n" + plate.rstrip())
    report = ppl_vae.check(outside, "mine.py", **DIGITS)
    assert "site 'z' of the model stands outside the plate 'data'" in str(report)


# ---- the dimension of the draws ----


@pytest.mark.parametrize(
    ("model", "x", "z"),
    [("mine.py", (B, 64), (K, B, 8)), ("convolutional.py", (K * B, 64), (K * B, 8))],
    ids=["vectorized", "repeated"],
)
def test_where_the_draws_stand(model: str, x: tuple[int, ...], z: tuple[int, ...]) -> None:
    PAGE.says("`x` stays `(B, *data_shape)`, but a draw is now `(K, B, latent_dim)`.")
    PAGE.says("the rows of the batch are repeated K times, to `(K·B, *data_shape)`, and no dimension is added.")
    p, calls = pair(model), []
    p.model.register_forward_pre_hook(lambda module, arguments: calls.append(tuple(arguments[0].shape)))
    layers = p.model.decoder if model == "mine.py" else p.model.dense
    layers.register_forward_pre_hook(lambda module, arguments: calls.append(tuple(arguments[0].shape)))
    t = terms(p.model, p.guide, torch.ones(B, 64), K)
    assert calls[-2:] == [x, z], "in the pass that is scored, after the one that finds the plates"
    assert t.log_lik["x"].shape == (K, B)


def test_a_convolution_says_that_it_takes_no_dimension_of_draws() -> None:
    silent = changed("convolutional.py", "    vectorized = False\n", "")
    assert "say `vectorized = False` in the class" in str(ppl_vae.check(silent, "mine.py", **DIGITS))
    assert ppl_vae.check("convolutional.py", "mine.py", **DIGITS).findings == ()


# ---- constructors ----

ASKS = """
from torch import nn

class Model(nn.Module):
    def __init__(self, data_shape, data, {asks}):
        super().__init__()
        self.given = dict(locals())

Guide = Model
"""


BORROWS = """
class Borrower(Model):
    def __init__(self, data_shape, guide):
        super().__init__(data_shape)
        self.encoder = guide.encoder
"""


def asking(asks: str) -> str:
    Path("asks.py").write_text(ASKS.format(asks=asks))
    return "asks.py"


def test_what_a_constructor_gets() -> None:
    x, y = torch.rand(1000, 8, 8), torch.zeros(1000)
    p = pair(asking("width=3"), "mine.py:Guide", (x, y))
    assert p.model.given["data_shape"] == (8, 8)
    assert p.model.given["data"] is x
    assert p.model.given["width"] == 3


def test_a_constructor_gets_a_thousand_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    PAGE.says("Up to 1000 training rows of the first field, `(rows, *data_shape)`, to start a parameter from.")
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr("builtins.SEEN", seen, raising=False)
    asks = changed("mine.py", "(self, data_shape, ", "(self, data_shape, data, ")
    Path(asks).write_text(Path(asks).read_text().replace("__init__()", "__init__(), SEEN.append(tuple(data.shape))"))
    assert ppl_vae.check(asks, asks, **DIGITS).passed
    assert seen == [(1000, 64), (1000, 64)], "of 1437 training rows"


def test_any_other_name_has_a_default() -> None:
    PAGE.says("Its default, or what `--set` says. It must have a default.")
    assert pair(asking("width=3"), "mine.py", width=5).model.given["width"] == 5
    with pytest.raises(InputError, match="needs 'width', which nobody gives: give it a default"):
        pair(asking("width"), "mine.py")


def test_a_setting_is_of_its_type_and_goes_to_those_who_have_it() -> None:
    PAGE.says("A setting is checked against its annotation, or else against the type of its default.")
    for settings, words in (
        ({"hidden": "many"}, "hidden is 'many': expected int"),
        ({"depth": 3}, "no program has a setting 'depth': there are model.latent_dim, model.hidden"),
    ):
        with pytest.raises(InputError, match=words):
            pair(**settings)
    with pytest.raises(InputError, match="width is 'many': expected int"):
        pair(asking("width=3"), "mine.py", width="many")
    widths = lambda p: (p.model.decoder[0].out_features, p.guide.encoder[0].out_features)  # noqa: E731
    assert widths(pair(hidden=32)) == (32, 32)
    assert widths(pair(**{"model.hidden": 32})) == (32, 64)


def test_a_tensor_is_owned_by_the_program_that_made_it(tmp_path: Path) -> None:
    PAGE.says("a parameter belongs to the program that made it, is trained once and is saved once")
    p = pair("mine.py", "tied.py")
    decoder = {f"model.decoder.{layer}.{name}" for layer in (0, 2) for name in ("weight", "bias")}
    assert set(parameters(p.model, p.guide, p.borrower)) == {*decoder, "guide.log_scale"}
    Path("borrows.py").write_text(PAGE.files["mine.py"] + BORROWS)
    lent = pair("borrows.py:Borrower", "mine.py")
    assert [name for name in parameters(lent.model, lent.guide, lent.borrower) if "encoder" in name] == [
        f"guide.encoder.{layer}.{name}" for layer in (0, 2) for name in ("weight", "bias")
    ]


def test_one_program_borrows() -> None:
    PAGE.says("At most one of the two may ask for the other.")
    Path("both.py").write_text(PAGE.files["tied.py"] + "\nclass Model(Guide):\n    def __init__(self, guide): pass\n")
    with pytest.raises(InputError, match="drop one of the two"):
        pair("both.py", "both.py")


# ---- plain functions and fields ----


def fields() -> tuple[Tensor, Tensor]:
    return (torch.rand(B, 8, 8) > 0.5).float(), torch.arange(B)


def test_a_plain_function_owns_what_it_declares() -> None:
    PAGE.says("It is run once, on rows of the data, and what it declares is then owned as by a module.")
    counting = changed("labelled.py", "def model(x, y):\n", "CALLS = []\n\n\ndef model(x, y):\n    CALLS.append(x)\n")
    p = pair(counting, counting, fields())
    (calls,) = [f.__globals__["CALLS"] for f in p.model.fn]
    assert len(calls) == 1
    assert set(parameters(p.model, p.guide)) == {
        "model.owned.means.weight", "model.owned.decoder.weight", "model.owned.decoder.bias",
        "guide.owned.encoder.weight", "guide.owned.encoder.bias", "guide.free.scale",
    }  # fmt: skip
    terms(p.model, p.guide, fields(), K)
    assert not pyro.get_param_store().keys()


def test_fields_come_in_the_order_in_which_they_are_named(
    printed: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    PAGE.says("in the order in which you name the fields")
    check = ["check", "--model", "labelled.py", "--guide", "labelled.py", "--data"]
    assert main([*check, "b=a.npz:images", "a=a.npz:labels"]) == 0
    np.savez("swapped.npz", labels=np.load("a.npz")["labels"][:, None], images=np.load("a.npz")["images"])
    capsys.readouterr()
    assert main([*check, "y=swapped.npz:labels", "x=swapped.npz:images"]) == 2


def test_a_field_that_is_observed_is_not_to_be_read() -> None:
    PAGE.says("A field that no site observes is given: the model may read its values")
    x = (np.random.default_rng(0).random((60, 8, 8)) > 0.5).astype("float32")
    y = np.arange(60) % 10
    assert ppl_vae.check("labelled.py", "labelled.py", (x, y)).findings == ()
    observed = '        pyro.sample("y", dist.Categorical(logits=x.new_zeros(10)), obs=y)\n        z ='
    reads = changed("labelled.py", "        z =", observed)
    assert "changes with the values of 'y'" in str(ppl_vae.check(reads, reads, (x, y)))


# ---- what names a program ----


def test_every_form_of_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forms = [code(row[0])[0] for row in PAGE.table("`--model`, `--guide`")]
    shipped = Finder().find("bernoulli", ["model"])[1]
    assert shipped.shipped
    for file in ("mine.py", "vae.py"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    shutil.copy(str(shipped.path), "models")
    Path("shared.py").write_text(Path("vae.py").read_text() + "\n\nvae = VAE()\n")
    expected = {
        "bernoulli": "models/bernoulli.py", "mine.py": "mine.py", "mine.py:Model": "mine.py",
        "vae.py:VAE.model": "vae.py", "shared.py:vae.model": "shared.py",
    }  # fmt: skip
    assert set(expected) < set(forms)
    for form in forms:
        found = Finder().find(form, ["model"])[1]
        assert found.path == (tmp_path / expected[form] if form in expected else shipped.path)


def test_objects_are_programs_too() -> None:
    PAGE.says("From Python you may also give the class, an instance or the function itself")
    p = pair()
    x = np.eye(40, 64, dtype="float32")
    names: dict[str, Any] = {}
    exec(Path("mine.py").read_text(), names)
    assert ppl_vae.check(names["Model"], names["Guide"], x).passed
    assert ppl_vae.check(p.model, p.guide, torch.from_numpy(x)).passed
    exec(Path("labelled.py").read_text(), names)
    assert ppl_vae.check(names["model"], names["guide"], (x.reshape(40, 8, 8), np.arange(40) % 10)).passed


def test_pyros_tutorial_is_unchanged_and_shares_one_instance() -> None:
    PAGE.says("model and guide of one class share one instance")
    text = (DOCS / "vae.py").read_text()
    assert "Copyright (c) 2017-2019 Uber Technologies, Inc.\n# SPDX-License-Identifier: Apache-2.0" in text
    classes = text[text.index("# define the PyTorch module") :]
    assert hashlib.sha256(classes.encode()).hexdigest() == PYRO_VAE
    p = pair("vae.py:VAE.model", "vae.py:VAE.guide", (torch.zeros(B, 784),), z_dim=3)
    (model,), (guide,) = p.model.fn, p.guide.fn
    assert model.__self__ is guide.__self__
    assert model.__self__.z_dim == 3
    with pytest.raises(InputError, match=r"has no forward: did you mean vae.py:VAE.model"):
        pair("vae.py:VAE", "mine.py")


# ---- objectives ----


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


# ---- a test of one's own ----


def test_a_report_says_one_finding_a_line_and_passes_with_warnings() -> None:
    PAGE.says("`check` returns a report, which prints one finding a line. Warnings do not fail it.")
    warned = changed("mine.py", "x.shape[0]", "len(x)")
    report = ppl_vae.check(warned, warned, **DIGITS)
    assert report.passed
    assert len(str(report).splitlines()) == len(report.findings) + 1
    assert re.match("warning: ", str(report))
