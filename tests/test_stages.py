"""What may take the place of a network, and what is said when it may not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgeo._batching import each
from jaxgeo.reconstruction.charts import identity
from jaxgeo.reconstruction.polynomials import metric_of
from jaxgeo.reconstruction.stages import (
    CrossEntropies,
    Expansion,
    Replacement,
    Smoothing,
)
from jaxgeo.systems import families


class Bowl(Replacement):
    """½ curvature |η|², whatever the samples."""

    def __init__(self, curvature):
        t = jnp.asarray(np.random.default_rng(0).normal(size=(10, 2)))
        super().__init__(lambda eta: jnp.sum(eta**2), identity, t, np.asarray(t))
        self.curvature, self.seen = curvature, []

    def tolerated(self, rough, worse):
        return rough.error

    def metrics(self, potential):
        return each(jax.hessian(potential), self.t)

    def choose(self, values, training, held_out):
        return 3.0, {"tried": len(values)}

    def fit(self, readout, choice, rows):
        self.seen.append((choice, len(rows)))
        return (lambda eta: 0.5 * self.curvature * jnp.sum(eta**2)), readout, "ensemble"


SPREAD = np.tile([-0.6, 0.6], 18)
"""Of 36 samples' nats: their mean is good to 0.1."""


def judged(bowl, network_entropy):
    def cross_entropies(potential, readout):
        mean = network_entropy if potential is bowl.network else 2.0
        return CrossEntropies(mean + SPREAD, 1.9 + SPREAD)

    return bowl.judged(np.eye(2), np.arange(8), np.arange(8, 10), cross_entropies)


def test_what_held_out_samples_like_as_well_takes_the_place():
    bowl = Bowl(1.0)
    _, _, ensemble, entropies, losses = judged(bowl, 1.95)
    assert bowl.seen == [(3.0, 8), (3.0, 10)]  # judged by training samples, then of all
    assert (ensemble, losses) == ("ensemble", {"tried": 10})
    np.testing.assert_allclose([entropies.mean, entropies.error], [2.0, 0.1])


def test_what_they_like_less_does_not():
    with pytest.raises(np.linalg.LinAlgError, match=r"prefer the network: 1\.85 ± 0\.1 nats ag"):
        judged(Bowl(1.0), 1.85)


def test_a_polynomial_is_compared_sample_by_sample():
    """It may be worse by the error of the difference, a spline by that of the mean."""
    rough, worse = CrossEntropies(SPREAD, SPREAD), np.tile([0.0, 0.2], 18)
    polynomial, spline = (kind.__new__(kind) for kind in (Expansion, Smoothing))
    np.testing.assert_allclose(polynomial.tolerated(rough, worse), 0.1 / 6)
    np.testing.assert_allclose(spline.tolerated(rough, worse), 0.1)


def test_what_is_not_convex_does_not():
    with pytest.raises(np.linalg.LinAlgError, match="not convex at 10 of 10 samples"):
        judged(Bowl(-1.0), 1.95)


def test_metric_of_a_potential_is_that_of_its_chart():
    normal = families.normal
    found = jax.jit(metric_of(normal.log_partition, normal.natural))(jnp.array([0.3, 1.2]))
    np.testing.assert_allclose(found, normal.metric(jnp.array([0.3, 1.2])), atol=1e-12)


def test_a_spline_is_judged_in_natural_coordinates():
    """Three parameters, two natural coordinates: in the parameters no metric is definite."""
    t = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (20, 3)))
    spline = Smoothing(jnp.sum, lambda t: t[:2] * t[2], t, np.asarray(t), None, None)
    found = spline.metrics(lambda eta: jnp.sum(jnp.cosh(eta)))
    assert found.shape == (20, 2, 2)
    eta = t[:, :2] * t[:, 2:]
    np.testing.assert_allclose(jnp.diagonal(found, axis1=1, axis2=2), jnp.cosh(eta), rtol=1e-12)
