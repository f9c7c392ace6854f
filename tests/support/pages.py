"""A page of docs/ that is run: its files, its commands and its tables, as a reader would copy them."""

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ppl_vae.cli import main

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^(?:<!-- not run: ([^\n]+) -->\n)?```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CELL = re.compile(r"(?<!\\)\|")


class Block(NamedTuple):
    """Between two fences; `not_run` is the reason in a comment above it, `<!-- not run: why -->`, if there is one."""

    language: str
    text: str
    not_run: str = ""

    @property
    def name(self) -> str:
        """The file that a block of Python is, by its first line; empty where it names none."""
        named = re.match(r"# (\S+\.py)\n", self.text)
        return named[1] if named else ""

    @property
    def lines(self) -> list[str]:
        """The commands of a block of the shell, without comments; one that goes on after a backslash is one."""
        joined = re.sub(r" *\\\n *", " ", self.text).splitlines()
        return [line for line in (re.sub(r"(^|\s+)#.*", "", line).rstrip() for line in joined) if line]


class Page:
    """One Markdown file of docs/, or another by its path."""

    def __init__(self, name: str) -> None:
        self.text = (DOCS / name).read_text(encoding="utf-8")
        self.words = " ".join(self.prose.split())

    @property
    def blocks(self) -> list[Block]:
        return [Block(language, text, not_run) for not_run, language, text in FENCE.findall(self.text)]

    @property
    def prose(self) -> str:
        """The page without its blocks."""
        return FENCE.sub("", self.text)

    @property
    def files(self) -> dict[str, str]:
        return {block.name: block.text for block in self.blocks if block.language == "python" and block.name}

    @property
    def commands(self) -> list[str]:
        return [line for block in self.blocks if block.language == "sh" for line in block.lines]

    def write(self, folder: Path) -> None:
        """Save every file of the page in `folder`."""
        for name, text in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")

    def table(self, first: str) -> list[list[str]]:
        """The rows, without its head, of the table whose head begins with the cell `first`."""
        lines = self.text[self.text.index(f"| {first} |") :].splitlines()
        return [[cell.strip() for cell in CELL.split(line)[1:-1]] for line in _while_table(lines[2:])]

    def says(self, words: str) -> None:
        """Fail if the page has lost the sentence that a test is about."""
        assert words in self.words, f"the page does not say: {words}"


def code(cell: str) -> list[str]:
    """What stands between backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def run_command(line: str, epochs: int = 1) -> None:
    """Run one line of a shell block in this process, in the current folder, with fewer epochs."""
    program, *arguments = shlex.split(re.sub(r"--epochs \d+", f"--epochs {epochs}", line))
    if program == "ppl-vae":
        assert main(arguments) == 0, line
    else:
        assert program in ("python", "pytest"), line
        names = runpy.run_path(arguments[0])
        tests = [value for name, value in names.items() if name.startswith("test_")]
        assert bool(tests) == (program == "pytest")
        for test in tests:
            test()


def _while_table(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line
