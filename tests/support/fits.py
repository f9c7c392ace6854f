"""Small fits, and what of a run must not depend on where it was stopped."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.models import gaussian
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.run import Run
from ppl_vae.training.step import Trainer

ROWS = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")  # 48 to train: five steps of 10 and a rest of 8
SET = {"hidden": 8, "latent_dim": 2}
STEPS = 5
DEFAULTS: dict[str, Any] = {"epochs": 2, "batch_size": 10, "lr": 1e-2, "set": SET}


def small(out: Path, model: Any = "gaussian", guide: Any = "diagonal_normal", **options: Any) -> Run:
    return fit(model, guide, ROWS, out, **DEFAULTS | options)


def without_times(metrics: str) -> str:
    lines = [json.loads(line) for line in metrics.splitlines()]
    return "\n".join(json.dumps({k: v for k, v in line.items() if k != "seconds"}) for line in lines)


def contents(folder: Path) -> dict[str, Any]:
    """Every file's bytes, but for the seconds in the metrics."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return files | {"metrics.jsonl": without_times((folder / "metrics.jsonl").read_text())}


def outcome(run: Run) -> tuple[Any, ...]:
    """What must not depend on where a run was stopped: the last state, the best and the metrics."""
    last, best = run.checkpoints.steps[-1], run.checkpoints.manifest["best"]
    places = [run.folder / "checkpoints" / f"step-{step}" for step in (last, best)]
    states = [(place / name).read_bytes() for place in places for name in ("state.safetensors", "state.json")]
    return last, best, states, without_times((run.folder / "metrics.jsonl").read_text())


class Killed(BaseException):
    pass


@contextlib.contextmanager
def killed_before(step: int) -> Iterator[None]:
    """A fit inside does not survive this step."""
    taken, original = 0, Trainer.step

    def counted(self: Trainer, batch: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == step:
            raise Killed
        return original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", counted)
        with pytest.raises(Killed):
            yield


class FromData(gaussian.Model):
    """Its constructor looks at the data and draws: a buffer, a parameter, and an attribute that no checkpoint holds."""

    def __init__(self, data_shape: tuple[int, ...], data: Tensor, latent_dim: int = 2) -> None:
        super().__init__(data_shape, latent_dim, 8)
        self.register_buffer("mean", data.mean(0))
        self.scale = nn.Parameter(data.std(0) + 0.1 * torch.rand(data_shape))
        self.fixed = torch.randn(data_shape)
        self.norm = nn.BatchNorm1d(latent_dim)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        z = self.norm(z.reshape(-1, self.latent_dim)).reshape(z.shape)
        loc = self.mean + self.scale * self.decoder(z) + 0.1 * self.fixed
        return dist.Normal(loc, 1.0).to_event(1)
