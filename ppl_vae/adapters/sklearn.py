"""VAEs as estimators of scikit-learn: a transformer, a density that finds outliers, an imputer.

They pass scikit-learn's own checks, and stand in pipelines and grid searches as its own estimators do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ppl_vae.adapters.estimator import Estimator, warn_unreliable
from ppl_vae.core.errors import InputError, at_least
from ppl_vae.evidence.completion import complete
from ppl_vae.evidence.log_px import Method, log_px
from ppl_vae.programs import simulate
from ppl_vae.programs.scores import batches
from ppl_vae.runs.codes import code_names, codes_of
from ppl_vae.runs.opening import running
from ppl_vae.runs.sampling import sampled
from ppl_vae.training.prepare import isolated

FLOATS = [np.float64, np.float32]


@dataclass(eq=False, repr=False, kw_only=True)
class VAETransformer(TransformerMixin, Estimator):
    """Rows to their codes E[z|x], the means of q(z|x), and codes to rows, E[x|z].

    Of a discrete z the codes are the probabilities of its classes. Of a model with several latents a code is no
    function of the row, since each depends on a draw of those before it: such a model is refused.

    The parameters are those of `Estimator`.

    Attributes:
        latent_: the latent site of the model, mostly z.
        latent_names_: the names of the codes, mostly z1, z2, ...
    """

    _found: ClassVar[tuple[str, ...]] = (*Estimator._found, "latent_", "latent_names_")

    def _fitted(self, X: np.ndarray) -> None:
        super()._fitted(X)
        codes = self._codes(X[:1])
        ((name, self.latent_names_),) = code_names({name: x.numpy() for name, x in codes.items()}).items()
        self.latent_ = name.rpartition("_")[0]

    def _codes(self, X: np.ndarray) -> dict[str, Tensor]:
        """The codes of each row, `(N, ...)`, under the name of their site.

        Raises:
            InputError: several latent sites, or a q(z|x) without a mean in closed form.
        """
        pair, found = self._opened(), []
        for batch in batches((self._rows(pair, X),), self.run_.config.batch_size):
            with torch.no_grad(), isolated(self.seed_):
                told = codes_of(self.run_, pair, batch)
            found.append({name: x.cpu() for name, x in told.items() if not name.endswith("_sd")})
        if len(found[0]) > 1:
            sites = ", ".join(name.rpartition("_")[0] for name in found[0])
            raise InputError(f"the model has the latents {sites}: VAETransformer is for models with one")
        return {name: torch.cat([each[name] for each in found]).flatten(1) for name in found[0]}

    def transform(self, X: Any) -> np.ndarray:
        """E[z|x] of each row, `(N, latent_dim)`; float32 for rows of float32."""
        X = self._valid(X)
        (codes,) = self._codes(X).values()
        return codes.numpy().astype(X.dtype)

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """E[x|z] of each row of codes, `(N, D)`, in the units of the data.

        Raises:
            InputError: another number of codes, codes of classes, or a p(x|z) without a mean.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=FLOATS)
        if Z.shape[1] != len(self.latent_names_):
            raise InputError(f"Z has {Z.shape[1]} columns: give {len(self.latent_names_)}, as transform does")
        pair, made = self._opened(), []
        for (z,) in batches((self._tensor(Z),), self.run_.config.batch_size):
            with isolated(self.seed_), running("the model"):
                like = z.new_zeros(len(z), self.n_features_in_)
                drawn = simulate(pair.model, (like,), means=True, at={self.latent_: z})
            (x,) = (value for site, value in drawn.items() if site != self.latent_)
            made.append(x.cpu())
        return torch.cat(made).numpy().astype(Z.dtype)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of the codes; `input_features` is ignored."""
        check_is_fitted(self)
        return np.asarray(self.latent_names_, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@dataclass(eq=False, repr=False, kw_only=True)
class VAEDensity(Estimator):
    """log p(x) of each row in nats, rows drawn from p(x), and by a threshold on log p(x) the rows that are outliers.

    log p(x) is what `ppl_vae.score` gives, and not the ELBO: exact where the model says it (`linear_gaussian`), by
    quadrature for three latent dimensions at most, else by importance sampling from the guide and, where that is not
    reliable, from a proposal fitted to the row. In the first two cases it is a function of the row, by quadrature to
    about 1e-6 nats. In the last it has the noise of the draws, the same each time for the same X, and other draws where
    a row stands among others; a warning says of how many rows it is a lower bound, whose error is not known.

    Args:
        num_samples: the draws of importance sampling for each row.
        method: of log p(x), as for `ppl_vae.score`; None chooses.
        contamination: the part of the training rows that are outliers, above 0 and at most 0.5. It makes the density an
            outlier detector with `predict`, `decision_function` and `fit_predict`, as `IsolationForest` is one. For the
            threshold the fit scores all of its rows, which may take longer than the training.

    The other parameters are those of `Estimator`.

    Attributes:
        offset_: the threshold on log p(x), the quantile `contamination` over all rows that `fit` was given; with a
            contamination.
    """

    num_samples: int = 1000
    method: Method | None = None
    contamination: float | None = None

    _found: ClassVar[tuple[str, ...]] = (*Estimator._found, "offset_")

    def _fitted(self, X: np.ndarray) -> None:
        at_least(2, num_samples=self.num_samples)
        if self.contamination is not None and not 0 < self.contamination <= 0.5:
            raise InputError(f"contamination is {self.contamination}: it must be above 0 and at most 0.5, or None")
        super()._fitted(X)
        if self.contamination is not None:
            self.offset_ = float(np.quantile(self._log_px(X), self.contamination))
        elif hasattr(self, "offset_"):
            del self.offset_

    def _log_px(self, X: np.ndarray) -> np.ndarray:
        pair = self._opened()
        x = self._rows(pair, X)
        with isolated(self.seed_), running("the pair"):
            found = log_px(
                pair.model, pair.guide, (x,), self.method, num_samples=self.num_samples,
                batch_size=self.run_.config.batch_size, most_annealed=0,
            )  # fmt: skip
        doubtful = int((~found.reliable).sum())
        warn_unreliable(doubtful, len(x), "log p(x) is a lower bound in expectation, whose error is not known")
        return found.value.cpu().numpy()

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(x) of each row in nats, in the units of the data, `(N,)`."""
        return self._log_px(self._valid(X))

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of log p(x) over the rows, as `PCA` and `GaussianMixture` have it (`KernelDensity` has the sum)."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Rows drawn from p(x), `(n_samples, D)`.

        Args:
            random_state: of the draws; by default that of the estimator.
        """
        check_is_fitted(self)
        seed = check_random_state(self.random_state if random_state is None else random_state).randint(2**31 - 1)
        drawn = sampled(self.run_, n_samples, "draws", seed=int(seed), **self._again())
        return drawn.arrays[drawn.observed[0]].astype(np.float64)

    @available_if(lambda self: self.contamination is not None)
    def decision_function(self, X: Any) -> np.ndarray:
        """log p(x) less the threshold: negative for outliers, `(N,)`; there is none without a contamination."""
        return self.score_samples(X) - self.offset_

    @available_if(lambda self: self.contamination is not None)
    def predict(self, X: Any) -> np.ndarray:
        """−1 for outliers, 1 for the others, `(N,)`; there is none without a contamination."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    @available_if(lambda self: self.contamination is not None)
    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, and say of the same rows which are outliers; there is none without a contamination."""
        return self.fit(X).predict(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "density_estimator" if self.contamination is None else "outlier_detector"
        return tags


@dataclass(eq=False, repr=False, kw_only=True)
class VAEImputer(OneToOneFeatureMixin, TransformerMixin, Estimator):
    """Rows with NaN in missing cells to rows without: the best guess given the other cells of the row.

    The guess is what `ppl_vae.impute` gives: the mean of p(missing | observed) for numbers, rounded for counts, and the
    most probable code of the others. Guesses have less spread than the truth. They have the noise of the draws, the
    same each time for the same X; what is observed comes back as it is.

    Args:
        kinds: of the columns, in their order: `real`, `positive`, `count`, `binary`, `categorical:K` or `ordinal:K`
            with codes 0, ..., K − 1; one for all, a list, or a text with commas. None leaves it to the programs.
        num_samples: the draws of importance sampling for each row.
        chain_rows: run chains for at most so many rows where importance sampling is not reliable, which is slow.

    The other parameters are those of `Estimator`.
    """

    model: Any = "table"
    guide: Any = "table"
    kinds: str | Sequence[str] | None = "real"
    num_samples: int = 1000
    chain_rows: int = 100

    _missing: ClassVar[bool] = True

    def _settings(self) -> dict[str, Any]:
        kinds = self.kinds if self.kinds is None or isinstance(self.kinds, str) else ",".join(self.kinds)
        return ({} if kinds is None else {"kinds": kinds}) | super()._settings()

    def _fitted(self, X: np.ndarray) -> None:
        at_least(2, num_samples=self.num_samples)
        at_least(0, chain_rows=self.chain_rows)
        if (empty := np.isnan(X).all(0)).any():
            raise InputError(f"column {int(empty.argmax())} has no observed cell: leave it out")
        super()._fitted(X)

    def transform(self, X: Any) -> np.ndarray:
        """X with its missing cells filled, `(N, D)`; float32 for rows of float32."""
        X = self._valid(X)
        pair = self._opened()
        x = self._rows(pair, X)
        with isolated(self.seed_), running("the pair"):
            found = complete(pair.model, pair.guide, (x,), num_samples=self.num_samples, chain_rows=self.chain_rows)
        warn_unreliable(int((~found.reliable).sum()), len(x), "the guesses are not reliable, as too few draws count")
        return np.where(np.isnan(X), found.guess.cpu().numpy(), X).astype(X.dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
