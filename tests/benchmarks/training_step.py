"""One training step of `fit`, compiled and as it is, beside the same work of others.

Interleaved rounds in one process, NumPyro in one of its own (`--numpyro PYTHON`, with numpyro, flax and optax): the
median of a step, and of its ratios to ours compiled, with the least and the largest. `make bench`.
"""

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.infer import SVI
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from ppl_vae import objectives
from ppl_vae.graphs.captured import Captured
from ppl_vae.graphs.products import WAYS
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import Pair, resolve_pair
from ppl_vae.training.captured import CapturedTrainer
from ppl_vae.training.step import Trainer

Step = Callable[[Tensor], object]
OURS = "ppl_vae, compiled"


@dataclass(frozen=True)
class Work:
    """What is trained: programs, their settings, rows of a batch, draws; `plain` if peers write it by hand too."""

    batch: int
    settings: dict[str, Any]
    model: str = "bernoulli"
    guide: str = "diagonal_normal"
    particles: int = 1
    shape: tuple[int, ...] = (784,)
    plain: bool = True
    skipped: tuple[str, ...] = field(default=())

    def pair(self, x: Tensor) -> Pair:
        torch.manual_seed(0)
        return resolve_pair(self.model, self.guide, (x[:1000],), self.settings)

    def objective(self) -> objectives.Objective:
        return Trace_ELBO(self.particles)


LARGE, SMALL = {"hidden": 400, "latent_dim": 50}, {"hidden": 200, "latent_dim": 20}
GATED = {"hidden": 300, "latent_dim": 40, "network": "gated"}
WORK = {
    "large": Work(256, LARGE),
    "small": Work(100, SMALL),
    "small, K=5": Work(100, SMALL, particles=5),
    "small, K=50": Work(100, SMALL, particles=50),
    "gated, VampPrior 500": Work(
        100, GATED | {"prior": "vamp", "prior.components": 500}, "vae", "amortized", plain=False
    ),
    "convolutional": Work(
        100, {"latent_dim": 20, "network": "convolutional"}, "vae", "amortized", shape=(1, 28, 28), plain=False
    ),
}
"""784-400-50 at 256 rows, 784-200-20 at 100; 784-300-300-40 gated with 500 pseudo-inputs; a convolutional pair."""


def ours(work: Work, x: Tensor, compiled: bool) -> Step:
    pair, objective = work.pair(x), work.objective()
    if not compiled:
        trainer = Trainer(pair, objective)
    else:
        captured = Captured(pair, objective)
        with pyro.validation_enabled(False):
            captured.graph_for((x[: work.batch],))
        trainer = CapturedTrainer(pair, objective, captured=captured)
        print(f"  compiled; matrix products by {captured.products}", flush=True)

    def step(batch: Tensor) -> object:
        with pyro.validation_enabled(False):
            return trainer.step((batch,))

    return step


def svi(work: Work, x: Tensor) -> Step:
    """Pyro's own step as it is by default, with a parameter store of its own, so that every candidate trains."""
    pair, store = work.pair(x), {"params": {}, "constraints": {}}
    with pyro.get_param_store().scope(store) as store:
        elbo = pyro.infer.Trace_ELBO(work.particles, vectorize_particles=True, max_plate_nesting=1)
        stepper = SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 1e-3}), elbo)

    def step(batch: Tensor) -> object:
        nonlocal store
        with pyro.get_param_store().scope(store) as store:
            return stepper.step(batch)

    return step


