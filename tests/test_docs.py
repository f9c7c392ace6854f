"""What the texts name is there: each file and each test that docs/theory.md and docs/estimators.md refer to."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
every_text = pytest.mark.parametrize("text", ["theory.md", "estimators.md"])


@every_text
def test_every_file_that_is_named_exists(text: str) -> None:
    named = set(
        re.findall(r"\b(?:ppl_vae|tests|examples|models|guides)/[\w/]+\.py", (ROOT / "docs" / text).read_text())
    )
    assert named
    assert {path for path in named if not (ROOT / path).exists()} == set()


@every_text
def test_every_test_that_is_named_exists(text: str) -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / text).read_text()))
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()
