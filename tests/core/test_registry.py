"""Parts are found in their files by name, and a name that there is not gets an error that says what there is."""

from pathlib import Path
from typing import Any

import pytest

from ppl_vae.core import registry
from ppl_vae.core.errors import InputError, at_least
from ppl_vae.core.registry import Registry, did_you_mean

PART = '''
import json

class Part:
    """A part.

    The rest is not part of the summary.
    """

    name: str = "part-one"

class Nameless(Part):
    size = 3

class Other:
    name = "other"
'''


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[Any]:
    """The parts of a folder `shop` with one file, that is written where the package is looked for."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "first.py").write_text(PART)
    (folder / "_private.py").write_text("class Hidden:\n    name = 'hidden'\n")
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    return Registry("ppl_vae.shop", "part", "file.py:Class")


def test_names_and_summaries_are_read_from_the_files(parts: Registry[Any]) -> None:
    assert list(parts) == ["part-one", "other"]
    assert len(parts) == 2
    assert parts.entries["part-one"] == ("ppl_vae.shop.first", "Part", "A part.")
    assert "part-one" in parts
    assert "hidden" not in parts


def test_a_new_file_is_a_new_part(parts: Registry[Any]) -> None:
    (registry.ROOT / "shop" / "second.py").write_text("class New:\n    name = 'new'\n")
    assert list(parts) == ["part-one", "other", "new"]


def test_an_unknown_name_is_an_error_that_says_what_there_is(parts: Registry[Any]) -> None:
    words = "no part is called 'part-on': there are part-one, other, or file.py:Class; did you mean 'part-one'?"
    with pytest.raises(InputError) as caught:
        parts["part-on"]
    assert str(caught.value) == words


def test_a_name_is_suggested_only_where_one_is_close() -> None:
    assert did_you_mean("mixtur", ["flow", "mixture"]) == "; did you mean 'mixture'?"
    assert did_you_mean("zebra", ["flow", "mixture"]) == ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"K": 0}, "iwae: K is 0: it must be at least 1"),
        ({"rows": None, "K": 2, "draws": -3}, "iwae: draws is -3: it must be at least 1"),
        ({"K": float("inf")}, "iwae: K is inf: it must be a finite number, at least 1"),
        ({"K": float("nan")}, "iwae: K is nan: it must be a finite number, at least 1"),
    ],
)
def test_a_setting_that_is_too_small_or_not_finite_is_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        at_least(1, "iwae", **settings)
    assert str(caught.value) == words
    at_least(1, "iwae", K=1, rows=None, draws=2.5)
