"""The verb `demo`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import RenderableType
from typing_extensions import Doc

from ppl_vae.core.results import Result
from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from ppl_vae.diagnostics.results import Comparison
    from ppl_vae.evidence.evaluation import Evaluation
    from ppl_vae.runs.run import Run

FILES = {
    "learning.png": "ELBO over epochs, split into rate and distortion",
    "reconstructions.png": "test digits and their reconstructions",
    "samples.png": "x ~ p(x|z), z ~ p(z)",
    "sample_means.png": "E[x|z] at the same z",
    "latent.png": "where the guide puts each digit",
    "compare.png": "the two estimators of the ELBO (numbers in compare.json and compare.nc)",
    "evaluate.png": "log p(x), the ELBO and the gap between them (numbers in evaluate.json and evidence.nc)",
    "khat.png": "how far the importance weights of each digit can be relied on",
    "latent_use.png": "what each latent dimension carries, and q(z) beside p(z)",
    "predictive.png": "statistics of test digits beside those of digits drawn anew from their q(z|x)",
    "calibration.png": "ranks of the latents of simulated digits: is q(z|x) too narrow?",
    "report.html": "all of it on one page, to open in a browser",
    "arviz.nc": "draws of the guide: arviz.from_netcdf opens it",
    "metrics.jsonl": "one line an epoch",
}


@dataclass(frozen=True, repr=False)
class Demo(Result):
    """The run, its comparison of estimators, its evaluation, and the files that were written."""

    run: "Run"
    comparison: "Comparison"
    evaluation: "Evaluation"

    def fields(self) -> dict[str, Any]:
        found = {"comparison": self.comparison.fields(), "evaluation": self.evaluation.fields()}
        return found | {"files": FILES, "run": str(self.run.folder)}

    def lines(self) -> Iterator[RenderableType]:
        yield from self.run.lines()
        yield ""
        yield from self.comparison.lines()
        yield ""
        yield from self.evaluation.lines()
        yield f"\nIn {self.run.folder}:"
        yield from (f"  {name:22} {what}" for name, what in FILES.items())
        yield (
            "\nNext: swap the prior,\n"
            "  ppl-vae fit --model vae --guide amortized --data mnist-5k --set prior=mixture --set prior.components=20 "
            "--out runs/mixture\n"
            "or edit the line of p(z) in a copy of the model files, which `ppl-vae new mine` makes."
        )


def demo(
    out: Annotated[str | Path, Doc("The folder of the run."), o.Flag(Path, Path("demo-run"))] = "demo-run",
    *,
    epochs: Annotated[int, Doc("Passes over the 4000 training digits.")] = 40,
    draws: Annotated[int, Doc("Draws of each estimator in the comparison.")] = 100,
    rows: Annotated[int | None, Doc("Evaluate only so many of the 500 test digits.")] = None,
    temperatures: Annotated[int | None, Doc("How many temperatures annealing takes.")] = None,
    progress: o.Progress = False,
) -> Demo:
    """Do the main job on real digits, in two minutes: fit, compare, evaluate, sample, reconstruct, export, report."""
    from ppl_vae.data.builtin import BUILTIN
    from ppl_vae.reports import figures
    from ppl_vae.reports.style import save
    from ppl_vae.verbs.compare import compare
    from ppl_vae.verbs.encode import encode
    from ppl_vae.verbs.evaluate import evaluate
    from ppl_vae.verbs.export import export
    from ppl_vae.verbs.fit import fit
    from ppl_vae.verbs.reconstruct import reconstruct
    from ppl_vae.verbs.report import report
    from ppl_vae.verbs.sample import sample

    run = fit("bernoulli", "diagonal_normal", "mnist-5k", out, epochs=epochs, progress=progress)
    comparison = compare(run, draws=draws, progress=progress)
    evaluation = evaluate(run, progress=progress, rows=rows, temperatures=temperatures)
    sample(run)
    sample(run, show="means", out=run.folder / "sample_means.npz")
    reconstruct(run)
    labels = BUILTIN["mnist-5k"].labels()  # which only colour the picture
    save(figures.latent_scatter(encode(run)["z_mean"], labels), run.folder / "latent.png")
    export(run)
    report(run, quick=True)
    return Demo(run, comparison, evaluation)  # type: ignore[arg-type]
