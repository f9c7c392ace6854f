"""`config.json`, the record of a run: written last when the run is made, read and checked when it is opened."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import make_folder, read_json, write_bytes, write_json
from ppl_vae.core.shape import check_shape, damaged
from ppl_vae.data import Data
from ppl_vae.data.cells import CellFields
from ppl_vae.data.columns import AnySchema, Schema, schema_from, write_toml
from ppl_vae.data.dataset import image_of
from ppl_vae.data.newrows import Rules
from ppl_vae.data.protocol import SPLITS
from ppl_vae.data.source import absolute
from ppl_vae.data.streams import Stream
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, owned
from ppl_vae.programs.find import Source
from ppl_vae.programs.given import given_fields
from ppl_vae.programs.scores import Batch
from ppl_vae.runs.machine import machine, versions
from ppl_vae.runs.record_shape import Record
from ppl_vae.training import settings
from ppl_vae.training.config import FitConfig, config_from

FORMAT = 1
FILE = "config.json"
LENGTH = ("epochs", "patience")
FEW = 100  # rows that tell which fields are observed
COPIED = re.compile(r".+-[0-9a-f]{8}\.py")
DO = "Put the file back from a copy of the run, or fit anew"


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the run in `folder`.

    Raises:
        InputError: no record, one of another format, one that lacks what every record has, or a damaged one.
    """
    path = folder / FILE
    record = read_json(path)
    if record.get("format") != FORMAT:
        raise InputError(f"{path} is of format {record.get('format')!r}, which this version does not know")
    if missing := {"fit", "programs", "batch", "data"} - set(record):
        raise InputError(f"{path} lacks {', '.join(sorted(missing))}: it is no run's, or damaged: fit anew")
    check_shape(record, Record, str(path), DO)
    batch = record["batch"]
    try:
        for entry in (given := config_of(record).set):
            if isinstance(entry, dict) and entry.keys() != {"name", "python"}:
                raise InputError(f"{entry} is no setting")
        settings.spoken(given)
        for dtype, _, _ in zip(batch["dtypes"], batch["shapes"], batch["fields"], strict=True):
            if not isinstance(getattr(torch, dtype, None), torch.dtype):
                raise InputError(f"{dtype!r} is no type of numbers")
        schema_of(record), cells_of(record)
    except Exception as error:  # anything may be in there
        told = error if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise damaged(path, told, DO) from error
    return record


def config_of(record: Mapping[str, Any]) -> FitConfig:
    """The options that a run was fitted with."""
    return config_from({name: tuple(x) if isinstance(x, list) else x for name, x in record["fit"].items()})


def change_config(folder: Path, config: FitConfig, step: int) -> None:
    """Record that a run goes on with other options after a step; `changed` says what they were before."""
    record, options = read_record(folder), config.asdict()
    before = {name: x for name, x in config_of(record).asdict().items() if x != options[name]}
    changed = [*record.get("changed", []), {"step": step, "before": before}]
    write_json(folder / FILE, record | {"fit": options, "changed": changed})


