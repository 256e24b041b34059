"""A small slice in a process that is killed: `resumable_slice.py DIR`, after two chunks."""

import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxgeo.slices import evaluate, random_slice
from jaxgeo.slices.storage import Chunks

WEIGHT = np.cos(np.arange(60.0)).reshape(5, 12).astype(np.float32)


def generator(z, key):
    return jax.nn.silu(WEIGHT @ z) + jax.random.normal(key, (5,), jnp.float32)


def run(directory):
    axis = np.linspace(0, 1, 4, dtype=np.float32)
    return evaluate(
        generator,
        random_slice((12,), key=jax.random.key(3)),
        (axis, axis),
        key=jax.random.key(4),
        chunk_size=4,
        directory=directory,
        progress=False,
    )


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)  # as where it is resumed
    write = Chunks.write

    def write_and_die(self, k, values):
        write(self, k, values)
        if k == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    Chunks.write = write_and_die  # type: ignore[method-assign]
    run(sys.argv[1])
