"""Every test runs in float64, with no silent rank promotion and warnings as errors."""

import functools
import gc
import os

# Two workers share two cores: a BLAS of several threads has them wait for each other, so that one
# banded Cholesky factor takes a hundred times as long. Read when scipy is imported, hence first.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Programs and their traces are many objects that live long: to look through them all again and
# again takes 8 % of the time.
gc.set_threshold(50_000, 20, 20)

LONGEST_FIRST = (
    *("docs", "curved", "fit", "derivatives", "docstrings", "models", "latent_demo", "bvp_global"),
    "land",
    *("polynomials", "bvp", "cli", "fit_ends", "baselines", "fronts", "smoothing", "tasep"),
)
"""Modules that a worker had better not begin when the other is about to end."""


def pytest_collection_modifyitems(items):
    order = {f"test_{name}": place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(autouse=True, scope="module")
def release_compiled_programs():
    """Each program holds memory maps, of which Linux gives a process 65,530: the whole suite
    compiles so many that XLA crashes. To keep them until there are many is no faster: a quarter
    fewer are compiled, each in more time, and a worker takes three times the memory."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True, scope="session")
def one_compiler_context():
    """JAX makes a new MLIR context, with all its dialects, for every program, however small, and
    keeps it: much of a small program's time, and most of its memory. One serves all."""
    from jax._src.interpreters import mlir

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlir, "make_ir_context", functools.cache(mlir.make_ir_context))
        yield


@pytest.fixture(autouse=True, scope="session")
def long_training_is_compiled_well():
    """The one program that runs for longer than it compiles: what LLVM has looked at once trains a
    learned chart in 25 s, not 41. Brief training stays with the light compiler."""
    from jaxgeo import training

    lightly = training._advance
    well = jax.jit(
        lightly.__wrapped__,
        static_argnames=("graph", "objective", "schedule", "random"),
        compiler_options={"xla_backend_optimization_level": 1},
    )

    def advance(graph, objective, schedule, *arguments):
        chosen = well if schedule.steps >= 1000 else lightly
        return chosen(graph, objective, schedule, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_advance", advance)
        yield
