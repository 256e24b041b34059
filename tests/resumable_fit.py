"""A small fit in a process of its own, for tests that kill it: `resumable_fit.py DIR OUT`."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxgeo.reconstruction import Schedule, fit_log_partition


def poisson_samples(key, rates):
    return jax.random.poisson(key, rates[:, 0])[:, None].astype(jnp.float32)


def run(checkpoint):
    return fit_log_partition(
        poisson_samples,
        key=jax.random.key(3),
        domain=[[1.0, 20.0]],
        natural_coordinates=jnp.log,
        n_samples=1024,
        simulator_batch=256,
        schedules=(
            Schedule(steps=1000, learning_rate=1e-2, batch_size=256, every=50, patience=100),
            Schedule(steps=100, learning_rate=1e-2, batch_size=256, every=50),
            Schedule(steps=100, learning_rate=1e-2, batch_size=256, every=50),
        ),
        width=16,
        checkpoint=checkpoint,
        progress=False,
        throw=False,
    )


if __name__ == "__main__":
    fit = run(sys.argv[1])
    grid = jnp.linspace(1.0, 20.0, 50, dtype=jnp.float32)[:, None]
    values = jax.vmap(lambda t: fit.log_partition(jnp.log(t)))(grid)
    np.savez(sys.argv[2], log_partition=values, metric=jax.vmap(fit.metric)(grid))
