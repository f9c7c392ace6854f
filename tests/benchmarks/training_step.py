"""One training step of `fit`, compiled and as it is, beside the same work of others.

Interleaved rounds in one process, NumPyro in one of its own (`--numpyro PYTHON`, with numpyro, flax and optax), and so
pythae's trainer (`--pythae PYTHON`): the median of a step, and of its ratios to ours compiled, with the least and the
largest. `make bench`.
"""

import argparse
import platform
import statistics
from pathlib import Path

import pyro
import torch
from pyro.infer import SVI
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from work import WORK, Peer, Step, Work, in_turn, ours, timed

from ppl_vae.core.files import write_json
from ppl_vae.graphs.products import WAYS

OURS = "ppl_vae, compiled"


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


def candidates(work: Work, x: Tensor) -> dict[str, Step]:
    made: dict[str, Step] = {OURS: ours(work, x, True), "ppl_vae, as it is": ours(work, x, False)}
    made["Pyro, SVI.step"] = svi(work, x)
    if work.plain:
        made["by hand, fused Adam"] = by_hand(work, x, False)
        made["by hand, torch.compile, fused Adam"] = by_hand(work, x, True)
        made["matrix products alone, torch"] = products(work, "mm")
        made["matrix products alone, oneDNN"] = products(work, "onednn")
    return made


def peers(work: Work, steps: int, numpyro: str | None, pythae: str | None) -> dict[str, Peer]:
    """Processes that take the steps of others, where they can do this work."""
    numbers = (work.settings.get("hidden", 0), work.settings["latent_dim"], work.batch)
    made: dict[str, Peer] = {}
    if numpyro is not None and work.plain:
        made["NumPyro, jit and scan"] = Peer(numpyro, "numpyro_peer.py", *numbers, work.particles, steps)
    if pythae is not None and work.plain and work.particles == 1:
        made["pythae's trainer"] = Peer(pythae, "pythae_peer.py", *numbers, steps)
    return made


def measure(work: Work, rounds: int, steps: int, numpyro: str | None, pythae: str | None) -> dict[str, list[float]]:
    """Seconds of a step of each candidate, by round."""
    x = work.rows()
    own = {name: timed(step, x, work.batch, steps) for name, step in candidates(work, x).items()}
    others = peers(work, steps, numpyro, pythae)
    try:
        return in_turn(own | others, rounds)
    finally:
        for peer in others.values():
            peer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=20, help="per round and candidate")
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--numpyro", metavar="PYTHON", help="a Python that has numpyro, flax and optax")
    parser.add_argument("--pythae", metavar="PYTHON", help="a Python that has pythae")
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
        found[name] = taken = measure(work, args.rounds, args.steps, args.numpyro, args.pythae)
        for each, times in taken.items():
            ratios = [ours / theirs for ours, theirs in zip(taken[OURS], times, strict=True)]
            told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            print(f"  {each:36} {1e3 * statistics.median(times):8.2f} ms   ours / this: {told}", flush=True)
    if args.json:
        write_json(args.json, {"about": about, "seconds": found})


if __name__ == "__main__":
    main()
