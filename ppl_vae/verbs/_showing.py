"""What a report shows of a run, gathered: what other verbs have left there, and what is quickly computed."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import read_json
from ppl_vae.core.frames import shortest
from ppl_vae.data import Data
from ppl_vae.data.builtin import BUILTIN
from ppl_vae.data.newrows import Rows
from ppl_vae.evidence.scoring import score_on_run
from ppl_vae.programs import Pair
from ppl_vae.programs.notation import factors
from ppl_vae.programs.scores import Batch
from ppl_vae.reports import figures, latent_plane, plates, report_figures
from ppl_vae.reports.result_shapes import check_result
from ppl_vae.reports.run_page import Shown
from ppl_vae.runs.latent import REACH, Decoder
from ppl_vae.runs.opening import moved, rows_of
from ppl_vae.runs.run import Run
from ppl_vae.runs.sampling import Show, reconstructed, sampled
from ppl_vae.runs.wording import LABEL, as_written, in_units, numbered
from ppl_vae.verbs.compare import compare
from ppl_vae.verbs.evaluate import evaluate

FEW = 8
"""Rows that the programs are read from, and latent dimensions that are varied."""
SCORED, DRAWN, PICTURES = 200, 1000, 32
"""Rows of a table that are scored, rows that are drawn to be seen beside it, and pictures that are drawn."""
VERBS = {"evaluate": ("bounds", "evaluation"), "compare": ("estimators", "comparison")}
"""The verbs whose results are shown, with the section that says so if they are not there."""
KEPT = (
    (
        "bounds", "elbo", "evaluate.svg",
        "Each row's log p(x) and ELBO, and the parts of the gap between them; beside it, the means.",
    ),
    (
        "bounds", "khat", "khat.svg",
        "The k-hat of each row, lowest first. Below 0.5 the error of a mean over its importance weights holds; above "
        "0.7 the mean itself can be far off. Where the guide's draws fail, log p(x) rests on better ones, if found.",
    ),
    (
        "latent", "verdict", "latent_use.svg",
        "What each dimension carries; draws of q(z) beside draws of p(z); correlations of E[z|x].",
    ),
    (
        "calibration", "calibration", "calibration.svg",
        "Ranks of the latents of rows that the model drew: uniform where q(z|x) is the posterior.",
    ),
    (
        "calibration", "predictive", "predictive.svg",
        "Statistics of the rows beside those of rows drawn anew from their q(z|x).",
    ),
    (
        "estimators", "estimators", "compare.svg",
        "Each estimator's value with its error, and the variance of its gradient against its time.",
    ),
)  # fmt: skip
"""Figures that verbs leave in a run: the section, the key of the results that a figure belongs to, its file, its text.

