"""fit_log_partition on families whose metric is known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brief_fits import BRIEF, COVARIANCE, QUICK, SQUARE, gaussian
from flax import nnx

from jaxgeo import RESULTS
from jaxgeo.reconstruction import (
    Dense,
    Identity,
    MeanPotential,
    fit_log_partition,
    interval,
    stages,
)
from jaxgeo.reconstruction import fit as fit_module
from jaxgeo.report import metric_errors
from jaxgeo.systems import families
from jaxgeo.training import _advance


@pytest.fixture(scope="module")
def gaussian_fit():
    x, theta = gaussian(8192, 0)
    return fit_log_partition(
        x, theta, key=jax.random.key(0), domain=SQUARE, summary=Identity(), **QUICK
    )


def test_metric_of_a_gaussian_location_family(gaussian_fit):
    """g = Σ. 8,192 samples fix the scale to 1.1 %; the rest is the potential's."""
    assert bool(gaussian_fit.result == RESULTS.successful)
    nodes = jnp.stack(jnp.meshgrid(*[jnp.linspace(-1.5, 1.5, 7, dtype=jnp.float32)] * 2), -1)
    metric = jax.vmap(gaussian_fit.metric)(nodes.reshape(-1, 2))
    assert metric.dtype == jnp.float32
    assert np.median(metric_errors(np.asarray(metric, np.float64), COVARIANCE)) < 0.3
    assert abs(gaussian_fit.scale - 1) < max(0.1, 4 * gaussian_fit.scale_error)


def test_metric_of_the_normal_family():
    """Its natural coordinates fill a corner of their box: the spline is found all the same."""
    domain = np.array([[-1.0, 1.0], [0.5, 2.0]])
    rng = np.random.default_rng(0)
    t = rng.uniform(*domain.T, (4096, 2))
    x = rng.normal(t[:, :1], t[:, 1:], (4096, 64))
    sums = np.stack([x.sum(axis=1), (x**2).sum(axis=1)], axis=1).astype(np.float32)
    fit = fit_log_partition(
        sums, t.astype(np.float32), key=jax.random.key(0), domain=domain, summary=Identity(),
        natural_coordinates=families.normal.natural, **QUICK,
    )  # fmt: skip
    assert fit.ensemble is not None
    assert fit.refusal is None
    nodes = rng.uniform(*domain.T, (200, 2))
    found = jax.vmap(fit.metric)(jnp.asarray(nodes, jnp.float32))
    exact = 64 * np.asarray(jax.vmap(families.normal.metric)(nodes))
    assert np.median(metric_errors(np.asarray(found, np.float64), exact)) < 0.15


def test_posterior_of_a_gaussian_location_family(gaussian_fit):
    """p(θ|x) = N(Σ⁻¹x, Σ⁻¹), cut to the domain: its mean on a fine grid."""
    x = jnp.asarray(COVARIANCE @ np.array([0.3, -0.4]), jnp.float32)
    axis = jnp.linspace(-2, 2, 61, dtype=jnp.float32)
    nodes = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    probabilities = np.asarray(gaussian_fit.posterior.on_nodes(x, nodes))
    offset = np.asarray(nodes) - np.array([0.3, -0.4])
    exact = np.exp(-0.5 * np.einsum("ni,ij,nj->n", offset, COVARIANCE, offset))
    exact /= exact.sum()
    assert 0.5 * np.abs(probabilities - exact).sum() < 0.1  # total variation
    outside = gaussian_fit.posterior.log_weight(x, jnp.array([3.0, 0.0], jnp.float32))
    assert outside == -jnp.inf


def test_held_out_cross_entropy_is_near_that_of_the_exact_posterior(gaussian_fit):
    from jaxgeo.reconstruction.objectives import posterior_cross_entropy

    x, theta = gaussian(2000, 7)
    candidates = jnp.asarray(np.random.default_rng(8).uniform(-2, 2, (4096, 2)), jnp.float32)
    sigma = jnp.asarray(COVARIANCE, jnp.float32)
    exact = posterior_cross_entropy(
        lambda e: 0.5 * e @ sigma @ e, lambda t: t, jnp.asarray(x), jnp.asarray(theta), candidates
    )
    tolerance = 0.05 + 4 * gaussian_fit.held_out_cross_entropy_error
    assert abs(gaussian_fit.held_out_cross_entropy - float(exact.mean())) < tolerance


