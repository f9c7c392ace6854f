"""A table with missing cells, filled by a run."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_vae.core.errors import InputError
from ppl_vae.core.frames import index_of, is_frame, shortest
from ppl_vae.data import Data
from ppl_vae.data.columns import is_table, read_table
from ppl_vae.data.source import gather
from ppl_vae.evidence.completion import complete
from ppl_vae.evidence.imputed import Imputed
from ppl_vae.evidence.on_run import name_of
from ppl_vae.runs.opening import rows_of, running
from ppl_vae.runs.run import Run
from ppl_vae.runs.wording import as_written, numbered
from ppl_vae.training.progress import Progress

if TYPE_CHECKING:
    import pandas


def impute_on_run(
    run: Run,
    data: Any,
    scale: float | None,
    *,
    draws: int,
    num_samples: int,
    chain_rows: int,
    seed: int,
    progress: bool,
    checkpoint: int | str = "best",
    **opening: Any,
) -> Imputed:
    """Fill the missing cells of `data`, or of all rows of the run's own data.

    Raises:
        InputError: the run knows no missing cells, can't be opened, or its rows can't be read.
    """
    if not run.rules.missing:
        raise InputError(
            f"{run.folder} was fitted without missing cells, so that it can't fill any: fit a table to data with empty "
            "cells, --model table --guide table --missing nan"
        )
    with run.isolated(seed), running(f"the pair of {run.folder}"):
        pair = run.pair(checkpoint=checkpoint, **opening)
        read = rows_of(run, pair, data, scale, test=False, force=opening.get("force", False))
        batch = tuple(x.to(run.config.device) for x in read.batch)
        with Progress(progress, int(batch[0].isnan().any(1).sum())) as bar:

            def advance(rows: int) -> None:
                for _ in range(rows):
                    bar.advance()

            found = complete(
                pair.model, pair.guide, batch, draws, num_samples=num_samples, chain_rows=chain_rows,
                advance=advance, say=bar.say,
            )  # fmt: skip
    x = read.batch[0]
    given, decode = _as_given(run, data, x)
    return Imputed(
        data=name_of(run, data),
        step=run.step(checkpoint),
        seed=seed,
        num_samples=num_samples,
        index=index_of(data, read.numbers),
        given=given,
        names=numbered(run, tuple(x.shape[1:])),
        missing=x.isnan().numpy(),
        found=found,
        decode=decode,
        scale=scale or run.rules.scale or 1.0,
    )


def _as_given(
    run: Run, data: Any, read: torch.Tensor
) -> "tuple[pandas.DataFrame, Callable[[np.ndarray], pandas.DataFrame]]":
    """The table as it was given, in its own order and types; and from numbers of the run's columns to such a table.

    The cells of a csv, which are texts, are there what the run's schema says of them; columns that it leaves out, such
    as identifiers, stay texts.
    """
    import pandas

    names, schema = numbered(run, tuple(read.shape[1:])), run.schema

    def decode(x: np.ndarray) -> pandas.DataFrame:
        return pandas.DataFrame(x, columns=names) if schema is None else as_written(schema, schema.decode(x))

    source: Any = data if data is not None else list(run.config.data)
    if is_frame(source):
        return source.rename(columns=str), decode
    if isinstance(source, Data) or not source:
        return decode(shortest(read.cpu().numpy())), decode
    if schema is not None and is_table(source):
        table = read_table(source)
        known = decode(schema.encode(table.chosen, table.where))
        return table.chosen.assign(**{name: known[name] for name in schema.names}), decode
    _, fields, raws = gather(source)
    first = run.rules.fields[0]
    raw = raws[fields.index(first) if first in fields else 0]
    return pandas.DataFrame(
        raw.values.numpy(), columns=list(raw.names) if run.rules.columns.get(first) else names
    ), decode
