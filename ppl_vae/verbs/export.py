"""The verb `export`."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from typing_extensions import Doc

from ppl_vae.core.results import Result
from ppl_vae.verbs import _options as o

SHOWN = 10  # unreliable rows in a line


@dataclass(frozen=True, repr=False)
class Exported(Result):
    """A NetCDF file of draws. `exported.posterior` and the other groups are read from it, by `data`."""

    file: Path
    unreliable: tuple[int, ...] | None = None
    """The numbers of the rows whose draws of the posterior are not to be believed; None of draws of the guide."""

    @cached_property
    def data(self) -> Any:
        """What the ArviZ that is installed makes of the file: an `InferenceData` (0.23) or a `DataTree` (1.x)."""
        return _arviz().from_netcdf(str(self.file))

    def __getattr__(self, group: str) -> Any:
        if group.startswith("_"):
            raise AttributeError(group)
        return getattr(self.data, group)

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def fields(self) -> dict[str, Any]:
        rows = {} if self.unreliable is None else {"unreliable_rows": list(self.unreliable)}
        return {"files": [str(self.file)], **rows}

    def lines(self) -> Iterator[str]:
        yield f"written: {self.file}; open it with arviz.from_netcdf({str(self.file)!r})"
        if self.unreliable:
            few = ", ".join(map(str, self.unreliable[:SHOWN])) + ", …" * (len(self.unreliable) > SHOWN)
            yield f"the draws of {len(self.unreliable)} rows are unreliable: {few} (`reliable` in sample_stats)"


def export(
    run: o.RunFolder,
    data: o.Rows = None,
    *,
    scale: o.Scale = None,
    rows: Annotated[int, Doc("How many rows, the first ones.")] = 100,
    draws: Annotated[int, Doc("How many draws of each row.")] = 200,
    posterior: Annotated[
        Literal["guide", "resampled", "hmc"],
        Doc("Draw from q(z|x), or from p(z|x): by resampling draws of q, or by HMC begun at them, in 8 chains."),
    ] = "guide",
    seed: o.Seed = 0,
    out: Annotated[o.Out, Doc("Where to write the file, RUN/arviz.nc if not said.")] = None,
    checkpoint: o.Checkpoint = "best",
    model: o.ModelAgain = None,
    guide: o.GuideAgain = None,
    set: o.SettingsAgain = None,
    trust: o.Trust = False,
    force: o.Force = False,
) -> Exported:
    """Write draws of q(z|x), or of p(z|x), for test rows, or those of --data, as a NetCDF file for ArviZ.

    Its groups and dimensions are those of `ppl_vae.reports.arviz.export_draws`.
    """
    from ppl_vae.core.errors import at_least, check_seeds
    from ppl_vae.core.files import check_file
    from ppl_vae.reports.arviz import export_draws
    from ppl_vae.runs.opening import rows_of, running
    from ppl_vae.runs.run import Run

    _arviz()
    check_seeds(seed=seed)
    at_least(1, rows=rows, draws=draws)
    run = Run.of(run)
    path = Path(out).expanduser() if out else run.folder / "arviz.nc"
    check_file(path)
    opening = run.opening(model=model, guide=guide, set=set, checkpoint=checkpoint, trust=trust, force=force)
    with run.isolated(seed):
        pair = run.pair(**opening)
        found = rows_of(run, pair, data, scale, test=True, force=force)
        batch = tuple(x.to(run.config.device) for x in found.first(rows))
        with running(f"the pair of {run.folder}"):
            unreliable = export_draws(pair, batch, found.numbers[:rows], draws, path, posterior)
    return Exported(path, None if unreliable is None else tuple(unreliable))


def _arviz() -> Any:
    with warnings.catch_warnings():  # ArviZ 0.23 announces 1.x whenever it is imported
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    return arviz
