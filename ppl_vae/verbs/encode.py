"""The verb `encode`."""

from typing import TYPE_CHECKING, Annotated

from typing_extensions import Doc

from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ppl_vae.verbs._arrays import Samples

MOST_LABELS = 10  # that a picture tells by their colours


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
    out: Annotated[
        o.Out,
        Doc(
            "Where to write: a .csv or .parquet with the columns z1, ..., z1_sd, ..., or a .npz; for rows of an .h5ad "
            "also a .h5ad, a copy with obsm/X_ppl_vae and X_ppl_vae_sd. If not said, RUN/encoding.npz, or "
            "encoding.csv where the run has columns with labels."
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
    progress: o.Telling = False,
) -> "Samples":
    """Write mean and standard deviation of q(z|x) for every row, in the order of the data.

    The arrays are `<site>_mean` and `<site>_sd`; of a categorical latent the probability of each class, `<site>_probs`,
    `(N, ..., classes)`. With several latent sites each is conditional on a draw of those before it.

    A run that was fitted with --label has the label of each row beside its codes, where the data have it, and a picture
    of the codes is drawn beside the file, coloured by it.

    In a table, be it a file or `.frame`, the columns are z1, z2, ... and z1_sd, z2_sd, ... of a site z, and z_1, ... if
    there are several sites; the rows go by their numbers, or by the index of a DataFrame.
    """
    from ppl_vae.core.frames import ENDINGS, index_of, out_file
    from ppl_vae.data.annotated import SUFFIX, write_obsm
    from ppl_vae.data.cells import is_cells, source_of
    from ppl_vae.reports import figures
    from ppl_vae.runs.codes import code_names, encoded, obsm_names
    from ppl_vae.runs.run import Run
    from ppl_vae.runs.tables import label_of
    from ppl_vae.verbs._arrays import Samples, by_default, written
    from ppl_vae.verbs._work import working

    run = Run.of(run)
    rows = run.config.data if data is None else data
    path = out_file(out, run.folder / f"encoding{by_default(run)}", (*ENDINGS, SUFFIX) if is_cells(rows) else ENDINGS)
    opening = run.opening(model=model, guide=guide, set=set, checkpoint=checkpoint, trust=trust, force=force)
    with working(compile, threads, progress):
        codes, numbers = encoded(run, data, scale, draws, seed, **opening)
    named = {"names": code_names(codes), "index": index_of(data, numbers)}
    if path.suffix == SUFFIX:
        write_obsm(source_of(rows), {key: codes[name] for name, key in obsm_names(codes).items()}, path)
        return Samples(codes, (path,), **named)
    label = label_of(run, data)
    beside = {} if label is None else {str(label.name): label.to_frame()}
    texts = {name: cells[name].map(str).mask(cells[name].isna(), "").to_numpy(str) for name, cells in beside.items()}

    def draw() -> "Figure | None":
        means = [x for name, x in codes.items() if name.endswith("_mean") and x.ndim == 2 and x.shape[1] > 1]
        if label is None or not means or label.nunique() > MOST_LABELS:
            return None
        return figures.latent_scatter(means[0], texts[str(label.name)])

    return written(codes | texts, path, tables=beside, draw=draw, **named)
