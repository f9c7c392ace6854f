"""What the estimators share: their parameters, the fit, and how they are kept."""

import copy
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from ppl_vae.adapters import saved
from ppl_vae.adapters.rows import rows_for_fit
from ppl_vae.checks.support import offence
from ppl_vae.core.errors import InputError
from ppl_vae.programs import Pair
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.opening import running
from ppl_vae.runs.run import Run

PASSED_ON = (
    "epochs", "batch_size", "lr", "schedule", "clip", "patience", "warmup", "objective", "standardize", "device",
)  # fmt: skip
"""Parameters that are options of `ppl_vae.fit`."""


@dataclass(eq=False, repr=False, kw_only=True)
class Estimator(BaseEstimator):
    """A VAE that is fitted to an array `(N, D)`. Its parameters, which all estimators of this package have:

    Args:
        model, guide: p(z) p(x|z) and q(z|x), as for `ppl_vae.fit`: a name, a file, a class or an instance.
        latent_dim: the dimension of z; None leaves it to the programs.
        set: other settings of the programs and the objective, as in `{"hidden": 64, "likelihood": "student_t"}`.
        epochs, batch_size, lr, schedule, clip, patience, warmup, objective, standardize, device: as for `ppl_vae.fit`.
            Tables are small as a rule, and so the defaults are more epochs, and a higher learning rate that falls to 0.
        validation_fraction: **so many of the rows given are not trained on**, one at least: they choose the epoch whose
            parameters are kept, against overfitting. None trains on all rows, and keeps the epoch with the best ELBO of
            these.
        random_state: of the split, the initial parameters, the batches and all draws. The same integer gives the same
            numbers, bit for bit; None, other ones with each fit.

    Attributes:
        run_: the `ppl_vae.Run`, in a temporary folder that goes with the estimator; every verb of `ppl_vae` takes it.
        n_train_, n_valid_: how many rows it was trained on, and how many chose the epoch.
        n_iter_: the epochs that were run.
        seed_: the seed that `random_state` gave.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    The numbers of fitted estimators are computed in float64, whatever the rows are, unless a program or a part is the
    user's own, which may hold float32 numbers of its own.
    """

    model: Any = "gaussian"
    guide: Any = "diagonal_normal"
    latent_dim: int | None = 2
    set: Any = None
    epochs: int = 200
    batch_size: int = 100
    lr: float = 1e-2
    schedule: str = "cosine"
    clip: float | None = None
    patience: int | None = None
    warmup: int | None = None
    objective: Any = "trace"
    standardize: bool = False
    device: str = "cpu"
    validation_fraction: float | None = 0.1
    random_state: Any = None

    _missing: ClassVar[bool] = False
    _found: ClassVar[tuple[str, ...]] = ("n_features_in_", "seed_", "n_train_", "n_valid_", "n_iter_")

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the VAE to the rows of X, `(N, D)`; `y` is ignored.

        Raises:
            InputError: what `ppl_vae.fit` refuses; it is a ValueError.
        """
        self._fitted(self._valid(X, reset=True))
        return self

    def _fitted(self, X: np.ndarray) -> None:
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        names = getattr(self, "feature_names_in_", ())
        data = rows_for_fit(X, names, self.validation_fraction, self.seed_, missing=self._missing)
        options = {name: saved.plain(getattr(self, name)) for name in PASSED_ON}
        options |= {"set": self._settings(), "seed": self.seed_, "missing": "nan" if self._missing else "error"}
        # a module is copied, so that the user's own keeps its weights
        programs = [copy.deepcopy(p) if isinstance(p, nn.Module) else p for p in (self.model, self.guide)]
        self.run_ = fit(programs[0], programs[1], data, **options)
        self.n_train_, self.n_valid_ = data.lengths["train"], data.lengths["valid"]
        self.n_iter_ = int(self.run_.metrics[-1]["epoch"])

    def _settings(self) -> dict[str, Any]:
        size = {} if self.latent_dim is None else {"latent_dim": self.latent_dim}
        return saved.plain(size | dict(self.set or {}))

    def _valid(self, X: Any, *, reset: bool = False) -> np.ndarray:
        if not reset:
            check_is_fitted(self)
        return validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_samples=2 if reset else 1,
            ensure_all_finite="allow-nan" if self._missing else True,
        )  # fmt: skip

    # ---- the fitted pair

    def _again(self) -> dict[str, Any]:
        """What is not shipped, for `Run.pair`; a copy, which may be given the weights of the run."""
        return copy.deepcopy(dict(self.run_.again))

    def _opened(self) -> Pair:
        pair = self.run_.pair(**self._again())
        return replace(pair, model=pair.model.to(self._dtype), guide=pair.guide.to(self._dtype))

    @property
    def _dtype(self) -> torch.dtype:
        return torch.get_default_dtype() if any(self.run_.again.values()) else torch.float64

    def _tensor(self, X: np.ndarray) -> Tensor:
        return torch.tensor(X, dtype=self._dtype, device=self.run_.config.device)

    def _rows(self, pair: Pair, X: np.ndarray) -> Tensor:
        """Rows for the pair.

        Raises:
            InputError: a number that the model can't have drawn.
        """
        x = self._tensor(X)
        with running("the model"):
            found = offence(pair.model, (x,), torch.arange(len(x)), [self.run_.rules.columns.get("x", ())])
        if found:
            raise InputError(found)
        return x

    # ---- kept

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a new folder, without pickle: JSON and safetensors.

        The folder is a run, which `ppl-vae` takes as it is (`ppl-vae sample FOLDER`), with `estimator.json` beside.

        Raises:
            InputError: the folder exists and is not empty.
        """
        check_is_fitted(self)
        found = {name: plain_array(getattr(self, name)) for name in self._found if hasattr(self, name)}
        names = {"feature_names_in_": list(self.feature_names_in_)} if hasattr(self, "feature_names_in_") else {}
        saved.write(folder, self.run_, type(self).__name__, self.get_params(deep=False), found | names)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], **again: Any) -> Self:
        """A fitted estimator from the folder that `save` wrote.

        Args:
            again: `model`, `guide`, `set` or `objective` again, where they are not shipped with this package or were
                given as objects: no code from the folder is run.

        Raises:
            InputError: no such folder, one of another estimator, or a parameter that has to be given again.
        """
        params, found = saved.read(folder, cls.__name__, again)
        made = cls(**params)
        made.run_ = Run(Path(folder), again={name: x for name, x in again.items() if name in ("model", "guide")})
        if notes := [entry["name"] for entry in made.run_.config.set if isinstance(entry, dict)]:
            own = made._settings()
            made.run_ = Run(Path(folder), again={**made.run_.again, "set": {name: own[name] for name in notes}})
        names = found.pop("feature_names_in_", None)
        for name, value in found.items():
            setattr(made, name, value)
        if names is not None:
            made.feature_names_in_ = np.asarray(names, dtype=object)
        return made

    def __getstate__(self) -> dict[str, Any]:
        """A pickle or a copy holds the files of the run, and makes a temporary folder of its own."""
        state = dict(super().__getstate__())
        if "run_" in state:
            state["run_"] = saved.packed(self.run_), dict(self.run_.again)
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        state = dict(state)
        if "run_" in state:
            state["run_"] = saved.unpacked(*state["run_"])
        super().__setstate__(state)


def plain_array(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else saved.plain(value)


def warn_unreliable(count: int, rows: int, what: str) -> None:
    if count:
        warnings.warn(f"{count} of {rows} rows: {what}", stacklevel=4)
