"""The verb `check`."""

from typing import TYPE_CHECKING

from ppl_vae.training.config import Binarize, FitConfig, Missing
from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from ppl_vae.checks.pair import CheckReport


def check(
    model: o.Model,
    guide: o.Guide,
    data: o.Data,
    *,
    objective: o.Objective = FitConfig.objective,
    binarize: Binarize | None = FitConfig.binarize,
    scale: float | None = FitConfig.scale,
    standardize: bool = FitConfig.standardize,
    missing: Missing = FitConfig.missing,
    split_seed: int = FitConfig.split_seed,
    layer: o.Layer = None,
    library: o.Library = None,
    batch: o.Batch = None,
    set: o.Settings = (),
) -> "CheckReport":
    """Tell whether this pair is a VAE for this data: each finding names the site, the line and the fix.

    The exit code is 1 if it is not. In a test of your own: `report = check("mine.py", "mine.py", data)`, then
    `assert report.passed, str(report)`.
    """
    from ppl_vae import objectives
    from ppl_vae.checks.pair import check_pair
    from ppl_vae.data import as_data
    from ppl_vae.programs.resolution import parse_settings
    from ppl_vae.runs.cells import cells_asked, for_cells
    from ppl_vae.training.prepare import isolated, resolve_for, split_objective

    cells = cells_asked(model, data, layer, library, batch)
    if cells is not None:
        set = for_cells(cells, model, guide, {"set": set})[2]["set"]
    settings, own = split_objective(parse_settings(set))
    dataset = as_data(
        data, cells, look=standardize, binarize=binarize, scale=scale, missing=missing, split_seed=split_seed
    )
    with isolated(0):
        named = objectives.named(objective)
        made = named.make(own)
        example = dataset.first(1000)
        pair = resolve_for(
            dataset, model, guide, example, settings, standardize=standardize, missing=missing, objective=named.kind
        )
        return check_pair(pair, dataset, made, thorough=True)
