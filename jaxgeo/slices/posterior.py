r"""Which node of a slice a feature came from, and the law whose posterior that is.

Features E(t) = E(x(t)) with a precision N are read as the law $\mathcal N(E(t), I/N)$. Its
posterior over the nodes is what a Fisher metric is reconstructed from, and its Fisher metric is
known, $N J^\top J$ with J = ∂E/∂t: what a reconstruction is to be measured against.
"""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from jaxgeo._typing import Chart, Point, as_count
from jaxgeo.metrics import PullbackMetric
from jaxgeo.slices.grid import SliceGrid


def _as_precision(precision: ArrayLike) -> Float[Array, ""]:
    """N as one positive finite number; `ValueError` if it is not one. Not looked at if traced."""
    traced = isinstance(precision, jax.core.Tracer)
    if np.ndim(precision) != 0 or not (traced or 0 < np.asarray(precision) < np.inf):
        raise ValueError(f"`precision` must be one positive finite number, got {precision}.")
    return jnp.asarray(precision, jnp.result_type(precision, float))


def _flat(features: Callable | None, x: Shaped[Array, "..."]) -> Float[Array, " m"]:
    """The features of x, or x itself, as one vector."""
    return jnp.ravel(x if features is None else features(x))


@final
class FeatureMap(eqx.Module):
    """The features of what a generator makes at a point of a slice, t ↦ E(generator(slice(t))).

    **Arguments:**

    - `generator`: a latent array to a sample of any shape.
    - `plane`: a point t to a latent array, as a `Slice` does.
    - `features`: E, a sample to an array; None for the sample itself.

    **Returns:** `feature_map(t)`, `(m,)`, whatever the shape of the features.

    **Example:**

    >>> feature_map = FeatureMap(jnp.cumsum, lambda t: jnp.append(t, 1.0))
    >>> feature_map(jnp.array([2.0, 3.0])).tolist()
    [2.0, 5.0, 6.0]
    """

    generator: Callable[[Array], Array]
    plane: Callable[[Point], Array]
    features: Callable[[Array], Array] | None = None

    def __call__(self, t: Point) -> Float[Array, " m"]:
        return _flat(self.features, self.generator(self.plane(t)))


@final
class _Scaled(eqx.Module):
    """√N E(t), whose pullback of the Euclidean metric is N JᵀJ."""

    feature_map: Chart
    precision: Float[Array, ""]

    def __call__(self, t: Point) -> Float[Array, " m"]:
        out = jnp.ravel(self.feature_map(t))
        return jnp.sqrt(self.precision).astype(out.dtype) * out


def feature_metric(feature_map: Chart, precision: ArrayLike = 1.0) -> PullbackMetric:
    r"""The Fisher metric of the law $\mathcal N(E(t), I/N)$, exactly.

    $$ g(t) = N\, J^\top J, \qquad J = \partial E/\partial t $$

    By derivatives of the generator, where the reconstruction from a posterior needs its values
    only. A `PullbackMetric`, which `geodesic_acceleration` recognises.

    **Arguments:** `feature_map`, E, a point to a vector, as a `FeatureMap` is; `precision`, N > 0.

    **Returns:** a metric, `(2,)` to `(2, 2)` for a slice.

    **Fails:** `ValueError` on a precision that is not one positive number. Where J loses rank
    solvers report `metric_not_positive_definite`.

    **Cost:** one jvp of the generator and the features for each coordinate.

    **Example:**

    >>> g = feature_metric(lambda t: jnp.array([3.0, 4.0]) * t[0], 2.0)
    >>> round(g(jnp.array([0.5])).item(), 4)
    50.0

    **Reference:** Amari & Nagaoka (2000), section 2.2.
    """
    return PullbackMetric(_Scaled(feature_map, _as_precision(precision)))


def log_posterior(
    features: ArrayLike, feature: ArrayLike, precision: ArrayLike
) -> Float[Array, "*nodes"]:
    r"""The log-probabilities of the nodes that a feature may have come from.

    $$ \log p(t \mid e) = -\tfrac N2 \lVert E(t) - e\rVert^2
       - \log \sum_{t'} \exp\bigl(-\tfrac N2 \lVert E(t') - e\rVert^2\bigr) $$

    under a prior that is flat over the nodes. With e the mean of N features drawn from
    $\mathcal N(E(t'), I)$ it is the posterior given all of them, and its N-th root tends to
    exp(−D), $D = \tfrac12 \lVert E(t) - E(t')\rVert^2$.

    **Arguments:** `features`, `(n₁, n₂, m)`, E at every node, as of `SliceGrid.features`;
    `feature`, e, `(m,)`; `precision`, N > 0.

    **Returns:** `(n₁, n₂)`, whose exponentials add up to 1. One query; batch with `jax.vmap`.

    **Fails:** `ValueError` on shapes or a precision that is not one positive number.

    **Cost:** O(n₁ n₂ m), one pass over the features.

    **Example:**

    >>> p = jnp.exp(log_posterior(jnp.array([[[0.0], [1.0]]]), jnp.array([0.0]), 2.0))
    >>> round(p[0, 0].item(), 4)  # e to 1
    0.7311

    **Reference:** Lobashev et al. (2025), arXiv 2506.10632, theorem 3.1.
    """
    table, e = jnp.asarray(features), jnp.asarray(feature)
    if e.ndim != 1 or table.ndim < 2 or table.shape[-1] != e.size:
        raise ValueError(
            "`features` must have shape (n₁, n₂, m) and `feature` shape (m,), "
            f"got {table.shape} and {e.shape}."
        )
    number = _as_precision(precision)
    table, e = (x.astype(jnp.result_type(table, e, jnp.float32)) for x in (table, e))
    # as differences: ‖E‖² − 2⟨E, e⟩ + ‖e‖² loses what is left where the features are far from 0
    away = jnp.sum((table - jnp.expand_dims(e, range(table.ndim - 1))) ** 2, axis=-1)
    # less the least, so that the nearest node has weight 1 however large N is
    weights = -number.astype(away.dtype) / 2 * (away - jnp.min(away))
    return weights - jax.nn.logsumexp(weights)


