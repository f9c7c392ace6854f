"""A run is a folder: what was asked, the sources, the metrics, the checkpoints, and what commands add."""

import json
import math
import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import pyro
import torch
from torch import Tensor

import ppl_vae
from ppl_vae import objectives
from ppl_vae.core.errors import InputError
from ppl_vae.core.files import read_json, to_json, write_bytes, write_json
from ppl_vae.data.dataset import IMAGES, Dataset, image_shape
from ppl_vae.data.newrows import Rules
from ppl_vae.data.readers import absolute
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, load_owned, owned, resolve_pair
from ppl_vae.programs.find import Kind, Source, Spec, locate, same_numbers, sha256_of, shipped_again
from ppl_vae.programs.given import given_fields
from ppl_vae.programs.resolution import parse_settings
from ppl_vae.programs.scores import Batch, ProgramLike
from ppl_vae.programs.standardize import resolve_standardized
from ppl_vae.runs.checkpoint import Checkpoints
from ppl_vae.runs.remembered import recall, remember
from ppl_vae.training.config import FitConfig, config_from
from ppl_vae.training.setup import isolated, make_objective, open_config_data, split_objective, to_device

FEW = 100  # rows that tell which fields are observed

KINDS: tuple[Kind, Kind] = ("model", "guide")


@dataclass(frozen=True)
class Run:
    """The run in `folder`.

    Raises:
        InputError: `folder` holds no run.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder).expanduser())
        if not (self.folder / "config.json").is_file():
            raise InputError(f"{self.folder} is no run: it has no config.json; make one with fit --out {self.folder}")

    @cached_property
    def record(self) -> dict[str, Any]:
        """`config.json`."""
        record = read_json(self.folder / "config.json")
        if record.get("format") != 1:
            raise InputError(f"{self.folder} is of format {record.get('format')!r}, which this version does not know")
        if missing := {"fit", "programs", "batch", "data"} - set(record):
            raise InputError(f"{self.folder / 'config.json'} lacks {', '.join(sorted(missing))}: it is no run's")
        return record

    @property
    def config(self) -> FitConfig:
        """The options that it was fitted with."""
        options = self.record["fit"]
        return config_from(options | {name: tuple(options[name]) for name in ("data", "set")})

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder, self.config.keep_every)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, its null as NaN; a last line torn by a kill is left out."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        return [json.loads(line, object_hook=_nan_for_null) for line in lines if line.endswith("\n")]

    @property
    def fresh(self) -> dict[str, Any] | None:
        """The best state's validation numbers at noise that it was not selected by; None before the end of `fit`."""
        path = self.folder / "best.json"
        found = json.loads(path.read_text(), object_hook=_nan_for_null) if path.is_file() else {"step": None}
        return found["valid"] if found["step"] == self.checkpoints.manifest["best"] else None

    def add_metrics(self, line: Mapping[str, Any]) -> None:
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(to_json(line) + "\n")

    def forget_metrics_after(self, step: int) -> None:
        kept = [line for line in self.metrics if line["step"] <= step]
        write_bytes(self.folder / "metrics.jsonl", "".join(to_json(line) + "\n" for line in kept).encode())

    @property
    def target(self) -> str:
        """What the objective's value estimates."""
        recorded = self.record.get("objective")
        return recorded["target"] if recorded else make_objective(self.config).target

    @property
    def objective_settings(self) -> dict[str, Any]:
        """The settings of the objective, without their prefix, be they in its name or apart."""
        _, settings = split_objective(parse_settings(self.config.set))
        return settings if self._own_objective else settings | dict(objectives.named(self.config.objective).settings)

    def objective(self) -> Objective:
        """The objective of the run, where it has a name."""
        return make_objective(self.config, self.named_objective())

    def named_objective(self, named: Any = None, *, trust: bool = False, force: bool = False) -> objectives.Named:
        """What the run's objective is; a class of the user's own is executed by the rule of `pair`.

        Args:
            named: the objective again: a class, an instance or `file.py:Class`.
        """
        recorded = self._own_objective
        if recorded is None:
            return objectives.named(self.config.objective)
        if named is None and recorded["source"] is None:
            raise InputError(f"the objective of {self.folder} was given from Python: give it again as objective=")
        source = None if recorded["source"] is None else self.folder / recorded["source"]
        if named is None and not trust:
            raise InputError(
                f"the objective of {self.folder} is not a shipped one: name it again (--objective "
                f"{recorded['spec']}), or --trust to execute {source}"
            )
        named = f"{source}:{recorded['attribute']}" if named is None else named
        if not force:
            self._check_hash("objective", named, recorded["sha256"])
        return objectives.named(named)

    @property
    def _own_objective(self) -> dict[str, Any] | None:
        """Where an objective of the user's own came from; None for one that has a name."""
        return self.record.get("objective", {}).get("program")

    def data(self, data: Any = None, *, force: bool = False) -> Dataset:
        """The data set of the run, split and binarized as it was; `data` where it was given from Python.

        Raises:
            InputError: its content is not what the run was fitted to, without `force`.
        """
        config = self.config
        if data is None and not config.data:
            raise InputError(f"{self.folder} was fitted to data given from Python: give data= again")
        dataset = open_config_data(config, data)
        if dataset.sha256 != self.record["data"]["sha256"] and not force:
            raise InputError(
                f"{dataset.name} is not the data that {self.folder} was fitted to (its hash differs): --force"
            )
        return dataset

    def pair(
        self,
        *,
        model: Spec | None = None,
        guide: Spec | None = None,
        checkpoint: int | str = "best",
        set: Mapping[str, Any] | None = None,
        trust: bool = False,
        force: bool = False,
    ) -> Pair:
        """Model and guide with the weights of a checkpoint, in evaluation mode.

        Shipped programs are executed from the installed package. Any other is executed only if it is named again
        (`model`, `guide`), or, under `trust`, from `RUN/sources`; a hash that differs is refused without `force`.

        Args:
            checkpoint: a step, `best`, `last` or `first`.
            set: settings again that were given as objects from Python, such as a prior of one's own.
        """
        tensors, _ = self.checkpoints.load(self.step(checkpoint))
        with isolated(self.config.seed):
            pair = self.build({"model": model, "guide": guide}, given=set, trust=trust, force=force)
        load_owned(pair.model, pair.guide, tensors, pair.borrower)
        pair.model.eval()
        pair.guide.eval()
        return pair

    def build(
        self,
        named: Mapping[str, Spec | None],
        example: Batch | None = None,
        rows: Tensor | None = None,
        *,
        given: Mapping[str, Any] | None = None,
        trust: bool = False,
        force: bool = False,
    ) -> Pair:
        """Model and guide for `example`, or else for zeros of the recorded shapes, before any weights are loaded.

        `rows` are those by which columns are standardized, where the run does that; `given` are settings again that
        were given as objects.
        """
        model, guide = (self._executable(kind, named[kind], trust) for kind in KINDS)
        if model is None or guide is None:
            self._refuse_unnamed([kind for kind, found in zip(KINDS, (model, guide), strict=True) if found is None])
        assert model is not None
        assert guide is not None
        if not force:
            for kind, spec in zip(KINDS, (model, guide), strict=True):
                self._check_hash(kind, spec, self.record["programs"][kind]["sha256"])
            self._remember(named)
        settings, _ = split_objective(parse_settings(self.config.set) | dict(given or {}))
        batch = self._zeros() if example is None else example
        if self.config.standardize:
            pair = resolve_standardized(model, guide, batch, settings, rows)
        else:
            pair = resolve_pair(model, guide, batch, settings)
        to_device(pair, self.config.device)
        return pair

    def _executable(self, kind: Kind, named: Spec | None, trust: bool) -> Spec | None:
        """What may be executed: None where the program must be named again."""
        recorded = self.record["programs"][kind]
        if named is not None:
            return named
        if _is_shipped(kind, recorded):
            return shipped_again(kind, recorded)
        if recorded["source"] is None:
            raise InputError(f"the {kind} of {self.folder} was given from Python: give it again as {kind}=")
        if trust:
            return f"{self.folder / recorded['source']}:{recorded['attribute']}"
        return recall(self.folder, recorded["sha256"])

    def _refuse_unnamed(self, kinds: list[Kind]) -> NoReturn:
        recorded = {kind: self.record["programs"][kind] for kind in kinds}
        add = [word for kind, p in recorded.items() for word in (f"--{kind}", _spec_again(p))]
        sources = ", ".join(str(self.folder / p["source"]) for p in recorded.values())
        raise InputError(
            f"the {' and the '.join(kinds)} of {self.folder} {'is' if len(kinds) == 1 else 'are'} not a shipped one: "
            f"name it again, once ({shlex.join(add)}), or --trust to execute {sources}",
            add,
        )

    def _remember(self, named: Mapping[str, Spec | None]) -> None:
        """That programs were named, for the commands to come."""
        for kind in KINDS:
            spec, recorded = named[kind], self.record["programs"][kind]
            if isinstance(spec, str | Path) and recorded["sha256"] and not _is_shipped(kind, recorded):
                attribute = str(spec).rpartition(".py:")[2] if ".py:" in str(spec) else ""
                remember(self.folder, recorded["sha256"], locate(spec, kind), attribute)

    def _check_hash(self, kind: str, spec: Any, recorded: str) -> None:
        """Refuse a file that is not the recorded one, before it is executed."""
        if not recorded or not isinstance(spec, str | Path):
            return
        role: Kind = "guide" if kind == "guide" else "model"
        path = locate(spec, role)
        if (found := sha256_of(path)) != recorded and not same_numbers(spec, role, recorded):
            raise InputError(
                f"{kind} {spec} ({path}, sha256 {found[:12]}) is not what {self.folder} was fitted with "
                f"(sha256 {recorded[:12]}): name the right file, or --force"
            )

    def trusted(self) -> list[str]:
        """What `trust` executes from `RUN/sources`: path and hash of each file."""
        programs = self.record["programs"].items()
        files = {self.folder / p["source"] for kind, p in programs if p["source"] and not _is_shipped(kind, p)}
        if self._own_objective and self._own_objective["source"]:
            files.add(self.folder / self._own_objective["source"])
        if missing := [str(file) for file in sorted(files) if not file.is_file()]:
            raise InputError(f"no such file: {missing[0]}")
        return [f"{file} (sha256 {sha256_of(file)})" for file in sorted(files)]

    def _zeros(self) -> Batch:
        return self.zeros(self.record["batch"]["rows"])

    def zeros(self, rows: int) -> Batch:
        """Rows of zeros, `(rows, *shape)` per field, of the shapes and dtypes of the data."""
        batch = self.record["batch"]
        return tuple(
            torch.zeros(rows, *shape, dtype=getattr(torch, dtype))
            for shape, dtype in zip(batch["shapes"], batch["dtypes"], strict=True)
        )

    def given(self, model: ProgramLike) -> list[str]:
        """The fields that the model is given and never observes; found on zeros and ones where no record says."""
        if "given" in self.record["data"]:
            return self.record["data"]["given"]
        zeros = tuple(x.to(self.config.device) for x in self.zeros(2))
        return given_fields(model, self.record["batch"]["fields"], zeros, tuple(x + 1 for x in zeros))

    @property
    def rules(self) -> Rules:
        """How new rows are read: as the data of the run were."""
        batch, data = self.record["batch"], self.record["data"]
        return Rules(
            fields=tuple(batch["fields"]),
            shapes=tuple(map(tuple, batch["shapes"])),
            dtypes=tuple(getattr(torch, dtype) for dtype in batch["dtypes"]),
            columns={name: tuple(names) for name, names in data.get("columns", {}).items()},
            scale=self.config.scale,
            missing=self.config.missing == "nan",
            binarize="once" if data["binarize"] == "epoch" else data["binarize"],
            range=data.get("range"),
        )

    @property
    def image(self) -> tuple[int, ...] | None:
        """The shape of the picture that a datum of the first field is, if it is one."""
        data, shape = self.record["data"], tuple(self.record["batch"]["shapes"][0])
        recorded = data["image"] if "image" in data else IMAGES.get(data["name"]) or image_shape(shape)
        return None if recorded is None else tuple(recorded)

    def step(self, checkpoint: int | str) -> int:
        """The step of a checkpoint: itself, `best`, `last`, `first`, or `middle`, the one nearest to half of the last.

        Raises:
            InputError: no such word, or no checkpoint yet.
        """
        steps = self.checkpoints.steps
        if not steps:
            raise InputError(f"{self.folder} has no checkpoint yet: fit --out {self.folder} --resume")
        middle = min(steps, key=lambda step: abs(step - steps[-1] / 2))
        named = {"best": self.checkpoints.manifest["best"], "last": steps[-1], "first": steps[0], "middle": middle}
        try:
            return named[checkpoint] if checkpoint in named else int(checkpoint)
        except ValueError:
            raise InputError(f"--checkpoint {checkpoint}: give a step, best, last, first or middle") from None


