"""Weights & Biases."""

import os
from collections.abc import Mapping
from typing import ClassVar

from ppl_vae.runs.trackers import Tracked


class Wandb:
    """A run of the project `ppl_vae`, or that of WANDB_PROJECT; its files are in RUN/wandb. WANDB_MODE=offline works.

    A run that goes on is the same run there. Offline it can't be asked which steps it holds: one that a kill has
    cut off between the metrics and W&B stays out.
    """

    name: ClassVar[str] = "wandb"
    needs: ClassVar[str] = "wandb"

    def __init__(self, about: Tracked) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "ppl_vae"),
            name=about.folder.name,
            dir=about.folder,
            config=dict(about.config),
            id=about.id,
            resume=None if about.id is None else "allow",
            allow_val_change=True,  # more epochs
            reinit="create_new",  # beside a run of the user's own
            settings=wandb.Settings(console="off", silent=about.quiet),
        )
        self.id, self.seen = self.run.id, about.seen

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self.run.log(dict(numbers), step=step)

    def best(self, step: int, numbers: Mapping[str, float]) -> None:
        self.run.summary.update(dict(numbers))

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))
