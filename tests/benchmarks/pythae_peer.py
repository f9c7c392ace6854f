"""Steps of pythae's own trainer, in a process of its own: `PYTHON -P pythae_peer.py HIDDEN LATENT BATCH STEPS`.

The VAE has softplus layers, a Bernoulli likelihood and one draw, and is trained by Adam at 0.001. For each line on
standard input the trainer takes an epoch of STEPS steps, with its loader and its progress bar, and the seconds of a
step are written.
"""

import logging
import sys
import tempfile
import time

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn
from torch.nn.functional import softplus

PIXELS = 784


class Encoder(BaseEncoder):
    def __init__(self, hidden: int, latent_dim: int) -> None:
        super().__init__()
        self.hidden, self.both = nn.Linear(PIXELS, hidden), nn.Linear(hidden, 2 * latent_dim)

    def forward(self, x: Tensor) -> ModelOutput:
        loc, log_variance = self.both(softplus(self.hidden(x))).chunk(2, -1)
        return ModelOutput(embedding=loc, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self, hidden: int, latent_dim: int) -> None:
        super().__init__()
        self.hidden, self.pixels = nn.Linear(latent_dim, hidden), nn.Linear(hidden, PIXELS)

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.pixels(softplus(self.hidden(z))).sigmoid())


def main(hidden: int, latent_dim: int, batch: int, steps: int) -> None:
    logging.disable(logging.CRITICAL)
    config = VAEConfig(input_dim=(PIXELS,), latent_dim=latent_dim, reconstruction_loss="bce")
    model = VAE(config, Encoder(hidden, latent_dim), Decoder(hidden, latent_dim))
    x = (torch.rand(steps * batch, PIXELS) < 0.2).float()
    with tempfile.TemporaryDirectory() as folder:
        trainer = BaseTrainer(
            model, BaseDataset(x, torch.zeros(len(x))),
            training_config=BaseTrainerConfig(
                output_dir=folder, per_device_train_batch_size=batch, learning_rate=1e-3, no_cuda=True
            ),
        )  # fmt: skip
        trainer.prepare_training()
        for epoch, _ in enumerate(sys.stdin, 1):
            start = time.perf_counter()
            trainer.train_step(epoch)
            print((time.perf_counter() - start) / steps, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
