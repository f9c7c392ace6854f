"""Checkpoints: whole or not there, hashed, few, and nothing but numbers and JSON."""

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import read_json, write_bytes, write_json
from ppl_vae.models import gaussian
from ppl_vae.programs.find import sha256_of
from ppl_vae.runs.checkpoint import Checkpoints
from ppl_vae.runs.fitting import fit

ROWS = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")


def save(checkpoints: Checkpoints, step: int, best: int) -> None:
    checkpoints.save(step, {"w": torch.full((3,), float(step)), "n": torch.tensor(step)}, {"step": step}, best)


def assert_whole(checkpoints: Checkpoints) -> None:
    for step in checkpoints.steps:
        tensors, info = checkpoints.load(step)
        assert info == {"step": step}
        assert tensors["w"].tolist() == [step] * 3
        assert tensors["n"].item() == step
    assert not checkpoints.steps or checkpoints.manifest["best"] in checkpoints.steps


def test_first_best_and_last_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert (checkpoints.steps, checkpoints.manifest["best"]) == ([], None)
    for step, best, kept in (
        (0, 0, [0]),
        (10, 10, [0, 10]),
        (20, 10, [0, 10, 20]),
        (30, 10, [0, 10, 20, 30]),
        (40, 10, [0, 10, 30, 40]),
        (50, 50, [0, 40, 50]),
        (60, 50, [0, 50, 60]),
        (70, 50, [0, 50, 60, 70]),
    ):
        save(checkpoints, step, best)
        assert checkpoints.steps == kept
        assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {f"step-{s}" for s in kept}
        assert_whole(checkpoints)


def test_keep_every(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_every=20)
    for step in range(0, 100, 10):
        save(checkpoints, step, 0)
    assert checkpoints.steps == [0, 20, 40, 60, 80, 90]


class Killed(BaseException):
    pass


