"""The options of `fit`, as the command line shows them and as a run records them. Imports no torch."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_type_hints

import typeguard

from ppl_vae.core.errors import InputError, at_least

COUNTS = ("epochs", "batch_size", "patience", "checkpoint_every", "keep_every")


@dataclass(frozen=True)
class FitConfig:
    """How a model and a guide are fitted to data."""

    model: str = ""
    """p(z) p(x|z): a name, a file.py, file.py:Name or pkg.mod:Name."""
    guide: str = ""
    """q(z|x): likewise."""
    data: tuple[str, ...] = ()
    """mnist-5k, digits, or a file (npy, npz:key, csv:columns, parquet); several fields as x=FILE y=FILE."""
    objective: str = "trace"
    """The estimator whose gradient is followed: trace, analytic-kl, mean-field, score-function, sticking-the-landing,
    iwae, dreg, renyi, beta, free-bits or trace-enum, with settings after a colon (iwae:K=5); or file.py:Class."""
    epochs: int = 20
    """Passes over the training rows."""
    batch_size: int = 100
    """Rows per step; the last batch of an epoch may be shorter."""
    lr: float = 1e-3
    """Adam's learning rate."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine lowers the learning rate to 0 over all epochs."""
    clip: float | None = None
    """Scale the gradient down to this norm where it is larger."""
    patience: int | None = None
    """Stop after this many epochs without a better validation value of the objective (for trace, the ELBO)."""
    seed: int = 0
    """Of parameters, batch order and draws."""
    split_seed: int = 0
    """Of the split into training, validation and test rows."""
    binarize: Literal["none", "threshold", "once", "epoch"] | None = None
    """By default once for mnist-5k, else none."""
    scale: float | None = None
    """Divide the first field by this, say 255."""
    standardize: bool = False
    """Let the programs see each column of the first field with mean 0 and standard deviation 1; log p(x), and all that
    is written, stay in the units of the data."""
    missing: Literal["error", "nan"] = "error"
    """nan: cells of the first field may be missing, for programs that leave them out, such as table."""
    set: tuple[str | dict[str, str], ...] = ()
    """One constructor setting: model.latent_dim=16, guide.hidden=200, objective.num_particles=5, or latent_dim=16
    for every constructor that has it. May be repeated. A value that has no text is recorded by a note, see
    `ppl_vae.training.settings`."""
    device: str = "cpu"
    """A torch device."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; the first, the best and the last two are kept."""
    keep_every: int | None = None
    """Also keep the checkpoints at multiples of this many steps."""

    def __post_init__(self) -> None:
        for name, expected in get_type_hints(FitConfig).items():
            value = getattr(self, name)
            try:
                typeguard.check_type(value, expected)
            except typeguard.TypeCheckError:
                shown = expected.__name__ if isinstance(expected, type) else str(expected).replace("typing.", "")
                raise InputError(f"{name} is {value!r}: it must be {shown}") from None
        counts = {name: getattr(self, name) for name in COUNTS}
        at_least(1, **{name: value for name, value in counts.items() if value is not None})
        for name in ("lr", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name} is {value}: it must be a finite number above 0")
        for name in ("seed", "split_seed"):
            if not 0 <= getattr(self, name) < 2**63:
                raise InputError(f"{name} is {getattr(self, name)}: it must be between 0 and 2**63 - 1")

    def asdict(self) -> dict[str, Any]:
        return asdict(self)

    def resumed_with(self, asked: "FitConfig") -> "FitConfig":
        """This recorded configuration, with the epochs asked for; any other difference is an error.

        What is asked at its default counts as not said.
        """
        for field in fields(self):
            wanted, recorded = getattr(asked, field.name), getattr(self, field.name)
            if wanted not in (field.default, recorded) and field.name != "epochs":
                raise InputError(f"the run was started with {field.name} {recorded!r}, not {wanted!r}: leave it out")
        return replace(self, epochs=asked.epochs) if asked.epochs != FitConfig.epochs else self


def config_from(options: dict[str, Any]) -> FitConfig:
    """A `FitConfig` from keyword arguments.

    Raises:
        InputError: an option that `fit` does not have, or a value that it does not take.
    """
    known = {field.name for field in fields(FitConfig)}
    if unknown := sorted(set(options) - known):
        raise InputError(f"fit has no option {unknown[0]!r}: it has {', '.join(sorted(known))}")
    return FitConfig(**options)