def by_hand(work: Work, x: Tensor, compiled: bool) -> Step:
    """The ELBO written for this one model, with one fused Adam; nothing is checked."""
    pair = work.pair(x)
    encoder, decoder = pair.guide.encoder, pair.model.decoder
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3, fused=True)

    def loss(x: Tensor) -> Tensor:
        loc, raw = encoder(x).chunk(2, -1)
        scale = softplus(raw) + 1e-4
        ε = torch.randn(work.particles, *loc.shape)
        z = loc + scale * ε
        logits = decoder(z)
        log_lik = -binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        log_ratio = log_lik + (0.5 * (ε.square() - z.square()) + scale.log()).sum(-1)
        return -log_ratio.mean()

    run = torch.compile(loss) if compiled else loss

    def step(batch: Tensor) -> object:
        optimizer.zero_grad(set_to_none=True)
        value = run(batch)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def products(work: Work, way: str) -> Step:
    """The matrix products of one step of the plain pair alone, by torch or by oneDNN: the floor."""
    hidden, latent_dim = work.settings["hidden"], work.settings["latent_dim"]
    sizes = ((784, hidden), (hidden, 2 * latent_dim), (latent_dim, hidden), (hidden, 784))
    rows = [work.batch, work.batch, work.batch * work.particles, work.batch * work.particles]
    weights = [torch.randn(b, a) for a, b in sizes]
    inputs = [torch.randn(n, a) for n, (a, _) in zip(rows, sizes, strict=True)]
    gradients = [torch.randn(n, b) for n, (_, b) in zip(rows, sizes, strict=True)]
    product = WAYS[way]

    def step(batch: Tensor) -> object:
        for i, (w, a, g) in enumerate(zip(weights, inputs, gradients, strict=True)):
            product(None, a, w.t())
            product(None, g.t(), a)
            if i:
                product(None, g, w)
        return None

    return step


class NumPyro:
    """A process that takes NumPyro's steps when it is asked to."""

    def __init__(self, python: str, work: Work, steps: int) -> None:
        sizes = (work.settings["hidden"], work.settings["latent_dim"], work.batch, work.particles, steps)
        command = [python, "-P", str(Path(__file__).with_name("numpyro_peer.py")), *map(str, sizes)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seconds()  # compiles

    def seconds(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def candidates(work: Work, x: Tensor) -> dict[str, Step]:
    made: dict[str, Step] = {OURS: ours(work, x, True), "ppl_vae, as it is": ours(work, x, False)}
    made["Pyro, SVI.step"] = svi(work, x)
    if work.plain:
        made["by hand, fused Adam"] = by_hand(work, x, False)
        made["by hand, torch.compile, fused Adam"] = by_hand(work, x, True)
        made["matrix products alone, torch"] = products(work, "mm")
        made["matrix products alone, oneDNN"] = products(work, "onednn")
    return made


def measure(work: Work, rounds: int, steps: int, numpyro: str | None) -> dict[str, list[float]]:
    """Seconds of a step of each candidate, by round."""
    x = (torch.rand(4000, *work.shape) < 0.2).float()
    made = candidates(work, x)
    with ExitStack() as stack:
        peer = None
        if numpyro is not None and work.plain:
            peer = NumPyro(numpyro, work, steps)
            stack.callback(peer.close)
        taken: dict[str, list[float]] = {name: [] for name in made}
        for step in made.values():
            for i in range(5):
                step(x[i * work.batch : (i + 1) * work.batch])
        for _ in range(rounds):
            batches = [x[torch.randperm(len(x))[: work.batch]] for _ in range(steps)]
            for name, step in made.items():
                start = time.perf_counter()
                for batch in batches:
                    step(batch)
                taken[name].append((time.perf_counter() - start) / steps)
            if peer is not None:
                taken.setdefault("NumPyro, jit and scan", []).append(peer.seconds())
        return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=20, help="per round and candidate")
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--numpyro", metavar="PYTHON", help="a Python that has numpyro, flax and optax")
    parser.add_argument("--json", type=Path, help="write the times here")
    args = parser.parse_args()
    about = (
        f"torch {torch.__version__}, pyro {pyro.__version__}, {torch.get_num_threads()} threads, {platform.machine()}"
    )
    print(about, flush=True)
    found = {}
    for name in args.work:
        work = WORK[name]
        print(f"\n{name}: {work.model}, {work.guide}, {work.batch} rows, K = {work.particles}", flush=True)
        found[name] = taken = measure(work, args.rounds, args.steps, args.numpyro)
        for each, times in taken.items():
            ratios = [ours / theirs for ours, theirs in zip(taken[OURS], times, strict=True)]
            told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            print(f"  {each:36} {1e3 * statistics.median(times):8.2f} ms   ours / this: {told}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"about": about, "seconds": found}, indent=1))


if __name__ == "__main__":
    main()
