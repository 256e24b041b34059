"""What may take the place of a network, and what is said when it may not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgeo.reconstruction.stages import Replacement, identity, metric_of
from jaxgeo.systems import families


class Bowl(Replacement):
    """½ curvature |η|², whatever the samples."""

    benefit = 1.0

    def __init__(self, curvature):
        t = jnp.asarray(np.random.default_rng(0).normal(size=(10, 2)))
        super().__init__(lambda eta: jnp.sum(eta**2), identity, t, np.asarray(t))
        self.curvature, self.seen = curvature, []

    def choose(self, values, training, held_out):
        return 3.0, {"tried": len(values)}

    def fit(self, readout, choice, rows):
        self.seen.append((choice, len(rows)))
        return (lambda eta: 0.5 * self.curvature * jnp.sum(eta**2)), readout, "ensemble"


def judged(bowl, network_entropy):
    def cross_entropies(potential, readout):
        return (network_entropy if potential is bowl.network else 2.0), 0.1, 1.9

    return bowl.judged(np.eye(2), np.arange(8), np.arange(8, 10), cross_entropies)


def test_what_held_out_samples_like_as_well_takes_the_place():
    bowl = Bowl(1.0)
    _, _, ensemble, entropies, losses = judged(bowl, 1.95)
    assert bowl.seen == [(3.0, 8), (3.0, 10)]  # judged by training samples, then of all
    assert (ensemble, entropies, losses) == ("ensemble", (2.0, 0.1, 1.9), {"tried": 10})


def test_what_they_like_less_does_not():
    with pytest.raises(np.linalg.LinAlgError, match=r"prefer the network: 1\.85 ± 0\.1 nats ag"):
        judged(Bowl(1.0), 1.85)


def test_what_is_not_convex_does_not():
    with pytest.raises(np.linalg.LinAlgError, match="not convex at 10 of 10 samples"):
        judged(Bowl(-1.0), 1.95)


def test_metric_of_a_potential_is_that_of_its_chart():
    normal = families.normal
    found = jax.jit(metric_of(normal.log_partition, normal.natural))(jnp.array([0.3, 1.2]))
    np.testing.assert_allclose(found, normal.metric(jnp.array([0.3, 1.2])), atol=1e-12)
