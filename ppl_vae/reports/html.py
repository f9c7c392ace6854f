"""What a page is made of: sections with text, tables, figures and formulas, in one file without any other."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

ASSETS = "ppl_vae.reports", "assets"
LEAST_WIDTH = 560
"""Pixels below which the words in a figure of many panels can't be read."""


@dataclass
class Section:
    """A part of a page.

    Args:
        anchor: its id, of lower-case letters, figures and hyphens.
        lead: what it shows, in a sentence.
        parts: what stands in it, in this order.
    """

    anchor: str
    title: str
    lead: str = ""
    parts: list[Markup] = field(default_factory=list)

    def add(self, *parts: Markup | str) -> "Section":
        """Add markup as it is, and text as a paragraph."""
        self.parts += [part if isinstance(part, Markup) else Markup("<p>{}</p>").format(_said(part)) for part in parts]
        return self


def page(title: str, about: str, sections: Iterable[Section], scripts: Iterable[Markup] = ()) -> str:
    """The whole file.

    Args:
        about: what stands below the title.
        scripts: what the sections' interactive parts need, once.
    """
    environment = Environment(
        loader=PackageLoader(*ASSETS), autoescape=select_autoescape(default=True), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style = Markup(files(ASSETS[0]).joinpath(ASSETS[1], "report.css").read_text())
    template = environment.get_template("report.html")
    return template.render(title=title, about=_said(about), sections=list(sections), style=style, scripts=list(scripts))


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """A table whose first column names its rows. It scrolls by itself where the page is too narrow."""
    first, *others = head
    cells = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>\n').format(
            name, Markup("").join(Markup("<td>{}</td>").format(_said(x)) for x in row)
        )
        for name, *row in rows
    )
    heads = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in (first, *others))
    return Markup(
        '<div class="wide" tabindex="0" role="region" aria-label="{0}"><table><caption>{0}</caption>\n'
        "<thead><tr>{1}</tr></thead>\n<tbody>\n{2}</tbody></table></div>"
    ).format(caption, heads, cells)


def figure(svg: str, caption: str) -> Markup:
    """A drawing, as `ppl_vae.reports.style.as_svg` gives it, with what it shows below. It scrolls on a phone."""
    own = re.search(r"max-width: (\d+)px", svg)
    least = min(int(own[1]), LEAST_WIDTH) if own else LEAST_WIDTH
    drawn = Markup('<div style="min-width: {}px">{}</div>').format(least, Markup(svg))
    return Markup(
        '<figure><div class="wide" tabindex="0" role="region" aria-label="{0}">{1}</div>'
        "<figcaption>{0}</figcaption></figure>"
    ).format(caption, drawn)


def definitions(pairs: Mapping[str, Any]) -> Markup:
    """Names with what they stand for."""
    each = Markup("").join(Markup("<dt>{}</dt><dd>{}</dd>\n").format(name, value) for name, value in pairs.items())
    return Markup("<dl>\n{}</dl>").format(each)


def _said(x: Any) -> Any:
    """Numbers have the sign that is printed, and may be broken from no other."""
    return x if isinstance(x, Markup) else re.sub(r"(?<![\w.])-(?=\d)", "−", str(x)).replace(" ± ", "\u00a0±\u00a0")


def commands(lines: Iterable[str]) -> Markup:
    """Commands to type."""
    return Markup('<pre tabindex="0"><code>{}</code></pre>').format("\n".join(lines))


def note(text: str) -> Markup:
    """What is to be minded."""
    return Markup('<p class="note">{}</p>').format(text)
