"""What is shown of a training: a bar that fits the terminal and costs a step nothing, or a line for each epoch."""

import io
import re
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from support.fits import ROWS, SET

from ppl_vae.core.files import Scratch
from ppl_vae.runs.fitting import fit
from ppl_vae.training import progress
from ppl_vae.training.progress import Progress, told

LINE = {
    "epoch": 1,
    "train": {"elbo": -12.0, "rate": 0.5, "distortion": 11.5},
    "valid": {"elbo": -11.0, "rate": 0.61, "rate_se_data": 0.05, "rate_how": {"z": "Monte Carlo (no closed form)"}},
    "seconds": 3.21,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> list[str]:
        """The lines that were written, without what moves the cursor and colours."""
        return re.split(r"[\n\r]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue()))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error is a terminal of 80 columns."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "25"}.items():
        monkeypatch.setenv(name, value)
    made = Terminal()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=made))
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the progress sees, in its first element."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def small(**options: Any) -> None:
    scratch = Scratch()
    options = {"epochs": 3, "batch_size": 10, "set": SET, "out": scratch.folder / "run", "progress": True} | options
    fit("gaussian", "diagonal_normal", ROWS, **options)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_bar_fits_the_terminal(width: int, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    small(warmup=2)
    bars = [line for line in terminal.shown if re.match(r" ?epoch \d/3 ", line)]
    numbers = [line for line in terminal.shown if line.startswith("ELBO ")]
    assert {cell_len(line) <= width for line in bars + numbers} == {True}
    assert "epoch 3/3" in bars[-1]
    assert "15/15" in bars[-1]
    assert ("rows/s" in bars[-1]) == (width >= 60)
    assert re.match(r"ELBO -\d+\.\d\d  rate \d+\.\d\d", numbers[-1])
    if width >= 80:
        assert re.fullmatch(r"ELBO \S+  rate \S+  distortion \S+  β 0\.\d\d  objective \S+\s*", numbers[0])
        assert re.fullmatch(r"ELBO \S+  rate \S+  distortion \S+  objective \S+\s*", numbers[-1]), "the warm-up is over"
    assert not any(line.startswith("epoch 3/3:") for line in terminal.shown), "a bar is enough"


@pytest.mark.usefixtures("terminal")
def test_it_is_updated_at_most_ten_times_a_second(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    told_of: list[float] = []
    shown = Progress(True, 10_000)
    monkeypatch.setattr(shown.bar, "update", lambda task, completed, **about: told_of.append(completed))
    asked = []

    def about() -> dict[str, Any]:
        asked.append(clock[0])
        return {}

    for step in range(1, 2001):
        clock[0] += 0.001
        shown.show(step, about)
    assert len(told_of) in (20, 21)
    assert len(asked) == len(told_of), "nothing is computed for an update that is left out"
    shown.show(10_000, about)
    assert told_of[-1] == 10_000, "the end is always shown"


@pytest.mark.parametrize(
    "env", [{"TERM": "dumb"}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}], ids=["dumb", "colour", "compatible"]
)
def test_without_a_terminal_there_is_a_line_for_each_epoch(
    env: dict[str, str], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    if "TERM" not in env:
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    small()
    assert [line.partition(":")[0] for line in terminal.shown][-4:] == ["epoch 1/3", "epoch 2/3", "epoch 3/3", ""]
    assert "━" not in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


def test_without_colours_the_bar_is_as_it_is(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    small()
    assert "15/15" in terminal.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*(3[0-9]|4[0-9])m", terminal.getvalue()), "no colour"


def test_nothing_is_shown_unless_asked(terminal: Terminal) -> None:
    small(progress=False)
    assert terminal.getvalue() == ""


def test_the_line_of_an_epoch() -> None:
    sampled = told(LINE, 2)
    assert sampled == (
        "epoch 1/2: ELBO -12.00, rate 0.50, distortion 11.50, validation ELBO -11.00, rate 0.61 ± 0.05 (Monte Carlo), "
        "3.2 s"
    )
    valid = LINE["valid"] | {"rate_how": {"z": "closed form"}}  # type: ignore[operator]
    assert told(LINE | {"valid": valid}, 2).endswith("validation ELBO -11.00, 3.2 s")
    assert "distortion 11.50, β 0.25, validation" in told(LINE | {"rate_weight": 0.25}, 2)
    assert "β" not in told(LINE | {"rate_weight": 1.0}, 2)


def test_rows_per_second_are_those_of_the_steps(terminal: Terminal) -> None:
    """Of 10 steps a second, of 8 rows each."""
    bar = Progress(True, 100).bar
    now = [0.0]
    bar.get_time = lambda: now[0]
    task = bar.add_task("", total=100, rows=8.0)
    for step in range(1, 11):
        now[0] = step / 10
        bar.update(task, completed=step)
    (column,) = [each for each in bar.columns if isinstance(each, progress._RowsPerSecond)]
    assert column.render(bar.tasks[-1]).plain == "80 rows/s"
    assert np.isclose(bar.tasks[-1].speed, 10)
