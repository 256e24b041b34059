"""Encoded samples, and what latent points decode to."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.spatial.distance import cdist

from jaxgeo import models

STEPS = 65
"""Points of a curve that are decoded."""


class Space(NamedTuple):
    """Samples, flattened, and the means of their latent laws."""

    seen: np.ndarray
    unseen: np.ndarray
    pixels: np.ndarray  # of those seen

    @staticmethod
    def of(vae: models.VAE, seen: np.ndarray, unseen: np.ndarray, key: Array) -> "Space":
        first, second = (
            np.asarray(models.encode_samples(vae, some, key=key).mean) for some in (seen, unseen)
        )
        return Space(first, second, seen.reshape(len(seen), -1))

    def nearest(self, pixels: np.ndarray) -> np.ndarray:
        """The distance of decoded samples to the nearest that was trained on."""
        return cdist(pixels, self.pixels).min(axis=1)


class Decoded(eqx.Module):
    """A latent point to the mean of what it decodes to, as a vector."""

    vae: models.VAE

    def __call__(self, z: Array) -> Array:
        return jnp.ravel(self.vae.decode(z))


def decoder(vae: models.VAE) -> Any:
    """Latent points `(n, 2)` to pixels `(n, m)`, as NumPy arrays."""
    decode = eqx.filter_jit(eqx.filter_vmap(Decoded(vae)))
    return lambda z: np.asarray(decode(jnp.asarray(z, jnp.float32)))


def spaced(path: np.ndarray, n: int, images: np.ndarray | None = None) -> np.ndarray:
    """`n` points of a polyline at equal steps of itself, or of its `images`."""
    moved = np.diff(path if images is None else images, axis=0)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(moved, axis=1))])
    even = np.linspace(0, along[-1], n)
    return np.stack([np.interp(even, along, column) for column in path.T], axis=1)


def even_steps(decode: Any, path: np.ndarray) -> np.ndarray:
    """What a path decodes to, at equal steps of what is decoded: as an image strip is seen."""
    dense = spaced(path, 4 * STEPS)
    return decode(spaced(dense, STEPS, decode(dense)))
