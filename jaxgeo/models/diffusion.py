r"""Diffusion models: networks that are denoisers, $D(x, t) = E[x_0 | x_t = x]$, learned."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._typing import Scalar
from jaxgeo.diffusion import VariancePreserving
from jaxgeo.models.networks import (
    Perceptron,
    checked_samples,
    image_shape,
    standardisation,
)

Network = Callable[[Array, Array], Array]
"""(x, Fourier features of the time) to an array of the shape of x."""

FREQUENCIES = math.pi / 16 * 2.0 ** np.arange(5)
"""Of the waves of log σ/α by which a network knows the time: 32, 16, … 2 long."""
EARLIEST = 1e-3
"""A network is asked of no earlier time, as it is trained on none."""
LEAST_DEVIATION = 1e-3
"""Of an entry that no sample changes, in units of the spread: keeps t = 0 finite."""


class DiffusionModel(nnx.Module):
    r"""A denoiser made of a network F, and of the deviations s of the entries of the data:

    $$ D(x, t) = \frac{\alpha s^2}{v}\, x + \frac{\sigma s}{\sqrt v}\,
       F\!\left(\frac{x}{\sqrt v}, \log\frac\sigma\alpha\right), \qquad
       v = \alpha^2 s^2 + \sigma^2 $$

    entry by entry. With F = 0 it is exact for independent Gaussian entries; what F must add is
    of a size of 1 at all times, and its errors vanish with the noise.

    Noise is added to, and x, D and what samplers give are, **standardised samples**: (sample −
    center) / spread, with one spread for all entries, so that lengths keep their proportions.
    `standardise` and `decode` lead there and back:

        generator = DDIM(model, model.schedule, model.schedule.times(50))
        sample = model.decode(generator(z))

    - `network`: F. - `samples`: `(n, *shape)`, of which it takes shape, center (of every entry),
      spread (the deviation of all entries) and deviations. None is trained.
    - `schedule`: of the noise. - `dtype`: of these numbers, float32 if not given.

    What it returns has the dtype of x; weights of less precision are computed in that of x, and
    `in_precision` casts them.

    **Fails:** `ValueError` on samples that are not finite, or all the same.

    **Reference:** Karras et al. (2022), *Elucidating the design space of diffusion-based
    generative models*, table 1, of x/α, with a σ_data for each entry.
    """

    def __init__(
        self,
        network: Network,
        samples: ArrayLike,
        *,
        schedule: VariancePreserving | None = None,
        dtype: Any = None,
    ):
        center, spread, data = standardisation(samples)
        deviations = np.maximum(data.std(axis=0), LEAST_DEVIATION)
        self.network = network
        self.center, self.spread, self.deviations = (
            nnx.Variable(jnp.asarray(a, dtype or jnp.float32))
            for a in (center, spread, deviations)
        )
        schedule = schedule or VariancePreserving()
        # numbers: a setting of the model, which training and casting leave as it is
        self.schedule = VariancePreserving(float(schedule.first), float(schedule.last))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample."""
        return self.center.shape

    def __call__(self, x: Array, t: ArrayLike) -> Array:
        """E[x₀ | x_t = x], standardised."""
        if x.shape != self.shape:
            raise ValueError(
                f"a sample must have shape {self.shape}, got {x.shape}. Batch with `jax.vmap`."
            )
        t = jnp.asarray(t, x.dtype)
        alpha, s = self.schedule.alpha(t), self.deviations[...]
        inverse_root = self._inverse_root(t)
        level = jnp.log(self.schedule.noise_ratio(jnp.maximum(t, EARLIEST)))
        guess = self.network(inverse_root * x, _waves(level))
        linear = alpha * (s * inverse_root) ** 2 * x
        return (linear + self.error_scale(t) * guess).astype(x.dtype)

    def error_scale(self, t: Scalar) -> Array:
        """σs/√v: the deviation of x₀ given x_t, of each entry by itself, if Gaussian."""
        return self.schedule.sigma(t) * self.deviations[...] * self._inverse_root(t)

    def _inverse_root(self, t: Scalar) -> Array:
        signal = self.schedule.alpha(t) * self.deviations[...]
        return jax.lax.rsqrt(signal**2 + self.schedule.sigma(t) ** 2)

    def standardise(self, sample: Array) -> Array:
        """A sample as the denoiser takes it."""
        return (sample - self.center[...]) / self.spread[...]

    def decode(self, x: Array) -> Array:
        """The sample that x, standardised, stands for."""
        return (self.center[...] + self.spread[...] * x).astype(x.dtype)


def _waves(level: Scalar) -> Float[Array, " n"]:
    """Fourier features of log σ/α."""
    angles = level * jnp.asarray(FREQUENCIES, level.dtype)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])


