"""Summary networks: one sample to one vector, whose linear combinations become the statistic.

A summary is any `nnx.Module` that maps one sample to a vector. Those here are wide layers of
random features (Rahimi & Recht 2008): a linear function of enough of them approximates any
statistic of the same reach, so nothing needs training but that linear function, which is a convex
problem. `fit_log_partition(..., train_summary=True)` trains them as well.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Shaped
from scipy.special import ndtr

_NORMAL_SCORES = np.linspace(-4.0, 4.0, 129)
"""Standard deviations at which `Exchangeable` takes the quantiles of a column."""


def standardisation(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column of (n, m) rows; 1 for a constant one."""
    rows = rows.astype(np.float64)
    spread = rows.std(axis=0)
    spread[spread == 0] = 1.0
    return rows.mean(axis=0), spread


class PeriodicConvolution(nnx.Module):
    r"""Mean over the sites of a periodic lattice of rectified random local features.

    $$ \varphi_c(x) = \frac1{|\Lambda|} \sum_{i \in \Lambda}
       \max\Bigl(0, b_c + \sum_{r} w_{c r}\, (x_{i + r} - m) / s \Bigr). $$

    The sum over $r$ runs over a cube of side `kernel` about the site, so the features span the
    translation-invariant sums of functions of a neighbourhood. Lattices of one to three
    dimensions, with or without a last axis of channels.

    **Arguments:** `channels`, the number of input channels, or None for a lattice without a
    channel axis; `ndim`, the dimension of the lattice; `features`, the length of the summary;
    `center` and `spread`, $m$ and $s$.
    """

    def __init__(
        self,
        ndim: int,
        channels: int | None = None,
        *,
        features: int = 128,
        kernel: int = 3,
        center: float = 0.0,
        spread: float = 1.0,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        if not 1 <= ndim <= 3:
            raise ValueError(f"a periodic lattice has 1 to 3 dimensions here, got ndim={ndim}")
        self.ndim, self.channels, self.kernel = ndim, channels, kernel
        self.center, self.spread = float(center), float(spread)
        fan_in = kernel**ndim * (channels or 1)
        shape = (kernel,) * ndim + (channels or 1, features)
        self.weight = nnx.Param(
            jax.random.normal(rngs.params(), shape, dtype) * (2 / fan_in) ** 0.5
        )
        self.bias = nnx.Param(jax.random.normal(rngs.params(), (features,), dtype))

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, " features"]:
        weight = self.weight[...]
        x = (x.astype(weight.dtype) - self.center) / self.spread
        x = x if self.channels else x[..., None]
        before = (self.kernel - 1) // 2
        pad = [(before, self.kernel - 1 - before)] * self.ndim + [(0, 0)]
        x = jnp.pad(x, pad, mode="wrap")
        space = "DHW"[-self.ndim :]
        layout = (f"N{space}C", f"{space}IO", f"N{space}C")
        h = jax.lax.conv_general_dilated(
            x[None], weight, (1,) * self.ndim, "VALID", dimension_numbers=layout
        )[0]
        bias = jnp.expand_dims(self.bias[...], range(self.ndim))
        return jnp.mean(jax.nn.relu(h + bias), axis=range(self.ndim))


class Dense(nnx.Module):
    r"""The sample itself, flattened and standardised, and rectified random features of it.

    $$ \varphi(x) = \bigl(u,\; \max(0, W u + b)\bigr), \qquad u = (x - m) / s. $$

    For samples without a lattice's symmetry: vectors, features of a pretrained network, images.
    """

    def __init__(
        self,
        center: Float[np.ndarray, " m"],
        spread: Float[np.ndarray, " m"],
        *,
        features: int = 128,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        m = len(center)
        self.center = nnx.Variable(jnp.asarray(center, dtype))
        self.spread = nnx.Variable(jnp.asarray(spread, dtype))
        self.weight = nnx.Param(
            jax.random.normal(rngs.params(), (m, features), dtype) * (2 / m) ** 0.5
        )
        self.bias = nnx.Param(jax.random.normal(rngs.params(), (features,), dtype))

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, " features"]:
        weight = self.weight[...]
        u = (jnp.ravel(x).astype(weight.dtype) - self.center[...]) / self.spread[...]
        return jnp.concatenate([u, jax.nn.relu(u @ weight + self.bias[...])])


