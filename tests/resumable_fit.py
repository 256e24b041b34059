"""A small fit in a process of its own, for tests that stop it: `resumable_fit.py DIR OUT`, or
`resumable_fit.py DIR OUT SIGNAL`, which gets that signal when it has saved its state twice."""

import itertools
import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxgeo.reconstruction import Schedule, fit_log_partition
from jaxgeo.training import Checkpoint


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
        networks=2,
        checkpoint=checkpoint,
        progress=False,
        throw=False,
    )


def stop_by(signal_number):
    if signal_number == signal.SIGINT:  # which a shell has its background jobs ignore
        signal.signal(signal.SIGINT, signal.default_int_handler)
    save, count = Checkpoint.save, itertools.count(1)

    def save_and_stop(self, done, state):
        save(self, done, state)
        if next(count) == 2:
            os.kill(os.getpid(), signal_number)

    Checkpoint.save = save_and_stop  # type: ignore[method-assign]


if __name__ == "__main__":
    if len(sys.argv) > 3:
        stop_by(int(sys.argv[3]))
    fit = run(sys.argv[1])
    grid = jnp.linspace(1.0, 20.0, 50, dtype=jnp.float32)[:, None]
    values = jax.vmap(lambda t: fit.log_partition(jnp.log(t)))(grid)
    np.savez(sys.argv[2], log_partition=values, metric=jax.vmap(fit.metric)(grid))
