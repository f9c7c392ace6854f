"""A run, as a user holds it: what was asked, the programs that came out, the numbers, the data."""

import copy
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ppl_vae import objectives
from ppl_vae.core.errors import InputError
from ppl_vae.core.files import Scratch
from ppl_vae.core.frames import is_frame, to_frame
from ppl_vae.core.results import Result
from ppl_vae.core.shape import damaged
from ppl_vae.data import Data
from ppl_vae.data.columns import Schema
from ppl_vae.data.newrows import Rules
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, load_owned
from ppl_vae.programs.find import Spec
from ppl_vae.programs.given import given_fields
from ppl_vae.programs.scores import Batch, ProgramLike
from ppl_vae.runs.building import build, reopened
from ppl_vae.runs.checkpoint import Checkpoints
from ppl_vae.runs.history import DO, METRICS, Best, as_frame, best_of, read_fresh, read_metrics
from ppl_vae.runs.record import FILE, config_of, image, read_record, rules, schema_of, zeros
from ppl_vae.runs.summary import Summary
from ppl_vae.runs.trust import Trust
from ppl_vae.training import settings
from ppl_vae.training.config import FitConfig
from ppl_vae.training.prepare import isolated, make_objective, split_objective

if TYPE_CHECKING:
    import numpy
    import pandas


