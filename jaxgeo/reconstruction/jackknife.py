"""The jackknife: how far an estimate is open, by leaving out groups of samples (Miller 1974,
Biometrika 61, 1). It needs no model of the samples to be true."""

import numpy as np

GROUPS = 16
"""Of samples, each left out once."""


def groups(n: int) -> list[np.ndarray]:
    """Rows of `GROUPS` groups at random of n samples, whatever the order that they came in."""
    return np.array_split(np.random.default_rng(0).permutation(n), GROUPS)


def doubts(deviations: np.ndarray, draws: int) -> np.ndarray:
    """Draws (..., draws) of what is left open of an estimate, the `deviations` (`GROUPS`, ...)
    being what it changes by without each group of samples."""
    centred = deviations - deviations.mean(axis=0)
    noise = np.random.default_rng(2).normal(size=(GROUPS, draws))
    return np.tensordot(centred, noise * np.sqrt(1 - 1 / GROUPS), axes=(0, 0))
