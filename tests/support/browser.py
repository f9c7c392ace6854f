"""An HTML file in a headless Chromium, which may read nothing but files, and must not complain; axe-core's findings."""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ppl_vae.reports import vega

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "tests" / ".npm"  # which git ignores
AXE = "4.14.1"
DRAWN = "Promise.all([...document.querySelectorAll('.vega')].map(figure => figure.ready)).then(() => null)"


def written(folder: Path, *figures: str) -> Path:
    """A page that has nothing but figures of `ppl_vae.reports.vega`."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>A page</title>'
    style = "<style>:root { color-scheme: light dark }</style>"
    body = f"<main><h1>A page</h1>{''.join(figures)}</main>"
    file = folder / "page.html"
    file.write_text(
        f'<!DOCTYPE html><html lang="en"><head>{head}{style}{vega.library()}</head><body>{body}</body></html>'
    )
    return file


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser for several pages; the test is skipped where there is none. Close it by leaving the block."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, width: int = 1280, dark: bool = False, scripts: bool = True) -> Iterator[Any]:
    """The page of a file, at a width in pixels, once its figures are drawn.

    On leaving the block it fails if the page has written an error or a warning, raised an exception, or asked for
    anything that is not a file.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
        has_touch=width < 600,
    )
    page, complaints = context.new_page(), []
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else complaints.append(f"asked: {r.url}"))
    page.goto(path.resolve().as_uri())
    if scripts:
        page.evaluate(
            "Promise.all([...document.querySelectorAll('.vega')].map(figure => figure.ready)).then(() => null)"
        )
    yield page
    context.close()
    assert complaints == []


def signals(page: Any, figure: str, *names: str) -> list[Any]:
    """What the signals of a figure are, when all that was moved has been taken in."""
    script = """async ([id, names]) => {
        const view = document.getElementById(id).view;
        await view.runAsync();
        return names.map(name => view.signal(name));
    }"""
    return page.evaluate(script, [figure, list(names)])


def axe(page: Any) -> list[str]:
    """What axe-core calls serious or critical, each with the elements it is about; skipped where axe-core is not."""
    page.add_script_tag(path=str(_axe()))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{v['id']}: {v['help']}: {[node['html'][:200] for node in v['nodes'][:3]]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def npm_file(package: str, version: str, path: str) -> Path:
    """A file of a package of npm, kept in a folder beside the tests; the test is skipped where it can't be had."""
    kept = CACHE / f"{package}-{version}" / path
    if not kept.exists():
        if shutil.which("npm") is None:
            pytest.skip(f"npm, which brings {package}, is not installed")
        CACHE.mkdir(exist_ok=True)
        command = ["npm", "pack", f"{package}@{version}", "--pack-destination", str(CACHE)]
        try:
            subprocess.run(command, check=True, capture_output=True, cwd=CACHE, timeout=60)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            pytest.skip(f"npm can't bring {package} {version}")
        with tarfile.open(CACHE / f"{package}-{version}.tgz") as file:
            inside = file.extractfile(f"package/{path}")
            assert inside is not None
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(inside.read())
    return kept


def _axe() -> Path:
    """`PPL_VAE_AXE` names the file, or it is in node_modules, or npm brings it."""
    named = os.environ.get("PPL_VAE_AXE")
    installed = ROOT / "node_modules" / "axe-core" / "axe.min.js"
    if named or installed.exists():
        return Path(named or installed)
    return npm_file("axe-core", AXE, "axe.min.js")
