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


class SpaceForm(eqx.Module):
    """All planes of constant curvature κ in one compiled program: I/(1 + κ|w|²/4)² at w = B z.

    With a negative `sign` it is no metric.
    """

    curvature: Array
    frame: Array
    sign: Array

    def __call__(self, z: Array) -> Array:
        w = self.frame @ z
        size = self.sign / (1 + self.curvature * jnp.dot(w, w) / 4) ** 2
        return size * self.frame.T @ self.frame

    def distance(self, a: Array, b: Array) -> Array:
        """2 arcsn(|w − w'| / 2√((1 + κ|w|²/4)(1 + κ|w'|²/4)))."""
        u, w, k = self.frame @ a, self.frame @ b, self.curvature
        size = (1 + k * jnp.dot(u, u) / 4) * (1 + k * jnp.dot(w, w) / 4)
        chord = jnp.linalg.norm(u - w) / jnp.sqrt(size)
        root = jnp.sqrt(jnp.abs(jnp.where(k == 0, 1, k)))
        half = root * chord / 2
        bent = jnp.where(k > 0, jnp.arcsin(jnp.minimum(half, 1)), jnp.arcsinh(half))
        return jnp.where(k == 0, chord, 2 * bent / root)


def space_form(curvature: float, frame: object = None, sign: float = 1.0) -> SpaceForm:
    """A `SpaceForm`, in the plain frame unless given."""
    matrix = np.eye(2) if frame is None else frame
    return SpaceForm(jnp.asarray(curvature, float), jnp.asarray(matrix), jnp.asarray(sign, float))
