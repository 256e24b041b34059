"""Every test runs in float64, with no silent rank promotion and warnings as errors."""

import os

# Two workers share two cores: a BLAS of several threads has them wait for each other, so that one
# banded Cholesky factor takes a hundred times as long. Read when scipy is imported, hence first.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def release_compiled_programs():
    """Each program holds memory maps, of which Linux gives a process 65,530: the whole suite
    compiles so many that XLA crashes."""
    yield
    jax.clear_caches()
