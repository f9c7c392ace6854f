"""The verb `encode`."""

from typing import TYPE_CHECKING, Annotated

from typing_extensions import Doc

from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from ppl_vae.verbs._arrays import Samples


def encode(
    run: o.RunFolder,
    data: o.Rows = None,
    *,
    scale: o.Scale = None,
    draws: Annotated[
        int | None,
        Doc("Take mean and standard deviation over so many draws, for a guide without a mean in closed form (a flow)."),
    ] = None,
    seed: o.Seed = 0,
    out: Annotated[o.Out, Doc("Where to write the arrays, RUN/encoding.npz if not said.")] = None,
    checkpoint: o.Checkpoint = "best",
    model: o.ModelAgain = None,
    guide: o.GuideAgain = None,
    set: o.SettingsAgain = None,
    trust: o.Trust = False,
    force: o.Force = False,
) -> "Samples":
    """Write mean and standard deviation of q(z|x) for every row, in the order of the data.

    The arrays are `<site>_mean` and `<site>_sd`; of a categorical latent the probability of each class, `<site>_probs`,
    `(N, ..., classes)`. With several latent sites each is conditional on a draw of those before it.
    """
    from ppl_vae.runs.run import Run
    from ppl_vae.runs.sampling import encoded
    from ppl_vae.verbs._arrays import npz_path, written

    run = Run.of(run)
    path = npz_path(out, run.folder / "encoding.npz")
    opening = run.opening(model=model, guide=guide, set=set, checkpoint=checkpoint, trust=trust, force=force)
    return written(encoded(run, data, scale, draws, seed, **opening), path)
