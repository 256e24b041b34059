"""Samples to train on: handwritten digits, or a user's arrays."""

from typing import NamedTuple

import numpy as np

from jaxgeo.likelihoods import Binomial, FixedGaussian, Likelihood


class Samples(NamedTuple):
    """Samples `(n, *shape)`, perhaps with their classes `(n,)`, and the likelihood they suit."""

    values: np.ndarray
    classes: np.ndarray | None
    likelihood: Likelihood
    name: str


def digits() -> Samples:
    """1,797 handwritten digits of 8 × 8, from scikit-learn: every pixel counts the inked ones
    among 16 of the scan, so its law is binomial (Alpaydin & Kaynak 1998)."""
    from sklearn.datasets import load_digits

    values, classes = load_digits(return_X_y=True)
    name = "scikit-learn's handwritten digits"
    return Samples(values.reshape(-1, 8, 8).astype(np.float32), classes, Binomial(16), name)


def own_samples(
    values: np.ndarray, classes: np.ndarray | None, likelihood: Likelihood | None
) -> Samples:
    """A user's arrays; a Gaussian of a third of the samples' spread if no law is given."""
    values = np.asarray(values, np.float32)
    if values.ndim < 2 or len(values) < 100 or not np.all(np.isfinite(values)):
        raise ValueError(
            f"samples must be finite, of shape (n, ...) with n ≥ 100, got {values.shape}."
        )
    if classes is not None and classes.shape != (len(values),):
        raise ValueError(f"classes must have shape ({len(values)},), got {classes.shape}.")
    if classes is not None:
        _, classes = np.unique(classes, return_inverse=True)
    law = likelihood or FixedGaussian(max(float(values.std()) / 3, 1e-6))
    return Samples(values, classes, law, "own samples")