def create(
    folder: Path,
    config: FitConfig,
    pair: Pair,
    dataset: Dataset,
    example: Batch,
    objective: Objective,
    objective_source: Source | None = None,
) -> Run:
    """Make the run's folder, with `config.json` written last.

    Args:
        objective_source: where the objective came from, if it is a class of the user's own.
    """
    try:
        (folder / "sources").mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{folder} can't be made: {error.strerror}") from error
    programs = {kind: _copied(source, folder) for kind, source in pair.sources.items()}
    own = None if objective_source is None else _copied(objective_source, folder)
    write_json(
        folder / "config.json",
        {
            "format": 1,
            "versions": {
                "ppl_vae": ppl_vae.__version__,
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "pyro": pyro.__version__,
            },
            "fit": config.asdict(),
            "programs": programs,
            "objective": {"target": objective.target, "program": own},
            "batch": {
                "fields": list(dataset.fields),
                "rows": len(example[0]),
                "shapes": [list(x.shape[1:]) for x in example],
                "dtypes": [str(x.dtype).removeprefix("torch.") for x in example],
            },
            "data": {
                "name": dataset.name,
                "sha256": dataset.sha256,
                "rows": [len(split[0]) for split in (dataset.train, dataset.valid, dataset.test)],
                "binarize": dataset.binarize,
                "columns": {name: list(names) for name, names in dataset.columns.items()},
                "range": _range(dataset.train[0]),
                "image": None if dataset.image is None else list(dataset.image),
                "given": given_fields(pair.model, dataset.fields, *_two(dataset, pair)),
            },
        },
    )
    return Run(folder)


