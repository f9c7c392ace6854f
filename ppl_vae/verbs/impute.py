"""The verb `impute`: missing cells filled."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from typing_extensions import Doc

from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from ppl_vae.evidence.imputing import Imputed


def impute(
    run: o.RunFolder,
    data: o.Rows = None,
    *,
    scale: o.Scale = None,
    draws: Annotated[
        int,
        Doc(
            "Write so many completed tables, each with a draw in every missing cell (multiple imputation), in place of "
            "one with the best guess; 0 for the best guess."
        ),
    ] = 0,
    num_samples: o.NumSamples = 1000,
    chain_rows: Annotated[
        int,
        Doc("Run long chains (HMC) for at most so many rows where importance sampling is not reliable; 0 for none."),
    ] = 1000,
    seed: o.Seed = 0,
    out: Annotated[
        o.Out,
        Doc(
            "Where to write: .csv or .parquet, with a second file about the cells, or .npz; RUN/imputed.csv if not "
            "said."
        ),
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
) -> "Imputed":
    """Fill the missing cells of the run's table, or of --data, given the other cells of their row.

    The best guess is the mean of p(missing | observed) for numbers, rounded for counts, and the most probable code of
    binary, categorical and ordinal columns. Best guesses have less spread than the truth: for what is computed from the
    table afterwards take --draws 20, analyse each of the tables, and pool the results. The draws are of the model as it
    was fitted, and do not count how uncertain its parameters are. What is observed stays as it is.

    Beside `filled.csv` stands `filled_cells.csv`, with a row for each missing cell: the guess, its standard deviation
    or probability, by which method the row was filled, and whether that is reliable. Draws stand one below the other,
    numbered by the column `draw`. A .npz holds the same as arrays.
    """
    from ppl_vae.core.errors import at_least, check_seeds
    from ppl_vae.core.frames import ENDINGS, TABLES, out_file, write_arrays, write_frame
    from ppl_vae.evidence.imputing import impute_on_run
    from ppl_vae.runs.run import Run
    from ppl_vae.verbs._work import working

    check_seeds(seed=seed)
    at_least(2, num_samples=num_samples)
    at_least(0, draws=draws, chain_rows=chain_rows)
    run = Run.of(run)
    path = out_file(out, run.folder / "imputed.csv", ENDINGS[:3])
    opening = run.opening(model=model, guide=guide, set=set, checkpoint=checkpoint, trust=trust, force=force)
    with working(compile, threads, progress):
        found = impute_on_run(
            run, data, scale, draws=draws, num_samples=num_samples, chain_rows=chain_rows, seed=seed,
            progress=progress, **opening,
        )  # fmt: skip
    if path.suffix not in TABLES:
        write_arrays(found.arrays, path)
        return replace(found, files=(str(path),))
    about = path.with_stem(f"{path.stem}_cells")
    write_frame(found.cells, about)
    write_frame(found.frame, path, index=found.indexed)
    return replace(found, files=(str(path), str(about)))
