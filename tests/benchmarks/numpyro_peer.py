"""The same work in NumPyro, in a process of its own: `PYTHON -P numpyro_peer.py HIDDEN LATENT BATCH K STEPS`.

For each line on standard input it takes STEPS jitted steps in one `scan`, and writes the seconds of a step.
"""

import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from flax import linen
from numpyro.contrib.module import flax_module
from numpyro.infer import SVI, Trace_ELBO


def dense(n_out: int) -> linen.Dense:
    """A layer whose weights start as torch's do, uniform on ±1/√n_in; its biases start at 0."""
    return linen.Dense(n_out, kernel_init=linen.initializers.variance_scaling(1 / 3, "fan_in", "uniform"))


def inference(hidden: int, latent_dim: int, particles: int, lr: float = 1e-3) -> SVI:
    """The VAE 784-hidden-latent_dim with softplus layers and a Bernoulli likelihood, Trace_ELBO and Adam."""

    class Encoder(linen.Module):
        @linen.compact
        def __call__(self, x):
            h = linen.softplus(dense(hidden)(x))
            loc, raw = jnp.split(dense(2 * latent_dim)(h), 2, -1)
            return loc, linen.softplus(raw) + 1e-4

    class Decoder(linen.Module):
        @linen.compact
        def __call__(self, z):
            h = linen.softplus(dense(hidden)(z))
            return dense(784)(h)

    def model(x):
        decoder = flax_module("decoder", Decoder(), input_shape=(1, latent_dim))
        with numpyro.plate("data", x.shape[0]):
            z = numpyro.sample("z", dist.Normal(jnp.zeros((x.shape[0], latent_dim)), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x):
        encoder = flax_module("encoder", Encoder(), input_shape=(1, 784))
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("z", dist.Normal(*encoder(x)).to_event(1))

    return SVI(model, guide, optax.adam(lr), Trace_ELBO(num_particles=particles))


def scanned(svi: SVI) -> Callable:
    """`(state, x, rows)` to the state and losses after a step for each line of `rows`, `(steps, batch)`; jitted."""
    return jax.jit(lambda state, x, rows: jax.lax.scan(lambda s, i: svi.update(s, x[i]), state, rows))


def main(hidden: int, latent_dim: int, batch: int, particles: int, steps: int) -> None:
    x = jnp.asarray(np.random.default_rng(0).random((4000, 784)) < 0.2, jnp.float32)
    svi, random = inference(hidden, latent_dim, particles), np.random.default_rng(1)
    state, run = svi.init(jax.random.PRNGKey(0), x[:batch]), scanned(svi)
    for _ in sys.stdin:
        rows = jnp.asarray(random.integers(len(x), size=(steps, batch)))
        start = time.perf_counter()
        state, loss = run(state, x, rows)
        loss.block_until_ready()
        print((time.perf_counter() - start) / steps, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
