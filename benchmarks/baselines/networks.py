"""Networks on lattices and chains: local features, their means, and layers on these."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

DILATIONS = (1, 2, 4, 8)


class LatticeFeatures(nnx.Module):
    """Mean over sites of a 3×3 convolution and two layers at each site, for each dilation."""

    def __init__(self, *, width: int, rngs: nnx.Rngs):
        bits = np.arange(512)[:, None] >> np.arange(9) & 1
        self.patterns = nnx.Variable(jnp.asarray(2.0 * bits - 1.0, jnp.float32))
        sizes = (9, 2 * width, width)
        self.layers = nnx.List(
            [
                nnx.List([nnx.Linear(m, n, rngs=rngs) for m, n in itertools.pairwise(sizes)])
                for _ in DILATIONS
            ]
        )
        self.length = len(DILATIONS) * width

    def __call__(self, counts: Float[Array, "n k b 512"]) -> Float[Array, "n f"]:
        def local(layers):
            h = self.patterns[...]
            for layer in layers:
                h = jax.nn.relu(layer(h))
            return h

        values = jnp.stack([local(layers) for layers in self.layers])
        means = jnp.einsum("nbp,bpf->nbf", jnp.mean(counts, axis=1), values)
        return means.reshape(len(means), -1)


def pattern_counts(samples: np.ndarray) -> np.ndarray:
    """(n, dilations, 512): frequencies of the 3×3 patterns of two values on periodic lattices."""
    bits = (samples > samples.min()).astype(np.int64)
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    every = np.zeros((len(samples), len(DILATIONS), 512), np.float32)
    row = 512 * np.arange(256)[:, None]
    for start in range(0, len(samples), 256):
        chunk = bits[start : start + 256]
        for b, step in enumerate(DILATIONS):
            codes = sum(
                np.roll(chunk, (-step * i, -step * j), axis=(1, 2)) << k
                for k, (i, j) in enumerate(shifts)
            )
            flat = (codes.reshape(len(chunk), -1) + row[: len(chunk)]).ravel()
            found = np.bincount(flat, minlength=512 * len(chunk)).reshape(len(chunk), 512)
            every[start : start + 256, b] = found / chunk[0].size
    return every


class ChainFeatures(nnx.Module):
    """Two convolutions over a chain with open ends, and means over at most 16 cells of it."""

    def __init__(self, sites: int, *, width: int, rngs: nnx.Rngs):
        self.first = nnx.Linear(5, width, rngs=rngs)
        self.second = nnx.Linear(5 * width, width, rngs=rngs)
        cells = min(16, max(1, sites // 4))
        cell = np.eye(cells)[np.arange(sites) * cells // sites]
        self.cells = nnx.Variable(jnp.asarray(cell / cell.sum(axis=0), jnp.float32))
        self.length = 2 * width * cells

    def __call__(self, samples: Float[Array, "n k sites"]) -> Float[Array, "n f"]:
        n, k, sites = samples.shape
        first = jax.nn.relu(self.first(_windows(samples.reshape(n * k, sites, 1))))
        second = jax.nn.relu(self.second(_windows(first)))
        both = jnp.concatenate([first, second], axis=-1).reshape(n, k, sites, -1)
        return jnp.einsum("nksf,sc->ncf", both, self.cells[...]).reshape(n, -1) / k


def _windows(x: Float[Array, "n sites c"]) -> Float[Array, "n sites 5*c"]:
    """Each site beside its two neighbours on either side, zero beyond the ends."""
    padded = jnp.pad(x, ((0, 0), (2, 2), (0, 0)))
    return jnp.concatenate([padded[:, k : k + x.shape[1]] for k in range(5)], axis=-1)


class Network(nnx.Module):
    """A sample or a bundle of them (k,) to `outputs` numbers: features, two layers, a last one.

    The features are standardised as they are over `inputs` at the start, before any training."""

    def __init__(self, inputs: Array, outputs: int, *, width: int, rngs: nnx.Rngs):
        self.features = (
            ChainFeatures(inputs.shape[1], width=width, rngs=rngs)
            if inputs.ndim == 2
            else LatticeFeatures(width=width, rngs=rngs)
        )
        first = self.features(inputs[:1024, None])
        self.center = nnx.Variable(jnp.mean(first, axis=0, keepdims=True))
        self.spread = nnx.Variable(jnp.std(first, axis=0, keepdims=True) + 1e-3)
        sizes = (self.features.length, 8 * width, 8 * width)
        self.hidden = nnx.List([nnx.Linear(m, n, rngs=rngs) for m, n in itertools.pairwise(sizes)])
        self.last = nnx.Linear(sizes[-1], outputs, rngs=rngs)

    def __call__(self, inputs: Array) -> Float[Array, "n outputs"]:
        h = (self.features(inputs) - self.center[...]) / self.spread[...]
        for layer in self.hidden:
            h = jax.nn.relu(layer(h))
        return self.last(h)
