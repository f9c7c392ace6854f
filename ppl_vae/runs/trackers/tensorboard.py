"""TensorBoard: event files in RUN/tensorboard."""

from collections.abc import Mapping
from typing import ClassVar

from ppl_vae.core.files import to_json
from ppl_vae.runs.trackers import Tracked

FOLDER = "tensorboard"


class TensorBoard:
    """Scalars by step, and the options of the fit as a text. A run that goes on purges what it had logged later on."""

    name: ClassVar[str] = "tensorboard"
    needs: ClassVar[str] = "torch.utils.tensorboard"

    def __init__(self, about: Tracked) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.id, self.seen = FOLDER, about.start
        self.writer = SummaryWriter(about.folder / FOLDER, purge_step=about.start + 1)
        if about.start < 0:
            text = to_json(about.config, indent=2).replace("\n", "\n\t")
            self.writer.add_text("config", f"\t{text}", 0)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    best = log

    def close(self, failed: bool) -> None:
        self.writer.close()
