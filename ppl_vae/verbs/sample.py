"""The verb `sample`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typing_extensions import Doc

from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
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
    seed: o.Seed = 0,
    out: Annotated[
        o.Out,
        Doc(
            "Where to write: the samples as a .csv or .parquet with the columns of the data, or as a .npy; with the "
            "latents as a .npz, RUN/samples.npz if not said. Images are drawn beside it."
        ),
    ] = None,
    checkpoint: o.Checkpoint = "best",
    model: o.ModelAgain = None,
    guide: o.GuideAgain = None,
    set: o.SettingsAgain = None,
    trust: o.Trust = False,
    force: o.Force = False,
) -> "Samples":
    """Draw z ~ p(z), then x ~ p(x|z), or the mean of x; no data is read.

    In Python `given` maps each field that a conditional model is given to one datum for all samples, as in
    `{"y": 3}`, or to an array with one for each; it stands beside the samples, under the name of the field.
    """
    from ppl_vae.core.frames import out_file
    from ppl_vae.reports import figures
    from ppl_vae.runs.run import Run
    from ppl_vae.runs.sampling import column_names, sampled
    from ppl_vae.verbs._arrays import written

    run = Run.of(run)
    path = out_file(out, run.folder / "samples.npz")
    opening = run.opening(model=model, guide=guide, set=set, checkpoint=checkpoint, trust=trust, force=force)
    found = sampled(run, num, show, given, seed, **opening)
    fixed = {name: found.arrays[name] for name in given or {}}
    names = column_names(run, {site: found.arrays[site] for site in found.observed}) | column_names(run, fixed)

    def draw(picture: Path) -> bool:
        images = (figures.as_images(found.arrays[site], run.image) for site in found.observed)
        if (first := next((each for each in images if each is not None), None)) is None:
            return False
        figures.image_grid(first, picture, "E[x|z], z ~ p(z)" if found.show == "means" else "x ~ p(x|z), z ~ p(z)")
        return True

    return written(found.arrays, path, fixed, names=names, shown=(*found.observed, *fixed), draw=draw)
