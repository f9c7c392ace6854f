"""The site is built without a warning, and its pages load nothing from another host."""

import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'>\s]+)""")


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings", "latex2mathml", "mermaidx"):
        pytest.importorskip(package, reason=f"{package}, of the extra docs, is not installed")
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_no_page_names_another_host_for_what_it_loads(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    found = {page.relative_to(site): LOADED.findall(page.read_text()) for page in pages}
    assert {page: urls for page, urls in found.items() if urls} == {}


def test_a_browser_asks_no_other_host(site: Path, address: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium is installed")
    asked, complaints = [], []
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        for name in ("index", "theory", "architecture", "gallery", "reference/verbs", "examples/theory"):
            page.goto(f"{address}/{name}.html")
        page.goto(f"{address}/index.html")
        page.fill("input[name=query]", "importance")
        page.wait_for_selector(".md-search-result__item")
        browser.close()
    assert {url for url in asked if not url.startswith((address, "data:"))} == set()
    assert complaints == []


def test_formulas_and_diagrams_are_drawn(site: Path) -> None:
    theory, architecture = ((site / f"{name}.html").read_text() for name in ("theory", "architecture"))
    assert theory.count("<math") > 200
    assert "$$" not in theory
    assert architecture.count('<div class="diagram"><svg') == 2


def test_every_verb_and_every_example_has_its_place(site: Path) -> None:
    verbs = (site / "reference/verbs.html").read_text()
    for verb in ROOT.glob("ppl_vae/verbs/[!_]*.py"):
        assert f'<h2 id="{verb.stem}">' in verbs
    for example in ROOT.glob("examples/*.py"):
        assert (site / f"examples/{example.stem}.html").is_file()
