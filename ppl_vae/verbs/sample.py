"""The verb `sample`."""

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
        o.Out, Doc("Where to write the arrays, RUN/samples.npz if not said; images are drawn beside it.")
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
    from ppl_vae.reports import figures
    from ppl_vae.runs.run import Run
    from ppl_vae.runs.sampling import sampled
    from ppl_vae.verbs._arrays import npz_path, written

    run = Run.of(run)
    path = npz_path(out, run.folder / "samples.npz")
    opening = run.opening(model=model, guide=guide, set=set, checkpoint=checkpoint, trust=trust, force=force)
    found = sampled(run, num, show, given, seed, **opening)
    label = "E[x|z], z ~ p(z)" if found.show == "means" else "x ~ p(x|z), z ~ p(z)"
    for site in found.observed:
        if (images := figures.as_images(found.arrays[site], run.image)) is not None:
            figures.image_grid(images, path.with_suffix(".png"), label)
            break
    return written(found.arrays, path, {name: found.arrays[name] for name in given or {}})
