"""`as_data`: what a user names as data, in memory or as a stream."""

from collections.abc import Mapping
from typing import Any

from ppl_vae.core.errors import InputError
from ppl_vae.data.cells import CellFields
from ppl_vae.data.columns import AnySchema
from ppl_vae.data.dataset import open_data
from ppl_vae.data.protocol import ALONE, Data, Others
from ppl_vae.data.source import Source
from ppl_vae.data.streams.choice import is_streamed
from ppl_vae.data.streams.opening import open_stream

USUAL = {"scale": None, "missing": "error", "binarize": None, "split_seed": 0, "valid": 0.1, "test": 0.1}


def as_data(
    source: Source | Data,
    schema: AnySchema | None = None,
    *,
    stream: str = "auto",
    recorded: Mapping[str, Any] | None = None,
    others: Others = ALONE,
    look: bool = True,
    **options: Any,
) -> Data:
    """`open_data(source, **options)`, or a `Stream` of it; or the `Data` that was given, which is ready.

    Args:
        stream: `on`, `off`, or `auto`: what does not fit well into memory, and folders; see `streams.choice`.
        recorded: what a run knows of its stream: files that are as they were are not read to be checked.
        others, look: who reads all rows of a stream, and whether now; see `streams.opening.open_stream`.

    Raises:
        InputError: as `open_data`; an option that data of this kind have settled themselves.
    """
    if not isinstance(source, Data):
        if others.gathered(is_streamed(source, schema, stream))[0]:  # they may see other amounts of memory
            cells = schema if isinstance(schema, CellFields) else None
            return open_stream(source, cells=cells, recorded=recorded, others=others, look=look, **options)
        return open_data(source, schema=schema, **options)
    for name, value in options.items():
        said_alike = name == "missing" or (name == "binarize" and value == source.binarize)
        if value != USUAL[name] and not said_alike:
            raise InputError(f"{source.name} is data that are read and split already: leave out {name}")
    return source
