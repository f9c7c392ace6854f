"""The options of `fit`, as the command line shows them and as a run records them. Imports no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

from typing_extensions import Doc

from ppl_vae.core.errors import InputError, at_least, check_seeds
from ppl_vae.core.palette import PARTS
from ppl_vae.core.registry import Registry
from ppl_vae.core.threads import MOST, Threads

Schedule: TypeAlias = Literal["constant", "cosine"]
Binarize: TypeAlias = Literal["none", "threshold", "once", "epoch"]
Compile: TypeAlias = Literal["auto", "on", "off"]
Missing: TypeAlias = Literal["error", "nan"]
OnNan: TypeAlias = Literal["stop", "skip"]
Streamed: TypeAlias = Literal["auto", "on", "off"]
Track: TypeAlias = Literal["tensorboard", "wandb", "mlflow"]
Precision: TypeAlias = Literal["float32", "float64", "bfloat16"]


_OBJECTIVES = ", ".join(Registry[Any]("ppl_vae.objectives", "objective"))
_PARTS = "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in PARTS.items())
_SUFFIXES = ", ".join(Registry[Any]("ppl_vae.data.readers", "kind of file"))
_SETS = ", ".join(Registry[Any]("ppl_vae.data.builtin", "data set"))
MAY_CHANGE = ("epochs", "lr", "patience", "on_nan")  # when a run goes on
EVERY = ("checkpoint_every", "keep_every")
COUNTS = ("epochs", "batch_size", "patience", "warmup", "warmup_cycles", "threads", *EVERY)


@dataclass(frozen=True)
class FitConfig:
    """How a model and a guide are fitted to data."""

    model: Annotated[
        str, Doc("p(z) p(x|z): a name, a file.py, file.py:Name or pkg.mod:Name; ./models/ is searched first.")
    ] = ""
    guide: Annotated[
        str,
        Doc(
            "q(z|x): a name, a file.py, file.py:Name or pkg.mod:Name; ./guides/ is searched first. auto is made from "
            "the model."
        ),
    ] = ""
    data: Annotated[
        tuple[str, ...],
        Doc(
            f"{_SETS}, or a file ({_SUFFIXES}), with columns or an array of it after a colon, as in "
            "a.csv:height,weight; a folder of Parquet files or of pictures; several fields as x=FILE y=FILE."
        ),
    ] = ()
    objective: Annotated[
        str,
        Doc(
            f"The estimator whose gradient is followed: {_OBJECTIVES}; with settings after a colon, as in iwae:K=5; "
            "or a class of your own, file.py:Class."
        ),
    ] = "trace"
    epochs: Annotated[int, Doc("Passes over the training rows.")] = 20
    batch_size: Annotated[int, Doc("Rows per step; the last batch of an epoch may be shorter.")] = 100
    lr: Annotated[float, Doc("Adam's learning rate.")] = 1e-3
    schedule: Annotated[Schedule, Doc("How the learning rate changes: cosine lowers it to 0 over all epochs.")] = (
        "constant"
    )
    clip: Annotated[float | None, Doc("Scale the gradient down to this norm where it is larger.")] = None
    on_nan: Annotated[
        OnNan,
        Doc(
            "What to do where the loss or its gradient is not finite: stop, or skip the step, at most 10 in an epoch. "
            "The step is not taken in either case, and RUN/not_finite.npz holds its batch."
        ),
    ] = "stop"
    patience: Annotated[
        int | None,
        Doc(
            "Stop after this many epochs without a better validation value of the objective (for trace, the ELBO); the "
            "epochs of a warm-up do not count."
        ),
    ] = None
    warmup: Annotated[
        int | None,
        Doc("Raise the weight of the rate from 0 to 1 over this many epochs, against a collapse of the posterior."),
    ] = None
    warmup_cycles: Annotated[
        int,
        Doc("Raise it so often: each cycle is a rise over the epochs of warmup, and as many epochs at weight 1."),
    ] = 1
    seed: Annotated[int, Doc("Random seed of the parameters, the order of the batches and the draws.")] = 0
    split_seed: Annotated[int, Doc("Random seed of the split into training, validation and test rows.")] = 0
    binarize: Annotated[
        Binarize | None,
        Doc(
            "Make the first field 0 or 1: by a threshold of a half, drawn once, or drawn anew in each epoch. By "
            "default once for mnist-5k, else none."
        ),
    ] = None
    scale: Annotated[float | None, Doc("Divide the first field by this number, for example 255.")] = None
    standardize: Annotated[
        bool,
        Doc(
            "Let the programs see each column of the first field with mean 0 and standard deviation 1; log p(x), and "
            "all that is written, stay in the units of the data."
        ),
    ] = False
    missing: Annotated[
        Missing,
        Doc("With nan, cells of the first field may be missing, for programs that leave them out, such as table."),
    ] = "error"
    stream: Annotated[
        Streamed,
        Doc(
            "Read the rows from their files while it trains, in place of all at once: on, off, or, with auto, where "
            "they would take more than 30 % of the memory that is available, and of folders (Parquet files, pictures)."
        ),
    ] = "auto"
    set: Annotated[
        tuple[str | dict[str, str], ...],
        Doc(
            "One setting: model.latent_dim=16, guide.hidden=200, objective.num_particles=5, or latent_dim=16 for every "
            "constructor that has it. A part of vae or amortized is chosen by name, and has settings: prior=mixture, "
            f"prior.components=20. May be repeated. The parts are, for {_PARTS}."
        ),
    ] = ()
    device: Annotated[str, Doc("The torch device to train on.")] = "cpu"
    precision: Annotated[
        Precision,
        Doc(
            "Numbers of float64 in place of float32; or, with bfloat16, the products of linear layers and convolutions "
            "in bfloat16 while it trains, and all else in float32: see ppl-vae compare --precision."
        ),
    ] = "float32"
    threads: Annotated[
        Threads,
        Doc(
            "Threads of torch: a number, or auto; by default as many as torch takes. Beside other work one is hardly "
            "slowed down, while several may take three times as long: auto measures which are faster, again and "
            "again. The same number gives the same bits."
        ),
    ] = None
    compile: Annotated[
        Compile,
        Doc(
            "Train by a compiled graph of the programs and their gradients: on, off, or, with auto, where it is "
            "expected to save a minute or more. What can't be compiled is trained as it is, and the reason is said."
        ),
    ] = "auto"
    track: Annotated[
        tuple[Track, ...],
        Doc(
            "Log what metrics.jsonl holds also to tensorboard (RUN/tensorboard), wandb or mlflow, one or several. The "
            "package is an extra: pip install 'ppl_vae[tensorboard]'."
        ),
    ] = ()
    checkpoint_every: Annotated[
        int, Doc("Steps between checkpoints; the first, the best and the last two are kept.")
    ] = 1000
    keep_every: Annotated[int | None, Doc("Also keep the checkpoints at multiples of this many steps.")] = None

    def __post_init__(self) -> None:
        import typeguard  # here, so that help is quick

        for name, expected in get_type_hints(FitConfig).items():
            value = getattr(self, name)
            try:
                typeguard.check_type(
                    value, expected, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS
                )
            except typeguard.TypeCheckError:
                shown = expected.__name__ if isinstance(expected, type) else str(expected).replace("typing.", "")
                raise InputError(f"{name} is {value!r}: it must be {shown}") from None
        counts = {name: getattr(self, name) for name in COUNTS}
        at_least(1, **{name: value for name, value in counts.items() if isinstance(value, int)})
        if isinstance(self.threads, int) and self.threads > MOST:
            raise InputError(f"threads is {self.threads}: it must be at most {MOST}")
        for name in ("lr", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name} is {value}: it must be a finite number above 0")
        if self.warmup_cycles > 1 and self.warmup is None:
            raise InputError(
                f"warmup_cycles is {self.warmup_cycles}, without warmup: give warmup, the epochs of a rise"
            )
        check_seeds(seed=self.seed, split_seed=self.split_seed)

    def asdict(self) -> dict[str, Any]:
        return asdict(self)

    def resumed_with(self, given: Mapping[str, Any], *, force: bool = False) -> "FitConfig":
        """This recorded configuration with the options that are given, and no other.

        Raises:
            InputError: one that would make another run of it; the batch size is one of them, unless `force`.
        """
        for name, wanted in given.items():
            recorded = getattr(self, name)
            if wanted != recorded and name not in MAY_CHANGE and not (force and name == "batch_size"):
                may = ", ".join(MAY_CHANGE) + (", and batch_size with force" if name == "batch_size" else "")
                raise InputError(
                    f"the run was started with {name} {recorded!r}, not {wanted!r}: leave it out; a run may go on with "
                    f"other values of {may}"
                )
        changed = replace(self, **given)
        if changed.epochs != self.epochs and self.schedule != "constant":
            raise InputError(f"the {self.schedule} schedule was laid out for {self.epochs} epochs: leave out epochs")
        if changed.epochs < self.epochs:
            raise InputError(f"the run was started with {self.epochs} epochs, not {changed.epochs}: leave it out")
        if changed.batch_size != self.batch_size and (self.schedule != "constant" or self.warmup):
            raise InputError(f"schedule and warmup count steps of {self.batch_size} rows: leave out batch_size")
        return changed


def config_from(options: dict[str, Any]) -> FitConfig:
    """A `FitConfig` from keyword arguments.

    Raises:
        InputError: an option that `fit` does not have, or a value that it does not take.
    """
    known = {field.name for field in fields(FitConfig)}
    if unknown := sorted(set(options) - known):
        raise InputError(f"fit has no option {unknown[0]!r}: it has {', '.join(sorted(known))}")
    return FitConfig(**options)
