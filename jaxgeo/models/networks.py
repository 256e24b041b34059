"""Encoders and decoders: perceptrons, and convolutions over images."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from jaxgeo._typing import Point
from jaxgeo.likelihoods import Likelihood, bounded

Model = TypeVar("Model", bound=nnx.Module)


class Perceptron(nnx.Module):
    """Dense layers with GELU between them, smooth as geodesics need it."""

    def __init__(
        self, sizes: Sequence[int], *, rngs: nnx.Rngs, still: bool = False, dtype: Any = None
    ) -> None:
        self.layers: Any = nnx.List([])
        for k, (m, n) in enumerate(itertools.pairwise(sizes)):
            last = k == len(sizes) - 2
            init = nnx.initializers.lecun_normal() if last else nnx.initializers.he_normal()
            init = nnx.initializers.zeros_init() if last and still else init
            self.layers.append(
                nnx.Linear(m, n, kernel_init=init, param_dtype=dtype or jnp.float32, rngs=rngs)
            )

    def __call__(self, x: Array) -> Array:
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.gelu(layer(x))
        return last(x)


class Encoder(nnx.Module):
    """A sample to the mean and log deviation of its latent law, both `(d,)`.

    - `shape`: of a sample; images are `(height, width, channels)`, or without channels.
    - `channels`: of convolutions of stride 2 before the dense layers; none for other samples.
    - `center`, `spread`: what samples are standardised by.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        *,
        widths: Sequence[int] = (256, 256),
        channels: Sequence[int] = (),
        center: float = 0.0,
        spread: float = 1.0,
        rngs: nnx.Rngs,
        dtype: Any = None,
    ) -> None:
        self.shape = tuple(shape)
        self.center, self.spread = center, spread
        self.convolutions: Any = nnx.List([])
        size = math.prod(self.shape)
        if channels:
            height, width, depth = image_shape(self.shape)
            for m, n in itertools.pairwise((depth, *channels)):
                self.convolutions.append(
                    nnx.Conv(m, n, (3, 3), strides=2, param_dtype=dtype or jnp.float32, rngs=rngs)
                )
                height, width = -(-height // 2), -(-width // 2)
            size = height * width * channels[-1]
        self.dense = Perceptron((size, *widths, 2 * latent_dim), rngs=rngs, dtype=dtype)

    def __call__(self, x: Array) -> tuple[Point, Point]:
        dtype = self.dense.layers[0].kernel[...].dtype
        y = (x.astype(dtype) - self.center) / self.spread
        if self.convolutions:
            y = y.reshape(image_shape(self.shape))
            for layer in self.convolutions:
                y = jax.nn.gelu(layer(y))
        mean, log_deviation = jnp.split(self.dense(y.ravel()), 2)
        return mean, bounded(log_deviation)


class Decoder(nnx.Module):
    """A latent point to the parameters of a likelihood, for samples of one shape."""

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        likelihood: Likelihood,
        *,
        widths: Sequence[int] = (256, 256),
        channels: Sequence[int] = (),
        rngs: nnx.Rngs,
        dtype: Any = None,
    ) -> None:
        self.shape, self.likelihood = tuple(shape), likelihood
        per_entry = likelihood.per_entry
        self.convolutions: Any = nnx.List([])
        self.sides: tuple[tuple[int, int], ...] = ()
        self.seed: tuple[int, ...] = ()
        size = math.prod(self.shape) * per_entry
        if channels:
            height, width, depth = image_shape(self.shape)
            sides = [(height, width)]
            for _ in channels:
                height, width = -(-height // 2), -(-width // 2)
                sides.append((height, width))
            self.sides = tuple(reversed(sides))[1:]
            outputs = (*channels, depth * per_entry)
            for m, n in itertools.pairwise(outputs):
                self.convolutions.append(
                    nnx.ConvTranspose(
                        m, n, (4, 4), strides=(2, 2), param_dtype=dtype or jnp.float32, rngs=rngs
                    )
                )
            self.seed = (height, width, channels[0])
            size = math.prod(self.seed)
        self.dense = Perceptron((latent_dim, *widths, size), rngs=rngs, dtype=dtype)

    def __call__(self, z: Point) -> Any:
        raw = self.dense(z)
        if self.convolutions:
            raw = raw.reshape(self.seed)
            for layer, (height, width) in zip(self.convolutions, self.sides, strict=True):
                raw = layer(jax.nn.gelu(raw))[:height, :width]
        raw = raw.reshape(*self.shape, self.likelihood.per_entry)
        return self.likelihood.parameters(raw)


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """`(height, width, channels)` of images with or without channels."""
    if len(shape) not in (2, 3):
        raise ValueError(
            f"convolutions need samples of shape (height, width) or (height, width, channels), "
            f"got {tuple(shape)}."
        )
    height, width, *depth = shape
    return height, width, depth[0] if depth else 1


class FactorNetwork(nnx.Module):
    """A sample to a lower triangular L `(d, d)` of positive diagonal: the identity at first.

    The factors of the kernels of a Riemannian Hamiltonian VAE."""

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        *,
        widths: Sequence[int] = (128, 128),
        center: float = 0.0,
        spread: float = 1.0,
        rngs: nnx.Rngs,
        dtype: Any = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.center, self.spread = center, spread
        entries = latent_dim * (latent_dim + 1) // 2
        sizes = (math.prod(shape), *widths, entries)
        self.dense = Perceptron(sizes, rngs=rngs, still=True, dtype=dtype)

    def __call__(self, x: Array) -> Float[Array, "d d"]:
        dtype = self.dense.layers[0].kernel[...].dtype
        raw = self.dense(((x.astype(dtype) - self.center) / self.spread).ravel())
        return lower_triangular(jnp.exp(bounded(raw[: self.latent_dim])), raw[self.latent_dim :])


def lower_triangular(
    diagonal: Float[Array, " d"], below: Float[Array, " m"]
) -> Float[Array, "d d"]:
    """The matrix of a diagonal and of the d(d − 1)/2 entries below it, row after row.

    >>> lower_triangular(jnp.array([1.0, 2.0]), jnp.array([4.0])).tolist()
    [[1.0, 0.0], [4.0, 2.0]]
    """
    d = diagonal.size
    if below.shape != (d * (d - 1) // 2,):
        raise ValueError(f"`below` must have shape ({d * (d - 1) // 2},), got {below.shape}.")
    rows, columns = jnp.tril_indices(d, -1)
    return jnp.diag(diagonal).at[rows, columns].set(below)


def checked_samples(samples: ArrayLike) -> np.ndarray:
    """Samples `(n, *shape)` in double precision, or a `ValueError`."""
    data = np.asarray(samples, float)
    if data.ndim < 2 or len(data) < 2:
        raise ValueError(f"`samples` must have shape (n, ...), n ≥ 2, got {data.shape}.")
    return data


def standardisation(samples: ArrayLike) -> tuple[np.ndarray, float, np.ndarray]:
    """The mean of every entry, the deviation of all of them, and the samples standardised by
    these: with one spread for all, lengths keep their proportions."""
    data = checked_samples(samples)
    center = data.mean(axis=0)
    spread = float(np.sqrt(np.mean((data - center) ** 2)))
    if not (np.isfinite(spread) and spread > 0):
        raise ValueError(f"`samples` must be finite and differ, their deviation is {spread}.")
    return center, spread, (data - center) / spread


def in_precision(model: Model, dtype: DTypeLike) -> Model:
    """A model with its numbers cast to another precision, in which it then computes.

    **Arguments:** `model`, any network here, trained or not; `dtype`, float16, bfloat16, float32
    or float64.

    **Returns:** a model, to be given points of that dtype. **Fails:** `ValueError` if `dtype` is
    no floating type, or float64 where jax has it disabled.
    """
    wanted = jnp.dtype(dtype)
    if not jnp.issubdtype(wanted, jnp.floating) or jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise ValueError(
            f"`dtype` must be a floating type that jax has enabled, got {wanted}: for float64 "
            "set jax_enable_x64."
        )

    def cast(leaf: Array) -> Array:
        return leaf.astype(wanted) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, model)