A figure of an older result, which the newer one does not hold, is not shown."""


def shown(
    run: Run, plane: str, *, quick: bool, rows: int, seed: int, progress: bool, data: Any, **opening: Any
) -> Shown:
    """All that a report shows of one run.

    Args:
        plane: the id of its plane in the page.
        quick: leave out what `evaluate` and `compare` have not left in the run.
        rows: how many test rows are put into the plane of the latent space.
        data: the data of the run again, where these were given from Python or were moved.
        opening: as for `Run.pair`.

    Raises:
        InputError: the run can't be opened, or its data are not there.
    """
    named = data is not None
    data = run.data(data, force=opening["force"]) if named else None
    with run.isolated(seed):
        pair = run.pair(**opening)
        read = rows_of(run, pair, data, None, test=True, force=opening["force"])
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
    told = {**(found.evaluation or {}), **(found.comparison or {})}
    for section, key, name, text in KEPT:
        if key in told and (run.folder / name).is_file():
            found.draw(section, run.folder / name, text)
    numbers = read.numbers[: len(batch[0])].numpy()
    with run.isolated(seed):
        _part(found, "latent", lambda: _latent(found, pair, read, batch, None if named else _labels(run, numbers)))
    options = {"seed": seed, **opening}
    if run.image is not None:
        _part(found, "pictures", lambda: _pictures(found, data, _given(run, pair, read, PICTURES), **options))
    if run.schema is not None:
        _part(found, "rows", lambda: _rows(found, data, read, _given(run, pair, read, DRAWN), **options))
    return found


def _part(found: Shown, section: str, make: Callable[[], None]) -> None:
    try:
        make()
    except InputError as error:
        found.left_out[section] = str(error)


def _told(found: Shown, verb: Callable[..., Any], quick: bool, options: Mapping[str, Any]) -> None:
    """What a verb says of the best step and the run's test rows.

    The verb is asked where the run does not hold that, unless it has to be quick.
    """
    name = verb.__name__
    path = found.run.folder / f"{name}.json"
    there = path.is_file() and path.with_suffix(".svg").is_file()
    again = f"ppl-vae {name} {shlex.quote(str(found.run.folder))}"
    told = read_json(path) if there else {}
    if (told.get("step"), told.get("split")) != (found.run.step("best"), "test"):
        if quick:
            raise InputError(f"{again} adds it")
        verb(found.run, **options)
    told = read_json(path)
    check_result(name, told, str(path), f"{again} writes it again")
    setattr(found, VERBS[name][1], told)


def _latent(found: Shown, pair: Pair, read: Rows, batch: Batch, labels: np.ndarray | None) -> None:
    """The plane of the latent space for a batch, the first rows read; and of pictures, single dimensions varied."""
    run, decoder = found.run, Decoder(found.run, pair, batch)
    codes = decoder.codes()
    numbers = read.numbers[: len(codes.z)].numpy()
    given = f"given {', '.join(_given(run, pair, read, 1))} of row {numbers[0]}" if run.given(pair.model) else ""
    plane = latent_plane.Plane.of(codes.z)
    if given:
        plane = replace(plane, note=f"{plane.note} What is decoded at a place is {given}.")
    decoded = decoder(torch.as_tensor(plane.nodes).to(decoder.z)).cpu().numpy()
    arrays, names = (codes.x, codes.again, decoded), None
    values = [x for each in arrays if (x := figures.as_images(each, run.image)) is not None]
    if not values:
        values, names = _as_written(run, decoder.site, arrays)
    x, again, at_nodes = values
    found.interactive["latent"] = Markup(
        latent_plane.latent_plane(plane, x, again, at_nodes, labels, numbers, names, found.plane)
    )
    if names is None:
        order = _by_rate(found, codes.names, codes.z)[:FEW]
        ways = decoder.traversals(order)
        pictures = figures.as_images(ways.reshape(-1, *ways.shape[2:]), run.image)
        assert pictures is not None
        drawn = report_figures.traversals(
            pictures.reshape(*ways.shape[:2], *pictures.shape[1:]), [codes.names[j] for j in order], x
        )
        what = f"E[x|z] as one dimension of the code of row {numbers[0]} moves from −{REACH} to {REACH} sd around the"
        found.draw("latent", drawn, f"{what} mean of all codes{', ' * bool(given)}{given}.")


def _as_written(run: Run, site: str, arrays: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
    """The first values of rows `(N, D)` as the data have them: in their units, with their labels; and their names."""
    shape = arrays[0].shape[1:]
    if len(shape) != 1:
        raise InputError("a datum is neither a picture nor a row of numbers: there is nothing to show of it")
    names = numbered(run, shape, site)[: latent_plane.MOST_VALUES]
    if run.schema is None:
        return [in_units(run, {site: x})[site][:, : len(names)] for x in arrays], names
    frames = [as_written(run.schema, run.schema.decode(x)).iloc[:, : len(names)] for x in arrays]
    return [frame.astype(object).where(frame.notna(), None).to_numpy() for frame in frames], names


def _given(run: Run, pair: Pair, read: Rows, num: int) -> dict[str, np.ndarray]:
    """What a conditional model is given in `num` rows: what it is in the test rows, from the first on, and again."""
    wanted, label = run.given(pair.model), None if run.schema is None else run.schema.y
    fields = dict(zip(run.rules.fields, read.first(num), strict=True))
    found = {name: np.resize(fields[name].numpy(), (num, *fields[name].shape[1:])) for name in wanted}
    if label is not None and LABEL in found:
        return {label.name: label.decode(shortest(found[LABEL])).to_numpy()}
    return found


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


def _pictures(found: Shown, data: Data | None, given: Mapping[str, np.ndarray], **opening: Any) -> None:
    """Reconstructions and samples, as means and draws of p(x|z), or where a site has no mean as draws alone."""
    run = found.run
    shows: dict[Show, str] = {"draws": "x ~ p(x|z)", "means": "E[x|z]"}
    try:
        values, again, _ = reconstructed(run, data, **opening)
    except InputError:
        del shows["means"]
        values, again, _ = reconstructed(run, data, show="draws", **opening)
    *_, what = shows.values()
    for site, x in values.items():
        images, images_again = (figures.as_images(each, run.image) for each in (x, again[site]))
        if images is not None and images_again is not None:
            drawn = figures.reconstructions(images, images_again, what)
            found.draw("pictures", drawn, f"Test rows, and below each {what} at a draw of q(z|x).")
    where = f", given {', '.join(given)} of the first test rows" if given else ""
    for show, what in shows.items():
        made = sampled(run, PICTURES, show, given, **opening)
        for site in made.observed:
            images = figures.as_images(made.arrays[site], run.image)
            if images is not None:
                title = f"{what}, z ~ p(z)"
                found.draw("pictures", figures.image_grid(images, title), f"Samples: {title}{where}.")


def _rows(
    found: Shown, data: Data | None, read: Rows, given: Mapping[str, np.ndarray], seed: int, **opening: Any
) -> None:
    """The columns of a table beside those of rows drawn by the model, and its least likely rows."""
    run = found.run
    schema = run.schema
    assert schema is not None
    anew = sampled(run, DRAWN, given=given, seed=seed, **opening)
    frames = (schema.decode(x) for x in (read.batch[0].numpy(), anew.arrays[anew.observed[0]]))
    where = f", given {', '.join(given)} of the test rows" if given else ""
    what = f"Shares of {len(read.numbers)} test rows beside those of {DRAWN} rows that the model draws{where}."
    found.draw("rows", report_figures.columns(*frames), what)
    found.scores = score_on_run(
        run, data, None, test=True, method=None, num_samples=1000, rows=SCORED, annealed_rows=0, by_column=True,
        seed=seed, progress=False, **opening,
    ).asdict()  # fmt: skip
