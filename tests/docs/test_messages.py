"""Each row of the table of docs/messages.md: the command is run on the input, and the message compared."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.pages import DOCS
from support.runs import D, binary_rows, fitted

from ppl_vae.cli import main

ROW = re.compile(r"\| (.+?) \| `(ppl-vae .+?)` \| (.+) \|")
ROWS = [match.groups() for line in (DOCS / "messages.md").read_text().splitlines() if (match := ROW.fullmatch(line))]


def tables(place: Path) -> None:
    lines = ["height,weight,kind", *(f"{1.5 + i / 50},{60 + i * 7 % 13},{'ab'[i % 2]}" for i in range(20))]
    text = "\n".join(lines) + "\n"
    (place / "people.csv").write_text(text)
    written = {
        "ragged": "\n".join([*lines[:3], lines[3].rpartition(",")[0], *lines[4:]]),
        "empty": "",
        "header": "height,weight\n",
        "colons": text.replace(",", ":"),
        "constant": "a,b\n" + "1,2\n" * 20,
        "twice": text.replace("weight", "height"),
        "numbers": "a,b\n" + "1,2\n" * 5 + "1,two\n",
    }
    for name, content in written.items():
        (place / f"{name}.csv").write_text(content)
    (place / "latin.csv").write_bytes(text.replace("kind", "größe").encode("latin-1"))
    (place / "wide.csv").write_bytes(text.encode("utf-32"))
    (place / "kinds.toml").write_text('[[column]]\nname = "height"\nkind = "reel"\n')
    (place / "torn.toml").write_text('[[column]\nname = "height"\n')
    (place / "colour.toml").write_text('[[column]]\nname = "height"\nkind = "real"\ncolour = "red"\n')
    (place / "torn.parquet").write_bytes(pd.read_csv(place / "people.csv").to_parquet()[:-20])


def arrays(place: Path) -> None:
    rows = binary_rows(20)
    np.save(place / "nan.npy", np.where(np.arange(D) == 3, np.nan, rows))
    np.save(place / "inf.npy", np.where(np.arange(D) == 3, np.inf, rows))
    np.save(place / "grey.npy", rows / 3)
    np.save(place / "one.npy", rows[:1])
    np.save(place / "none.npy", rows[:0])
    np.save(place / "narrow.npy", rows[:, :9])
    np.save(place / "objects.npy", np.array([["a", None]] * 5, dtype=object), allow_pickle=True)
    np.save(place / "words.npy", np.array([["a", "b"]] * 5))
    np.savez(place / "two.npz", a=rows, b=rows)
    np.savez_compressed(place / "whole.npz", a=rows)
    (place / "torn.npz").write_bytes((place / "whole.npz").read_bytes()[:-30])
    content = (place / "grey.npy").read_bytes()
    (place / "torn.npy").write_bytes(content[:-30])
    (place / "claims.npy").write_bytes(content.replace(b"(20, 16), }" + b" " * 12, b"(20000000000000, 16), }"))
    (place / "rows.pkl").write_bytes(b"\x80\x04K\x01.")
    os.mkfifo(place / "pipe.npy")


def programs(place: Path) -> None:
    (place / "syntax.py").write_text("class Model\n")
    (place / "raises.py").write_text(
        "from torch import nn\n\n\nclass Model(nn.Module):\n    def __init__(self, data_shape):\n        1 / 0\n"
    )
    (place / "asks.py").write_text(
        "from torch import nn\n\n\nclass Model(nn.Module):\n    def __init__(self, colour):\n        pass\n"
    )


def runs(place: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(place / "run", place / name))

    (copy("torn-config") / "config.json").write_text('{"format": 1, "fi')
    run = copy("other-best")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"best": 999}))
    (copy("no-manifest") / "manifest.json").unlink()
    state = copy("flipped") / "checkpoints" / f"step-{manifest['best']}" / "state.safetensors"
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(bytes(content))
    (copy("torn-metrics") / "metrics.jsonl").write_text('{"step": 0, "epo\n')


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("messages")
    fitted(place, epochs=1)
    for make in (tables, arrays, programs, runs):
        make(place)
    return place


def said(text: str) -> str:
    """The message without what another machine says otherwise."""
    text = text.replace(str(DOCS.parent), "…").replace(str(Path.cwd()), "…")
    return re.sub(r"[\d,.]+ GB of memory", "… GB of memory", text)


@pytest.mark.parametrize(("what", "command", "message"), ROWS, ids=[row[0] for row in ROWS])
def test_the_message_is_as_the_page_has_it(
    what: str,
    command: str,
    message: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    code = main(command.split()[1:])
    told = capsys.readouterr()
    assert code == 2
    assert told.out == ""
    first = said(told.err.removeprefix("error: ").splitlines()[0])
    assert first == message.replace("\\|", "|"), "the page has another message"


def test_the_table_has_forty_rows() -> None:
    assert len(ROWS) >= 40
