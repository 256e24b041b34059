r"""A classifier of samples, and the features by which it tells them apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxgeo._typing import Scalar
from jaxgeo.models.fit import ModelFit, held_apart, train
from jaxgeo.models.networks import Perceptron, checked_samples, standardisation
from jaxgeo.training import Schedule

PAIRS = 10_000
"""Of random samples, whose distance in features is the unit of length."""


class Classifier(nnx.Module):
    r"""$p(c|x) \propto e^{(W f(x) + b)_c}$, with smooth features f of a sample x.

    Differences in what a sample shows are distances between features, as the paper measures
    them by CLIP. Once trained by `fit_classifier`, **the unit of length is the root mean squared
    distance between two random samples of those it was trained on**.

    - `samples`: `(n, *shape)`, by whose center and spread others are standardised.
    - `n_classes`. - `widths`: of the hidden layers; the last is m, the number of features.

    Every method takes one sample, with its own units and not standardised, and returns its dtype.
    """

    def __init__(
        self,
        samples: ArrayLike,
        n_classes: int,
        *,
        key: Array,
        widths: Sequence[int] = (256, 64),
        dtype: Any = None,
    ):
        center, spread, _ = standardisation(samples)
        dtype = dtype or jnp.float32
        self.center = nnx.Variable(jnp.asarray(center, dtype))
        self.spread = nnx.Variable(jnp.asarray(spread, dtype))
        self.unit = nnx.Variable(jnp.ones((), dtype))
        rngs = nnx.Rngs(key)
        self.body = Perceptron((center.size, *widths), rngs=rngs, dtype=dtype)
        self.head = Perceptron((widths[-1], n_classes), rngs=rngs, dtype=dtype)

    def _features(self, sample: Array) -> Array:
        x = (sample - self.center[...]) / self.spread[...]
        return jax.nn.gelu(self.body(x.ravel()))

    def features(self, sample: Array) -> Float[Array, " m"]:
        """f(x), in its unit of length."""
        return (self._features(sample) / self.unit[...]).astype(sample.dtype)

    def logits(self, sample: Array) -> Float[Array, " classes"]:
        """log p(c|x), up to a number that all classes share."""
        return self.head(self._features(sample)).astype(sample.dtype)

    def label(self, sample: Array) -> Int[Array, ""]:
        """The likeliest class."""
        return jnp.argmax(self.logits(sample))


def fit_classifier(
    samples: ArrayLike,
    classes: ArrayLike,
    *,
    key: Array,
    widths: Sequence[int] = (256, 64),
    noise: float = 0.5,
    held_out: tuple[ArrayLike, ArrayLike] | None = None,
    steps: int = 2000,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    every: int = 100,
    patience: int = 8,
    checkpoint: Path | None = None,
    progress: bool = True,
    throw: bool = True,
) -> ModelFit:
    r"""Train a `Classifier` by Adam on the cross-entropy $-\log p(c|x)$.

    **Arguments:**

    - `samples`, `classes`: `(n, *shape)`, and whole numbers from 0, `(n,)`.
    - `key`: for weights, batches, noise, and which samples are held out.
    - `widths`: as of `Classifier`.
    - `noise`: the deviation of white noise on standardised samples in training, which keeps
      features from changing fast where no samples are.
    - `held_out`: samples and their classes to validate on; a tenth, at random, if not given.
    - the others: as of `fit`.

    **Returns:** `ModelFit`, with the `Classifier`. **Fails:** `ValueError` on shapes, classes
    and settings, and a `checkpoint` of another fit; `nonfinite` if no validation was finite.

    **Cost:** `steps` gradients of a batch: seconds.
    """
    data = _labelled(samples, classes)
    n_classes = int(jnp.max(data[1])) + 1
    key_split, key_weights, key_train, key_pairs = jax.random.split(key, 4)
    if held_out is None:
        data, unseen = held_apart(data, key_split)
    else:
        unseen = _labelled(*held_out)
        if unseen[0].shape[1:] != data[0].shape[1:] or int(jnp.max(unseen[1])) >= n_classes:
            raise ValueError(
                f"`held_out` must hold samples of shape {data[0].shape[1:]} and classes below "
                f"{n_classes}, got {unseen[0].shape[1:]} and {int(jnp.max(unseen[1]))}."
            )
    model = Classifier(data[0], n_classes, key=key_weights, widths=widths)
    fitted = train(
        cross_entropy, model, data, unseen, constants=jnp.float32(noise), key=key_train,
        schedule=Schedule(steps, learning_rate, batch_size, every, patience), settings=noise,
        label="Classifier", progress=progress, checkpoint=checkpoint, throw=throw,
    )  # fmt: skip
    fitted.model.unit[...] = _typical_distance(fitted.model, data[0], key_pairs)
    return fitted


def cross_entropy(model: Classifier, batch: tuple, noise: Scalar, key: Array) -> Scalar:
    """−log p(c|x) of noised samples, over a batch."""
    x, classes = batch
    white = jax.random.normal(key, x.shape, x.dtype)
    logits = jax.vmap(model.logits)(x + noise * model.spread[...] * white)
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(logits, classes))


@jax.jit
def _typical_distance(model: Classifier, x: Array, key: Array) -> Scalar:
    """Root mean squared, of the features of random pairs."""
    first, second = jax.random.randint(key, (2, PAIRS), 0, len(x))
    f = jax.lax.map(model.features, x, batch_size=1024)
    return jnp.sqrt(jnp.mean(jnp.sum((f[first] - f[second]) ** 2, axis=1)))


def _labelled(samples: ArrayLike, classes: ArrayLike) -> tuple[Array, Array]:
    x, c = checked_samples(samples), np.asarray(classes)
    if c.shape != (len(x),) or not np.issubdtype(c.dtype, np.integer) or c.min() < 0:
        raise ValueError(
            f"`classes` must be {len(x)} whole numbers from 0, one for each sample, got shape "
            f"{c.shape}, dtype {c.dtype}" + (f", least {c.min()}." if c.size else ".")
        )
    return jnp.asarray(x, jnp.float32), jnp.asarray(c, jnp.int32)
