"""Parts of a web page that move: Vega specs as HTML. Vega stands in the page, so that nothing is loaded from a network.

Vega (Satyanarayan, Russell, Hoffswell & Heer 2016, Reactive Vega) draws a spec as SVG and recomputes what depends on a
signal when the signal changes. Signals are bound to the sliders and boxes of the browser, each of which has a label.
"""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VERSION = "6.4.0"
ASSETS = Path(__file__).with_name("assets")

CONFIG = {
    "autosize": {"type": "pad"},
    "background": "transparent",
    "axis": {
        **dict.fromkeys(("domainColor", "gridColor", "labelColor", "tickColor", "titleColor"), "currentColor"),
        "gridOpacity": 0.15, "labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal",
    },
    "legend": {
        **dict.fromkeys(("labelColor", "titleColor"), "currentColor"),
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "symbolSize": 60,
    },
    "text": {"fill": "currentColor", "fontSize": 13},
    "rule": {"stroke": "currentColor"},
    "title": {"color": "currentColor", "anchor": "start", "fontSize": 13, "fontWeight": "normal"},
}  # fmt: skip
"""Axes and words have the colour of the page's text, which may be dark or light."""

STYLE = """
.vega { margin: 1em 0; }
.vega figcaption { max-width: 44em; margin-top: .5em; }
.vega-plot { overflow: hidden; touch-action: pan-y pinch-zoom; }
.vega-plot svg { display: block; max-width: 100%; height: auto; }
.vega-plot svg text { font-variant-numeric: tabular-nums; }
.vega-controls { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20em, 100%), 1fr)); gap: .25em 2em; }
.vega-bind, .vega-bind label { display: flex; align-items: center; gap: .6em; }
.vega-bind label { flex: 1; min-height: 1.75em; }
.vega-bind-name:has(~ [type=range]) { flex: none; width: 11em; }
.vega-bind input[type=range] { flex: 1; min-width: 4em; }
.vega-bind input[type=range] ~ span { width: 2.6em; text-align: right; font-variant-numeric: tabular-nums; }
.vega-bind:has([type=checkbox]) .vega-bind-name { order: 1; }
.vega-bind-radio { display: flex; flex-wrap: wrap; gap: 0 1.5em; }
.vega-bind:has(.vega-bind-radio) { grid-column: 1 / -1; }
.vega-bind .vega-bind-radio label { flex: none; }
@media print { .vega-controls { display: none; } .vega { break-inside: avoid; } }
"""

SHOW = """
function showVega(id) {
  const place = document.getElementById(id);
  const spec = JSON.parse(place.querySelector('script[type="application/json"]').textContent);
  place.view = new vega.View(vega.parse(spec), {
    renderer: "svg", container: place.querySelector(".vega-plot"), bind: place.querySelector(".vega-controls"),
  });
  place.ready = place.view.runAsync();
}
"""


def library() -> str:
    """The script and the style that every figure of a page needs: once per page, before the first figure."""
    licence = (ASSETS / f"vega-{VERSION}.LICENSE.txt").read_text(encoding="utf-8")
    script = (ASSETS / f"vega-{VERSION}.min.js").read_text(encoding="utf-8")
    return f"<style>{STYLE}</style>\n<script>/*!\n{licence}*/\n{script}\n{SHOW}</script>\n"


def figure(name: str, spec: Mapping[str, Any], title: str, caption: str) -> str:
    """One Vega spec as an HTML figure.

    Its element keeps Vega's view: `document.getElementById(name).view.signal("x")`.

    Args:
        name: the `id` of the figure, once per page.
        spec: a Vega spec. `CONFIG` stands behind what it says itself of axes, words and colours.
        title: what it is, in a few words: its name for a screen reader.
        caption: what it shows, in whole sentences. It stands below the figure, and alone where no script runs.
    """
    config = {**CONFIG, **spec.get("config", {})}
    named = html.escape(title)
    said = {"$schema": "https://vega.github.io/schema/vega/v6.json", **spec, "config": config, "description": title}
    return f"""<figure class="vega" id="{name}" aria-label="{named}">
<div class="vega-controls" role="group" aria-label="{named}: what you can move"></div>
<div class="vega-plot"></div>
<noscript><p>“{named}” is drawn by a script, and scripts are turned off. It shows this:</p></noscript>
<figcaption>{html.escape(caption)}</figcaption>
<script type="application/json">{as_json(said)}</script>
<script>showVega("{name}")</script>
</figure>
"""


def as_json(value: Any) -> str:
    """JSON that may stand inside an HTML `<script>`: no text in it ends the element or begins a comment.

    Raises:
        ValueError: a number is NaN or infinite, for which JSON has no word.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
