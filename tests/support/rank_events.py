"""What happens in one of several processes that train together, and must happen in all of them."""

import contextlib
import hashlib
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from support.shared_noise import Lines
from torch import Tensor, nn

from ppl_vae import objectives
from ppl_vae.core.errors import InputError, NumericalError
from ppl_vae.data import Dataset, open_data
from ppl_vae.evidence.importance import Weighted
from ppl_vae.evidence.log_px import LogPx
from ppl_vae.programs import Pair, resolve_pair
from ppl_vae.training import stepping
from ppl_vae.training.config import FitConfig
from ppl_vae.training.distributed import Following, World, world
from ppl_vae.training.interrupt import Interrupted
from ppl_vae.training.loop import Loop
from ppl_vae.training.prepare import isolated
from ppl_vae.training.step import Step, Trainer

SETTINGS = {"latent_dim": 2, "hidden": 8}
ROWS = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 4)).astype("float32"))


class Normed(nn.Module):
    """A guide that reads the rows by way of a BatchNorm."""

    def __init__(self, guide: nn.Module) -> None:
        super().__init__()
        self.norm, self.guide = nn.BatchNorm1d(4), guide

    def forward(self, x: Tensor) -> None:
        self.guide(self.norm(x))


def loop_of(here: World, data: Dataset | None = None, normed: bool = False, **options: Any) -> Loop:
    config = FitConfig(batch_size=8, lr=0.01, **options)
    data = open_data(ROWS) if data is None else data
    pair = resolve_pair("gaussian", "diagonal_normal", open_data(ROWS).train, SETTINGS)
    if normed:
        pair = Pair(pair.model, Normed(pair.guide), pair.sources, pair.borrower)
    noise = here.noise("cpu", config.seed)
    stepper = Trainer(pair, objectives.get("trace")(), config.lr, None, noise, here)
    return Loop(stepper, data, config, (Following(), Lines()), world=here)


def digest(loop: Loop) -> str:
    tensors = loop.stepper.tensors()
    return hashlib.sha256(b"".join(tensors[name].detach().numpy().tobytes() for name in sorted(tensors))).hexdigest()


def of(error: BaseException) -> list[Any]:
    return [type(error).__name__, str(error), list(getattr(error, "rows", []))]


def agreed(here: World) -> list[Any]:
    """The second process alone finds something wrong."""
    told: list[Any] = []
    for error in (InputError("what is wrong", ["--fix"]), NumericalError("not finite", [0, 2])):
        try:
            with here.agreed():
                if here.shard.rank == 1:
                    raise error
        except (InputError, NumericalError) as found:
            told.append([*of(found), getattr(found, "add", None)])
    return told


def not_finite(here: World, on_nan: str) -> list[Any]:
    """One row, which the second process has at its turn, is not finite."""
    data = open_data(ROWS)
    bad = data.train[0].clone()
    bad[5] = torch.inf
    damaged = Dataset(data.name, data.fields, (bad,), data.valid, data.test, "none", 0, "", data.places)
    loop, told = loop_of(here, damaged, on_nan=on_nan, epochs=2), list[Any]()
    try:
        with contextlib.suppress(Interrupted):
            loop.run()
    except NumericalError as error:
        told = of(error)
    place = int((loop.data.order("train", 0, 0) == 5).nonzero())
    lines = loop.callbacks[1].lines  # type: ignore[attr-defined]
    return [told, loop.state.step, digest(loop), [place, int(data.places["train"][5])], lines]


def signalled(here: World) -> list[Any]:
    """The second process alone is told to stop, in its third step."""
    here, loop = World(here.shard), None
    loop = loop_of(here, epochs=5)
    step = loop.stepper.step

    def counted(batch: Any, share: float = 1.0) -> Step:
        if loop.state.step == 2 and here.shard.rank == 1:
            here.signals.caught = signal.SIGTERM
        return step(batch, share)

    loop.stepper.step = counted  # type: ignore[method-assign]
    try:
        loop.run()
    except Interrupted as error:
        return [loop.state.step, error.exit_code]
    return []


def drifted(here: World) -> list[Any]:
    """The second process alone changes a parameter."""
    loop = loop_of(here, epochs=1)
    if here.shard.rank == 1:
        with torch.no_grad():
            next(iter(loop.stepper.parameters.values())).add_(1e-3)  # type: ignore[attr-defined]
    try:
        loop.assess()
    except NumericalError as error:
        return of(error)
    return []