def altered(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The changes of a run's options that change its steps: not those of how many there are."""
    found = [
        {**each, "before": {k: x for k, x in each["before"].items() if k not in LENGTH}}
        for each in record.get("changed", ())
    ]
    return [each for each in found if each["before"]]


def note_threads(folder: Path, step: int, threads: int) -> None:
    """Record with how many threads a run is trained after a step."""
    how = read_record(folder).get("step", {})
    before = [noted for noted in how.get("threads", []) if noted[0] < step]  # others are of steps that are taken again
    _note(folder, {"threads": [*before, [step, threads]]})


def note_eager(folder: Path, step: int) -> None:
    """Record that a compiled run is trained by the programs as they are after a step."""
    _note(folder, {"eager_from": step})


def note_processes(folder: Path, number: int, launchers: Sequence[str]) -> None:
    """Record how many processes train a run from here on, and what has started them."""
    record = read_record(folder)
    step = record.get("step", {}) | {"processes": number}
    write_json(folder / FILE, record | {"step": step, "launchers": list(launchers)})


def note_tracked(folder: Path, name: str, id: str) -> None:
    """Record what a tracker calls the run."""
    record = read_record(folder)
    write_json(folder / FILE, record | {"tracked": record.get("tracked", {}) | {name: id}})


def _note(folder: Path, changed: Mapping[str, Any]) -> None:
    record = read_record(folder)
    write_json(folder / FILE, record | {"step": record.get("step", {}) | changed})


def write_record(
    folder: Path,
    config: FitConfig,
    pair: Pair,
    data: Data,
    example: Batch,
    objective: Objective,
    objective_source: Source | None = None,
    schema: AnySchema | None = None,
    step: Mapping[str, Any] | None = None,
    launchers: Sequence[str] = (),
) -> None:
    """Make the folder of a run, with the sources of its programs and, written last, its record.

    Args:
        objective_source: where the objective came from, if it is a class of the user's own.
        schema: what the columns of a table are, or which parts of single-cell data the fields are.
        step: how it is trained, as `training.stepping.record` says it.
        launchers: names of what has started its processes.

    Raises:
        InputError: the folder can't be made.
    """
    if is_unfinished(folder) and (folder / "sources").is_dir():
        shutil.rmtree(folder / "sources")
    try:
        make_folder(folder / "sources")
    except OSError as error:
        raise InputError(f"{folder} can't be made: {error.strerror}") from error
    programs = {kind: _copied(source, folder) for kind, source in pair.sources.items()}
    own = None if objective_source is None else _copied(objective_source, folder)
    if isinstance(schema, Schema):
        write_toml(schema, folder / "columns.toml", data.name)
    write_json(
        folder / FILE,
        {
            "format": FORMAT,
            "versions": versions(),
            "machine": machine(),
            "fit": config.asdict(),
            "programs": programs,
            "objective": {"target": objective.target, "program": own},
            "batch": {
                "fields": list(data.fields),
                "rows": len(example[0]),
                "shapes": [list(x.shape[1:]) for x in example],
                "dtypes": [str(x.dtype).removeprefix("torch.") for x in example],
            },
            "data": _about(data) | {"given": given_fields(pair.model, data.fields, *_two(data, pair))},
            **({} if schema is None else {"schema" if isinstance(schema, Schema) else "cells": schema.asdict()}),
            **({} if step is None else {"step": dict(step)}),
            **({"launchers": list(launchers)} if launchers else {}),
        },
    )


def is_unfinished(folder: Path) -> bool:
    """Is there nothing, or only what a fit that was killed, or found the disk full, left before its record?"""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    left = [path.name for path in folder.iterdir() if not _is_part(path.name)]
    sources = list((folder / "sources").iterdir()) if (folder / "sources").is_dir() else []
    copied = all(COPIED.fullmatch(path.name) or _is_part(path.name) for path in sources)
    return not left or (copied and "sources" in left and set(left) <= {"sources", "columns.toml"})


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(".part")


def zeros(record: Mapping[str, Any], rows: int) -> Batch:
    """Rows of zeros, `(rows, *shape)` per field, of the shapes and dtypes of the data."""
    batch = record["batch"]
    return tuple(
        torch.zeros(rows, *shape, dtype=getattr(torch, dtype))
        for shape, dtype in zip(batch["shapes"], batch["dtypes"], strict=True)
    )


def rules(record: Mapping[str, Any], config: FitConfig) -> Rules:
    """How new rows are read: as the data of the run were."""
    batch, data, schema = record["batch"], record["data"], schema_of(record) or cells_of(record)
    return Rules(
        fields=tuple(batch["fields"]),
        shapes=tuple(map(tuple, batch["shapes"])),
        dtypes=tuple(getattr(torch, dtype) for dtype in batch["dtypes"]),
        columns={name: tuple(names) for name, names in data.get("columns", {}).items()},
        scale=config.scale,
        missing=config.missing == "nan",
        binarize="once" if data["binarize"] == "epoch" else data["binarize"],
        range=data.get("range") if schema is None else None,
        schema=schema,
    )


def schema_of(record: Mapping[str, Any]) -> Schema | None:
    """What the columns of the run's table are, if it was fitted to one by a schema."""
    return schema_from(record["schema"]) if "schema" in record else None


def cells_of(record: Mapping[str, Any]) -> CellFields | None:
    """Which parts of single-cell data the run's fields are, if it was fitted to some."""
    if "cells" not in record:
        return None
    told, genes = record["cells"], record["data"]["columns"]["x"]
    return CellFields(tuple(genes), **{**told, "labels": tuple(told["labels"])})


def image(record: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape of the picture that a datum of the first field is, if it is one; old records do not say it."""
    data, shape = record["data"], tuple(record["batch"]["shapes"][0])
    recorded = data["image"] if "image" in data else image_of(data["name"], shape)
    return None if recorded is None else tuple(recorded)


def record_data(data: Any) -> tuple[str, ...]:
    """What the record says of where data are: files with absolute paths, or nothing for data given from Python."""
    sources = data if isinstance(data, list | tuple) else (data,)
    return tuple(str(absolute(s)) for s in sources) if all(isinstance(s, str | Path) for s in sources) else ()


def _about(data: Data) -> dict[str, Any]:
    return {
        "name": data.name,
        "sha256": data.sha256,
        "rows": [data.lengths[split] for split in SPLITS],
        "binarize": data.binarize,
        "columns": {name: list(names) for name, names in data.columns.items()},
        "range": list(data.extent().range),
        "image": None if data.image is None else list(data.image),
        **({"stream": data.about()} if isinstance(data, Stream) else {}),
    }


def _two(data: Data, pair: Pair) -> tuple[Batch, Batch]:
    """Training rows, and as many with other values in every field that is not constant."""
    device = next((t.device for _, t in owned(pair.model, pair.guide, pair.borrower)), torch.device("cpu"))
    rows = tuple(x.to(device) for x in data.first(FEW))
    return rows, tuple(x.flip(0) for x in rows)


def _copied(source: Source, folder: Path) -> dict[str, Any]:
    """What the record says of a source, whose file is copied into the run."""
    described = _described(source)
    if source.path is not None:
        write_bytes(folder / described["source"], source.path.read_bytes())
    return described


def _described(source: Source) -> dict[str, Any]:
    """A program's source as it is recorded; one file that holds both programs is copied once."""
    path = source.path
    name = None if path is None else f"sources/{path.stem}-{source.sha256[:8]}.py"
    return {
        "spec": source.spec,
        "path": None if path is None else str(path),
        "attribute": source.attribute,
        "sha256": source.sha256,
        "shipped": source.shipped,
        "source": name,
        "imports": dict(source.imports),
    }
