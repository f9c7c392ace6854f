"""Vega in a page: the file is the one that is named, a spec may hold any text, and a page asks for no network."""

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support import browser

from ppl_vae.reports import vega

ROOT = Path(__file__).parents[2]
SHA256 = "8f6a3587cf8d4f42c7e08120e3eb05d067e746d554e39d2dcf52acc0bd5ba28f"
NASTY = 'the end </script><script>alert("no")</script> <!-- & \u2028 ]]>'
BIND = {"input": "range", "min": 1, "max": 9, "step": 1, "name": "how many"}
SPEC = {
    "width": 200, "height": 40,
    "signals": [{"name": "n", "value": 3, "bind": BIND}],
    "marks": [{"type": "text", "encode": {"update": {"text": {"signal": "n + ' of them'"}, "y": {"value": 20}}}}],
}  # fmt: skip


def test_the_library_is_the_file_that_is_named() -> None:
    script = vega.ASSETS / f"vega-{vega.VERSION}.min.js"
    assert hashlib.sha256(script.read_bytes()).hexdigest() == SHA256
    assert f'.version="{vega.VERSION}"' in script.read_text()
    table = (ROOT / "docs" / "architecture.md").read_text()
    assert re.search(rf"^\| Vega \| {re.escape(vega.VERSION)}\b", table, re.MULTILINE)


def test_the_library_is_that_of_the_package() -> None:
    published = browser.npm_file("vega", vega.VERSION, "build/vega.min.js")
    assert (vega.ASSETS / f"vega-{vega.VERSION}.min.js").read_bytes() == published.read_bytes()


def test_the_licence_stands_in_every_page() -> None:
    assert "University of Washington Interactive Data Lab" in vega.library()
    assert "Mike Bostock" in vega.library()
    assert "*/" not in (vega.ASSETS / f"vega-{vega.VERSION}.LICENSE.txt").read_text()


def test_the_script_does_not_end_its_element() -> None:
    assert vega.library().count("</script") == 1


class Scripts(HTMLParser):
    """The text of each element `script`, by its type."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str | None, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.found.append((dict(attrs).get("type"), ""))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.found[-1][1] == "":
            self.found[-1] = (self.found[-1][0], data)


def test_any_text_may_stand_in_a_spec() -> None:
    found = Scripts(vega.figure("a", {**SPEC, "data": [{"name": "d", "values": [NASTY]}]}, NASTY, NASTY)).found
    assert [kind for kind, _ in found] == ["application/json", None]
    spec = json.loads(found[0][1])
    assert spec["data"][0]["values"] == [NASTY]
    assert spec["description"] == NASTY


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        vega.as_json({"x": float("nan")})


def test_a_figure_in_a_browser(tmp_path: Path) -> None:
    file = browser.written(
        tmp_path, vega.figure("a", SPEC, "A number", NASTY), vega.figure("b", SPEC, "Another", "Its words.")
    )
    with browser.chromium() as chromium:
        with browser.opened(chromium, file) as shown:
            slider = shown.get_by_label("how many").first
            slider.press("ArrowRight")
            assert browser.signals(shown, "a", "n") == [4]
            assert browser.signals(shown, "b", "n") == [3]  # each figure has its own
            assert shown.locator("#a svg text").text_content() == "4 of them"
            assert shown.locator("#a .vega-plot").get_attribute("aria-label") == "A number"
            shown.emulate_media(media="print")
            assert not slider.is_visible()
            assert shown.locator("#a svg").is_visible()
            assert shown.locator("#a figcaption").is_visible()
        with browser.opened(chromium, file, dark=True) as shown:
            color = shown.locator("#a svg text").evaluate("e => getComputedStyle(e).fill")
            assert color == "rgb(255, 255, 255)"
        with browser.opened(chromium, file, scripts=False) as shown:
            assert "scripts are turned off" in shown.locator("noscript p").first.inner_text()
            assert shown.get_by_text("Its words.").is_visible()
