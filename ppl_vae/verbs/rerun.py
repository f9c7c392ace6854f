"""The verb `rerun`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typing_extensions import Doc

from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from ppl_vae.runs.rerun import Rerun


def rerun(
    run: o.RunFolder,
    *,
    out: Annotated[
        str | Path | None,
        Doc("The folder to make for the new run. If not said, it is a temporary one, which goes at the end."),
        o.Flag(Path | None),
    ] = None,
    data: o.DataAgain = None,
    model: o.ModelAgain = None,
    guide: o.GuideAgain = None,
    objective: o.ObjectiveAgain = None,
    set: o.SettingsAgain = None,
    trust: o.Trust = False,
    force: o.Force = False,
    progress: o.Progress = False,
) -> "Rerun":
    """Make a run again from its folder, and say whether it comes out the same, bit for bit; if not, the exit code is 1.

    Options, seed, matrix products and threads are those of the record. Where the two part, the first difference is
    told, and what of the versions and of the machine is another. The first run stays as it is.
    """
    from ppl_vae.runs.rerun import rerun as make_again
    from ppl_vae.runs.run import Run

    run = Run.of(run)
    run.opening(trust=trust)
    given = {"data": data, "model": model, "guide": guide, "objective": objective, "set": set}
    named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    place = None if out is None else Path(out)
    return make_again(run, place, progress=progress, trust=trust, force=force, **named)
