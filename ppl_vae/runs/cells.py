"""Whether data are single-cell data of which several parts are fields, and which parts."""

from collections.abc import Mapping
from typing import Any

from ppl_vae.core.errors import InputError
from ppl_vae.data.cells import CellFields, cell_fields, is_cells
from ppl_vae.training import settings


def cells_asked(model: Any, data: Any, layer: str | None, library: str | None, batch: str | None) -> CellFields | None:
    """The fields of one .h5ad or AnnData, where the model is `cells` or not named, or one of the options is given.

    None where the data are anything else; for another model, X alone is the field x.

    Raises:
        InputError: an option without such data; as `cell_fields`.
    """
    said = {"--layer": layer, "--library": library, "--batch": batch}
    option = next((name for name, given in said.items() if given is not None), None)
    if not is_cells(data):
        if option is not None:
            raise InputError(f"{option} is for one .h5ad file or an AnnData as data")
        return None
    if option is None and model not in (None, "cells"):
        return None
    return cell_fields(data, layer, library, batch)


def for_cells(cells: CellFields, model: Any, guide: Any, options: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Model, guide and options of a fit to these fields: `cells`, unless another is named, for so many batches."""
    batches = {"batches": len(cells.labels)} if cells.batch is not None else {}
    set = settings.values(options.get("set", ())) | batches
    return model or "cells", guide or "cells", {**options, "set": set}
