"""The verbs of the command line: their options, and what each calls and prints. Nothing here imports torch early."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import tyro

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import to_json
from ppl_vae.training.config import FitConfig

Shown = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What every verb takes."""

    json: bool = False
    """Print one JSON object to standard output, and nothing else there."""
    debug: bool = False
    """On an error, show the traceback."""

    def run_verb(self) -> int:
        """Do it; print the result for a program or a person; return the exit code."""
        result, show = self.act()
        if self.json:
            print(to_json(result))
        else:
            show()
        sys.stdout.flush()  # here, where a reader that has gone away is no error
        return self.exit_code(result)

    def act(self) -> tuple[dict[str, Any], Shown]:
        raise NotImplementedError

    @property
    def progress(self) -> bool:
        """Say on standard error what is going on?"""
        return not self.json

    def exit_code(self, result: dict[str, Any]) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class Fit(FitConfig, Verb):
    """Fit a model and a guide to data; the run goes to a folder of its own."""

    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """One constructor setting: model.latent_dim=16, guide.hidden=200, objective.num_particles=5; or latent_dim=16 for
    every constructor that has it. May be repeated."""
    out: Path | None = None
    """The folder to make; with --resume, the run to go on with."""
    resume: bool = False
    """Go on with the run in --out."""
    trust: bool = False
    """With --resume: execute the programs in RUN/sources."""
    force: bool = False
    """With --resume: accept programs or data whose hash is not the run's."""

    def act(self) -> tuple[dict[str, Any], Shown]:
        import ppl_vae
        from ppl_vae.reports import text

        options = {field.name: getattr(self, field.name) for field in fields(FitConfig)}
        named = {name: options.pop(name) or None for name in ("model", "guide", "data")}
        if self.out is None:
            raise InputError("fit needs --out, the folder of the run")
        if self.trust and self.resume:
            text.note_trusted(ppl_vae.Run(self.out))
        run = ppl_vae.fit(
            **named, **options, out=self.out, resume=self.resume, trust=self.trust, force=self.force,
            progress=not self.json,
        )  # fmt: skip
        result = text.fit_result(run)
        return result, lambda: text.fitted(run, result)


@dataclass(frozen=True, kw_only=True)
class Check(Verb):
    """Does this pair form a VAE for this data? Names the site, the line and the mend; exit code 1 if not."""

    model: str
    """p(z) p(x|z): a name, a file.py, file.py:Name or pkg.mod:Name."""
    guide: str
    """q(z|x): likewise."""
    data: tuple[str, ...]
    """A built-in set or files, as for fit."""
    objective: str = "trace"
    """The estimator that will be followed."""
    binarize: Literal["none", "threshold", "once", "epoch"] | None = None
    """By default once for mnist-5k, else none."""
    scale: float | None = None
    """Divide the first field by this."""
    standardize: bool = False
    """Let the programs see standardized columns, as for fit."""
    missing: Literal["error", "nan"] = "error"
    """nan: cells of the first field may be missing."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """One constructor setting, as for fit. May be repeated."""

    def act(self) -> tuple[dict[str, Any], Shown]:
        import ppl_vae
        from ppl_vae.reports import text

        options = {
            name: getattr(self, name) for name in ("objective", "binarize", "scale", "standardize", "missing", "set")
        }
        report = ppl_vae.check(self.model, self.guide, list(self.data), **options)
        return report.asdict(), lambda: text.checked(report)

    def exit_code(self, result: dict[str, Any]) -> int:
        return 0 if result["passed"] else 1


@dataclass(frozen=True, kw_only=True)
class Opens(Verb):
    """What every verb that opens a run takes."""

    model: str | None = None
    """Name the model again, if it is not a shipped one."""
    guide: str | None = None
    """Name the guide again, if it is not a shipped one."""
    trust: bool = False
    """Execute the programs in RUN/sources."""
    force: bool = False
    """Accept programs or data whose hash is not the run's."""

    def trusting(self, *runs: Path) -> dict[str, Any]:
        import ppl_vae
        from ppl_vae.reports import text

        for run in runs if self.trust else ():
            text.note_trusted(ppl_vae.Run(run))
        return {name: getattr(self, name) for name in ("model", "guide", "trust", "force")}