OPERATIONS = (
    (os, "replace"),
    (os, "rename"),
    (os, "fsync"),
    (shutil, "rmtree"),
    (Path, "mkdir"),
)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_between_any_two_file_operations_leaves_whole_checkpoints(tmp_path, after):
    """And what was saved before the kill is still there, and saving goes on, with nothing left of the kill."""
    n, alive = 0, False
    while not alive:
        n, alive, count = n + 1, True, 0
        checkpoints = Checkpoints(tmp_path / str(n))

        def dying(operation: Any, last: int = n) -> Any:
            def called(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                number = count = count + 1
                if number == last and not after:
                    raise Killed
                value = operation(*args, **kwargs)
                if number == last:
                    raise Killed
                return value

            return called

        saved = []
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in OPERATIONS:
                patch.setattr(owner, name, dying(getattr(owner, name)))
            try:
                for step in range(4):
                    save(checkpoints, step, min(step, 1))
                    saved.append(step)
            except Killed:
                alive = False
        assert_whole(checkpoints)
        assert {*saved[:2], *saved[-1:]} <= set(checkpoints.steps), "first, best and last of those that were saved"
        for step in range(len(saved), 6):  # the step that the kill cut short may have been listed already
            if step not in checkpoints.steps:
                save(checkpoints, step, 1)
        assert_whole(checkpoints)
        assert checkpoints.steps == [0, 1, 4, 5]
        assert {p.name for p in (checkpoints.folder / "checkpoints").iterdir()} == {f"step-{s}" for s in (0, 1, 4, 5)}
    assert n > 40


def test_a_file_is_on_disk_before_it_has_its_name_and_old_ones_go_last(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    for step in range(3):
        save(checkpoints, step, 0)
    log: list[str] = []

    def noted(name: str, operation: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            where = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else str(args[-1])
            log.append(f"{name} {Path(where).name}")
            return operation(*args, **kwargs)

        return called

    for name in ("replace", "rename", "fsync"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    monkeypatch.setattr(shutil, "rmtree", noted("rmtree", shutil.rmtree))
    save(checkpoints, 3, 0)
    assert log[:2] == ["rmtree .step-3.part", "fsync .state.safetensors.part"]
    wanted = [
        "fsync .state.safetensors.part",
        "replace state.safetensors",
        "fsync .state.json.part",
        "replace state.json",
        "rename step-3",
        "fsync checkpoints",
        "fsync .manifest.json.part",
        "replace manifest.json",
        f"fsync {tmp_path.name}",
        "rmtree step-1",
    ]
    assert [line for line in log if line in wanted] == wanted


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("fault", ["missing", "one bit", "truncated", "empty"])
def test_a_file_that_is_not_what_was_written_is_named(tmp_path, name, fault):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 0, 0)
    save(checkpoints, 1, 0)
    path = tmp_path / "checkpoints" / "step-1" / name
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes({"one bit": flipped, "truncated": content[:-3], "empty": b""}[fault])
    with pytest.raises(InputError) as error:
        checkpoints.load(1)
    assert str(path) in str(error.value)
    assert "--checkpoint" in str(error.value)
    checkpoints.load(0)


def test_a_file_that_is_listed_with_its_hash_but_holds_something_else(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 0, 0)
    path = tmp_path / "checkpoints" / "step-0" / "state.safetensors"
    path.write_bytes(b"\x80\x04no")
    manifest = checkpoints.manifest
    manifest["checkpoints"]["step-0"][path.name] = sha256_of(path)
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(InputError, match="can't be read"):
        checkpoints.load(0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_torn_manifest_is_named(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match=r"manifest\.json can't be read"):
        _ = Checkpoints(tmp_path).steps


def test_a_checkpoint_that_is_replaced_while_it_is_read(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    for step in range(3):
        save(checkpoints, step, step)
    read = Path.read_bytes

    def slow(path: Path) -> bytes:
        monkeypatch.setattr(Path, "read_bytes", read)
        if path.parent.name == "step-2":
            for later in range(3, 6):
                save(checkpoints, later, later)
        else:
            monkeypatch.setattr(Path, "read_bytes", slow)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", slow)
    assert checkpoints.load("best")[1] == {"step": 5}
    with pytest.raises(InputError, match="no checkpoint of step 2"):
        checkpoints.load(2)


def test_no_such_step(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(InputError, match="no checkpoint of step 3: it has none yet"):
        checkpoints.load(3)
    save(checkpoints, 0, 0)
    with pytest.raises(InputError, match="it has 0"):
        checkpoints.load(3)


def test_json_is_standard_json(tmp_path):
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.5, {"b": float("-inf")}], "c": "σ"})
    assert (tmp_path / "a.json").read_text().count("null") == 2
    assert read_json(tmp_path / "a.json") == {"a": [None, 1.5, {"b": None}], "c": "σ"}
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"a\.json can't be read"):
        read_json(tmp_path / "a.json")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"


def test_nothing_in_a_run_is_a_pickle_or_an_archive(tmp_path):
    run = fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", epochs=1, set={"hidden": 4, "latent_dim": 2})
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".jsonl", ".safetensors", ".py"}
    for path in files:
        content = path.read_bytes()
        assert not content.startswith(b"\x80")
        assert not zipfile.is_zipfile(path)
        if path.suffix == ".safetensors":
            safetensors.torch.load(content)
        elif path.suffix == ".json":
            json.loads(content)


def test_borrowed_tensors_are_saved_once(tmp_path):
    run = fit("linear_gaussian", "linear_gaussian", ROWS, tmp_path / "run", epochs=1, set={"latent_dim": 2})
    tensors, _ = run.checkpoints.load(run.checkpoints.steps[-1])
    weights = {name for name in tensors if name.partition(".")[0] in ("model", "guide")}
    assert weights == {"model.W", "model.b", "model.log_sigma"}
    assert {name for name in tensors if name.startswith("optimizer.exp_avg.")} == {
        f"optimizer.exp_avg.{name}" for name in weights
    }
    pair = run.pair()
    assert pair.guide.model is pair.model


class Remembers(gaussian.Model):
    """A buffer in the memory of a parameter, and one that is no contiguous tensor."""

    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 2) -> None:
        super().__init__(data_shape, latent_dim, 4)
        layer = self.decoder[0]
        assert isinstance(layer, nn.Linear)
        self.register_buffer("start", layer.weight.detach())
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)


def test_tensors_that_share_memory_are_saved(tmp_path):
    run = fit(Remembers, "diagonal_normal", ROWS, tmp_path / "run", epochs=1, set={"latent_dim": 2})
    model = run.pair(model=Remembers).model
    assert model.turned.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert torch.equal(model.start, model.decoder[0].weight)