class DenseNetwork(nnx.Module):
    """F of vectors and small images: residual blocks of two dense layers, with GELU."""

    def __init__(self, size: int, *, width: int, blocks: int, rngs: nnx.Rngs, dtype: Any = None):
        options: dict[str, Any] = {"rngs": rngs, "dtype": dtype}
        self.time = Perceptron((2 * len(FREQUENCIES), width // 4, width), **options)
        self.into = Perceptron((size, width), **options)
        self.blocks: Any = nnx.List(
            [Perceptron((width, width, width), still=True, **options) for _ in range(blocks)]
        )
        self.out = Perceptron((width, size), still=True, **options)

    def __call__(self, x: Array, waves: Array) -> Array:
        time, h = self.time(waves), self.into(x.ravel())
        for block in self.blocks:
            h = h + block(h + time)
        return self.out(jax.nn.gelu(h)).reshape(x.shape)


class _ConvolutionalBlock(nnx.Module):
    """x + W₂ ∗ GELU(W₁ ∗ GELU(x) + b), with b of the time; x by 1 × 1 to another depth."""

    def __init__(self, m: int, n: int, time: int, *, rngs: nnx.Rngs, dtype: Any):
        options: dict[str, Any] = {"rngs": rngs, "param_dtype": dtype or jnp.float32}
        self.first = nnx.Conv(m, n, (3, 3), **options)
        self.of_time = nnx.Linear(time, n, **options)
        self.second = nnx.Conv(n, n, (3, 3), kernel_init=nnx.initializers.zeros_init(), **options)
        self.across = nnx.Conv(m, n, (1, 1), use_bias=False, **options)

    def __call__(self, x: Array, time: Array) -> Array:
        h = self.first(jax.nn.gelu(x)) + self.of_time(time)[None, None]
        return self.across(x) + self.second(jax.nn.gelu(h))


class ConvolutionalNetwork(nnx.Module):
    """F of images: convolutions at two resolutions, the finer joined to the coarser's result."""

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        channels: tuple[int, int],
        rngs: nnx.Rngs,
        dtype: Any = None,
    ):
        fine, coarse = channels
        depth = image_shape(shape)[2]
        conv: dict[str, Any] = {"rngs": rngs, "param_dtype": dtype or jnp.float32}
        width = 4 * fine
        self.time = Perceptron((2 * len(FREQUENCIES), width, width), rngs=rngs, dtype=dtype)
        self.into = nnx.Conv(depth, fine, (3, 3), **conv)
        self.down = _ConvolutionalBlock(fine, fine, width, rngs=rngs, dtype=dtype)
        self.coarser = nnx.Conv(fine, coarse, (3, 3), strides=2, **conv)
        self.middle: Any = nnx.List(
            [_ConvolutionalBlock(coarse, coarse, width, rngs=rngs, dtype=dtype) for _ in range(2)]
        )
        self.finer = nnx.Conv(coarse, fine, (1, 1), **conv)
        self.up = _ConvolutionalBlock(2 * fine, fine, width, rngs=rngs, dtype=dtype)
        self.out = nnx.Conv(fine, depth, (3, 3), kernel_init=nnx.initializers.zeros_init(), **conv)

    def __call__(self, x: Array, waves: Array) -> Array:
        height, width, _ = shape = image_shape(x.shape)
        time = jax.nn.gelu(self.time(waves))
        left = self.down(self.into(x.reshape(shape)), time)
        h = self.coarser(left)
        for block in self.middle:
            h = block(h, time)
        h = self.finer(h)
        h = jnp.repeat(jnp.repeat(h, 2, axis=0), 2, axis=1)[:height, :width]
        h = self.up(jnp.concatenate([left, h], axis=2), time)
        return self.out(jax.nn.gelu(h)).reshape(x.shape)


def dense_denoiser(
    samples: ArrayLike,
    *,
    key: Array,
    width: int = 256,
    blocks: int = 3,
    schedule: VariancePreserving | None = None,
    dtype: Any = None,
) -> DiffusionModel:
    """A denoiser of dense layers, untrained: `fit` trains it.

    **Arguments:** `samples`, `(n, *shape)`, those it will be trained on, for their shape, center
    and deviations; `key`, of the weights; `width` of the layers and number of residual `blocks`;
    `schedule`, of the noise, `VariancePreserving()` if not given; `dtype`, float32 if not given.
    """
    size = checked_samples(samples)[0].size
    network = DenseNetwork(size, width=width, blocks=blocks, rngs=nnx.Rngs(key), dtype=dtype)
    return DiffusionModel(network, samples, schedule=schedule, dtype=dtype)


def convolutional_denoiser(
    samples: ArrayLike,
    *,
    key: Array,
    channels: tuple[int, int] = (32, 64),
    schedule: VariancePreserving | None = None,
    dtype: Any = None,
) -> DiffusionModel:
    """A denoiser of convolutions, for images of 16 × 16 and more, untrained.

    **Arguments:** as `dense_denoiser`; `samples`, `(n, height, width[, channels])`; `channels`, of
    the finer and the coarser resolution.
    """
    shape = checked_samples(samples).shape[1:]
    network = ConvolutionalNetwork(shape, channels=channels, rngs=nnx.Rngs(key), dtype=dtype)
    return DiffusionModel(network, samples, schedule=schedule, dtype=dtype)
