"""Checkpoints of a run: `checkpoints/step-N/{state.safetensors, state.json}`, listed in `manifest.json`."""

import contextlib
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import read_json, sync_folder, write_bytes, write_json
from ppl_vae.core.shape import check_shape, damaged
from ppl_vae.programs.find import sha256_of

DO = "Put the file back from a copy of the run, or fit anew"
Hashes = TypedDict("Hashes", {"state.safetensors": str, "state.json": str})


class Manifest(TypedDict):
    """`manifest.json`: the hashes of each checkpoint by its name, and the best step."""

    format: int
    checkpoints: dict[str, Hashes]
    best: int | None


@dataclass
class Checkpoints:
    """The checkpoints of the run at `folder`.

    A checkpoint is written beside, flushed and renamed; then the manifest with its hashes; only then are old ones
    deleted. A kill at any moment leaves a manifest whose checkpoints are all whole.

    Args:
        keep_every: besides the first, the best and the last two, keep the steps that this divides.
    """

    folder: Path
    keep_every: int | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        """`manifest.json`, or what it would be before the first checkpoint.

        Raises:
            InputError: it is damaged, or it is missing though there are checkpoints.
        """
        path = self.folder / "manifest.json"
        if not path.is_file():
            if there := self._unlisted():
                raise InputError(
                    f"{path} is missing, and there are checkpoints: {', '.join(there)}\n{DO} in another folder"
                )
            return {"format": 1, "checkpoints": {}, "best": None}
        manifest = read_json(path)
        check_shape(manifest, Manifest, str(path), DO)
        if wrong := sorted(name for name in manifest["checkpoints"] if not re.fullmatch(r"step-\d+", name)):
            raise damaged(path, f"{wrong[0]!r} names no checkpoint", DO)
        return manifest

    @property
    def steps(self) -> list[int]:
        return _steps(self.manifest)

    def step(self, checkpoint: int | str) -> int:
        """The step of a checkpoint: itself, `best`, `last`, `first`, or `middle`, the one nearest to half of the last.

        Raises:
            InputError: no such word, or no checkpoint yet.
        """
        return self._step_in(self.manifest, checkpoint)

    def _step_in(self, manifest: dict[str, Any], checkpoint: int | str) -> int:
        steps, best = _steps(manifest), manifest["best"]
        if not steps and not isinstance(checkpoint, int):
            raise InputError(f"{self.folder} has no checkpoint yet: ppl-vae resume {self.folder}")
        if checkpoint == "best" and best not in steps:
            raise damaged(self.folder / "manifest.json", f"the best step, {best}, has no checkpoint", DO)
        try:
            if checkpoint not in ("best", "last", "first", "middle"):
                return int(checkpoint)
        except ValueError:
            raise InputError(f"--checkpoint {checkpoint}: give a step, best, last, first or middle") from None
        middle = min(steps, key=lambda step: abs(step - steps[-1] / 2))
        return {"best": best, "last": steps[-1], "first": steps[0], "middle": middle}[str(checkpoint)]

    def save(self, step: int, tensors: dict[str, Tensor], info: dict[str, Any], best: int) -> None:
        """Write the checkpoint of `step`; `best` is the step of the best checkpoint, written before or now.

        A best checkpoint that was damaged, and is not there, counts as this one until a better one is written.
        """
        name = f"step-{step}"
        place, part = self.folder / "checkpoints" / name, self.folder / "checkpoints" / f".{name}.part"
        # a copy of each: safetensors refuses a buffer that shares the memory of a parameter
        content = save({k: t.detach().cpu().clone(memory_format=torch.contiguous_format) for k, t in tensors.items()})
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            write_bytes(part / "state.safetensors", content)
            write_json(part / "state.json", info)
            manifest = self.manifest
            manifest["checkpoints"][name] = {file.name: sha256_of(file) for file in sorted(part.iterdir())}
            manifest["best"] = best if f"step-{best}" in manifest["checkpoints"] else step
            shutil.rmtree(place, ignore_errors=True)
            os.rename(part, place)
            sync_folder(place.parent)
            stale = self._stale(manifest)
            manifest["checkpoints"] = {n: hashes for n, hashes in manifest["checkpoints"].items() if n not in stale}
            write_json(self.folder / "manifest.json", manifest)
        finally:
            self.tidy()  # also after an error: a full disk has no room for what is not listed

    def tidy(self) -> None:
        """Remove what is not in the manifest: old checkpoints, and what a kill or a full disk has left behind."""
        listed, place = self.manifest["checkpoints"], self.folder / "checkpoints"
        for folder in place.iterdir() if place.is_dir() else ():
            if folder.name not in listed:
                shutil.rmtree(folder, ignore_errors=True)

    def last_whole(self) -> tuple[int, list[str]]:
        """The last step that a training can go on from, and what is wrong with the later ones.

        Its checkpoint is whole, and so is that of the best step before it, unless a later step is the best, which the
        training will find again.

        Raises:
            InputError: there is none.
        """
        wrong, manifest = list[str](), self.manifest
        for step in reversed(_steps(manifest)):
            try:
                best = self.load(step)[1].get("best_step", step)
                if manifest["best"] <= step:
                    self.load(best)
            except InputError as error:
                wrong.append(str(error))
            else:
                return step, wrong
        raise InputError(wrong[0] if wrong else f"{self.folder} has no checkpoint yet: ppl-vae resume {self.folder}")

    def go_back(self, step: int, best: int) -> None:
        """Forget the checkpoints after a step, of which `best` is the best so far."""
        manifest = self.manifest
        listed = {f"step-{n}": manifest["checkpoints"][f"step-{n}"] for n in _steps(manifest) if n <= step}
        best = best if f"step-{best}" in listed else step
        write_json(self.folder / "manifest.json", manifest | {"checkpoints": listed, "best": best})
        self.tidy()

    def load(self, checkpoint: int | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON of one checkpoint, which is named as for `step`.

        Raises:
            InputError: there is none, or its files are not what was written.
        """
        manifest = self.manifest
        step = self._step_in(manifest, checkpoint)
        if f"step-{step}" not in manifest["checkpoints"]:
            have = ", ".join(map(str, _steps(manifest))) or "none yet"
            raise InputError(f"{self.folder} has no checkpoint of step {step}: it has {have}")
        place, found = self.folder / "checkpoints" / f"step-{step}", dict[str, bytes]()
        for name, digest in manifest["checkpoints"][place.name].items():
            with contextlib.suppress(OSError):
                found[name] = (place / name).read_bytes()
            if name not in found or hashlib.sha256(found[name]).hexdigest() != digest:
                if self.manifest != manifest:  # it was replaced by a later one, while the run is trained
                    return self.load(checkpoint)
                raise InputError(f"{place / name} is missing or not what was written: use another --checkpoint")
        try:
            return load(found["state.safetensors"]), json.loads(found["state.json"])
        except (SafetensorError, ValueError) as error:
            raise InputError(f"{place} can't be read: {error}") from error

    def _unlisted(self) -> list[str]:
        """Checkpoints that a manifest has to list: a kill can leave none but the first without one."""
        found = [path.name for path in (self.folder / "checkpoints").glob("step-*")]
        return sorted(found, key=lambda name: (len(name), name)) if set(found) - {"step-0"} else []

    def _stale(self, manifest: dict[str, Any]) -> set[str]:
        steps = _steps(manifest)
        keep = {steps[0], manifest["best"], *steps[-2:]}
        keep |= {step for step in steps if self.keep_every and step % self.keep_every == 0}
        return {f"step-{step}" for step in steps if step not in keep}


def _steps(manifest: dict[str, Any]) -> list[int]:
    return sorted(int(name.removeprefix("step-")) for name in manifest["checkpoints"])