@dataclass(frozen=True, kw_only=True)
class OnRun(Opens):
    """What every verb on one run takes."""

    run: tyro.conf.Positional[Path]
    """The folder of the run."""
    checkpoint: str = "best"
    """A step, best, last, first or middle."""

    def opening(self) -> dict[str, Any]:
        return self.trusting(self.run) | {"checkpoint": self.checkpoint}


@dataclass(frozen=True, kw_only=True)
class Compare(Opens):
    """Estimators side by side, at one run's parameters, rows and noise; or several runs, row by row."""

    run: tyro.conf.Positional[Path]
    """The folder of the run."""
    others: tyro.conf.Positional[tuple[Path, ...]] = ()
    """More runs, to compare with it on the same rows."""
    data: tuple[str, ...] = ()
    """The data of the run again, where they were moved."""
    objectives: tuple[str, ...] = ()
    """The estimators, with settings after a colon: iwae:K=5 renyi:K=5,alpha=0.5. By default trace and analytic-kl; for
    several runs trace."""
    num_samples: tuple[int, ...] = ()
    """K, for every estimator that names none; one or several."""
    draws: int = 100
    """How often each is repeated."""
    seed: int = 0
    """Of the draws."""
    checkpoint: tuple[str, ...] = ("best",)
    """One or several of: a step, best, last, first, middle."""
    out: Path | None = None
    """For several runs: a JSON file to write."""

    def act(self) -> tuple[dict[str, Any], Shown]:
        import ppl_vae
        from ppl_vae.reports import text

        runs = (self.run, *self.others)
        result = ppl_vae.compare(
            runs, objectives=self.objectives or None, num_samples=self.num_samples, draws=self.draws, seed=self.seed,
            checkpoint=self.checkpoint, out=self.out, progress=not self.json, data=list(self.data) or None,
            **self.trusting(*runs),
        )  # fmt: skip
        return result, lambda: text.compared_runs(result) if "runs" in result else text.compared(result, self.run)


@dataclass(frozen=True, kw_only=True)
class Sample(OnRun):
    """z ~ p(z), then x ~ p(x|z) or its mean."""

    num: int = 64
    """How many."""
    show: Literal["draws", "means"] | None = None
    """Of p(x|z); by default draws of discrete x and of tables, means of other x."""
    given: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What a conditional model is given, as in y=3; several numbers as y=0.1,0.2. May be repeated."""
    seed: int = 0
    """Of the draws."""
    out: Path | None = None
    """By default RUN/samples.npz; images also as PNG beside it."""

    def act(self) -> tuple[dict[str, Any], Shown]:
        import ppl_vae
        from ppl_vae.reports import text

        given = _given(self.given)
        values = ppl_vae.sample(
            self.run, num=self.num, show=self.show, given=given, seed=self.seed, out=self.out, **self.opening()
        )
        result, show = text.written(values, self.out or self.run / "samples.npz")
        return result | ({"given": {name: values[name].tolist() for name in given}} if given else {}), show


def _given(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`("y=3", "v=0.1,0.2")` as numbers and lists of them."""
    given: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            numbers = [float(number) for number in text.split(",")]
        except ValueError:
            raise InputError(f"--given {pair}: write it as y=3, or y=0.1,0.2") from None
        given[name] = numbers if len(numbers) > 1 else numbers[0]
    return given


