"""What a report shows of a run, gathered: what other verbs left there, and what is quickly computed."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import read_json
from ppl_vae.core.results import counted
from ppl_vae.data.builtin import BUILTIN
from ppl_vae.programs import Pair
from ppl_vae.programs.notation import factors
from ppl_vae.programs.scores import Batch
from ppl_vae.reports import figures, latent_plane, plates, vega
from ppl_vae.reports.html import Section, table
from ppl_vae.reports.run_page import Shown, headline, sections
from ppl_vae.runs.latent import Decoder
from ppl_vae.runs.opening import rows_of
from ppl_vae.runs.run import Run
from ppl_vae.runs.sampling import reconstructed, sampled
from ppl_vae.verbs.compare import compare
from ppl_vae.verbs.evaluate import evaluate
from ppl_vae.verbs.score import score

FEW = 8
"""Rows that the programs are read from, pictures beside each other, dimensions that are varied."""
KEPT = {
    "bounds": (
        ("evaluate.svg", "Each row's log p(x) and ELBO, and the parts of the gap between them; beside it the mean over rows."),
    ),
    "latent": (
        ("latent_use.svg", "What each latent dimension carries; draws of q(z) beside draws of p(z); correlations of E[z|x]."),
    ),
    "calibration": (
        ("calibration.svg", "Ranks of the latents of rows that the model drew: uniform where q(z|x) is the posterior."),
        ("predictive.svg", "Statistics of the rows beside those of rows drawn anew from their q(z|x)."),
    ),
    "estimators": (
        ("compare.svg", "Each estimator's value with its error, and the variance of its gradient against its time."),
    ),
}
"""The figures that verbs leave in a run, by the section that shows them."""


def shown(
    run: Run, *, quick: bool, rows: int, seed: int, progress: bool, data: Any, **opening: Any
) -> Shown:
    """All that a report shows of one run.

    Args:
        quick: leave out what `evaluate` and `compare` have not left in the run.
        rows: how many test rows are put into the plane of the latent space.
        opening: as for `Run.pair`.
    """
    with run.isolated(seed):
        pair = run.pair(**opening)
        read = rows_of(run, pair, data, None, test=data is None, force=opening["force"])
        batch = tuple(x.to(run.config.device) for x in read.first(rows))
        few = tuple(x[:FEW] for x in batch)
        fields = list(run.rules.fields)
        found = Shown(run, (factors(pair.model, few, fields), factors(pair.guide, few, fields)))
        drawn = {"fitted": [(plates.plates(pair.model, few, pair.guide), "The programs as plate diagrams: an arrow goes from a draw to what depends on it.")]}
    found.drawn = drawn
    _computed(found, quick, seed, progress, data, opening)
    found.drawn["learning"] = [(figures.learning_curves(run.metrics), "ELBO, rate and distortion over epochs.")]
    for section, kept in KEPT.items():
        there = [(run.folder / name, text) for name, text in kept if (run.folder / name).is_file()]
        found.drawn.setdefault(section, []).extend(there)
    with run.isolated(seed):
        _latent(found, pair, batch, read.numbers[: len(batch[0])].numpy(), opening)
    if run.image is not None:
        _part(found, "pictures", lambda: _pictures(found, seed, data, opening))
    if run.schema is not None:
        _part(found, "rows", lambda: _table(found, seed, data, opening))
    return found


def _computed(found: Shown, quick: bool, seed: int, progress: bool, data: Any, opening: Any) -> None:
    """What `evaluate` and `compare` say of the best step; they are asked where the run does not hold it."""
    run = found.run
    best = run.step("best")
    asked: dict[str, Callable[[], Any]] = {
        "evaluate.json": lambda: evaluate(run, data, seed=seed, progress=progress, **opening),
        "compare.json": lambda: compare(run, data=data, seed=seed, progress=progress, **opening),
    }
    for name, section, verb in (("evaluate.json", "bounds", "evaluate"), ("compare.json", "estimators", "compare")):
        path = run.folder / name
        if not (path.is_file() and read_json(path)["step"] == best and path.with_suffix(".svg").is_file()):
            if quick:
                found.left_out[section] = f"ppl-vae {verb} {run.folder} adds this part"
                continue
            try:
                asked[name]()
            except InputError as error:
                found.left_out[section] = str(error)
                continue
        setattr(found, "evaluation" if verb == "evaluate" else "comparison", read_json(path))


def _part(found: Shown, section: str, make: Callable[[], None]) -> None:
    try:
        make()
    except InputError as error:
        found.left_out[section] = str(error)


def _latent(found: Shown, pair: Pair, batch: Batch, numbers: np.ndarray, opening: Any) -> None:
    """The plane of the latent space, and single dimensions varied."""
    run = found.run

    def make() -> None:
        decoder = Decoder(run, pair, batch)
        codes = decoder.codes()
        plane = latent_plane.Plane.of(codes.z)
        decoded = decoder(torch.as_tensor(plane.nodes).to(decoder.z)).cpu().numpy()
        arrays = [codes.x, codes.again, decoded]
        images = [figures.as_images(x, run.image) for x in arrays]
        names = run.rules.columns.get(run.rules.fields[0])
        if images[0] is None and (names is None or len(names) != codes.x.shape[1]):
            raise InputError("a datum is neither a picture nor a row of named columns, so that there is nothing to show of it")
        most = latent_plane.MOST_VALUES
        values = images if images[0] is not None else [x[:, :most] for x in arrays]
        text = latent_plane.latent_plane(
            plane, *values, labels=_labels(run, numbers), rows=numbers,
            names=None if images[0] is not None or names is None else list(names)[:most], name=f"plane-{run.folder.name}",
        )  # fmt: skip
        found.interactive["latent"] = Markup(text)
        if images[0] is not None:
            order = _by_rate(found, codes.names, codes.z)[:FEW]
            moved = decoder.traversals(order)
            pictures = figures.as_images(moved.reshape(-1, *moved.shape[2:]), run.image)
            assert pictures is not None
            what = "One row's code with one dimension moved through the codes' mean ± 2.5 standard deviations: E[x|z]."
            drawn = figures.traversals(pictures.reshape(*moved.shape[:2], *pictures.shape[1:]), [codes.names[j] for j in order])
            found.drawn.setdefault("latent", []).append((drawn, what))

    _part(found, "latent", make)


def _by_rate(found: Shown, names: Sequence[str], z: np.ndarray) -> list[int]:
    """The dimensions, those of the highest rate first; where it is not known, those whose codes vary most."""
    told = found.evaluation or {}
    rates = dict(zip(told.get("dimensions", ()), told.get("rate_by_dimension", ()), strict=False))
    size = [rates.get(name) for name in names]
    order = np.argsort(-z.var(0)) if None in size else np.argsort(-np.array(size, dtype=float))
    return [int(j) for j in order]


def _labels(run: Run, numbers: np.ndarray) -> np.ndarray | None:
    """The label of each row, where the data have one."""
    if (spec := run.config.data) and len(spec) == 1 and spec[0] in BUILTIN:
        return BUILTIN[spec[0]].labels()[numbers]
    return None


def _pictures(found: Shown, seed: int, data: Any, opening: Any) -> None:
    run = found.run
    values, again, _ = reconstructed(run, data, num=12, seed=seed, **opening)
    drawn = []
    for site, x in values.items():
        pair = [figures.as_images(each, run.image) for each in (x, again[site])]
        if pair[0] is not None and pair[1] is not None:
            drawn.append((figures.reconstructions(pair[0], pair[1], "E[x|z]"), "Test rows, and below each E[x|z] at a draw of q(z|x)."))
    if not run.given(run.pair(**opening).model):
        for show, text in (("draws", "x ~ p(x|z)"), ("means", "E[x|z]")):
            made = sampled(run, 32, show, seed=seed, **opening)  # type: ignore[arg-type]
            images = figures.as_images(made.arrays[made.observed[0]], run.image)
            if images is not None:
                drawn.append((figures.image_grid(images, f"{text}, z ~ p(z)", columns=16), f"Samples: {text}, z ~ p(z), the same z in both."))
    found.drawn["pictures"] = drawn


def _table(found: Shown, seed: int, data: Any, opening: Any) -> None:
    """The least likely rows of a table, and its columns beside those of samples."""
    run = found.run
    scored = score(run, data, rows=200, seed=seed, out=run.folder / "scores.csv", **opening)
    found.unlikely = scored["least_likely"]


def several(found: Sequence[Shown], **how: Any) -> tuple[str, str, list[Section], list[Markup]]:
    """Title, what stands below it, sections and scripts of the page."""
    scripts = [Markup(vega.library())] if any("latent" in each.interactive for each in found) else []
    if len(found) == 1:
        return f"Report on {found[0].run.folder.name}", headline(found[0]), sections(found[0]), scripts
    together = [_side_by_side(found, **how)]
    for i, each in enumerate(found):
        own = sections(each, f"run{i + 1}-")
        for section in own:
            section.title = f"{each.run.folder.name}: {section.title}"
        together += own
    return f"{counted(len(found), 'run')} side by side", "", together, scripts


def _side_by_side(found: Sequence[Shown], *, quick: bool, seed: int, progress: bool, **opening: Any) -> Section:
    section = Section("together", "Side by side", "The same rows, datum by datum: a paired difference has less noise than two values.")
    rows = [
        (str(each.run.folder), each.run.best.elbo, each.run.best.rate, each.run.best.distortion)
        for each in found
    ]
    section.add(table("Validation rows, nats per datum ± s.e. over data", ("run", "ELBO", "rate", "distortion"), rows))
    try:
        told = compare([each.run for each in found], seed=seed, progress=progress, **opening)
    except InputError as error:
        return section.add(f"Paired differences can't be had: {error}")
    pairs = [
        (f"{pair['a']} − {pair['b']}", *(f"{pair[name]:z.3f}" for name in ("difference", "se", "se_data")))
        for pair in told["pairs"]
    ]
    return section.add(table(
        f"Paired differences of {told['target']} on {told['rows']} {told['split']} rows, nats per datum",
        ("runs", "difference", "± s.e. over draws", "± s.e. over data"), pairs,
    ))  # fmt: skip
