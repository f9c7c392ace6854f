"""What a report shows of a run, gathered: what other verbs have left there, and what is quickly computed."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import read_json
from ppl_vae.data.builtin import BUILTIN
from ppl_vae.programs import Pair
from ppl_vae.programs.notation import factors
from ppl_vae.programs.scores import Batch
from ppl_vae.reports import figures, latent_plane, plates, report_figures
from ppl_vae.reports.run_page import Shown
from ppl_vae.runs.latent import Decoder
from ppl_vae.runs.opening import moved, rows_of
from ppl_vae.runs.run import Run
from ppl_vae.runs.sampling import reconstructed, sampled
from ppl_vae.verbs.compare import compare
from ppl_vae.verbs.evaluate import evaluate
from ppl_vae.verbs.score import score

FEW = 8
"""Rows that the programs are read from, and latent dimensions that are varied."""
SCORED, DRAWN = 200, 1000
"""Rows of a table that are scored, and rows that are drawn to be seen beside it."""
VERBS = {"evaluate": ("bounds", "evaluation"), "compare": ("estimators", "comparison")}
"""The verbs whose results are shown, with the section that says so if they are not there."""
KEPT = {
    "bounds": {
        "evaluate.svg": "Each row's log p(x) and ELBO, and the parts of the gap between them; beside it, the means."
    },
    "latent": {
        "latent_use.svg": "What each dimension carries; draws of q(z) beside draws of p(z); correlations of E[z|x]."
    },
    "calibration": {
        "calibration.svg": "Ranks of the latents of rows that the model drew: uniform where q(z|x) is the posterior.",
        "predictive.svg": "Statistics of the rows beside those of rows drawn anew from their q(z|x).",
    },
    "estimators": {
        "compare.svg": "Each estimator's value with its error, and the variance of its gradient against its time."
    },
}
"""The figures that verbs leave in a run, by the section that shows them, and what each shows."""


def shown(
    run: Run, plane: str, *, quick: bool, rows: int, seed: int, progress: bool, data: Any, **opening: Any
) -> Shown:
    """All that a report shows of one run.

    Args:
        plane: the id of its plane in the page.
        quick: leave out what `evaluate` and `compare` have not left in the run.
        rows: how many test rows are put into the plane of the latent space.
        opening: as for `Run.pair`.
    """
    with run.isolated(seed):
        pair = run.pair(**opening)
        read = rows_of(run, pair, data, None, test=data is None, force=opening["force"])
        batch = moved(run, read.first(rows))
        few = tuple(x[:FEW] for x in batch)
        found = Shown(run, (factors(pair.model, few, run.rules.fields), factors(pair.guide, few, run.rules.fields)))
        found.plane = plane
        diagram = "The programs as plate diagrams: an arrow goes from a draw to what depends on it."
        found.draw("fitted", plates.plates(pair.model, few, pair.guide), diagram)
    found.draw("learning", figures.learning_curves(run.metrics), "ELBO, rate and distortion over epochs.")
    options = {"seed": seed, "progress": progress, "data": data, **opening}
    for verb in (evaluate, compare):
        _part(found, VERBS[verb.__name__][0], partial(_told, found, verb, quick, options))
    for section, kept in KEPT.items():
        for name, text in kept.items():
            if (run.folder / name).is_file() and section not in found.left_out:
                found.draw(section, run.folder / name, text)
    with run.isolated(seed):
        _part(found, "latent", lambda: _latent(found, pair, batch, read.numbers[: len(batch[0])].numpy()))
    if run.image is not None:
        _part(found, "pictures", lambda: _pictures(found, data, seed=seed, **opening))
    if run.schema is not None:
        _part(found, "rows", lambda: _rows(found, data, seed=seed, **opening))
    return found


def _part(found: Shown, section: str, make: Callable[[], None]) -> None:
    try:
        make()
    except InputError as error:
        found.left_out[section] = str(error)


def _told(found: Shown, verb: Callable[..., Any], quick: bool, options: Mapping[str, Any]) -> None:
    """What a verb says of the best step; it is asked where the run does not hold that, unless it has to be quick."""
    name = verb.__name__
    path = found.run.folder / f"{name}.json"
    there = path.is_file() and path.with_suffix(".svg").is_file()
    if not there or read_json(path)["step"] != found.run.step("best"):
        if quick:
            raise InputError(f"ppl-vae {name} {found.run.folder} adds it")
        verb(found.run, **options)
    setattr(found, VERBS[name][1], read_json(path))


def _latent(found: Shown, pair: Pair, batch: Batch, numbers: np.ndarray) -> None:
    """The plane of the latent space; and of pictures, single dimensions varied."""
    run, decoder = found.run, Decoder(found.run, pair, batch)
    codes = decoder.codes()
    plane = latent_plane.Plane.of(codes.z)
    decoded = decoder(torch.as_tensor(plane.nodes).to(decoder.z)).cpu().numpy()
    columns = run.rules.columns.get(run.rules.fields[0], ())
    arrays, names = (codes.x, codes.again, decoded), None
    values = [x for each in arrays if (x := figures.as_images(each, run.image)) is not None]
    if not values:
        if codes.x.shape[1:] != (len(columns),):
            raise InputError("a datum is neither a picture nor a row of named columns: there is nothing to show of it")
        most = latent_plane.MOST_VALUES
        values, names = [x[:, :most] for x in arrays], columns[:most]
    x, again, at_nodes = values
    labels = _labels(run, numbers)
    found.interactive["latent"] = Markup(
        latent_plane.latent_plane(plane, x, again, at_nodes, labels, numbers, names, found.plane)
    )
    if names is None:
        order = _by_rate(found, codes.names, codes.z)[:FEW]
        ways = decoder.traversals(order)
        pictures = figures.as_images(ways.reshape(-1, *ways.shape[2:]), run.image)
        assert pictures is not None
        drawn = report_figures.traversals(
            pictures.reshape(*ways.shape[:2], *pictures.shape[1:]), [codes.names[j] for j in order]
        )
        found.draw(
            "latent", drawn, "E[x|z] as one dimension of one row's code moves from −2.5 to 2.5 sd around the mean."
        )


def _by_rate(found: Shown, names: Sequence[str], z: np.ndarray) -> list[int]:
    """The dimensions, those of the highest rate first; where it is not known, those whose codes vary most."""
    told = found.evaluation or {}
    rates = dict(zip(told.get("dimensions", ()), told.get("rate_by_dimension", ()), strict=False))
    known = [rates.get(name) for name in names]
    size = z.var(0) if None in known else np.array(known, dtype=float)
    return [int(j) for j in np.argsort(-size)]


def _labels(run: Run, numbers: np.ndarray) -> np.ndarray | None:
    """The class of each row, where the data are a built-in set."""
    spec = run.config.data
    return BUILTIN[spec[0]].labels()[numbers] if len(spec) == 1 and spec[0] in BUILTIN else None


def _pictures(found: Shown, data: Any, **opening: Any) -> None:
    run = found.run
    values, again, _ = reconstructed(run, data, **opening)
    for site, x in values.items():
        images, images_again = (figures.as_images(each, run.image) for each in (x, again[site]))
        if images is not None and images_again is not None:
            drawn = figures.reconstructions(images, images_again, "E[x|z]")
            found.draw("pictures", drawn, "Test rows, and below each E[x|z] at a draw of q(z|x).")
    for show, what in (("draws", "x ~ p(x|z)"), ("means", "E[x|z]")):
        made = sampled(run, 32, show, **opening)  # type: ignore[arg-type]
        images = figures.as_images(made.arrays[made.observed[0]], run.image)
        if images is not None:
            found.draw("pictures", figures.image_grid(images, f"{what}, z ~ p(z)"), f"Samples: {what}, z ~ p(z).")


def _rows(found: Shown, data: Any, seed: int, **opening: Any) -> None:
    """The columns of a table beside those of rows drawn by the model, and its least likely rows."""
    run = found.run
    schema = run.schema
    assert schema is not None
    given = run.given(run.pair(**opening).model)
    test = rows_of(run, run.pair(**opening), data, None, test=data is None, force=opening["force"])
    if not given:
        anew = sampled(run, DRAWN, seed=seed, **opening)
        frames = (schema.decode(x) for x in (test.batch[0].numpy(), anew.arrays[anew.observed[0]]))
        what = f"Shares of {len(test.numbers)} test rows beside those of {DRAWN} rows that the model draws."
        found.draw("rows", report_figures.columns(*frames), what)
    found.unlikely = score(run, data, rows=SCORED, seed=seed, **opening)["least_likely"]