@dataclass(frozen=True)
class Run(Result):
    """The run in `folder`; wherever a path to a run is asked for, it may be given itself.

    Args:
        keep: the temporary folder that lives as long as this object, where the run has no other.
        again: what was given to `fit` in this process and is not shipped, so that `model` and `guide` need not ask.

    Raises:
        InputError: `folder` holds no run.
    """

    folder: Path
    keep: Scratch | None = field(default=None, repr=False, compare=False)
    again: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder).expanduser())
        if not (self.folder / FILE).is_file():
            if runs := sorted(file.parent for part in ("", "*/") for file in self.folder.glob(f"{part}seed-*/{FILE}")):
                raise InputError(
                    f"{self.folder} is no run, but a folder of {len(runs)}: name one, such as {runs[0]}; the fit that "
                    "made them goes on with those that are not done, by the same command"
                )
            raise InputError(f"{self.folder} is no run: it has no {FILE}; make one with fit --out {self.folder}")

    @classmethod
    def of(cls, run: str | os.PathLike[str]) -> "Run":
        """The run itself, or the one in the folder that is given."""
        return run if isinstance(run, Run) else cls(Path(run))

    def __fspath__(self) -> str:
        return str(self.folder)

    # ---- what was asked

    @property
    def summary(self) -> Summary:
        """The best step and its validation numbers."""
        best = self.step("best")
        valid = next((line["valid"] for line in self.metrics if line["step"] == best), None)
        if valid is None:
            raise damaged(self.folder / METRICS, f"it has no line of the best step, {best}", DO)
        rising = 0 < best == self.checkpoints.steps[-1]
        return Summary(str(self.folder), self.target, best, valid, self.fresh, rising)

    def fields(self) -> dict[str, Any]:
        return self.summary.fields()

    def lines(self) -> Iterator[str]:
        yield from self.summary.lines() if self.checkpoints.steps else [f"run: {self.folder}, without a checkpoint yet"]

    def opening(self, *, trust: bool = False, **options: Any) -> dict[str, Any]:
        """The options of `pair`; with `trust`, what it executes is printed to standard error."""
        if trust:
            self.announce_trusted()
        return {"trust": trust} | options

    def announce_trusted(self) -> None:
        """Print to standard error what `trust` executes: path and hash."""
        for source in self.trusted():
            print(f"executing {source}", file=sys.stderr)

    def sample(self, num: int = 64, **options: Any) -> "dict[str, numpy.ndarray] | pandas.DataFrame":
        """`num` samples as arrays by site, of which nothing is written; see `ppl_vae.runs.sampling.sampled`.

        Of a run with a schema they come as a DataFrame, with names and labels as in the source.
        """
        from ppl_vae.runs.sampling import sampled
        from ppl_vae.runs.wording import LABEL, in_units

        found = sampled(self, num, **options)
        if self.schema is None:
            return found.arrays | in_units(self, {site: found.arrays[site] for site in found.observed})
        frame, label = self.schema.decode(found.arrays[found.observed[0]]), self.schema.y
        return frame if label is None else frame.assign(**{label.name: label.decode(found.arrays[LABEL])})

    def encode(self, data: Any = None, **options: Any) -> "dict[str, numpy.ndarray] | pandas.DataFrame":
        """Mean and standard deviation of q(z|x) of each row, as arrays; see `ppl_vae.runs.codes.encoded`.

        Of a DataFrame they come as a DataFrame with its index.
        """
        from ppl_vae.runs.codes import code_names, encoded

        codes, _ = encoded(self, data, **options)
        return to_frame(codes, code_names(codes), data.index) if is_frame(data) else codes

    @cached_property
    def record(self) -> dict[str, Any]:
        """`config.json`."""
        return read_record(self.folder)

    @property
    def config(self) -> FitConfig:
        """The options that it was fitted with."""
        return config_of(self.record)

    @property
    def processes(self) -> int:
        """How many processes train it together."""
        return self.record.get("step", {}).get("processes", 1)

    @property
    def launchers(self) -> list[str]:
        """Names of those that started these processes, if torchrun did."""
        return self.record.get("launchers", [])

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder, self.config.keep_every)

    @property
    def trust(self) -> Trust:
        """Whose code may be executed."""
        return Trust(self.folder, self.record)

    def trusted(self) -> list[str]:
        """What `trust=True` executes from `RUN/sources`: path and hash of each file."""
        return self.trust.sources()

    # ---- what came out

    @property
    def model(self) -> nn.Module:
        """p(z) p(x|z) at the best step, in evaluation mode; loaded once. Raises as `pair`."""
        return self._best_pair.model

    @property
    def guide(self) -> nn.Module:
        """q(z|x) at the best step, in evaluation mode; loaded once. Raises as `pair`."""
        return self._best_pair.guide

    @cached_property
    def _best_pair(self) -> Pair:
        """Of an instance given from Python a copy is loaded, so that the user's own keeps its weights."""
        return self.pair(**copy.deepcopy(dict(self.again)))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, its null as NaN; a last line torn by a kill is left out."""
        return read_metrics(self.folder)

    @property
    def history(self) -> "pandas.DataFrame":
        """The metrics as a table: a row for the start and for each epoch.

        Columns: `step`, `epoch`; on the validation rows `valid_elbo`, `valid_rate`, `valid_distortion` (nats per datum)
        and the standard errors over data `valid_elbo_se_data`, `valid_rate_se_data`; over the epoch, while the
        parameters moved, `train_elbo`, `train_rate`, `train_distortion`, `gradient_norm` (the mean over steps), `lr`
        and `seconds`, and with `on_nan="skip"` the steps that were `skipped`. Where the objective is no ELBO,
        also `valid_objective`, `valid_objective_se_data` and `train_objective`. The first row has no
        numbers of an epoch: NaN.
        """
        return as_frame(self.metrics)

    @property
    def best(self) -> Best:
        """The best step with its validation ELBO, rate and distortion, in nats per datum, errors over data.

        They are measured at fresh noise where the fit has come to its end, else as the step was selected.

        Raises:
            InputError: there is no checkpoint yet.
        """
        step = self.step("best")
        if self.fresh is not None:
            return best_of(step, self.fresh, fresh=True)
        lines = {line["step"]: line["valid"] for line in self.metrics}
        return best_of(step, lines.get(step, {}), fresh=False)

    @property
    def fresh(self) -> dict[str, Any] | None:
        """The best state's validation numbers at noise that it was not selected by; None before the end of `fit`."""
        return read_fresh(self.folder, self.checkpoints.manifest["best"])

    def step(self, checkpoint: int | str) -> int:
        """The step of a checkpoint: itself, `best`, `last`, `first`, or `middle`, the one nearest to half of the last.

        Raises:
            InputError: no such word, or no checkpoint yet.
        """
        return self.checkpoints.step(checkpoint)

    # ---- programs

    def isolated(self, seed: int) -> AbstractContextManager[None]:
        """A state of the process as a fresh one has it, with this seed and the precision of the run."""
        return isolated(seed, precision=self.config.precision)

    def pair(
        self,
        *,
        model: Spec | None = None,
        guide: Spec | None = None,
        set: Mapping[str, Any] | None = None,
        checkpoint: int | str = "best",
        trust: bool = False,
        force: bool = False,
    ) -> Pair:
        """Model and guide with the weights of a checkpoint, in evaluation mode.

        Shipped programs are executed from the installed package. Any other is executed only if it is named again
        (`model`, `guide`), or, under `trust`, from `RUN/sources`; a hash that differs is refused without `force`.

        Args:
            set: the settings again that were given from Python and have no text, such as a class.
            checkpoint: a step, `best`, `last`, `first` or `middle`.

        Raises:
            InputError: no such checkpoint, a program or a setting that has to be given again, or a hash that differs.
        """
        tensors, _ = self.checkpoints.load(checkpoint)
        with self.isolated(self.config.seed):
            pair = build(self, {"model": model, "guide": guide}, set=set or {}, trust=trust, force=force)
        load_owned(pair.model, pair.guide, tensors, pair.borrower)
        pair.model.eval()
        pair.guide.eval()
        return pair

    # ---- the objective

    @property
    def target(self) -> str:
        """What the objective's value estimates."""
        recorded = self.record.get("objective")
        return recorded["target"] if recorded else self.objective().target

    @property
    def objective_settings(self) -> dict[str, Any]:
        """The settings of the objective that have a text, without their prefix, be they in its name or apart."""
        _, own = split_objective(settings.spoken(self.config.set))
        return own if self.trust.own_objective else own | dict(objectives.named(self.config.objective).settings)

    def objective(self) -> Objective:
        """The objective of the run, where it has a name."""
        return make_objective(self.named_objective(), settings.restore(self.config.set, {}, self.folder))

    def named_objective(self, named: Any = None, *, trust: bool = False, force: bool = False) -> objectives.Named:
        """What the run's objective is; a class of the user's own is executed by the rule of `pair`.

        Args:
            named: the objective again: a class, an instance or `file.py:Class`.
        """
        if self.trust.own_objective is None:
            return objectives.named(self.config.objective)
        return objectives.named(self.trust.objective(named, trust=trust, force=force))

    # ---- data

    def data(self, data: Any = None, *, force: bool = False) -> Data:
        """The data of the run, split and binarized as they were; `data` where they were given from Python.

        Raises:
            InputError: they are not there any more, or, without `force`, their content is not what the run was fitted
                to.
        """
        return reopened(self, data, force=force)

    def zeros(self, rows: int) -> Batch:
        """Rows of zeros, `(rows, *shape)` per field, of the shapes and dtypes of the data."""
        return zeros(self.record, rows)

    def given(self, model: ProgramLike) -> list[str]:
        """The fields that the model is given and never observes; found on zeros and ones where no record says."""
        if "given" in self.record["data"]:
            return self.record["data"]["given"]
        zeros = tuple(x.to(self.config.device) for x in self.zeros(2))
        return given_fields(model, self.record["batch"]["fields"], zeros, tuple(x + 1 for x in zeros))

    @property
    def rules(self) -> Rules:
        """How new rows are read: as the data of the run were."""
        return rules(self.record, self.config)

    @cached_property
    def schema(self) -> Schema | None:
        """What the columns of its table are: kinds, labels, dates; None where it was not fitted by a schema."""
        return schema_of(self.record)

    @property
    def image(self) -> tuple[int, ...] | None:
        """The shape of the picture that a datum of the first field is, if it is one."""
        return image(self.record)
