"""Draws of the guide as a NetCDF file that ArviZ opens: 0.23 as `InferenceData`, 1.x as a `DataTree`."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

import ppl_vae
from ppl_vae.programs import Pair, terms
from ppl_vae.programs.terms import Batch, sum_sites

CHUNK = 20
ATTRIBUTES = {
    "inference_library": "ppl_vae",
    "inference_library_version": ppl_vae.__version__,
    "sampling": "independent draws of the guide q(z|x), not of a Markov chain nor of the exact posterior",
}


@torch.no_grad()
def export_draws(pair: Pair, rows: Batch, numbers: Tensor, draws: int, path: Path) -> None:
    """Write `draws` independent draws of q(z|x) for each row, with what they imply.

    Groups: `posterior`, z ~ q(z|x) per latent site; `posterior_predictive`, x ~ p(x|z); `log_likelihood`,
    log p(x|z) per row; `observed_data`; `sample_stats`, log p(x, z) as `log_p` and log q(z|x) as `log_q`.
    Dimensions `(chain=1, draw, row, ...)`. The draws are the guide's, not a Markov chain's and not the exact
    posterior's: R-hat and effective sample sizes say nothing about them, and the attributes say so.

    Args:
        numbers: the rows' numbers in the data, for the coordinate `row`.
    """
    parts = [_chunk(pair, rows, min(CHUNK, draws - start)) for start in range(0, draws, CHUNK)]
    groups = {
        group: {name: torch.cat([part[group][name] for part in parts])[None] for name in parts[0][group]}
        for group in parts[0]
    }
    coords = {"chain": np.zeros(1, int), "draw": np.arange(draws), "row": numbers.cpu().numpy()}
    tree = {f"/{group}": _dataset(arrays, coords) for group, arrays in groups.items()}
    t = terms(pair.model, pair.guide, rows)
    observed = {site: t.by_row(site, x)[0] for site, x in t.observed.items() if x.numel()}
    tree["/observed_data"] = _dataset(observed, {"row": coords["row"]})
    encoding = {group: {name: {"zlib": True, "complevel": 1} for name in ds.data_vars} for group, ds in tree.items()}
    beside = path.with_name(f".{path.name}.part")
    try:
        xr.DataTree.from_dict(tree).to_netcdf(beside, engine="h5netcdf", encoding=encoding)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _chunk(pair: Pair, rows: Batch, draws: int) -> dict[str, dict[str, Tensor]]:
    """One chunk of draws; every array is `(draws, B, ...)`."""
    t = terms(pair.model, pair.guide, rows, draws)
    predicted = {site: t.by_row(site, t.p[site].sample()) for site in t.log_lik}
    return {
        "posterior": {site: t.layouts[site].rows_first(z, t.q[site]) for site, z in t.values.items()},
        "posterior_predictive": {site: x for site, x in predicted.items() if x.numel()},
        "log_likelihood": t.log_lik,
        "sample_stats": {"log_p": sum_sites(t.log_prior) + sum_sites(t.log_lik), "log_q": sum_sites(t.log_q)},
    }


def _dataset(arrays: dict[str, Tensor], coords: dict[str, np.ndarray]) -> xr.Dataset:
    """Arrays whose first dimensions are those of `coords`; the others are named after the site."""
    variables = {}
    for name, x in arrays.items():
        extra = [f"{name}_dim_{i}" for i in range(x.dim() - len(coords))]
        variables[name] = ((*coords, *extra), x.cpu().numpy())
    return xr.Dataset(variables, coords, ATTRIBUTES)