def batch_norm(here: World) -> list[Any]:
    """The running mean of a BatchNorm, after a step and after an epoch, and whether all is equal."""
    loop = loop_of(here, normed=True, epochs=1)
    whole = next(loop.batches(World().shard))[0]
    loop.step(next(loop.batches()))
    norm = loop.stepper.pair.guide.norm
    close = torch.allclose(norm.running_mean, 0.1 * whole.mean(0), atol=1e-6)
    loop.run()
    return [close, digest(loop)]


def compiled(here: World) -> list[Any]:
    """Captured steps beside those of the programs, at the same noise; and how they are recorded."""
    found = []
    for how in ({"captured": True, "products": "mm"}, {"captured": False}):
        with isolated(0):
            loop = loop_of(here, epochs=10)
            pair, config = loop.stepper.pair, loop.config
            batch = loop.data.first(4)
            loop.stepper = stepping.stepper(pair, loop.stepper.objective, config, batch, loop.steps, how, here)
            loop.run()
            weights = torch.cat([p.detach().flatten() for p in loop.stepper.parameters.values()])  # type: ignore[attr-defined]
        found.append((stepping.record(loop.stepper), digest(loop), weights))
    (how, ours, weights), (_, _, theirs) = found
    return [how, ours, (weights - theirs).abs().max().item()]


def divided(here: World) -> list[Any]:
    """Numbers of rows, a part in each process, put together."""

    def work(part: slice) -> LogPx:
        x = torch.arange(7.0)[part]
        return LogPx(x, x, x > 3, x, x.long(), Weighted(x, x, x, x, x, x), ("said twice", f"from {int(x[0])}"))

    found = here.divided(7, work, last=False)
    one = here.divided(1, lambda part: {"x": np.arange(1)[part]}, last=False)
    return [found.value.tolist(), found.weighted.elbo.tolist(), list(found.remarks), one["x"].tolist()]


def fallen_back(here: World) -> list[Any]:
    """A compiled run goes on from before the step from which on it is trained as it is."""
    loop = loop_of(here, epochs=4)
    pair, objective, batch = loop.stepper.pair, loop.stepper.objective, loop.data.first(4)
    how = {"captured": True, "products": "mm", "processes": 2, "eager_from": 3}
    loop.stepper = stepping.stepper(pair, objective, loop.config, batch, loop.steps, how, here)
    loop.run()
    return [loop.stepper.eager_from, digest(loop)]  # type: ignore[attr-defined]


def stood_in(here: World, capture: bool) -> list[Any]:
    """The second process has no row of the last batch, and the row that stands in for it is not finite there."""
    loop = loop_of(here, open_data(ROWS[:21]), epochs=1, on_nan="skip")
    assert loop.data.lengths["train"] % 8 == 1
    batches = loop.batches

    def damaged() -> Any:
        for (x,) in batches():
            alone = here.shard.rank == 1 and not here.shard.count(loop.rows_of_batch("train", loop.state.batch))
            yield (torch.full_like(x, torch.inf) if alone else x,)

    loop.batches = damaged  # type: ignore[method-assign]
    if capture:
        pair, objective, batch = loop.stepper.pair, loop.stepper.objective, loop.data.first(4)
        how = {"captured": True, "products": "mm", "processes": 2}
        loop.stepper = stepping.stepper(pair, objective, loop.config, batch, loop.steps, how, here)
    loop.run()
    return [loop.state.step, loop.callbacks[1].lines[-1].get("skipped"), digest(loop)]  # type: ignore[attr-defined]


def other_data(here: World) -> list[Any]:
    """The second process has other rows."""
    try:
        here.check_same(f"sha256 of {here.shard.rank}", "rows.npy")
    except InputError as error:
        return of(error)
    return []


def events(folder: Path) -> dict[str, Any]:
    """All of them in turn."""
    here = world()
    assert here.shard == (dist.get_rank(), 2)
    found = {}
    for each in (agreed, signalled, drifted, batch_norm, compiled, divided, fallen_back, other_data):
        with isolated(0):
            found[each.__name__] = each(here)
    for how in ("stop", "skip"):
        with isolated(0), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[f"not_finite {how}"] = not_finite(here, how)
    for capture in (False, True):
        with isolated(0):
            found[f"stood_in {capture}"] = stood_in(here, capture)
    return found
