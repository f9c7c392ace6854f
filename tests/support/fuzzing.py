"""Bad input made by hypothesis, given to the command line's own entry in this process; and what may come of it."""

import contextlib
import io
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ppl_vae.cli import main

SECONDS = 60
LONGEST = 3000  # characters of a message


class Hung(BaseException):
    """A command that takes too long."""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def few_or(many: int, few: int) -> pytest.MarkDecorator:
    """A test that takes `count` cases: a few whenever the tests are run, many by `pytest -m fuzz`."""
    return pytest.mark.parametrize(
        "count", [pytest.param(few, id="few"), pytest.param(many, marks=pytest.mark.fuzz, id="many")]
    )


def for_all(strategy: st.SearchStrategy[Any], holds: Callable[[Any], None], count: int) -> None:
    """Ask of so many cases whether something holds; always of the same."""
    how = settings(
        max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )

    @how
    @given(strategy)
    def ask(case: Any) -> None:
        holds(case)

    ask()


def called(*args: str | Path, names: Sequence[str] = ("",)) -> Outcome:
    """Call the command line: it ends with 0, or with 2 and a sentence with one of `names` in it; never otherwise."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), within(SECONDS), warnings.catch_warnings():
        warnings.simplefilter("default")
        code = main([str(arg) for arg in args])
    found = Outcome(code, out.getvalue(), err.getvalue())
    told = f"{args}: {found}"
    assert code in (0, 2), told
    assert "Traceback" not in found.out + found.err, told
    if code == 2:
        assert found.out == "", told
        begins = [i for i, line in enumerate(found.err.splitlines()) if line.startswith("error: ")]
        assert len(begins) == 1, told
        message = found.err.splitlines()[begins[0]]
        assert len(message.split()) > 3, told
        assert len(found.err) < LONGEST, told
        assert any(name in found.err for name in names), told
    return found


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """What takes longer is ended by `Hung`."""

    def end(signum: int, frame: FrameType | None) -> None:
        raise Hung(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@st.composite
def damages(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with bits flipped, bytes changed, put in or taken out, or the end cut off."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(made) - 1)))
        kind = draw(st.sampled_from(["flip", "flip", "cut", "put in", "take out", "change", "append"]))
        few = draw(st.binary(min_size=1, max_size=8))
        if kind == "flip" and made:
            made[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del made[at:]
        elif kind == "put in":
            made[at:at] = few
        elif kind == "take out":
            del made[at : at + len(few)]
        elif kind == "change":
            made[at : at + len(few)] = few
        else:
            made += few
    return bytes(made)
