"""Formulas as MathML and diagrams as SVG, drawn when the site is built: a page loads no library from another host."""

import html
import re
from itertools import count
from typing import Any

import mermaidx
from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])</\1>', re.DOTALL)
NUMBER = count()


def on_config(config: Any) -> Any:
    fences = [
        {"name": "mermaid", "class": "diagram", "format": diagram},
        {"name": "math", "class": "formula", "format": lambda source, *_, **__: formula(source, "block")},
    ]
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": fences}
    return config


def on_page_content(text: str, **_: Any) -> str:
    return FORMULA.sub(lambda found: formula(found[2], "block" if found[1] == "div" else "inline"), text)


def formula(source: str, display: str) -> str:
    return convert(html.unescape(source).strip(), display=display)


def diagram(source: str, *_: Any, **__: Any) -> str:
    drawn = mermaidx.render(source).svg().replace("my-svg", f"diagram-{next(NUMBER)}")
    return f'<div class="diagram">{drawn}</div>'
