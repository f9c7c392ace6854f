"""NetCDF files that ArviZ opens, 0.23 as `InferenceData`, 1.x as a `DataTree`: draws of latents, comparisons."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import h5netcdf
import numpy as np
import torch
import xarray as xr
from torch import Tensor
from xarray.backends import H5NetCDFStore

import ppl_vae
from ppl_vae.core.files import write_bytes
from ppl_vae.diagnostics.results import Estimator, SideBySide
from ppl_vae.evidence.evaluation import Evaluation
from ppl_vae.evidence.log_px import METHODS
from ppl_vae.evidence.posterior import Posterior, by_hmc, resampled
from ppl_vae.programs import Pair, score, terms
from ppl_vae.programs.room import check_room
from ppl_vae.programs.scores import Batch, Terms, sum_sites

CHUNK = 20
LIBRARY = {"inference_library": "ppl_vae", "inference_library_version": ppl_vae.__version__}
Way = Literal["guide", "resampled", "hmc"]
SAMPLING: dict[Way, str] = {
    "guide": "independent draws of the guide q(z|x), not of a Markov chain nor of the exact posterior",
    "resampled": "draws of the posterior p(z|x) by importance resampling of draws of the guide, not of a Markov chain; "
    "khat and ess in sample_stats say of which rows they are unreliable",
    "hmc": "draws of the posterior p(z|x) by Hamiltonian Monte Carlo begun at draws of the guide, evenly spaced along "
    "its chains; rhat in sample_stats, over all transitions, says of which rows they are unreliable",
}


@torch.no_grad()
def export_draws(
    pair: Pair, rows: Batch, numbers: Tensor, draws: int, path: Path, posterior: Way = "guide"
) -> list[int] | None:
    """Write `draws` draws of z for each row, with what they imply, and return the numbers of the unreliable rows.

    Groups: `posterior`, z per latent site; `posterior_predictive`, x ~ p(x|z), which `arviz.plot_ppc` shows beside the
    data; `log_likelihood`, log p(x|z) per row; `observed_data`; `sample_stats`, log p(x, z) as `log_p` and log q(z|x)
    as `log_q`. Dimensions `(chain, draw, row, ...)`.

    By default the draws are those of the guide, in one chain, though they are no Markov chain's and not the exact
    posterior's: R-hat and effective sample sizes say nothing about them, the attributes say so, and None is returned.
    Draws of the posterior come with `reliable` per row in `sample_stats`, and what it rests on: `khat` and `ess` of
    `resampled`, `rhat` and `acceptance` of `hmc`, whose draws stand by chain. The attribute `unreliable_rows` names
    the rows, or says none.

    Args:
        numbers: the rows' numbers in the data, for the coordinate `row`.
        posterior: what is drawn from: q(z|x), or p(z|x) by `evidence.posterior`.

    Raises:
        InputError: as `resampled` and `by_hmc`; or there is no memory for so many draws.
    """
    count = len(rows[0])
    check_room((), [x[:1] for x in rows], draws * count, f"{draws} draws for each of {count} rows")
    t = terms(pair.model, pair.guide, rows)
    found = None if posterior == "guide" else _posterior(pair, rows, draws, posterior)
    parts = []
    for start in range(0, draws, CHUNK):
        size = min(CHUNK, draws - start)
        drawn = (
            terms(pair.model, pair.guide, rows, size) if found is None else _scored(pair, rows, t, found, start, size)
        )
        parts.append(_chunk(drawn))
    chains = found.chains if found else 1
    groups = {
        group: {
            name: torch.cat([part[group][name] for part in parts]).unflatten(0, (chains, -1))
            for name in parts[0][group]
        }
        for group in parts[0]
    }
    coords = {"chain": np.arange(chains), "draw": np.arange(draws // chains), "row": numbers.cpu().numpy()}
    unreliable = None if found is None else numbers.cpu()[~found.reliable.cpu()].tolist()
    attributes = LIBRARY | {"sampling": SAMPLING[posterior]}
    if unreliable is not None:
        attributes["unreliable_rows"] = ", ".join(map(str, unreliable)) or "none"
    tree = {f"/{group}": _dataset(arrays, coords, attributes) for group, arrays in groups.items()}
    if found is not None:
        each = found.diagnostics | {"reliable": found.reliable}
        stats = {name: ("row", x.cpu().numpy()) for name, x in each.items()}
        tree["/sample_stats"] = tree["/sample_stats"].assign(stats)
    observed = {site: t.by_row(site, x)[0] for site, x in t.observed.items() if x.numel()}
    tree["/observed_data"] = _dataset(observed, {"row": coords["row"]}, attributes)
    _write(tree, path)
    return unreliable


def _posterior(pair: Pair, rows: Batch, draws: int, way: Way) -> Posterior:
    return (resampled if way == "resampled" else by_hmc)(pair.model, pair.guide, rows, draws)


def _scored(pair: Pair, rows: Batch, like: Terms, found: Posterior, start: int, draws: int) -> Terms:
    """The terms at some of the posterior's draws."""
    values = {
        site: like.layouts[site].rows_back(z[start : start + draws], (like.q | like.p)[site])
        for site, z in found.values.items()
    }
    return score(pair.model, pair.guide, rows, values)