class Exchangeable(nnx.Module):
    r"""The mean over the rows of a sample (n, m) of functions of a single row x,

    $$ \varphi(x) = \bigl(u,\; z,\; u_i u_j \,(i \le j),\; \max(0, W z + b)\bigr), \qquad
       u = (x - m) / s, \quad z_k = \Phi^{-1}(\hat F_k(x_k)), $$

    with $\hat F_k$ the distribution of column k over all rows: in z heavy tails and singular
    edges, where logarithms live, are as wide as the bulk. So a sample's means, second moments,
    and random features of its rows.

    For samples that are sets of draws, whose order says nothing. `rows` (r, m), draws of many
    parameters, fix m, s and the quantiles of $\hat F$."""

    def __init__(
        self,
        rows: Float[np.ndarray, "r m"],
        *,
        features: int = 128,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        center, spread = standardisation(rows)
        m = len(center)
        self.center = nnx.Variable(jnp.asarray(center, dtype))
        self.spread = nnx.Variable(jnp.asarray(spread, dtype))
        quantiles = np.quantile(rows, ndtr(_NORMAL_SCORES), axis=0)
        self.quantiles = nnx.Variable(jnp.asarray(quantiles, dtype))
        self.weight = nnx.Param(
            jax.random.normal(rngs.params(), (m, features), dtype) * (2 / m) ** 0.5
        )
        self.bias = nnx.Param(jax.random.normal(rngs.params(), (features,), dtype))

    def __call__(self, x: Shaped[Array, "n m"]) -> Float[Array, " features"]:
        weight = self.weight[...]
        x = x.astype(weight.dtype)
        scores = jnp.asarray(_NORMAL_SCORES, weight.dtype)
        z = jax.vmap(lambda x, q: jnp.interp(x, q, scores), 1, 1)(x, self.quantiles[...])
        u = (x - self.center[...][None, :]) / self.spread[...][None, :]
        i, j = np.triu_indices(x.shape[1])
        bent = jax.nn.relu(z @ weight + self.bias[...][None, :])
        rows = jnp.concatenate([u, z, u[:, i] * u[:, j], bent], axis=1)
        return jnp.mean(rows, axis=0)


class Identity(nnx.Module):
    """The sample itself, flattened: for samples that are already vectors of known statistics."""

    def __init__(self, dtype=jnp.float32):
        self.dtype = jnp.dtype(dtype)

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, " features"]:
        return jnp.ravel(x).astype(self.dtype)


def summary_for(samples: Shaped[np.ndarray, "n ..."], *, dtype, rngs: nnx.Rngs) -> nnx.Module:
    """The default summary for samples of this shape.

    `(n,)` and `(n, m)`: `Dense`. `(n, a, b)`: a two-dimensional periodic lattice.
    `(n, a, b, c)`: the same with c channels if c ≤ 4, else a three-dimensional lattice.
    `(n, a, b, c, e)`: a three-dimensional lattice with e channels.
    """
    shape = samples.shape[1:]
    if len(shape) <= 1:
        return Dense(*standardisation(samples.reshape(len(samples), -1)), dtype=dtype, rngs=rngs)
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] > 4):
        ndim, channels = len(shape), None
    elif len(shape) <= 4:
        ndim, channels = len(shape) - 1, shape[-1]
    else:
        raise ValueError(
            f"no default summary for samples of shape {shape}: give `summary=`, any nnx.Module "
            "from one sample to a vector"
        )
    center, spread = float(samples.mean()), float(samples.std()) or 1.0
    return PeriodicConvolution(
        ndim, channels, center=center, spread=spread, dtype=dtype, rngs=rngs
    )
