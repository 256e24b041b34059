"""A small fit for tests that stop it, here or as a process: `resumable_fit.py DIR SIGNAL`, which
gets that signal when it has saved its state twice."""

import os
import sys

import jax
import jax.numpy as jnp

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
            Schedule(steps=300, learning_rate=1e-2, batch_size=256, every=50, patience=100),
            Schedule(steps=100, learning_rate=1e-2, batch_size=256, every=50),
            Schedule(steps=100, learning_rate=1e-2, batch_size=256, every=50),
        ),
        width=16,
        depth=2,
        networks=2,
        checkpoint=checkpoint,
        progress=False,
        throw=False,
    )


def count_saves(stop=None):
    """The number of states saved from now on, in a list; the signal `stop` comes after two."""
    save, saved = Checkpoint.save, [0]

    def save_and_stop(self, done, state):
        save(self, done, state)
        saved[0] += 1
        if stop is not None and saved[0] == 2:
            os.kill(os.getpid(), stop)

    return save_and_stop, saved


if __name__ == "__main__":
    Checkpoint.save, _ = count_saves(int(sys.argv[2]))  # type: ignore[method-assign]
    run(sys.argv[1])