def _two(dataset: Dataset, pair: Pair) -> tuple[Batch, Batch]:
    """Training rows, and as many with other values in every field that is not constant."""
    device = next((t.device for _, t in owned(pair.model, pair.guide, pair.borrower)), torch.device("cpu"))
    rows = tuple(x[:FEW].to(device) for x in dataset.train)
    return rows, tuple(x.flip(0) for x in rows)


def _range(x: Tensor) -> list[float]:
    seen = x[~x.isnan()]
    return [seen.min().item(), seen.max().item()]


def _nan_for_null(numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if number is None else number for name, number in numbers.items()}


def _spec_again(recorded: Mapping[str, Any]) -> str:
    """What names a program from any folder: its file's whole path."""
    path, spec = Path(recorded["path"]), recorded["spec"]
    if not path.is_file():
        return spec
    return f"{path}:{recorded['attribute']}" if ".py:" in spec or ":" in spec else str(path)


def _is_shipped(kind: Kind, recorded: Mapping[str, Any]) -> bool:
    """Is this a shipped program under its own name? Any other name could lead from its file to all that it imports."""
    return recorded["shipped"] and recorded["attribute"] == kind.capitalize()


def _copied(source: Source, folder: Path) -> dict[str, Any]:
    """What `config.json` says of a source, whose file is copied into the run."""
    described = _describe(source)
    if source.path is not None:
        write_bytes(folder / described["source"], source.path.read_bytes())
    return described


def _describe(source: Source) -> dict[str, Any]:
    """A program's source as `config.json` records it; one file that holds both programs is copied once."""
    path = source.path
    name = None if path is None else f"sources/{path.stem}-{source.sha256[:8]}.py"
    return {
        "spec": source.spec,
        "path": None if path is None else str(path),
        "attribute": source.attribute,
        "sha256": source.sha256,
        "shipped": source.shipped,
        "source": name,
    }


def record_data(data: Any) -> tuple[str, ...]:
    """What `config.json` says of the data: its files with absolute paths, or nothing for arrays."""
    sources = data if isinstance(data, list | tuple) else (data,)
    return tuple(str(absolute(s)) for s in sources) if all(isinstance(s, str | Path) for s in sources) else ()
