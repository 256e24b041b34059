"""Every test runs in float64, with no silent rank promotion and warnings as errors."""

import gc
import os
from pathlib import Path

# Two workers share two cores: a BLAS of several threads has them wait for each other, so that one
# banded Cholesky factor takes a hundred times as long. Read when scipy is imported, hence first.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


# Programs and their traces are many objects that live long: to look through them all again and
# again takes a tenth of the time.
gc.set_threshold(50_000, 20, 20)

MANY_MAPS = 25_000
LONGEST_FIRST = (
    *("curved", "fit", "derivatives", "docstrings", "models", "latent_demo", "bvp_global", "land"),
    *(
        "polynomials",
        "bvp",
        "cli",
        "fit_ends",
        "baselines",
        "fronts",
        "smoothing",
        "ising_sampler",
        "tasep",
    ),
)
"""Modules that a worker had better not begin when the other is about to end."""


def pytest_collection_modifyitems(items):
    order = {f"test_{name}": place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def memory_maps() -> float:
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:  # no Linux, no count
        return float("inf")


@pytest.fixture(autouse=True, scope="module")
def release_compiled_programs():
    """Each program holds memory maps, of which Linux gives a process 65,530: the whole suite
    compiles so many that XLA crashes. Until there are many they are kept, for most modules begin
    with the small ones that those before them compiled; one module adds 15,000 at most."""
    yield
    if memory_maps() > MANY_MAPS:
        jax.clear_caches()
