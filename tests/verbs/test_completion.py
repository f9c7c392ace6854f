"""Shell completion: what each shell offers at the end of a line, and that nothing is missing from its script."""

import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from ppl_vae import objectives, verbs
from ppl_vae.cli import command, main
from ppl_vae.core.palette import SHORTHANDS
from ppl_vae.data.builtin import BUILTIN
from ppl_vae.programs.find import shipped_folder
from ppl_vae.verbs._completion import POSITIONAL, names

COMMAND = str(Path(sys.executable).with_name("ppl-vae"))
SHELLS = ("bash", "zsh", "fish")
TRY = {
    "bash": """
        source ./completion.bash
        for asked in "$@"; do
            COMP_WORDS=(${asked% *} "${asked##* }"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _shtab_ppl_vae ppl-vae "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            printf '%s\\n' "== $asked" "${COMPREPLY[@]}" >> offered
        done
    """,
    "zsh": """
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell 'source ./inside.zsh'
        zpty -r -m shell said '*ready*'
        for line in "$@"; do
            print -r -- "== $line" >> offered
            zpty -w -n shell "$line"$'\\t'
            zpty -r -m shell said '*done*'
            zpty -w -n shell $'\\x15'
        done
        zpty -d shell
    """,
    "fish": """
        source completion.fish
        for line in $argv
            echo "== $line" >> offered
            complete -C $line | string split -f 1 \\t | string trim -r -c / >> offered
        end
        true
    """,
}
"""For each shell, what writes to a file what it offers for the last word of each line that it is given."""
INSIDE = """
PROMPT=
fpath=($PWD $fpath)
autoload -Uz compinit && compinit -u -D
finished() { print -r -- done; comppostfuncs=(finished) }
comppostfuncs=(finished)
compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\\ * ]]; then
        local -a hits
        builtin compadd -A hits "$@"
        print -rl -- $hits >> offered
    fi
    builtin compadd "$@"
}
print ready
"""
"""What a zsh in a terminal of its own reads first: `compadd`, by which all is offered, also writes it down."""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the command prints for each shell."""
    run = [subprocess.run([COMMAND, "completion", shell], capture_output=True, text=True) for shell in SHELLS]
    assert [(each.returncode, each.stderr) for each in run] == [(0, "")] * 3
    return {shell: each.stdout for shell, each in zip(SHELLS, run, strict=True)}


@pytest.fixture(scope="module", params=SHELLS)
def offered(
    request: pytest.FixtureRequest, scripts: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """What a shell offers for the last word of each line of `CASES`, in a folder with a run and a csv."""
    shell, place = request.param, tmp_path_factory.mktemp(request.param)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (place / "run").mkdir()
    (place / "my.csv").touch()
    (place / "_ppl-vae" if shell == "zsh" else place / f"completion.{shell}").write_text(scripts[shell])
    (place / "inside.zsh").write_text(INSIDE)
    quiet = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    name = ["offered"] if shell != "fish" else []  # $0 of the others
    command = [shell, *quiet, "-c", TRY[shell], *name, *CASES]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, set[str]] = {}
    for line in (place / "offered").read_text().splitlines():
        if line.startswith("== "):
            found[line[3:]] = set()
        elif line:
            found[next(reversed(found))].add(line)
    return found


CASES: dict[str, set[str]] = {
    "ppl-vae s": {"sample", "score"},
    "ppl-vae completion ": set(SHELLS),
    "ppl-vae fit --ep": {"--epochs"},
    "ppl-vae fit --set hidden=16 --set latent_dim=2 --ep": {"--epochs"},
    "ppl-vae fit --data digits --mod": {"--model"},
    "ppl-vae fit --model bern": {"bernoulli"},
    "ppl-vae fit --model vam": {"vampprior"},
    "ppl-vae fit --guide au": {"auto"},
    "ppl-vae fit --model bernoulli --guide diag": {"diagonal_normal"},
    "ppl-vae fit --objective st": {"sticking-the-landing"},
    "ppl-vae compare run --objectives trace iw": {"iwae"},
    "ppl-vae compare run --objectives trace --dr": {"--draws"},
    "ppl-vae fit --data m": {"mnist-5k", "my.csv"},
    "ppl-vae fit --schedule ": {"constant", "cosine"},
    "ppl-vae fit --json --qu": {"--quiet"},
    "ppl-vae evaluate run --method a": {"annealed"},
    "ppl-vae evaluate r": {"run"},
    "ppl-vae compare run r": {"run"},
    "ppl-vae report run r": {"run"},
    "ppl-vae describe my": {"my.csv"},
    "ppl-vae impute run --out m": {"my.csv"},
}


@pytest.mark.parametrize("line", CASES)
def test_a_shell_offers(line: str, offered: dict[str, set[str]]) -> None:
    assert offered[line] == CASES[line]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_verb_and_option_is_in_the_script(shell: str, scripts: dict[str, str]) -> None:
    for verb in (*verbs.names(), "completion"):
        assert verb in scripts[shell]
    for verb in verbs.names():
        for field in fields(command(verbs.get(verb))):
            if POSITIONAL not in getattr(field.type, "__metadata__", ()):
                name = field.name.replace("_", "-")
                assert f"--{name}" in scripts[shell] or f"-l {name} " in scripts[shell], f"{verb} {name}"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_read_its_script(shell: str, scripts: dict[str, str], tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(scripts[shell])
    done = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_names_are_those_that_there_are() -> None:
    for kind in ("model", "guide"):
        files = {file.stem for file in shipped_folder(kind).glob("[!_]*.py")}
        assert set(names(kind)) == files | set(SHORTHANDS[kind])
    assert set(names("objective")) == set(objectives.OBJECTIVES)
    assert set(names("data")) == set(BUILTIN)


def test_it_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys; from ppl_vae.cli import main; main(['completion', 'bash']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "bash" in error
