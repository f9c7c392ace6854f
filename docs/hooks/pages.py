"""Pages of the site that are no file of docs/: the README, the changelog, the examples and the sources that are linked.

A link in a page is one of the repository, so that it works where the Markdown is read as it stands: here it becomes a
link of the site.
"""

import os
import re
from pathlib import Path
from typing import Any

import jupytext
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
RENAMED = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
RENAMED |= {"examples": "gallery.md", "examples/": "gallery.md"}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]*)(#[^)\s]*)?(?=\))")
SKIPPED = re.compile(r"^(```+|~~~+).*?^\1$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    for source, page in RENAMED.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    examples = sorted(ROOT.glob("examples/*.py"))
    files.append(File.generated(config, "gallery.md", content=gallery(examples)))
    for example in examples:
        _hidden(files, config, f"examples/{example.stem}.md", example_page(example))
    for page in [*files.documentation_pages()]:
        for path, _ in LINK.findall(SKIPPED.sub("", page.content_string)):
            source = _repository(page.src_uri, path)
            if source.endswith(".py") and not source.startswith("examples/") and (ROOT / source).is_file():
                _hidden(files, config, _site(source), source_page(source))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of the repository as links of the site; what stands in code is left alone."""

    def moved(link: re.Match[str]) -> str:
        if not link[1]:
            return link[0]
        target = _site(_repository(page.file.src_uri, link[1]))
        return os.path.relpath(target, os.path.dirname(page.file.src_uri) or ".") + (link[2] or "")

    kept: list[str] = []
    bare = SKIPPED.sub(lambda code: kept.append(code[0]) or f"\0{len(kept) - 1}\0", markdown)
    return re.sub(r"\0(\d+)\0", lambda code: kept[int(code[1])], LINK.sub(moved, bare))


def gallery(examples: list[Path]) -> str:
    """Each example: its question, its figure, what it shows, and where its code is; those with a figure first."""
    parts = ["# Gallery", "Each example is a script and, as `jupytext --to ipynb` makes it, a notebook."]
    for path in sorted(examples, key=lambda path: not figure(path)):
        first, *_, last = (linked(cell.source, "") for cell in jupytext.read(path).cells)
        parts += [f"## {title(path)}", first.partition("\n\n")[0]]
        if drawn := figure(path):
            parts.append(f"[![{title(path)}]({drawn})](examples/{path.stem}.md)")
        parts.append(f"{last} [The code](examples/{path.stem}.md).")
    return "\n\n".join(parts) + "\n"


def title(path: Path) -> str:
    return path.stem.replace("_", " ").capitalize()


def figure(path: Path) -> str:
    """The picture that `make figures` draws of an example, from docs/; empty where it prints a table alone."""
    drawn = f"images/{path.stem}.png"
    return drawn if (ROOT / "docs" / drawn).is_file() else ""


def example_page(path: Path) -> str:
    """An example's cells: text as it is, code as code, and its figure before the words on it."""
    first, *codes, last = jupytext.read(path).cells
    parts = [
        f"# {title(path)}",
        linked(first.source, "../docs/"),
        *(f"```python\n{cell.source.rstrip()}\n```" for cell in codes),
    ]
    if drawn := figure(path):
        parts.append(f"![{title(path)}](../{drawn})")
    return "\n\n".join([*parts, linked(last.source, "../docs/"), f"The file is `examples/{path.name}`."]) + "\n"


def linked(text: str, folder: str) -> str:
    """The names of pages as links to them."""
    return re.sub(r"\bdocs/(\w+)\.md\b", rf"[\1]({folder}\1.md)", text)


def source_page(path: str) -> str:
    return f"# {path}\n\n```python\n{(ROOT / path).read_text().rstrip()}\n```\n"


def _hidden(files: Files, config: Any, uri: str, content: str) -> None:
    """A page that is linked, and that the navigation does not list."""
    if files.get_file_from_path(uri) is None:
        files.append(File.generated(config, uri, content=content, inclusion=InclusionLevel.NOT_IN_NAV))


def _repository(page: str, link: str) -> str:
    """What a link on a page is, from the root of the repository."""
    source = {new: old for old, new in RENAMED.items() if old.endswith(".md")}.get(page, f"docs/{page}")
    if page.startswith("examples/"):
        source = page
    return os.path.normpath(os.path.join(os.path.dirname(source), link))


def _site(source: str) -> str:
    """The page of the site that a file of the repository is."""
    if source in RENAMED:
        return RENAMED[source]
    if source.startswith("examples/"):
        return re.sub(r"\.py$", ".md", source)
    return f"source/{source.removesuffix('.py')}.md" if source.endswith(".py") else source.removeprefix("docs/")
