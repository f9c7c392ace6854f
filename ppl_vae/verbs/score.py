"""The verb `score`: log p(x) of each row, and which columns make it unlikely."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from typing_extensions import Doc

from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from ppl_vae.evidence.scoring import Scores


def score(
    run: o.RunFolder,
    data: o.Rows = None,
    *,
    scale: o.Scale = None,
    method: o.Method = None,
    num_samples: o.NumSamples = 1000,
    rows: Annotated[int | None, Doc("Score only so many rows, the first ones.")] = None,
    annealed_rows: Annotated[
        int,
        Doc("Anneal at most so many of the rows where importance sampling is not reliable, which is slow; 0 for none."),
    ] = 0,
    rows_only: Annotated[bool, Doc("Leave out the columns: score each row as a whole.")] = False,
    seed: o.Seed = 0,
    out: Annotated[
        o.Out, Doc("Where to write: .csv or .parquet, a row for each row, or .npz; RUN/scores.csv if not said.")
    ] = None,
    checkpoint: o.Checkpoint = "best",
    model: o.ModelAgain = None,
    guide: o.GuideAgain = None,
    set: o.SettingsAgain = None,
    trust: o.Trust = False,
    force: o.Force = False,
    compile: o.CompileWork = "auto",
    threads: o.ThreadsOfWork = None,
    progress: o.Progress = False,
) -> "Scores":
    """Tell how likely each row is, log p(x), and which of its columns make it unlikely: all rows, or those of --data.

    The table holds log_px and its standard error over draws, elbo, rate and distortion, k-hat, and whether the error is
    reliable; then for each column its surprise, −log p(x_j | the other columns of the row), and the standard error of
    that, which is empty where the cell is not reliable. Where the likelihood is no product over the columns, it is said
    why, and the columns are left out.

    Numbers are nats, of the data as given: if they were divided by a scale, densities are changed accordingly.
    """
    from ppl_vae.core.errors import at_least, check_seeds
    from ppl_vae.core.frames import ENDINGS, TABLES, out_file, write_arrays, write_frame
    from ppl_vae.evidence.scoring import score_on_run
    from ppl_vae.runs.run import Run
    from ppl_vae.verbs._work import working

    check_seeds(seed=seed)
    at_least(2, num_samples=num_samples)
    at_least(1, rows=rows)
    at_least(0, annealed_rows=annealed_rows)
    run = Run.of(run)
    path = out_file(out, run.folder / "scores.csv", ENDINGS[:3])
    opening = run.opening(model=model, guide=guide, set=set, checkpoint=checkpoint, trust=trust, force=force)
    with working(compile, threads, progress):
        found = score_on_run(
            run, data, scale, method=method, num_samples=num_samples, rows=rows, annealed_rows=annealed_rows,
            by_column=not rows_only, seed=seed, progress=progress, **opening,
        )  # fmt: skip
    if path.suffix in TABLES:
        write_frame(found.frame, path, index=True)
    else:
        write_arrays(found.arrays, path)
    return replace(found, files=(str(path),))
