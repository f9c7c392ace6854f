"""A fitted estimator as a folder: that of its run, and beside the run's files `estimator.json`."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import Scratch, read_json, write_bytes, write_json
from ppl_vae.runs.run import Run
from ppl_vae.training import settings

FILE, FORMAT = "estimator.json", 1


def plain(value: Any) -> Any:
    """A number of numpy, as a grid of parameters holds it, as one of Python; in dicts, lists and tuples too."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


def write(
    folder: str | os.PathLike[str], run: Run, kind: str, params: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    """Write the folder, whole or not at all.

    Args:
        kind: the name of the estimator's class.
        params: its parameters; of one that has no text, such as a class, a note is written.
        found: what the fit found beside the run, as JSON takes it.

    Raises:
        InputError: there is something at `folder` already.
    """
    place = Path(folder).expanduser()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(f"{place} exists: choose another folder")
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(run.folder, part)
    recorded = list(settings.record(plain(dict(params))))
    write_json(part / FILE, {"format": FORMAT, "class": kind, "params": recorded, "fitted": dict(found)})
    os.replace(part, place)


def read(folder: str | os.PathLike[str], kind: str, again: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and what the fit found.

    Args:
        again: parameters that have no text, given again.

    Raises:
        InputError: no such folder, one of another estimator, or a parameter that has to be given again.
    """
    place = Path(folder).expanduser()
    if not (place / FILE).is_file():
        raise InputError(f"{place} holds no estimator: it has no {FILE}; write one with save")
    saved = read_json(place / FILE)
    if saved.get("format") != FORMAT or saved.get("class") != kind:
        raise InputError(f"{place} holds a {saved.get('class')} of format {saved.get('format')}, not a {kind}")
    recorded = tuple(saved["params"])
    notes = {entry["name"]: entry["python"] for entry in recorded if isinstance(entry, dict)}
    if lacking := [name for name in notes if name not in again]:
        name = lacking[0]
        raise InputError(f"{name} of {place} was given from Python ({notes[name]}): give it again, load(…, {name}=…)")
    spoken = settings.spoken(recorded)
    if unknown := sorted(set(again) - set(spoken) - set(notes)):
        raise InputError(f"{kind} has no parameter {unknown[0]!r}: it has {', '.join(sorted({*spoken, *notes}))}")
    return spoken | dict(again), saved["fitted"]


def packed(run: Run) -> dict[str, bytes]:
    """The files of a run by their place in its folder."""
    return {str(path.relative_to(run.folder)): path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


def unpacked(files: Mapping[str, bytes], again: Mapping[str, Any]) -> Run:
    """A run of those files in a temporary folder, which is there as long as the run."""
    scratch = Scratch()
    for name, content in files.items():
        path = scratch.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    return Run(scratch.folder, scratch, again)
