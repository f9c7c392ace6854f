"""The verb `sample`."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from typing_extensions import Doc

from ppl_vae.core.errors import InputError
from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ppl_vae.verbs._arrays import Samples


def sample(
    run: o.RunFolder,
    num: Annotated[int, Doc("How many samples.")] = 64,
    *,
    show: Annotated[
        o.Show | None,
        Doc("Show draws or means of p(x|z); if not said, draws of discrete x and of tables, and means of other x."),
    ] = None,
    given: o.Given = None,
    like: Annotated[
        Any,
        Doc("Rows: draw z from q(z|x) of each of them in place of p(z), and so samples that are like it, --num each."),
        o.Flag(tuple[str, ...], (), o.listed),
    ] = None,
    copies: Annotated[
        bool,
        Doc(
            "Tell whether the samples copy training rows, by their distances beside those of validation and test rows."
        ),
    ] = False,
    seed: o.Seed = 0,
    out: Annotated[
        o.Out,
        Doc(
            "Where to write: the samples as a .csv or .parquet with the columns of the data, or as a .npy; with the "
            "latents as a .npz. If not said, RUN/samples.npz, or samples.csv where the run has columns with labels. "
            "Images are drawn beside it."
        ),
    ] = None,
    checkpoint: o.Checkpoint = "best",
    data: o.DataAgain = None,
    model: o.ModelAgain = None,
    guide: o.GuideAgain = None,
    set: o.SettingsAgain = None,
    trust: o.Trust = False,
    force: o.Force = False,
) -> "Samples":
    """Draw z ~ p(z), then x ~ p(x|z), or the mean of x; no data is read, but for --like and --copies.

    Of a table that was fitted by its columns, the samples have their names, labels and dates; a .npz holds codes. In
    Python they are a DataFrame, `.frame`. A model that was fitted with --label is given one by its name, as in
    --given party=Democrat, and it stands beside the samples.

    Numbers that were divided by --scale for the fit are in units of the data again.

    In Python `given` maps each field that a conditional model is given to one datum for all samples, as in
    `{"y": 3}`, or to an array with one for each; it stands beside the samples, under the name of the field.
    """
    from ppl_vae.core.frames import out_file
    from ppl_vae.evidence.copies import copies_on_run
    from ppl_vae.reports import figures
    from ppl_vae.runs.run import Run
    from ppl_vae.runs.sampling import alike, sampled
    from ppl_vae.runs.wording import column_names, decoded, in_units
    from ppl_vae.verbs._arrays import by_default, written

    run = Run.of(run)
    path = out_file(out, run.folder / f"samples{by_default(run)}")
    opening = run.opening(model=model, guide=guide, set=set, checkpoint=checkpoint, trust=trust, force=force)
    if like is not None and given:
        raise InputError("given goes with samples of p(z): with like, each row brings what the model is given")
    if copies and show == "means":
        raise InputError("copies: means are no samples, and are nearer to all rows; take show=draws")
    if copies:
        show = "draws"
    if like is None:
        found = sampled(run, num, show, given, seed, **opening)
    else:
        found = alike(run, like, None, num, show, seed, **opening)
    drawn = {site: found.arrays[site] for site in found.observed}
    fixed = {name: found.arrays[name] for name in found.given}
    names = column_names(run, drawn) | column_names(run, fixed)

    def draw() -> "Figure | None":
        images = (figures.as_images(found.arrays[site], run.image) for site in found.observed)
        title = "E[x|z], z ~ p(z)" if found.show == "means" else "x ~ p(x|z), z ~ p(z)"
        return next((figures.image_grid(each, title) for each in images if each is not None), None)

    shown = (*(["like"] if like is not None else []), *found.observed, *fixed)
    compared = copies_on_run(run, drawn, data, **opening) if copies else None
    arrays = found.arrays | in_units(run, drawn)
    made = written(arrays, path, fixed, names=names, tables=decoded(run, drawn | fixed), shown=shown, draw=draw)
    return replace(made, copies=compared)
