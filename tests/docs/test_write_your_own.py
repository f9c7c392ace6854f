"""docs/write_your_own.md runs as it stands, and its rules of a program hold: each claim fails here if it is untrue."""

import re
from pathlib import Path

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from support.own import DIGITS, PAGE, B, K, changed, pair
from support.pages import code

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.programs import parameters, terms

pytestmark = pytest.mark.usefixtures("here")
RULES = PAGE.table("Write")


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


# ---- a test of one's own ----


def test_a_report_says_one_finding_a_line_and_passes_with_warnings() -> None:
    PAGE.says("`check` returns a report, which prints one finding a line. Warnings do not fail it.")
    warned = changed("mine.py", "x.shape[0]", "len(x)")
    report = ppl_vae.check(warned, warned, **DIGITS)
    assert report.passed
    assert len(str(report).splitlines()) == len(report.findings) + 1
    assert re.match("warning: ", str(report))
