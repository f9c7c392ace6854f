"""The programs of a run, built as they were, before any weights are loaded; and its data, opened as they were."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data import Data
from ppl_vae.data.source import there
from ppl_vae.data.streams import Stream
from ppl_vae.programs import Pair, resolve_pair
from ppl_vae.programs.find import Spec
from ppl_vae.programs.scores import Batch
from ppl_vae.programs.standardize import resolve_standardized
from ppl_vae.training import settings
from ppl_vae.training.prepare import open_config_data, split_objective, to_device

if TYPE_CHECKING:
    from ppl_vae.runs.run import Run


def build(
    run: "Run",
    named: Mapping[str, Spec | None],
    example: Batch | None = None,
    moments: tuple[Tensor, Tensor] | None = None,
    *,
    set: Mapping[str, Any],
    trust: bool = False,
    force: bool = False,
) -> Pair:
    """Model and guide of a run for `example`, or else for zeros of the recorded shapes. Raises as `Run.pair`.

    Args:
        named: the programs that the user names again, by kind.
        moments: by which columns are standardized, where the run does that; weights that are loaded hold them.
        set: the settings again that were given from Python and have no text.
    """
    specs = run.trust.programs(named, trust=trust, force=force)
    chosen, _ = split_objective(settings.restore(run.config.set, set, run.folder))
    batch = run.zeros(run.record["batch"]["rows"]) if example is None else example
    if run.config.standardize:
        pair = resolve_standardized(specs["model"], specs["guide"], batch, chosen, moments)
    else:
        pair = resolve_pair(specs["model"], specs["guide"], batch, chosen)
    to_device(pair, run.config.device)
    return pair


def reopened(run: "Run", data: Any = None, *, force: bool = False) -> Data:
    """The data of a run. Arguments and errors as of `Run.data`."""
    config, known = run.config, run.record["data"] | run.record["data"].get("stream", {})
    if data is None:
        if not config.data:
            raise InputError(f"{run.folder} was fitted to data given from Python: give data= again")
        if gone := next((spec for spec in config.data if not there(spec)), None):
            raise InputError(f"the data of {run.folder} is not there any more ({gone}): give --data FILE")
    if isinstance(data, Data):
        found = data
    else:
        how = replace(config, stream="on" if "stream" in run.record["data"] else "off")
        found = open_config_data(how, data, run.rules.schema, None if force else known)
    if isinstance(found, Stream) and found.blocks.digest != known.get("blocks"):
        raise InputError(
            f"{found.name} has other rows than {run.folder} was fitted to, or the same rows in other row groups, "
            "so that others would be held out: give the files as they were"
        )
    if not force and found.sha256 != known["sha256"]:
        raise InputError(f"{found.name} is not the data that {run.folder} was fitted to (its hash differs): --force")
    return found