def feature_samples(
    grid: SliceGrid, n: int, *, precision: ArrayLike, key: Array
) -> tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n 2"]]:
    r"""Draws of the law $\mathcal N(E(t), I/N)$ at nodes t chosen evenly at random.

    Their posterior over the nodes is `log_posterior`; they are what `fit_log_partition` needs of
    a slice that was decoded once, by any framework. At nodes alone: a metric that changes from one
    node to the next is not seen.

    **Arguments:** `grid`, with features; `n`, how many; `precision`, N > 0; `key`, a JAX random
    key.

    **Returns:** samples and the parameters they belong to, on the host, in the dtypes of features
    and axes.

    **Fails:** `ValueError` on a grid without features, n < 1, or a precision that is not one
    positive number.

    **Cost:** only the rows that are drawn are read of a memory map.
    """
    if grid.features is None:
        raise ValueError("`grid` must hold features, got None: evaluate it with `features`.")
    n = as_count(n, "n")
    spread = float(_as_precision(precision)) ** -0.5
    node_key, noise_key = jax.random.split(key)
    shape = grid.features.shape
    i, j = np.divmod(
        np.asarray(jax.random.randint(node_key, (n,), 0, shape[0] * shape[1])), shape[1]
    )
    means = grid.features[i, j]
    noise = np.asarray(jax.random.normal(noise_key, means.shape, jnp.result_type(means.dtype)))
    parameters = np.stack([grid.axes[0][i], grid.axes[1][j]], axis=1)
    return means + (spread * noise).astype(means.dtype), parameters


@final
class FeatureSimulator(eqx.Module):
    r"""Draws of the law $\mathcal N(E(t), I/N)$ anywhere on a slice.

    A simulator for `fit_curved_family`, and for `fit_log_partition` to stream from. Its Fisher
    metric is `feature_metric`.

    **Arguments:**

    - `feature_map`: E, a point to a vector, such as a `FeatureMap`.
    - `precision`: N > 0.
    - `chunk_size`: how many points are decoded at once; None for all.

    **Returns:** `simulator(key, parameters (k, d))`, samples `(k, m)`.

    **Fails:** `ValueError` on a precision that is not one positive number, or `chunk_size` < 1.

    **Cost:** one decoded sample a row; compiled once for each number of rows.
    """

    feature_map: Chart
    precision: Float[Array, ""]
    chunk_size: int | None = eqx.field(static=True)

    def __init__(
        self, feature_map: Chart, precision: ArrayLike, chunk_size: int | None = None
    ) -> None:
        self.feature_map, self.precision = feature_map, _as_precision(precision)
        self.chunk_size = _as_chunk_size(chunk_size)

    def __call__(self, key: Array, parameters: Float[Array, "k d"]) -> Float[Array, "k m"]:
        return _draw(_noisy, self, key, parameters)


@final
class StochasticSimulator(eqx.Module):
    """Features of what a generator that has noise of its own makes anywhere on a slice.

    A simulator for `fit_curved_family` and `fit_log_partition`: the law is that of E(x), x drawn
    by `generator(z(t), key)`, and has no closed form. Only the amortised fits reach its metric.

    **Arguments:**

    - `generator`: a latent array and a key to a sample.
    - `plane`: a point t to a latent array, as a `Slice` does.
    - `features`: E, a sample to an array; None for the sample itself.
    - `chunk_size`: how many points are decoded at once; None for all.

    **Returns:** `simulator(key, parameters (k, d))`, samples `(k, m)`, each with a key of its own.

    **Fails:** `ValueError` on `chunk_size` < 1.

    **Cost:** one decoded sample a row; compiled once for each number of rows.
    """

    generator: Callable[[Array, Array], Array]
    plane: Callable[[Point], Array]
    features: Callable[[Array], Array] | None
    chunk_size: int | None = eqx.field(static=True)

    def __init__(
        self,
        generator: Callable[[Array, Array], Array],
        plane: Callable[[Point], Array],
        features: Callable[[Array], Array] | None = None,
        chunk_size: int | None = None,
    ) -> None:
        self.generator, self.plane, self.features = generator, plane, features
        self.chunk_size = _as_chunk_size(chunk_size)

    def __call__(self, key: Array, parameters: Float[Array, "k d"]) -> Float[Array, "k m"]:
        return _draw(_generated, self, key, parameters)


def _as_chunk_size(chunk_size: int | None) -> int | None:
    return None if chunk_size is None else as_count(chunk_size, "chunk_size")


def _noisy(simulator: FeatureSimulator, key: Array, t: Point) -> Float[Array, " m"]:
    mean = jnp.ravel(simulator.feature_map(t))
    spread = jax.lax.rsqrt(simulator.precision).astype(mean.dtype)
    return mean + spread * jax.random.normal(key, mean.shape, mean.dtype)


def _generated(simulator: StochasticSimulator, key: Array, t: Point) -> Float[Array, " m"]:
    return _flat(simulator.features, simulator.generator(simulator.plane(t), key))


@eqx.filter_jit
def _draw(one: Any, simulator: Any, key: Array, parameters: Float[Array, "k d"]) -> Array:
    """`one(simulator, key, t)` at every row, each with a key of its own."""
    keys = jax.random.split(key, len(parameters))
    rows = min(simulator.chunk_size or len(parameters), len(parameters))
    return jax.lax.map(lambda row: one(simulator, *row), (keys, parameters), batch_size=rows)
