"""Settings of fits that are brief, and samples whose metric is known."""

import numpy as np

from jaxgeo.reconstruction import Schedule

QUICK = {
    "schedules": (
        Schedule(steps=1000, learning_rate=2e-2, batch_size=256),
        Schedule(steps=500, learning_rate=1e-2, batch_size=256),
        Schedule(steps=1000, learning_rate=1e-2, batch_size=256),
    ),
    "width": 32,
    "networks": 1,
    "progress": False,
}
BRIEF = {
    "schedules": 3 * (Schedule(steps=50, learning_rate=1e-2, batch_size=256, every=25),),
    "width": 16,
    "networks": 2,
    "progress": False,
}
COVARIANCE = np.array([[2.0, 0.6], [0.6, 0.5]])
SQUARE = [[-2.0, 2.0], [-2.0, 2.0]]


def gaussian(n, seed):
    """x ~ N(Σθ, Σ), so that θ is natural and the metric is Σ everywhere."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-2, 2, (n, 2))
    noise = rng.normal(size=(n, 2)) @ np.linalg.cholesky(COVARIANCE).T
    return (theta @ COVARIANCE + noise).astype(np.float32), theta.astype(np.float32)
