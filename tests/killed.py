"""Runs that are killed with files half written: `killed.py RUN DIR MOMENT...`.

Each goes on from the one before, and is killed when it opens a file to write, renames or removes
one or makes a directory below DIR for the MOMENT-th time. Printed are the signals that ended them.
"""

import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import resumable_fit
import resumable_slice

from jaxgeo import models

EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")


def model(directory):
    """A VAE of four pixels."""
    key = jax.random.key(0)
    images = (np.random.default_rng(0).normal(size=(64, 4)) > 0).astype(np.float32)
    vae = models.dense_vae((4,), 2, key=key, widths=(8,))
    return models.fit(
        vae, images, key=key, steps=120, every=10, batch_size=16, checkpoint=directory,
        progress=False, throw=False,
    )  # fmt: skip


RUNS = {"fit": resumable_fit.run, "model": model, "slice": resumable_slice.run}


def die_at(directory: str, moment: int) -> None:
    """Kill this process at that moment."""
    seen = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in EVENTS) and str(arguments[0]).startswith(directory):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


if __name__ == "__main__":
    name, directory, *moments = sys.argv[1:]
    for moment in map(int, moments):
        # JAX starts no threads before its first array, so that a process can be split until then
        child = os.fork()
        if child == 0:
            if name == "slice":
                jax.config.update("jax_enable_x64", True)  # as where it is resumed
            die_at(str(Path(directory)), moment)
            RUNS[name](directory)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
