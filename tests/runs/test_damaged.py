"""A damaged file of a run is named in an error of few lines, with what to do; never a traceback."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fits import ROWS, contents

import ppl_vae
from ppl_vae.cli import main

CONFIG, MANIFEST, METRICS, BEST = "config.json", "manifest.json", "metrics.jsonl", "best.json"
FREE = {"versions", "imports", "columns", "tracked", "checkpoints"}  # whose keys are names that may be any


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    np.save(folder / "rows.npy", ROWS)
    settings = {"hidden": 4, "latent_dim": 2}
    options: dict[str, Any] = {"epochs": 2, "batch_size": 10, "set": settings}
    ppl_vae.fit("gaussian", "diagonal_normal", folder / "rows.npy", folder / "run", **options)
    return folder / "run"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def edited(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def set_to(*keys: str, to: Any) -> Callable[[dict[str, Any]], Any]:
    def edit(value: dict[str, Any]) -> None:
        for key in keys[:-1]:
            value = value[key]
        value[keys[-1]] = to

    return edit


def flipped(*keys: str) -> Callable[[dict[str, Any]], Any]:
    def edit(value: dict[str, Any]) -> None:
        for key in keys[:-1]:
            value = value[key]
        value[keys[-1][:-1] + chr(ord(keys[-1][-1]) ^ 2)] = value.pop(keys[-1])

    return edit


def every_key(value: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, inner in value.items():
        yield (key,)
        if isinstance(inner, dict):
            yield from ((key, *more) for more in every_key(inner))


def assert_refused(capsys: pytest.CaptureFixture[str], file: str, *args: str) -> str:
    assert main(args) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert file in told.err
    assert len(told.err.splitlines()) <= 3, told.err
    assert "Traceback" not in told.err
    return told.err


@pytest.mark.parametrize(
    ("file", "edit", "words"),
    [
        (MANIFEST, lambda value: value.clear(), 'missing required key(s): "best", "checkpoints", "format"'),
        (MANIFEST, flipped("best"), "key"),
        (MANIFEST, set_to("best", to="2"), "'best' is of a wrong type"),
        (MANIFEST, set_to("best", to=999), "the best step, 999, has no checkpoint"),
        (MANIFEST, set_to("checkpoints", to=[]), "'checkpoints' is not a dict"),
        (MANIFEST, set_to("checkpoints", "step-0", to=None), "'step-0' of 'checkpoints'"),
        (MANIFEST, set_to("checkpoints", "stop-0", to={"state.json": "", "state.safetensors": ""}), "'stop-0' names"),
        (CONFIG, lambda value: value.clear(), "is of format None"),
        (CONFIG, set_to("programs", "guide", to=None), "'guide' of 'programs'"),
        (CONFIG, set_to("programs", to=None), "'programs'"),
        (CONFIG, set_to("fit", "set", to=7), "set is 7"),
        (CONFIG, set_to("fit", "set", to=[{}]), "{} is no setting"),
        (CONFIG, set_to("fit", "epochs", to="2"), "epochs is '2'"),
        (CONFIG, set_to("batch", "dtypes", to=["flo`t32"]), "'flo`t32' is no type of numbers"),
        (CONFIG, set_to("batch", "shapes", to=[]), "is damaged"),
        (CONFIG, set_to("schema", to={"columns": 3}), "is damaged"),
        (CONFIG, set_to("cells", to={}), "is damaged"),
        (BEST, set_to("valid", "elbo", to="high"), "Delete it"),
        (BEST, lambda value: value.clear(), "Delete it"),
    ],
)
def test_what_is_wrong_is_told(run, capsys, file, edit, words):
    edited(run / file, edit)
    before = contents(run)
    assert words in assert_refused(capsys, file, "resume", str(run), "--epochs", "3")
    assert contents(run) == before, "what was refused has written nothing"
    if file != BEST:  # which only says how good it is
        assert_refused(capsys, file, "sample", str(run), "--num", "2", "--out", str(run / "s.npz"))


@pytest.mark.parametrize("file", [CONFIG, MANIFEST, BEST])
def test_a_flip_in_any_key_and_a_wrong_type_of_any_value(run, capsys, file):
    content = (run / file).read_text()
    keys = [
        each for each in every_key(json.loads(content)) if not FREE & set(each[:-1]) or each[-1].startswith("state")
    ]
    assert len(keys) > 4
    for each in keys:
        if "rate_how" not in each[:-1]:  # whose keys are the names of sites
            edited(run / file, flipped(*each))
            assert_refused(capsys, file, "resume", str(run))
            (run / file).write_text(content)
        edited(run / file, set_to(*each, to=[[[0]]]))
        assert_refused(capsys, file, "resume", str(run))
        (run / file).write_text(content)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (b'{"step": 5, "epo', "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        (b"[]", "is not a dict"),
        (b"{}", "missing required key"),
        (
            b'{"step": "5", "epoch": 1, "valid": {"elbo": 1, "rate": 1, "distortion": 1}}',
            "'step' is not an instance of",
        ),
        (b'{"step": 5, "epoch": 1, "valid": null}', "'valid' is not a dict"),
    ],
)
def test_a_broken_line_in_the_middle_of_the_metrics(run, capsys, broken, words):
    lines = (run / METRICS).read_bytes().splitlines()
    (run / METRICS).write_bytes(b"\n".join([lines[0], broken, *lines[2:], b""]))
    before = (run / METRICS).read_bytes()
    for args in (["resume", str(run), "--epochs", "3"], ["fit", "--out", str(run), "--resume"]):
        told = assert_refused(capsys, METRICS, *args)
        assert "line 2 of" in told
        assert words in told
    assert (run / METRICS).read_bytes() == before


def test_zeros_as_a_loss_of_power_leaves_them(run, capsys):
    content = (run / METRICS).read_bytes()
    (run / METRICS).write_bytes(content + bytes(300) + b"}}\n")  # of a line after the last checkpoint
    assert len(ppl_vae.Run(run).metrics) == 3
    assert main(["resume", str(run), "--quiet"]) == 0
    assert (run / METRICS).read_bytes() == content
    capsys.readouterr()
    first, second, third = content.splitlines(keepends=True)
    for lines, lost in (((first, bytes(len(second)), third), "no line"), ((first, second, second, third), "2 lines")):
        (run / METRICS).write_bytes(b"".join(lines))
        assert f"it has {lost} of epoch 1" in assert_refused(capsys, METRICS, "resume", str(run), "--quiet")
        assert (run / METRICS).read_bytes() == b"".join(lines)


def test_a_manifest_that_is_missing_beside_checkpoints(run, capsys):
    (run / MANIFEST).unlink()
    before = contents(run)
    for args in (["resume", str(run)], ["sample", str(run)], ["fit", "--out", str(run), "--resume"]):
        told = assert_refused(capsys, MANIFEST, *args)
        assert "is missing, and there are checkpoints: step-0, step-10" in told
        assert "Put the file back from a copy of the run, or fit anew in another folder" in told
    assert contents(run) == before
    for place in (run / "checkpoints").glob("step-*"):
        if place.name != "step-0":
            shutil.rmtree(place)
    assert main(["resume", str(run), "--quiet"]) == 0, "so it looks after a kill at the first checkpoint"


def test_the_line_of_the_best_step_is_missing(run, capsys):
    (run / METRICS).write_text("")
    assert "it has no line of epoch 0" in assert_refused(capsys, METRICS, "resume", str(run), "--quiet")


def test_a_best_file_that_was_deleted_is_written_again(run, capsys):
    before = json.loads((run / BEST).read_text())
    (run / BEST).unlink()
    assert main(["resume", str(run), "--quiet"]) == 0
    assert json.loads((run / BEST).read_text()) == before
