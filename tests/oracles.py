"""What several test modules share: the planar problems as one metric, and a metric at random."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxgeo.problems import PROBLEMS, Problem

PLANAR = tuple(problem for problem in PROBLEMS if problem.pairs.shape[-1] == 2)
CASES = [(problem, pair) for problem in PROBLEMS for pair in problem.pairs]


def name(value: object) -> str | None:
    """Test ids: the name of a problem, a point by its coordinates."""
    if isinstance(value, Problem):
        return value.name
    return str(value.tolist()) if isinstance(value, np.ndarray) else None


class AnyOf(eqx.Module):
    """One of several metrics, chosen at run time: solvers compile once for all of them."""

    metrics: tuple
    index: Array

    def __call__(self, z: Array) -> Array:
        return jax.lax.switch(self.index, self.metrics, z)


def metric_of(problem: Problem) -> object:
    """The problem's metric, planar ones by way of `AnyOf`."""
    if problem in PLANAR:
        metrics = tuple(planar.metric for planar in PLANAR)
        return AnyOf(metrics, jnp.asarray(PLANAR.index(problem)))
    return problem.metric


class WavyMetric(eqx.Module):
    """I plus squares of sines, with no symmetry to hide an error behind; a parameter to learn."""

    weights: Array

    def __call__(self, z: Array) -> Array:
        factor = jnp.sin(jnp.einsum("ijk,k->ij", self.weights, z))
        return jnp.eye(z.size, dtype=z.dtype) + factor @ factor.T


def wavy(d: int, seed: int = 0, dtype: type = float) -> WavyMetric:
    """A `WavyMetric` in d dimensions, its weights normal."""
    return WavyMetric(jnp.asarray(np.random.default_rng(seed).normal(size=(d, d, d)), dtype))


class TraceCounter:
    """A metric or potential that counts how often it is traced."""

    def __init__(self, f: object) -> None:
        self.f, self.count = f, 0

    def __call__(self, z: Array) -> Array:
        self.count += 1
        return self.f(z)
