"""The codes of a run's rows: q(z|x) as arrays, and the names that they have in a table or an AnnData."""

from typing import Any

import numpy as np
import torch
from pyro.distributions import Categorical, OneHotCategorical
from torch import Tensor

from ppl_vae.core.errors import InputError, check_seeds
from ppl_vae.core.frames import Arrays
from ppl_vae.core.randomness import seed_torch
from ppl_vae.distributions.wrappers import family
from ppl_vae.graphs.calls import compilable
from ppl_vae.programs import Pair, Terms, terms
from ppl_vae.programs.passes import mean_of
from ppl_vae.programs.scores import Batch, ProgramLike
from ppl_vae.runs.opening import moved, rows_of, running
from ppl_vae.runs.run import Run
from ppl_vae.training.distributed import helpers


def encoded(
    run: Run, data: Any = None, scale: float | None = None, draws: int | None = None, seed: int = 0, **opening: Any
) -> tuple[Arrays, np.ndarray]:
    """Mean and standard deviation of q(z|x) for every row, in the order of the data: `<site>_mean`, `<site>_sd`.

    Beside them come the numbers of the rows.

    Of a categorical site it is the probability of each class, `<site>_probs`, `(N, ..., classes)`. With several latent
    sites each is conditional on a draw of those before it.

    Args:
        data: rows, one or more, as `open_data` reads them; by default all of the run's. Columns go by their names,
            and scale, binarization and missing cells by the rules of the run.
        scale: divides the first field of `data`, in place of the run's scale.
        draws: take mean and standard deviation over so many draws, for a guide without a mean in closed form (a flow).
        opening: as for `Run.pair`.

    Raises:
        InputError: other columns or shapes than the run's, or a row outside the support of its likelihood.
    """
    check_seeds(seed=seed)
    if draws is not None and draws < 2:
        raise InputError(f"draws is {draws}: a standard deviation needs at least 2")
    with run.isolated(seed), torch.no_grad():
        pair = run.pair(**opening)
        rows = rows_of(run, pair, data, scale, test=False, force=opening.get("force", False))
        here = helpers()
        seed_torch(here.seed(seed))

        def work(part: slice) -> Arrays:
            found: dict[str, list[Tensor]] = {}
            for batch in rows.part(part).batches(run.config.batch_size):
                for name, x in codes_of(run, pair, batch, draws).items():
                    found.setdefault(name, []).append(x.cpu())
            return {name: torch.cat(parts).numpy() for name, parts in found.items()}

        return here.divided(len(rows.numbers), work, last=True), rows.numbers.numpy()


def codes_of(run: Run, pair: Pair, batch: Batch, draws: int | None = None) -> dict[str, Tensor]:
    """What `encoded` gives, of one batch and as tensors."""
    with running(f"the pair of {run.folder}"):
        return _codes(pair.model, pair.guide, moved(run, batch), draws)


def code_names(codes: Arrays) -> dict[str, list[str]]:
    """The columns of a table of `encoded`: z1, ... and z1_sd, ... of the only site z; of several sites z_1, ...

    The probabilities of classes, whose codes count from 0, are z_prob_0, ...
    """
    parts = {name: name.rpartition("_") for name in codes}
    alone = len({site for site, *_ in parts.values()}) == 1
    found: dict[str, list[str]] = {}
    for name, (site, _, what) in parts.items():
        x, stem = codes[name], site if alone and not site[-1].isdigit() else f"{site}_"
        end = "_sd" if what == "sd" else ""
        if what == "probs" and x.ndim == 2:
            found[name] = [f"{site}_prob_{code}" for code in range(x.shape[1])]
        elif x.ndim <= 2:
            found[name] = [f"{stem}{i + 1}{end}" for i in range(x.shape[1])] if x.ndim == 2 else [site + end]
    return found


def obsm_names(codes: Arrays) -> dict[str, str]:
    """What an AnnData calls the arrays of `encoded`: X_ppl_vae, its means, X_ppl_vae_sd and so on of the only site."""
    parts = {name: name.rpartition("_") for name in codes}
    alone = len({site for site, *_ in parts.values()}) == 1
    return {
        name: "_".join(["X_ppl_vae", *([] if alone else [site]), *([] if what == "mean" else [what])])
        for name, (site, _, what) in parts.items()
    }


@compilable
def _codes(model: ProgramLike, guide: ProgramLike, batch: Batch, draws: int | None) -> dict[str, Tensor]:
    t = terms(model, guide, batch, draws or 1)
    return {f"{site}_{name}": x for site in t.q for name, x in _summary(t, site, draws).items()}


def _summary(t: Terms, site: str, draws: int | None) -> dict[str, Tensor]:
    """What is told of q(z|x) at one site, a row each."""
    q = t.q[site]
    under = family(q)
    if isinstance(under, Categorical):
        each = [t.by_row(site, probs)[0] for probs in under.probs.unbind(-1)]
        return {"probs": torch.stack(each, -1)}
    if isinstance(under, OneHotCategorical):
        return {"probs": t.by_row(site, under.probs)[0]}
    if draws is None:
        if site in t.points and len(t.q) > 1:
            raise InputError(f"site {site!r}: a Delta of other draws has the spread of those: ask for draws")
        return {"mean": t.by_row(site, mean_of(site, q))[0], "sd": t.by_row(site, q.variance.sqrt())[0]}
    z = t.layouts[site].rows_first(t.values[site], q)
    if not z.is_floating_point():
        raise InputError(f"site {site!r}: {type(under).__name__} draws codes, of which there is no mean")
    return {"mean": z.mean(0), "sd": z.std(0)}