def write_comparison(results: Mapping[int, SideBySide], numbers: Tensor, path: Path) -> None:
    """Write what estimators gave at each checkpoint, by the step of the checkpoint.

    Groups: `sample_stats`, the mean over rows of each draw, `(chain=1, draw, checkpoint, estimator)`; `constant_data`,
    `row_mean` and `row_variance` over draws, `(checkpoint, estimator, row)`; `gradient_variance` and `gradient_snr`,
    `(checkpoint, estimator, tensor)`; `seconds_per_step` and `peak_bytes_per_step`.

    Args:
        numbers: the rows' numbers in the data.
    """
    first = next(iter(results.values()))
    names = list(first.estimators)

    def stacked(key: str) -> np.ndarray:
        each = [torch.stack([found.arrays[name][key] for name in names]) for found in results.values()]
        return torch.stack(each).cpu().numpy()

    def listed(number: Callable[[Estimator], Any]) -> np.ndarray:
        return np.array([[number(found.estimators[name]) for name in names] for found in results.values()])

    coords = {"checkpoint": list(results), "estimator": names}
    tensors = list(first.estimators[names[0]].gradient_variance_by_tensor)
    draws = np.moveaxis(stacked("draw_mean"), -1, 0)[None]
    by = ("checkpoint", "estimator")
    tree = {
        "/sample_stats": xr.Dataset(
            {"value": (("chain", "draw", *by), draws)}, {"chain": [0], "draw": range(draws.shape[1]), **coords}
        ),
        "/constant_data": xr.Dataset(
            {
                "row_mean": ((*by, "row"), stacked("row_mean")),
                "row_variance": ((*by, "row"), stacked("row_variance")),
                "gradient_variance": ((*by, "tensor"), listed(lambda e: list(e.gradient_variance_by_tensor.values()))),
                "gradient_snr": ((*by, "tensor"), listed(lambda e: list(e.gradient_snr_by_tensor.values()))),
                "seconds_per_step": (by, listed(lambda e: e.seconds_per_step)),
                "peak_bytes_per_step": (by, listed(lambda e: e.peak_bytes_per_step)),
                "target": ("estimator", [e.target for e in first.estimators.values()]),
            },
            {**coords, "row": numbers.cpu().numpy(), "tensor": tensors},
        ),
    }
    for group in tree.values():
        group.attrs.update(LIBRARY | {"sampling": "independent draws of each estimator at fixed parameters and data"})
    _write(tree, path)


def write_evidence(found: Evaluation, path: Path) -> None:
    """Write what an evaluation found of each row, `(row,)`, in the group `constant_data`.

    `log_px`, its error `log_px_se` and the k-hat of its weights `log_px_khat`, whether it is `reliable`, the `method`;
    of importance sampling from the guide `elbo`, `elbo_se`, `iwae`, `khat` and `ess`; the gap's parts `approximation`
    and `amortization` with their errors, NaN in rows whose gap was not explained. All errors are over draws.
    """
    w = found.found.weighted
    columns: dict[str, Any] = {
        "log_px": found.found.value,
        "log_px_se": found.found.se,
        "log_px_khat": found.found.khat,
        "reliable": found.found.reliable,
        "elbo": w.elbo,
        "elbo_se": w.elbo_se,
        "iwae": w.log_px,
        "khat": w.khat,
        "ess": w.ess,
    }
    if found.gap is not None:
        parts = ("approximation", "approximation_se", "amortization", "amortization_se")
        for name in parts:
            column = torch.full_like(found.found.value, torch.nan)
            column[found.gap_rows] = getattr(found.gap, name).to(column)
            columns[name] = column
    variables = {name: ("row", x.cpu().numpy()) for name, x in columns.items()}
    variables["method"] = ("row", [METHODS[code] for code in found.found.method.tolist()])
    dataset = xr.Dataset(variables, {"row": found.numbers.cpu().numpy()}, LIBRARY | {"errors": "over draws"})
    _write({"/constant_data": dataset}, path)


def _write(tree: Mapping[str, xr.Dataset], path: Path) -> None:
    """Write the groups by way of memory: HDF5 ends the process where a disk is full."""
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        for group, dataset in tree.items():
            for x in dataset.data_vars.values():
                x.encoding = {"zlib": True, "complevel": 1} if x.dtype.kind in "fiu" else {}
            dataset.dump_to_store(H5NetCDFStore(file, group=group, mode="a"))
    write_bytes(path, buffer.getvalue())


def _chunk(t: Terms) -> dict[str, dict[str, Tensor]]:
    """What one chunk of draws implies; every array is `(draws, B, ...)`."""
    predicted = {site: t.by_row(site, t.p[site].sample()) for site in t.log_lik}
    return {
        "posterior": {site: t.layouts[site].rows_first(z, t.q[site]) for site, z in t.values.items()},
        "posterior_predictive": {site: x for site, x in predicted.items() if x.numel()},
        "log_likelihood": t.log_lik,
        "sample_stats": {"log_p": sum_sites(t.log_prior) + sum_sites(t.log_lik), "log_q": sum_sites(t.log_q)},
    }


def _dataset(arrays: dict[str, Tensor], coords: dict[str, np.ndarray], attributes: dict[str, str]) -> xr.Dataset:
    """Arrays whose first dimensions are those of `coords`; the others are named after the site."""
    variables = {}
    for name, x in arrays.items():
        extra = [f"{name}_dim_{i}" for i in range(x.dim() - len(coords))]
        variables[name] = ((*coords, *extra), x.cpu().numpy())
    return xr.Dataset(variables, coords, attributes)
