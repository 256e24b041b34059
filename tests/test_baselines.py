"""The rival methods of the benchmarks, on a family whose Fisher metric is known."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxgeo import report
from jaxgeo.reconstruction import Schedule

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import baselines
from baselines.networks import DILATIONS, LatticeFeatures, pattern_counts

DOMAIN = np.array([[-1.5, 1.5], [-1.0, 2.0]])
SITES = 32
TOLERANCE = 0.7
"""Of ‖log(g^{-1/2} ĝ g^{-1/2})‖: a metric two thirds too large or too small in both directions
would be at 0.72; a few hundred samples and steps leave half of that."""
FIT = tuple(Schedule(steps, rate, 128, every=50) for steps, rate in 3 * [(100, 2e-2)])
SHORT = Schedule(300, 3e-3, 64, every=50)
METHODS = {
    # of 2048 samples the regressor leaves 1152: the two fits so have one shape, and compile once
    "mean_as_statistic": (2048, {"features": 4, "regression": SHORT, "schedules": FIT}),
    "pca_vae": (1152, {"latent": 2, "width": 8, "training": SHORT, "schedules": FIT}),
    "linear_fisher": (2048, {"features": 4, "width": 16, "regression": SHORT, "moments": SHORT}),
    "bregman_network": (
        2048,
        {
            "nodes": 12, "sigma": 0.05, "features": 4, "width": 32, "depth": 2, "scale": 8.0,
            "posterior": SHORT, "potential": SHORT,
        },
    ),
}  # fmt: skip


def same(t):
    return t


def exact_metric(t):
    """Halves of a chain of independent sites with log odds t: each site adds p (1 − p)."""
    p = jax.nn.sigmoid(t)
    return jnp.diag(SITES / 2 * p * (1 - p))


@pytest.fixture(scope="module")
def chains():
    where, how = jax.random.split(jax.random.key(0))
    lower, upper = jnp.asarray(DOMAIN.T, jnp.float32)
    t = jax.random.uniform(where, (2048, 2), jnp.float32, lower, upper)
    p = jnp.repeat(jax.nn.sigmoid(t), SITES // 2, axis=1)
    return np.asarray(jax.random.bernoulli(how, p), np.int8), np.asarray(t)


@pytest.mark.parametrize("name", METHODS)
def test_metric_of_independent_sites(name, chains):
    n, settings = METHODS[name]
    samples, t = (column[:n] for column in chains)
    found = getattr(baselines, name)(
        samples, t, key=jax.random.key(1), domain=DOMAIN, chart=same, **settings
    )
    inner = np.stack(np.meshgrid(*(np.linspace(a + 0.4, b - 0.4, 5) for a, b in DOMAIN)), -1)
    points = jnp.asarray(inner.reshape(-1, 2), jnp.float32)
    metric = np.asarray(jax.vmap(found.metric)(points), np.float64)
    errors = report.metric_errors(metric, np.asarray(jax.vmap(exact_metric)(points), np.float64))
    assert np.median(errors) < TOLERANCE
    assert found.settings


def test_pattern_frequencies_are_the_mean_of_a_convolution():
    spins = 2 * jax.random.bernoulli(jax.random.key(0), 0.3, (3, 12, 20)).astype(jnp.int8) - 1
    network = LatticeFeatures(width=5, rngs=nnx.Rngs(0))
    counts = jnp.asarray(pattern_counts(np.asarray(spins)))
    found = network(counts[:, None]).reshape(3, len(DILATIONS), 5)
    for b, step in enumerate(DILATIONS):
        first, second = network.layers[b]
        kernel = first.kernel[...].reshape(3, 3, 1, 10)
        x = jnp.pad(spins[..., None], ((0, 0), (step, step), (step, step), (0, 0)), mode="wrap")
        h = jax.lax.conv_general_dilated(
            x.astype(jnp.float32), kernel, (1, 1), "VALID", rhs_dilation=(step, step),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        h = jax.nn.relu(h + first.bias[...].reshape(1, 1, 1, -1))
        direct = jnp.mean(jax.nn.relu(second(h)), axis=(1, 2))
        np.testing.assert_allclose(found[:, b], direct, rtol=1e-5, atol=1e-6)


def test_samples_that_no_method_can_read_are_refused():
    lattice = np.arange(27).reshape(3, 3, 3)
    with pytest.raises(ValueError, match="two values"):
        baselines.linear_fisher(
            lattice, np.zeros((3, 2)), key=jax.random.key(0), domain=DOMAIN, chart=same
        )
