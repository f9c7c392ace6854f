"""Every block of Python and of the shell, on every page, runs in its order, in an empty folder, as a reader does it.

A page that needs more than that has a test of its own, which runs its blocks. A block that can't be run says why in a
comment above it, which readers don't see: `<!-- not run: why -->`.
"""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.pages import DOCS, Page

from ppl_vae.cli import main

ROOT = DOCS.parent
OWN = {"answers", "cells", "evidence", "how_to_add", "write_your_own"}  # whose tests run every block
PYTHON_BY_OWN = {"README", "performance"}  # whose tests run the blocks of Python
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
LANGUAGES = {"python", "sh", "text", "mermaid", "math", "diff", "toml", "json"}
ELSEWHERE = ("python examples/", "python tests/benchmarks/", "make ")  # these have tests of their own
QUICK = {
    "fit": {"--epochs": "1", "--seeds": "1"},
    "resume": {"--epochs": "2"},
    "evaluate": {"--rows": "3", "--gap-rows": "0", "--annealed-rows": "0", "--simulations": "0", "--calibrations": "0"},
    "compare": {"--draws": "2"},
    "score": {"--rows": "3", "--num-samples": "200"},
    "impute": {"--chain-rows": "0"},
}
"""What is done less of, by the verb."""


def quick(line: str) -> list[str]:
    """The arguments of a command, with less work in them."""
    _, verb, *rest = shlex.split(line)
    for option, value in QUICK.get(verb, {}).items():
        if option in rest:
            rest[rest.index(option) + 1] = value
        elif option != "--seeds":
            rest += [option, value]
    return [verb, *rest]


def run(line: str) -> None:
    """One line of a block of the shell, in the current folder."""
    for part in line.split("&&"):
        program, *arguments = shlex.split(part)
        if program == "ppl-vae":
            assert main(quick(part)) == 0, part
        elif program == "cd":
            Path(arguments[0]).resolve(strict=True)
        elif not part.startswith(ELSEWHERE):
            assert program == "python", f"no test runs the command {part!r}: say why above its block"
            run_file(arguments[0])
        elif program == "python":
            assert (ROOT / arguments[0]).is_file()


def run_file(name: str) -> None:
    source = Path(name)
    source.write_text(re.sub(r"epochs=\d+", "epochs=1", source.read_text()))
    runpy.run_path(name, run_name="__main__")


def reader(folder: Path) -> None:
    """The files that the README takes for granted: a table of one's own, and new rows of it."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"height": rng.normal(170, 9, 60), "weight": rng.lognormal(4, 0.2, 60)})
    table["y"] = np.array(["a", "b", "c"])[rng.integers(0, 3, 60)]
    table.to_csv(folder / "my.csv", index=False)
    table.head(6).to_csv(folder / "rows.csv", index=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # fits of one epoch give many
@pytest.mark.usefixtures("no_waiting_for_the_disk")
@pytest.mark.parametrize("path", [p for p in PAGES if p.stem not in OWN], ids=lambda p: p.stem)
def test_every_block_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    reader(tmp_path)
    page, names = Page(str(path)), {"__name__": "__main__"}
    page.write(tmp_path)
    called = " ".join(page.commands)
    for block in page.blocks:
        if block.not_run:
            continue
        if block.language == "sh":
            for line in block.lines:
                run(line)
        elif block.language == "python" and path.stem not in PYTHON_BY_OWN:
            if not block.name:
                exec(re.sub(r"epochs=\d+", "epochs=1", block.text), names)
            elif f"python {block.name}" not in called:
                run_file(block.name)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_every_block_says_what_it_is(path: Path) -> None:
    page = Page(str(path))
    assert len(re.findall(r"^```", page.text, re.MULTILINE)) == 2 * len(page.blocks), "a block without its language"
    assert {block.language for block in page.blocks} <= LANGUAGES
    assert page.text.count("<!-- not run:") == len([block for block in page.blocks if block.not_run])


def test_few_blocks_are_not_run() -> None:
    reasons = [block.not_run for path in PAGES for block in Page(str(path)).blocks if block.not_run]
    assert all(len(reason.split()) > 3 for reason in reasons)
    assert len(reasons) <= 12


def test_pages_that_have_tests_of_their_own_have_them() -> None:
    for page in OWN | PYTHON_BY_OWN - {"README"}:
        assert (DOCS / f"{page}.md").is_file()
        assert (ROOT / f"tests/docs/test_{page}.py").is_file()
