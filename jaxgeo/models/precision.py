"""Deviations that grow off the data: a decoder whose precision is a sum of kernels."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST
from jaxgeo._results import RESULTS
from jaxgeo._typing import Point, Scalar
from jaxgeo.likelihoods import Gaussian
from jaxgeo.models.centroids import kmeans_centroids
from jaxgeo.models.fit import encode_samples
from jaxgeo.models.vae import VAE
from jaxgeo.training import Schedule, minimize


class RadialPrecision(nnx.Module):
    r"""$1/\sigma^2(z) = W\,v(z) + \zeta$ with $v_k(z) = e^{-|z-c_k|^2/2 b_k^2}$ and W ≥ 0.

    - `centres`: c, `(k, d)`. - `bandwidths`: b, `(k,)`. - `floor`: ζ, the precision off the data.
    - `log_weights`: log W, `(k, m)`, one column for each entry of a sample.

    **Reference:** Arvanitidis, Hansen & Hauberg (2018), *Latent space oddity*, eq. 12.
    """

    def __init__(
        self,
        centres: ArrayLike,
        bandwidths: ArrayLike,
        floor: float,
        log_weights: ArrayLike,
    ):
        self.centres = nnx.Variable(jnp.asarray(centres))
        self.bandwidths = nnx.Variable(jnp.asarray(bandwidths))
        self.floor = floor
        self.log_weights = nnx.Param(jnp.asarray(log_weights))

    def __call__(self, z: Point) -> Float[Array, " m"]:
        squares = jnp.sum((z[None, :] - self.centres[...]) ** 2, axis=1)
        v = jnp.exp(-squares / (2 * self.bandwidths[...] ** 2))
        return jnp.dot(v, jnp.exp(self.log_weights[...]), precision=HIGHEST) + self.floor


class RadialDecoder(nnx.Module):
    """The mean of another decoder, with the deviation of a `RadialPrecision`: for `Gaussian()`."""

    def __init__(self, vae: VAE, precision: RadialPrecision):
        self.decoder, self.precision = vae.decoder, precision
        self.likelihood = vae.likelihood

    def __call__(self, z: Point) -> tuple[Array, Array]:
        mean = self.likelihood.mean(self.decoder(z))
        return mean, -jnp.log(self.precision(z)).reshape(mean.shape) / 2


def with_precision(
    vae: VAE,
    samples: ArrayLike,
    *,
    key: Array,
    n_centres: int = 64,
    scale: float = 1.25,
    floor: float | None = None,
    steps: int = 1000,
    progress: bool = True,
) -> VAE:
    r"""A trained VAE whose decoded deviation grows where it has seen no data.

    Perceptrons extrapolate as they like: a network of σ is no larger off the data than on them,
    so the geometry of its decoder does not know where they end. This keeps encoder and decoded
    mean, and fits $\sigma(z)$ anew as a `RadialPrecision` about encoded samples, by the
    likelihood of the residuals. Its `pullback_metric` makes it dear to leave the data.

    **Arguments:**

    - `vae`: trained, with data of real numbers.
    - `samples`: `(n, *shape)`, those it was trained on.
    - `key`: for draws of the latent points, batches, and which samples are held out.
    - `n_centres`: k, by k-means of the encoded means.
    - `scale`: bandwidths, in mean distances of a centre's samples from it.
    - `floor`: ζ, as 1/σ² off the data; one over the largest variance of any entry of the
      samples, times 4, if not given: there σ is twice that of the data.
    - `steps`: of Adam. - `progress`: show a bar, if on a terminal.

    **Returns:** a `VAE` with `Gaussian()` likelihood.

    **Fails:** `ValueError` if `n_centres` exceeds the samples; `nonfinite` is raised.

    **Cost:** seconds.

    **Reference:** Arvanitidis, Hansen & Hauberg (2018), *Latent space oddity*, section 3.2.
    """
    data = jnp.asarray(samples)
    key_draw, key_order, key_train = jax.random.split(key, 3)
    data = data[jax.random.permutation(key_order, len(data))]
    encoded = encode_samples(vae, data, key=key_draw)
    dtype = encoded.z.dtype
    means = np.asarray(encoded.mean)
    centres, labels = kmeans_centroids(means, n_centres, seed=0)
    distances = np.linalg.norm(means - centres[labels], axis=1)
    typical = max(float(distances.mean()), float(np.finfo(dtype).tiny))
    kinds = np.unique(labels)  # fewer, if fewer samples are distinct
    centres = centres[kinds]
    own = np.array([np.mean(distances[labels == k]) for k in kinds])
    bandwidths = scale * np.maximum(own, typical / 4)

    decode = jax.jit(lambda z: jax.lax.map(vae.decode, z, batch_size=1024))
    squares = ((data - decode(encoded.z)) ** 2).reshape(len(data), -1).astype(dtype)
    if floor is None:
        floor = 1 / (4 * float(np.asarray(data).reshape(len(data), -1).var(axis=0).max()))
    start = -jnp.log(jnp.mean(squares, axis=0) + 1e-6)
    start = jnp.broadcast_to(start, (len(kinds), squares.shape[1])) - math.log(2)
    precision = RadialPrecision(
        jnp.asarray(centres, dtype), jnp.asarray(bandwidths, dtype), floor, start
    )
    held = max(1, len(data) // 10)
    schedule = Schedule(steps, 0.03, batch_size=256, every=max(1, steps // 10))
    precision, trace = minimize(
        _negative_likelihood, precision, (encoded.z[held:], squares[held:]),
        (encoded.z[:held], squares[:held]), key=key_train, schedule=schedule, label="precision",
        progress=progress,
    )  # fmt: skip
    finite = bool(np.any(np.isfinite(trace.held_out_loss)))
    result = RESULTS.where(finite, RESULTS.successful, RESULTS.nonfinite)
    precision = result.error_if(precision, result != RESULTS.successful)
    return VAE(vae.encoder, RadialDecoder(vae, precision), Gaussian(), vae.latent_dim)


def _negative_likelihood(precision: RadialPrecision, batch: Any, constants: None) -> Scalar:
    """Of residuals of known square, up to a constant."""
    z, squares = batch
    beta = jax.vmap(precision)(z)
    return jnp.mean(jnp.sum(beta * squares - jnp.log(beta), axis=1)) / 2
