"""Every command and code block of the README that is short enough to run does what it says."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from support.runs import binary_rows
from torch import nn

import ppl_vae
from ppl_vae import verbs
from ppl_vae.blocks.parts import settable
from ppl_vae.cli import Command, main, parse
from ppl_vae.core.palette import PARTS, SHORTHANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_fifteen_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks("python")[0].replace("epochs=20", "epochs=1").replace("draws=100", "draws=3")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    names: dict = {}
    exec(code, names)
    assert set(names["result"].estimators) == {"trace", "analytic-kl"}
    assert names["z"].shape == (5000, 20)
    assert {"samples.png", "reconstructions.png", "arviz.nc"} <= {p.name for p in (tmp_path / "runs/first").iterdir()}


def test_the_edited_prior_trains_and_has_no_closed_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", str(tmp_path)]) == 0
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "models/vae.py"
    (line,) = [line for line in model.read_text().splitlines() if line.startswith("        self.p_z =")]
    model.write_text(model.read_text().replace(line, "        " + blocks("python")[2].strip()))
    fit = "fit --model vae --guide diagonal_normal --data digits --binarize threshold --epochs 1"
    assert main([*shlex.split(fit), "--out", "run"]) == 0
    capsys.readouterr()
    assert main([*shlex.split(fit), "--out", "other", "--objective", "analytic-kl"]) == 2
    error = capsys.readouterr().err
    assert "'z'" in error
    assert "Normal" in error
    assert "Mixture" in error
    assert not Path("other").exists()


def test_a_prior_of_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {"nn": nn, "torch": torch, "dist": dist, "ppl_vae": ppl_vae, "data": binary_rows()}
    exec(blocks("python")[3].replace('"runs/two", ', '"runs/two", epochs=1, '), names)
    pair = names["run"].pair(set={"prior": names["TwoNormals"]})
    assert pair.model.p_z.spread == 0.5


@pytest.mark.filterwarnings("ignore:.*are not reliable:UserWarning")
def test_the_estimators_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).normal(size=(40, 3))
    names: dict = {"X": X, "frame": pd.DataFrame(X, columns=list("abc")).mask(X > 1.5)}
    exec(blocks("python")[5].replace("random_state=0", 'random_state=0, epochs=1, set={"hidden": 8}'), names)
    assert names["codes"].shape == (40, 2)
    assert (names["density"].predict(X) == -1).sum() == 2
    assert not names["filled"].isna().any(axis=None)
    assert (tmp_path / "runs/density/config.json").is_file()


def test_the_two_lines_of_check_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["new", str(tmp_path)]) == 0
    monkeypatch.chdir(tmp_path)
    for kind, name in (("models", "bernoulli"), ("guides", "diagonal_normal")):
        (tmp_path / kind / f"{name}.py").rename(tmp_path / kind / "mine.py")
    exec(blocks("python")[1], {"ppl_vae": ppl_vae, "data": binary_rows()})
    with pytest.raises(AssertionError, match="outside the support of Bernoulli"):
        exec(blocks("python")[1], {"ppl_vae": ppl_vae, "data": 2 * binary_rows()})


def test_the_swapped_lines_run() -> None:
    names: dict = {"latent_dim": 3, "hidden": 8, "data_shape": (4,), "data": torch.randn(50, 4), "self": nn.Module()}
    exec("from ppl_vae.blocks import *\n" + blocks("python")[4], names)
    z = names["self"].p_z().sample((5,))
    assert names["self"].p_x(names["self"].decoder(z)).log_prob(names["data"][:5]).shape == (5,)


def test_the_commands_for_a_csv_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    columns = {"height": rng.normal(170, 9, 60), "weight": rng.lognormal(4, 0.2, 60), "group": rng.integers(0, 3, 60)}
    columns["group"] = np.where(rng.random(60) < 0.1, None, np.array(["a", "b", "c"])[columns["group"]])
    pd.DataFrame(columns).to_csv("my.csv", index=False)
    rows = pd.DataFrame(columns).sample(frac=0.1, random_state=0)
    rows[["group", "weight", "height"]].to_csv("rows.csv", index=False)
    (block,) = [block for block in blocks("sh") if "my.csv" in block]
    for line in block.splitlines():
        command = shlex.split(line.split("#")[0])[1:]
        quick = {"fit": "--epochs 1", "score": "--rows 3 --num-samples 200", "impute": "--chain-rows 0"}
        assert main([*command, *quick.get(command[0], "").split()]) == 0
        written = re.findall(r"runs/table/\w+\.csv|columns.toml|new.csv|z.csv", line)
        assert all(Path(path).is_file() for path in written)
    assert len(pd.read_csv("z.csv")) == 6
    assert set(pd.read_csv("new.csv")["group"]) == {"a", "b", "c"}
    assert README.index("## I have a CSV") < 3000, "within the first screen"


def test_every_command_parses() -> None:
    commands = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    ours = [part for line in commands for part in line.split("&&") if "ppl-vae " in part]
    assert len(ours) >= 6
    for command in ours:
        verb = parse(shlex.split(command)[1:])
        assert isinstance(verb, Command)


def test_every_verb_is_named_alike() -> None:
    assert all(callable(getattr(ppl_vae, verb)) for verb in verbs.names())
    assert all(f"`{verb}`" in README for verb in verbs.names())


def test_every_file_in_the_table_exists() -> None:
    named = re.findall(r"`((?:models|guides|examples|docs)/[\w./]+)`|\]\(((?:docs|examples)[\w./]*)\)", README)
    files = [a or b for a, b in named]
    assert len(files) >= 9
    assert all((ROOT / file).exists() for file in files)
    shipped = {f"{p.parent.name}/{p.name}" for kind in ("models", "guides") for p in (ROOT / kind).glob("[!_]*.py")}
    assert shipped <= set(files)


def test_the_table_of_parts_is_the_registries() -> None:
    rows = {
        (kind, name): set(re.findall(r"`(\w+)`", settings))
        for kind, name, settings in re.findall(r"^\| `(\w+)=(\w+)` \|.*?(?<!\\)\|(.*?)(?<!\\)\|", README, re.MULTILINE)
    }
    there = {(kind, name): set(settable(kind, name)) for kind, registry in PARTS.items() for name in registry}
    assert rows == there


def test_the_table_of_shorthands_is_the_librarys() -> None:
    rows = {
        (kind, name): (program, re.findall(r"`([\w.]+=\w+)`", rest), dict(re.findall(r"`(\w+)` for `([\w.]+)`", rest)))
        for kind, name, program, rest in re.findall(
            r"^\| `--(\w+) (\w+)` \| `(\w+)` with (.*) \|$", README, re.MULTILINE
        )
    }
    there = {
        (kind, name): (s.program, [f"{n}={value}" for n, value in s.settings.items()], dict(s.renamed))
        for kind, shorthands in SHORTHANDS.items()
        for name, s in shorthands.items()
    }
    assert rows == there
