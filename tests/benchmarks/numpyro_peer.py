"""The same work in NumPyro, in a process of its own: `PYTHON -P numpyro_peer.py HIDDEN LATENT BATCH K STEPS`.

For each line on standard input it takes STEPS jitted steps in one `scan`, and writes the seconds of a step.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from flax import linen
from numpyro.contrib.module import flax_module
from numpyro.infer import SVI, Trace_ELBO


def main(hidden: int, latent_dim: int, batch: int, particles: int, steps: int) -> None:
    x = jnp.asarray(np.random.default_rng(0).random((4000, 784)) < 0.2, jnp.float32)

    class Encoder(linen.Module):
        @linen.compact
        def __call__(self, x):
            h = linen.softplus(linen.Dense(hidden)(x))
            return linen.Dense(latent_dim)(h), linen.softplus(linen.Dense(latent_dim)(h)) + 1e-4

    class Decoder(linen.Module):
        @linen.compact
        def __call__(self, z):
            return linen.Dense(784)(linen.softplus(linen.Dense(hidden)(z)))

    def model(x):
        decoder = flax_module("decoder", Decoder(), input_shape=(1, latent_dim))
        with numpyro.plate("data", x.shape[0]):
            z = numpyro.sample("z", dist.Normal(jnp.zeros((x.shape[0], latent_dim)), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x):
        encoder = flax_module("encoder", Encoder(), input_shape=(1, 784))
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("z", dist.Normal(*encoder(x)).to_event(1))

    svi = SVI(model, guide, optax.adam(1e-3), Trace_ELBO(num_particles=particles))
    state = svi.init(jax.random.PRNGKey(0), x[:batch])

    @jax.jit
    def run(state, rows):
        return jax.lax.scan(lambda s, i: svi.update(s, x[i]), state, rows)

    random = np.random.default_rng(1)
    for _ in sys.stdin:
        rows = jnp.asarray(random.integers(len(x), size=(steps, batch)))
        start = time.perf_counter()
        state, loss = run(state, rows)
        loss.block_until_ready()
        print((time.perf_counter() - start) / steps, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
