"""What the tests of docs/write_your_own.md share: the page, its pairs, and its files with an edit."""

from pathlib import Path
from typing import Any

import torch
from support.pages import Page

from ppl_vae.programs import Pair, resolve_pair

PAGE = Page("write_your_own.md")
DIGITS = {"data": "digits", "binarize": "threshold"}
K, B = 3, 5


def pair(model: str = "mine.py", guide: str = "mine.py", data: Any = None, **settings: Any) -> Pair:
    batch = data if isinstance(data, tuple) else ((torch.rand(B, 64) > 0.5).float(),)
    return resolve_pair(model, guide, batch, settings)


def changed(name: str, old: str, new: str) -> str:
    """A file of the page, edited and saved under another name."""
    text = PAGE.files[name]
    assert old in text
    Path(f"changed_{name}").write_text(text.replace(old, new))
    return f"changed_{name}"
