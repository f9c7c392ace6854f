"""The verb `evaluate`: log p(x), the gap explained, collapse and calibration."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from typing_extensions import Doc

from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from ppl_vae.evidence.evaluation import Evaluation


def evaluate(
    run: o.RunFolder,
    data: o.Rows = None,
    *,
    scale: o.Scale = None,
    method: o.Method = None,
    num_samples: o.NumSamples = 1000,
    rows: Annotated[int | None, Doc("Evaluate only so many rows, the first ones.")] = None,
    gap_rows: Annotated[int, Doc("Explain the gap of so many rows, the first ones; 0 for none.")] = 50,
    annealed_rows: Annotated[
        int, Doc("Anneal at most so many of the rows where importance sampling is not reliable; 0 for none.")
    ] = 20,
    temperatures: Annotated[int | None, Doc("How many temperatures annealing takes.")] = None,
    seconds: Annotated[
        float | None,
        Doc("How long each annealing may take, of real rows and of simulated ones; it chooses the temperatures."),
    ] = None,
    simulations: Annotated[
        int, Doc("Bound log p(x) from both sides on so many data drawn from the model; 0 for none.")
    ] = 10,
    calibrations: Annotated[
        int, Doc("Rank the latents of so many data drawn from the model among draws of the guide; 0 for none.")
    ] = 500,
    statistics: Annotated[
        "Mapping[str, Callable[[Tensor], Tensor]] | Sequence[str]",
        Doc(
            "Compare these statistics of each row with those of rows that are drawn anew from its q(z|x): mean, sd, "
            "min, max, zeros. From Python also a mapping from names to functions of rows."
        ),
        o.Flag(tuple[str, ...]),
    ] = ("mean", "sd"),
    refine: Annotated[
        bool, Doc("Write the means and standard deviations of each row's best q(z|x) to RUN/refined.npz.")
    ] = False,
    seed: o.Seed = 0,
    checkpoint: o.Checkpoint = "best",
    model: o.ModelAgain = None,
    guide: o.GuideAgain = None,
    set: o.SettingsAgain = None,
    trust: o.Trust = False,
    force: o.Force = False,
    compile: o.CompileWork = "auto",
    threads: o.ThreadsOfWork = None,
    progress: o.Progress = False,
) -> "Evaluation":
    """Find out how tight the ELBO is, and whether the latent collapsed, on test rows or those of --data.

    log p(x) = ELBO + KL(q(z|x) ‖ p(z|x)): this estimates the other two, for each row and with an error, says which part
    of the gap is the family's and which the encoder's, what the latent carries, and whether q(z|x) is calibrated. It
    is written into the run as `evaluate.json`, `evidence.nc`, and the figures `evaluate.png`, `khat.png`,
    `latent_use.png`, `calibration.png` and `predictive.png`.
    """
    from ppl_vae.core.errors import at_least, check_seeds
    from ppl_vae.core.files import write_json
    from ppl_vae.evidence.on_run import evaluate_on_run, refine_on_run
    from ppl_vae.evidence.predictive import statistics_of
    from ppl_vae.reports import arviz, calibration_figures, evidence_figures
    from ppl_vae.reports.style import save
    from ppl_vae.runs.run import Run
    from ppl_vae.verbs._arrays import written
    from ppl_vae.verbs._work import working

    check_seeds(seed=seed)
    at_least(2, num_samples=num_samples)
    given = {"rows": rows, "temperatures": temperatures}
    at_least(1, **{name: value for name, value in given.items() if value is not None})
    counts = {"gap_rows": gap_rows, "annealed_rows": annealed_rows, "simulations": simulations}
    at_least(0, **counts, calibrations=calibrations)
    run = Run.of(run)
    opening = run.opening(model=model, guide=guide, set=set, checkpoint=checkpoint, trust=trust, force=force)
    with working(compile, threads, progress):
        found = evaluate_on_run(
            run, data, scale, method=method, num_samples=num_samples, rows=rows, temperatures=temperatures,
            seconds=seconds, calibrations=calibrations, statistics=statistics_of(statistics), seed=seed,
            progress=progress, **counts, **opening,
        )  # fmt: skip
        best = refine_on_run(run, found, data, scale, **opening) if refine else None
    place = {name: run.folder / name for name in ("evaluate.json", "evidence.nc", "evaluate.png", "khat.png")}
    write_json(place["evaluate.json"], found.asdict())
    arviz.write_evidence(found, place["evidence.nc"])
    save(evidence_figures.evaluation(found), place["evaluate.png"])
    save(evidence_figures.khat(found), place["khat.png"])
    if found.collapse is not None:
        place["latent_use.png"] = run.folder / "latent_use.png"
        save(evidence_figures.aggregate_posterior(found.collapse), place["latent_use.png"])
    if best is not None:
        place["refined.npz"] = run.folder / "refined.npz"
        columns = {"elbo": best.elbo, "elbo_se": best.elbo_se, "converged": best.converged, "row": found.numbers}
        written({name: x.cpu().numpy() for name, x in (best.arrays | columns).items()}, place["refined.npz"])
    if found.calibration is not None:
        place["calibration.png"] = run.folder / "calibration.png"
        save(calibration_figures.calibration(found.calibration), place["calibration.png"])
    if found.predictive is not None:
        place["predictive.png"] = run.folder / "predictive.png"
        save(calibration_figures.predictive(found.predictive), place["predictive.png"])
    return replace(found, files=tuple(map(str, place.values())))
