"""The verb `reconstruct`."""

from typing import TYPE_CHECKING, Annotated

from typing_extensions import Doc

from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ppl_vae.verbs._arrays import Samples


def reconstruct(
    run: o.RunFolder,
    data: o.Rows = None,
    *,
    scale: o.Scale = None,
    num: Annotated[int, Doc("How many rows, the first ones.")] = 12,
    show: Annotated[
        o.Show, Doc("Show E[x|z], or draws of p(x|z), as a likelihood without a mean in closed form needs.")
    ] = "means",
    seed: o.Seed = 0,
    out: Annotated[
        o.Out,
        Doc(
            "Where to write: a .csv or .parquet with the columns of the data, or a .npz. If not said, "
            "RUN/reconstructions.npz, or .csv where the run has columns with labels. Images are drawn beside it."
        ),
    ] = None,
    checkpoint: o.Checkpoint = "best",
    model: o.ModelAgain = None,
    guide: o.GuideAgain = None,
    set: o.SettingsAgain = None,
    trust: o.Trust = False,
    force: o.Force = False,
) -> "Samples":
    """Put test rows, or those of --data, beside what the model makes of a draw of q(z|x): E[x|z].

    Numbers that were divided by a scale are in units of the data again.

    Of a table that was fitted by its columns, a file with columns has their labels and dates; E[x|z] of a label is the
    most probable one.

    The arrays are the rows of each observed site, and `<site>_mean` (or `<site>_draw`).
    """
    from ppl_vae.core.frames import index_of, out_file
    from ppl_vae.reports import figures
    from ppl_vae.runs.run import Run
    from ppl_vae.runs.sampling import reconstructed
    from ppl_vae.runs.wording import column_names, decoded, in_units
    from ppl_vae.verbs._arrays import by_default, written

    run = Run.of(run)
    path = out_file(out, run.folder / f"reconstructions{by_default(run)}")
    opening = run.opening(model=model, guide=guide, set=set, checkpoint=checkpoint, trust=trust, force=force)
    values, again, numbers = reconstructed(run, data, scale, num, show, seed, **opening)
    what = f"_{show.removesuffix('s')}"
    names = column_names(run, values) | {f"{site}{what}": x for site, x in column_names(run, again, what).items()}
    tables = decoded(run, values) | {f"{site}{what}": x for site, x in decoded(run, again, what).items()}
    arrays = in_units(run, values, scale)
    arrays = arrays | {f"{site}{what}": x for site, x in in_units(run, again, scale).items()}

    def draw() -> "Figure | None":
        for site, x in values.items():
            images, images_again = (figures.as_images(each, run.image) for each in (x, again[site]))
            if images is not None and images_again is not None:
                label = "E[x|z]" if show == "means" else "x ~ p(x|z)"
                return figures.reconstructions(images, images_again, label)
        return None

    return written(arrays, path, names=names, tables=tables, index=index_of(data, numbers), draw=draw)