@dataclass(frozen=True, kw_only=True)
class Reconstruct(OnRun):
    """Test rows, or those of --data, beside E[x|z] at a draw of q(z|x)."""

    data: tuple[str, ...] = ()
    """Rows to read by the rules of the run, one or more; by default the run's test rows."""
    scale: float | None = None
    """Divide the first field of --data by this, in place of the run's scale."""
    num: int = 12
    """How many rows."""
    show: Literal["means", "draws"] = "means"
    """E[x|z], or a draw of p(x|z), for a likelihood without a mean in closed form."""
    seed: int = 0
    """Of the draws."""
    out: Path | None = None
    """By default RUN/reconstructions.npz; images also as PNG beside it."""

    def act(self) -> tuple[dict[str, Any], Shown]:
        import ppl_vae
        from ppl_vae.reports import text

        values = ppl_vae.reconstruct(
            self.run, data=list(self.data) or None, scale=self.scale, num=self.num, show=self.show, seed=self.seed,
            out=self.out, **self.opening(),
        )  # fmt: skip
        return text.written(values, self.out or self.run / "reconstructions.npz")


@dataclass(frozen=True, kw_only=True)
class Encode(OnRun):
    """Mean and standard deviation of q(z|x) for every row, in the order of the data; of a class, its probabilities."""

    data: tuple[str, ...] = ()
    """Rows to read by the rules of the run, one or more; by default the run's own rows."""
    scale: float | None = None
    """Divide the first field of --data by this, in place of the run's scale."""
    draws: int | None = None
    """Over so many draws, for a guide without a mean in closed form."""
    seed: int = 0
    """Of the draws."""
    out: Path | None = None
    """By default RUN/encoding.npz."""

    def act(self) -> tuple[dict[str, Any], Shown]:
        import ppl_vae
        from ppl_vae.reports import text

        values = ppl_vae.encode(
            self.run, list(self.data) or None, scale=self.scale, draws=self.draws, seed=self.seed, out=self.out,
            **self.opening(),
        )  # fmt: skip
        return text.written(values, self.out or self.run / "encoding.npz")


@dataclass(frozen=True, kw_only=True)
class Export(OnRun):
    """Draws of the guide as a NetCDF file for ArviZ."""

    data: tuple[str, ...] = ()
    """Rows to read by the rules of the run, one or more; by default the run's test rows."""
    scale: float | None = None
    """Divide the first field of --data by this, in place of the run's scale."""
    out: Path | None = None
    """By default RUN/arviz.nc."""
    rows: int = 100
    """How many rows, the first."""
    draws: int = 200
    """Draws per row."""
    seed: int = 0
    """Of the draws."""

    def act(self) -> tuple[dict[str, Any], Shown]:
        import ppl_vae
        from ppl_vae.reports import text

        ppl_vae.export(
            self.run, data=list(self.data) or None, scale=self.scale, out=self.out, rows=self.rows, draws=self.draws,
            seed=self.seed, **self.opening(),
        )  # fmt: skip
        return text.exported(self.out or self.run / "arviz.nc")


@dataclass(frozen=True, kw_only=True)
class New(Verb):
    """Copy models/ and guides/ into a folder, to edit."""

    folder: tyro.conf.Positional[Path]
    """Where to; made if it is not there."""

    def act(self) -> tuple[dict[str, Any], Shown]:
        import ppl_vae
        from ppl_vae.reports import text

        return text.copied(ppl_vae.new(self.folder), self.folder)


@dataclass(frozen=True, kw_only=True)
class Demo(Verb):
    """The main job on real digits, in about a minute: fit, compare, sample, reconstruct, export, figures."""

    out: Path = Path("demo-run")
    """The folder of the run."""
    epochs: int = 40
    """Passes over the 4000 training digits."""
    draws: int = 100
    """Draws of each estimator in the comparison."""

    def act(self) -> tuple[dict[str, Any], Shown]:
        import ppl_vae
        from ppl_vae.reports import text

        result = ppl_vae.demo(self.out, epochs=self.epochs, draws=self.draws, progress=not self.json)
        run = result.pop("run")
        return result | {"run": str(run.folder)}, lambda: text.demonstrated(run, result)


VERBS: dict[str, Callable[..., Verb]] = {
    "demo": Demo,
    "new": New,
    "check": Check,
    "fit": Fit,
    "compare": Compare,
    "sample": Sample,
    "reconstruct": Reconstruct,
    "encode": Encode,
    "export": Export,
}
