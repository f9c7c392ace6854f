"""The verb `resume`."""

from typing import TYPE_CHECKING, Annotated, Any

from typing_extensions import Doc

from ppl_vae.verbs import _options as o
from ppl_vae.verbs.fit import draw_learning

if TYPE_CHECKING:
    from ppl_vae.runs.run import Run


def resume(
    run: o.RunFolder,
    *,
    epochs: Annotated[
        int | None, Doc("Train for so many epochs in all, if more than the run was started with.")
    ] = None,
    lr: Annotated[
        float | None, Doc("Go on with this learning rate, for example a lower one after a loss that was not finite.")
    ] = None,
    patience: Annotated[
        int | None, Doc("Stop after this many epochs without a better validation value, also where the run had none.")
    ] = None,
    data: o.DataAgain = None,
    model: o.ModelAgain = None,
    guide: o.GuideAgain = None,
    objective: o.ObjectiveAgain = None,
    set: o.SettingsAgain = None,
    trust: o.Trust = False,
    force: o.Force = False,
    progress: o.Progress = False,
) -> "Run":
    """Go on with a run that was stopped, bit for bit, or train a finished one for more epochs.

    It begins at the last checkpoint, or at the start if there is none yet. What is not given stays as it was.
    """
    from ppl_vae.runs.fitting import fit as train
    from ppl_vae.runs.run import Run
    from ppl_vae.training.distributed import world

    run = Run.of(run)
    options = {"epochs": epochs, "lr": lr, "patience": patience, "objective": objective, "set": set}
    asked: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    run = train(model, guide, data, run.folder, resume=True, trust=trust, force=force, progress=progress, **asked)
    world().once(draw_learning, run)
    return run
