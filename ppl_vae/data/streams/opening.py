"""`open_stream`: files that a user names, as a stream."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_vae.core import memory
from ppl_vae.core.errors import InputError
from ppl_vae.data.cells import CellFields
from ppl_vae.data.dataset import check_options, check_scale
from ppl_vae.data.protocol import ALONE, Others
from ppl_vae.data.raw import Raw, as_raw
from ppl_vae.data.source import Spec, field_names
from ppl_vae.data.streams.blocks import Blocks, edges_of
from ppl_vae.data.streams.cells import stores_of
from ppl_vae.data.streams.choice import check_no_run, kind_of, specs_of
from ppl_vae.data.streams.field import Field, field_of
from ppl_vae.data.streams.stores import STORES, Store
from ppl_vae.data.streams.stream import Stream


def open_stream(
    source: Any,
    *,
    scale: float | None = None,
    missing: str = "error",
    binarize: str | None = None,
    split_seed: int = 0,
    valid: float = 0.1,
    test: float = 0.1,
    cells: CellFields | None = None,
    recorded: Mapping[str, Any] | None = None,
    others: Others = ALONE,
    look: bool = True,
) -> Stream:
    """Files as a stream. Arguments as for `open_data`.

    Args:
        source: files or folders of which `choice.is_streamed` says that they are a stream.
        cells: which parts of single-cell data the fields are.
        recorded, others: as for `Stream`.
        look: read all rows now, to check them, unless they are known. Without it, `Stream.chunks` does that.

    Raises:
        InputError: what can't be read, is not finite, or does not fit the options.
    """
    binarize = "none" if binarize is None else binarize
    specs = specs_of(source)
    assert specs is not None
    check_scale("", scale)
    check_options(missing, binarize, valid, test)
    if cells is None:
        stores = {name: _store(spec) for name, spec in zip(field_names(specs), specs, strict=True)}
        keys = {name: spec.key for name, spec in zip(stores, specs, strict=True)}
    else:
        stores, keys = stores_of(specs[0], cells), {}
    fields = list[Field]()
    for name, store in stores.items():
        first = not fields
        single = not first and keys.get(name) is not None and len(store.columns) == 1
        own = {"scale": scale, "missing": missing == "nan", "binarize": binarize}
        fields.append(field_of(name, store, first=first, single=single, **own))  # type: ignore[arg-type]
    rows = {each.store.rows for each in fields}
    if len(rows) > 1:
        told = ", ".join(f"{each.store.rows} in {each.where}" for each in fields)
        raise InputError(f"all fields need the same number of rows, but there are {told}")
    width = sum(math.prod(each.shape) for each in fields)
    parts = next((each.store.edges for each in fields if each.store.edges is not None), None)
    blocks = Blocks(edges_of(rows.pop(), width, parts), width, int(split_seed), valid, test)
    name = ", ".join(dict.fromkeys(os.path.basename(os.path.normpath(spec.path)) for spec in specs))
    memory.check_memory(
        4 * 4 * int(blocks.sizes.max()) * width,
        f"{name} has a part of {blocks.sizes.max()} rows, which are read together and take",
        "write it with smaller row groups",
    )
    stream = Stream(name, tuple(fields), blocks, binarize, recorded, others)
    stream.agree()
    if not stream.checked and (look or recorded is not None or missing == "nan"):
        stream.look()
    return stream


def whole_folder(name: str, spec: Spec) -> Raw:
    """All rows of a folder as a field of this name.

    Raises:
        InputError: it holds no data, or more than fits into memory.
    """
    check_no_run(spec)
    store = _store(spec)
    memory.check_memory(
        2 * store.rows * math.prod(store.shape) * max(4, store.dtype.itemsize),
        f"the {store.rows} rows of {spec.path}, which are read at once, take",
        "give fewer of them",
    )
    return as_raw(f"field {name} ({spec.path})", store.read(0, store.rows), store.columns)


def _store(spec: Spec) -> Store:
    kind = kind_of(spec)
    assert kind is not None
    try:
        return STORES[kind](Path(spec.path).expanduser(), spec.path, spec.key)
    except InputError:
        raise
    except Exception as error:  # whatever a store raises is about the file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{spec.path}: cannot be read as {kind}; write it anew\n{reason}") from error