def test_intervals_hold_the_metric_of_a_gaussian_location_family(gaussian_fit):
    """Constant metric, quadratic potential: intervals at 49 nodes, of metric and gradient."""
    nodes = jnp.stack(jnp.meshgrid(*[jnp.linspace(-1.5, 1.5, 7, dtype=jnp.float32)] * 2), -1)
    t = nodes.reshape(-1, 2)

    def quantities(psi, metric):
        slopes = jax.vmap(jax.grad(lambda e: psi(e)))(t)
        slopes = slopes - jnp.mean(slopes, axis=0, keepdims=True)
        return jnp.linalg.eigvalsh(jax.vmap(metric)(t)), slopes

    exact = np.tile(np.linalg.eigvalsh(COVARIANCE), (49, 1)), np.asarray(t) @ COVARIANCE
    for k, truth in enumerate(exact):
        # one error of size moves all nodes, so what 90 % of fits hold need not be 90 % of nodes
        wide, half = (
            [np.asarray(a) for a in interval(gaussian_fit, read, level=level)]
            for read in (lambda psi, g, k=k: quantities(psi, g)[k],)
            for level in (0.998, 0.5)
        )
        assert np.mean((wide[0] <= truth) & (truth <= wide[1])) > 0.8
        assert np.median(wide[1] - wide[0]) < np.abs(truth).max()
        # Student's quantiles of 63 degrees of freedom, 3.225 and 0.678
        np.testing.assert_allclose(wide[1] - wide[0], 4.753 * (half[1] - half[0]), rtol=2e-3)


def test_intervals_are_refused(gaussian_fit):
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        interval(gaussian_fit, lambda psi, g: g(jnp.zeros(2)), level=1.5)
    network = eqx.tree_at(
        lambda fit: fit.ensemble, gaussian_fit, None, is_leaf=lambda x: x is None
    )
    with pytest.raises(ValueError, match="no ensemble"):
        interval(network, lambda psi, g: g(jnp.zeros(2)))


def test_a_spline_that_cannot_be_found_is_told(monkeypatch):
    def fails(*_):
        raise np.linalg.LinAlgError("no minimum of the spline")

    monkeypatch.setattr(fit_module, "SMOOTHED", 256)
    monkeypatch.setattr(stages, "smooth", fails)
    x, theta = gaussian(256, 0)
    fit = fit_log_partition(
        x, theta, key=jax.random.key(0), domain=SQUARE, summary=Identity(), throw=False, **BRIEF
    )
    assert fit.ensemble is None
    assert fit.refusal == "no minimum of the spline"
    assert isinstance(fit.log_partition, MeanPotential)
    with pytest.raises(ValueError, match=r"networks \(no minimum of the spline\)"):
        interval(fit, lambda psi, g: g(jnp.zeros(2)))


def test_second_fit_does_not_retrace():
    """In none of the three stages that a network is trained in, for want of samples."""
    sizes = []
    for seed in (0, 1):
        x, theta = gaussian(256, seed)
        fit = fit_log_partition(
            x, theta, key=jax.random.key(seed), domain=SQUARE, summary=Identity(), throw=False,
            **BRIEF,
        )  # fmt: skip
        assert {"moments", "posterior", "dispersion"} <= set(fit.history)
        assert {"moments 1", "dispersion 1"} <= set(fit.history)
        first, second = fit.log_partition.networks.weights[...]
        assert jnp.all(first != second)  # of different beginnings
        sizes.append(_advance._cache_size())
    assert sizes[0] == sizes[1]


def test_streamed_simulator_and_given_natural_coordinates():
    """Poisson(λ): natural coordinate log λ, Fisher information 1/λ of λ."""
    from resumable_fit import poisson_samples

    fit = fit_log_partition(
        poisson_samples,
        key=jax.random.key(3),
        domain=[[1.0, 20.0]],
        natural_coordinates=jnp.log,
        n_samples=4096,
        simulator_batch=1500,
        **QUICK,
    )
    rates = np.linspace(3, 18, 12)
    metric = jax.vmap(fit.metric)(jnp.asarray(rates)[:, None])[:, 0, 0]
    assert np.median(np.abs(np.log(metric * rates))) < 0.12


def test_learned_coordinates():
    """The same without being told that log λ is natural."""
    rng = np.random.default_rng(0)
    rates = rng.uniform(1, 20, (8192, 1)).astype(np.float32)
    fit = fit_log_partition(
        rng.poisson(rates),
        rates,
        key=jax.random.key(0),
        domain=[[1.0, 20.0]],
        natural_coordinates="learned",
        **QUICK,
    )
    at = np.linspace(3, 18, 12, dtype=np.float32)
    metric = jax.vmap(fit.metric)(jnp.asarray(at)[:, None])[:, 0, 0]
    assert np.median(np.abs(np.log(metric * at))) < 0.2


def test_summary_can_be_trained():
    x, theta = gaussian(1024, 3)
    summary = Dense(np.zeros(2), np.ones(2), features=8, rngs=nnx.Rngs(0))
    fit = fit_log_partition(
        x, theta, key=jax.random.key(0), domain=SQUARE, summary=summary, train_summary=True,
        throw=False, **BRIEF,
    )  # fmt: skip
    assert not np.allclose(fit.posterior.statistic.summary.weight[...], summary.weight[...])
    assert fit.history["pairs"].held_out_loss.min() < np.log(2)
