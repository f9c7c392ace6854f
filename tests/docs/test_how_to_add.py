"""docs/how_to_add.md: what each section adds works in a copy of the package, where it is the only change."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import DOCS, Page

ROOT = DOCS.parent
PAGE = Page("how_to_add.md")

DRIVER = """
import contextlib, importlib.util, io, json, runpy, shlex, sys

place = sys.argv[1] + "/ppl_vae"
spec = importlib.util.spec_from_file_location("ppl_vae", place + "/__init__.py", submodule_search_locations=[place])
sys.modules["ppl_vae"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["ppl_vae"])
from ppl_vae.cli import main

printed = {}
for line in json.load(sys.stdin):
    program, *arguments = shlex.split(line)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            code = main(arguments) if program == "ppl-vae" else bool(runpy.run_path(arguments[0])) - 1
        except SystemExit as end:
            code = end.code
    printed[line] = [code, out.getvalue(), "torch" in sys.modules]
json.dump(printed, sys.stdout)
"""
HELP = ["ppl-vae --help", "ppl-vae steps --help"]
VAE = "ppl-vae check --model vae --guide amortized"
WRONG = {
    f"{VAE} --data digits --set prior=laplac": "did you mean 'laplace'?",
    f"{VAE} --data digits --set prior=laplace --set prior.scale=wide": "'wide': expected float",
    f"{VAE} --data rows.tsv --set likelihood=geometric": "outside the support of Geometric",
    f"{VAE} --data digits --binarize threshold --set family=laplac": "did you mean 'laplace'?",
    f"{VAE} --data digits --binarize threshold --set network=rectify": "did you mean 'rectified'?",
}
MISSPELT = "ppl-vae check --model bernoulli --guide diagonal_normal --data barz"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is installed, with what the page adds to it."""
    place = tmp_path_factory.mktemp("how_to_add")
    ignored = shutil.ignore_patterns("__pycache__")
    for folder, target in (("ppl_vae", "ppl_vae"), ("models", "ppl_vae/models"), ("guides", "ppl_vae/guides")):
        shutil.copytree(ROOT / folder, place / target, ignore=ignored)
    assert not any((place / name).exists() for name in PAGE.files), "a file of the page is there already"
    PAGE.write(place)
    for block in PAGE.blocks:
        if block.language == "diff":
            apply(block.text, place)
    return place


def apply(diff: str, place: Path) -> None:
    """Edit the file that the first line names: in each part the lines with a minus become those with a plus."""
    name, _, parts = diff.partition("\n")
    file = place / name.removeprefix("# ")
    text = file.read_text()
    for part in parts.split("@@\n"):
        old, new = ("".join(line[1:] + "\n" for line in part.splitlines() if line[0] == sign) for sign in "-+")
        assert text.count(old) == 1, f"{name} has not once: {old}"
        text = text.replace(old, new)
    file.write_text(text)


@pytest.fixture(scope="module")
def printed(copy: Path) -> dict[str, str]:
    """Every command of the page, run in the copy, and what it printed."""
    lines = json.dumps([*HELP, *PAGE.commands, *WRONG, MISSPELT])
    command = [sys.executable, "-c", DRIVER, str(copy)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=copy, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for command in PAGE.commands:
        code, out, _ = found[command]
        assert code == 0, f"{command}\n{out}"
    assert not any(found[command][2] for command in HELP), "help imports torch"
    return {command: out for command, (_, out, _) in found.items()}


def out_of(printed: dict[str, str], words: str) -> str:
    (out,) = [out for command, out in printed.items() if words in command]
    return out


def test_each_file_is_in_the_room_of_its_section() -> None:
    for name in PAGE.files:
        folder = f"`{Path(name).parent}/`"
        assert folder in PAGE.words or "/" not in name


def test_an_objective_is_found_by_its_name(printed: dict[str, str]) -> None:
    assert "objective: tempered, an estimate of tempered ELBO" in out_of(printed, "--objective tempered")


def test_a_check_is_run_in_its_place(printed: dict[str, str]) -> None:
    out = out_of(printed, "latent_dim=100")
    assert "warning: site 'z': a draw holds more than the 64 numbers of a datum" in out
    assert "diagonal_normal.py:" in out, "it names the line"


def test_parts_are_found_by_their_names(printed: dict[str, str]) -> None:
    assert out_of(printed, "--set network=rectified").endswith("this pair is a VAE for this data\n")
    for command, words in WRONG.items():
        assert words in printed[command], command


def test_a_data_set_is_found_by_its_name(printed: dict[str, str]) -> None:
    assert "bars: 400 train + 50 validation + 50 test rows" in out_of(printed, "--out runs/bars")
    assert "did you mean bars?" in printed[MISSPELT]


def test_a_kind_of_file_is_found_by_its_suffix(printed: dict[str, str]) -> None:
    out = out_of(printed, "rows.tsv:a,c")
    assert "rows.tsv: 160 train" in out
    assert "x (2,)" in out, "the two columns after the colon"


def test_a_verb_is_on_the_command_line_and_in_the_help(printed: dict[str, str]) -> None:
    assert printed["ppl-vae steps runs/bars"].startswith("weights are kept of the steps 0, ")
    kept = json.loads(printed["ppl-vae steps runs/bars --least 1 --json"])["kept"]
    assert kept
    assert 0 not in kept
    assert "Show of which steps a run keeps the weights." in " ".join(printed["ppl-vae --help"].split())
    assert "Leave out the steps before this one." in " ".join(printed["ppl-vae steps --help"].split())
