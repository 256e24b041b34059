"""Families whose metric is known, as sets of draws: what the reconstruction benchmarks share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxgeo.reconstruction import Exchangeable, Identity
from jaxgeo.systems import families
from jaxgeo.systems.families import Family


class Closed(NamedTuple):
    """A family, a box of its coordinates, `draw(rng, t (n, 1, d), shape)` of observations, and
    the sufficient statistics of some, x (..., m) to (..., d)."""

    family: Family
    domain: np.ndarray
    draw: object
    statistics: object


def _normal(rng, t, shape):
    return rng.normal(t[..., :1], t[..., 1:], (*shape, 1))


def _gamma(rng, t, shape):
    return rng.gamma(t[..., :1], t[..., 1:] / t[..., :1], (*shape, 1))


def _dirichlet(rng, t, shape):
    x = rng.gamma(t, size=(*shape, t.shape[-1]))
    return x / x.sum(axis=-1, keepdims=True)


def _multivariate_normal(rng, t, shape):
    white = rng.normal(size=(*shape, 2))
    first = np.sqrt(t[..., 2])
    mixed = t[..., 3] / first
    second = np.sqrt(t[..., 4] - mixed**2)
    x = first * white[..., 0]
    y = mixed * white[..., 0] + second * white[..., 1]
    return t[..., :2] + np.stack([x, y], axis=-1)


def _squares(x):
    return np.concatenate([x, x**2], axis=-1)


def _products(x):
    return np.concatenate([_squares(x), np.prod(x, axis=-1, keepdims=True)], axis=-1)


def _and_logarithm(x):
    return np.concatenate([x, np.log(x)], axis=-1)


CLOSED = {
    "normal": Closed(families.normal, np.array([[-1.0, 1.0], [0.5, 2.0]]), _normal, _squares),
    "gamma": Closed(families.gamma, np.array([[1.0, 5.0], [0.5, 3.0]]), _gamma, _and_logarithm),
    "dirichlet-3": Closed(families.dirichlet, np.array(3 * [[1.0, 5.0]]), _dirichlet, np.log),
    "dirichlet-4": Closed(families.dirichlet, np.array(4 * [[1.0, 5.0]]), _dirichlet, np.log),
    "dirichlet-6": Closed(families.dirichlet, np.array(6 * [[1.0, 5.0]]), _dirichlet, np.log),
    "multivariate-normal-5": Closed(
        families.multivariate_normal,
        np.array([[-1.0, 1.0], [-1.0, 1.0], [0.5, 2.0], [-0.4, 0.4], [0.5, 2.0]]),
        _multivariate_normal,
        _products,
    ),
}


def sets_of_draws(name: str, n: int, draws: int, seed: int, exact_statistics: bool = False):
    """`n` samples of `draws` observations each, their parameters, and a summary for them; with
    `exact_statistics` samples are the sums of those instead, and their own summary."""
    closed = CLOSED[name]
    rng = np.random.default_rng(seed)
    t = rng.uniform(*closed.domain.T, (n, len(closed.domain)))
    x = closed.draw(rng, t[:, None, :], (n, draws)).astype(np.float32)
    if exact_statistics:
        sums = closed.statistics(x.astype(np.float64)).sum(axis=1)
        return sums.astype(np.float32), t.astype(np.float32), Identity()
    rows = x.reshape(-1, x.shape[-1])
    summary = Exchangeable(rows, rngs=nnx.Rngs(seed))
    return x, t.astype(np.float32), summary


def exact_metric(name: str, draws: int, t) -> np.ndarray:
    """Of a whole sample, in the family's coordinates."""
    metric = jax.jit(jax.vmap(CLOSED[name].family.metric))
    return draws * np.asarray(metric(jnp.asarray(t)), np.float64)
