"""The programs of a run, built as they were, before any weights are loaded."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ppl_vae.programs import Pair, resolve_pair
from ppl_vae.programs.find import Spec
from ppl_vae.programs.scores import Batch
from ppl_vae.programs.standardize import resolve_standardized
from ppl_vae.training import settings
from ppl_vae.training.prepare import split_objective, to_device

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
