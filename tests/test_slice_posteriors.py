"""Which node a feature came from, and the Fisher metric of that: against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import chisquare, kstest

import jaxgeo as jg
from jaxgeo.slices import (
    FeatureMap,
    FeatureSimulator,
    Slice,
    SliceGrid,
    StochasticSimulator,
    evaluate,
    feature_metric,
    feature_samples,
    log_posterior,
    random_slice,
)

PLANE = random_slice((3, 4), key=jax.random.key(1), dtype=jnp.float64)
FLAT = random_slice((3, 4), key=jax.random.key(1), dtype=jnp.float64, renormalize=False)
SIDES = np.stack([FLAT.z1 - FLAT.z0, FLAT.z2 - FLAT.z0]).reshape(2, 12)
AXES = (np.linspace(-0.2, 1.2, 6), np.linspace(0, 1, 5))
T = jnp.array([0.3, 0.7])


class Linear(eqx.Module):
    weight: jax.Array

    def __call__(self, z):
        return jnp.reshape(self.weight @ jnp.ravel(z), (2, 4))


WEIGHT = jax.random.normal(jax.random.key(2), (8, 12), jnp.float64)


def two_numbers(x):
    return jnp.stack([jnp.sum(x), jnp.sum(jnp.sin(x))])


GRID = evaluate(Linear(WEIGHT), PLANE, AXES, features=two_numbers)


# --- the posterior


def test_posterior_by_its_formula():
    e = GRID.features[3, 2] + np.array([0.4, -0.2])
    exponent = -2.5 / 2 * np.sum((GRID.features - e) ** 2, axis=-1)
    expected = log_softmax(exponent.ravel()).reshape(6, 5)
    found = jax.jit(log_posterior)(GRID.features, e, 2.5)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert np.sum(np.exp(found)) == pytest.approx(1, rel=1e-13)
    many = jax.vmap(lambda e: log_posterior(GRID.features, e, 2.5))(jnp.stack([e, 2 * e]))
    np.testing.assert_allclose(many[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_posterior_of_features_far_from_zero_and_of_any_precision(dtype):
    """‖E‖² − 2⟨E, e⟩ + ‖e‖² would lose all digits; exp(−N d) vanishes at every node."""
    near = np.arange(6, dtype=dtype).reshape(2, 3, 1)
    features = (1000 + near) * np.ones(64, dtype)
    expected = log_softmax(-64 / 2 * (near[..., 0].astype(float) - 2) ** 2, axis=None)
    found = log_posterior(features, features[0, 2], 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    sharp = log_posterior(features, features[0, 2] - dtype(0.5), 1e37)
    np.testing.assert_allclose(np.exp(sharp[0]), [0, 0.5, 0.5], rtol=1e-6)


def test_root_of_the_posterior_tends_to_the_divergence():
    """Theorem 3.1: p(t | x₁ … x_N)^(1/N) → exp(−D), here D = ½‖E(t) − E(t')‖²."""
    features = GRID.features
    divergence = np.sum((features - features[2, 3]) ** 2, axis=-1) / 2
    for n, key in ((10**4, 0), (10**6, 1)):
        noise = jax.random.normal(jax.random.key(key), (n, 2))
        root = log_posterior(features, features[2, 3] + jnp.mean(noise, axis=0), n) / n
        # ⟨mean noise, E(t) − E(t')⟩, and the normaliser, at most log(nodes)/N
        allowed = 4 * np.sqrt(2 * divergence / n) + (8 + np.log(30)) / n
        assert np.all(np.abs(root + divergence) < allowed)
        assert np.all(np.abs(root + divergence)[divergence > 1] > 0)


@pytest.mark.parametrize(
    ("features", "feature", "precision", "message"),
    [
        (np.ones((2, 3, 4)), np.ones(3), 1.0, r"got \(2, 3, 4\) and \(3,\)"),
        (np.ones((2, 3, 4)), np.ones((1, 4)), 1.0, r"got \(2, 3, 4\) and \(1, 4\)"),
        (np.ones((2, 3, 4)), np.ones(4), 0.0, "one positive finite number, got 0.0"),
        (np.ones((2, 3, 4)), np.ones(4), np.inf, "got inf"),
        (np.ones((2, 3, 4)), np.ones(4), np.nan, "got nan"),
        (np.ones((2, 3, 4)), np.ones(4), np.ones(2), "one positive finite number"),
    ],
)
def test_what_has_no_posterior(features, feature, precision, message):
    with pytest.raises(ValueError, match=message):
        log_posterior(features, feature, precision)


# --- draws


def test_samples_of_the_nodes_law():
    n, precision = 20_000, 16.0
    samples, parameters = feature_samples(GRID, n, precision=precision, key=jax.random.key(3))
    i, j = (np.searchsorted(axis, t) for axis, t in zip(AXES, parameters.T, strict=True))
    np.testing.assert_array_equal(parameters, np.stack([AXES[0][i], AXES[1][j]], axis=1))
    assert chisquare(np.bincount(5 * i + j, minlength=30)).pvalue > 1e-3
    noise = (samples - GRID.features[i, j]) * 4
    for column in noise.T:
        assert kstest(column, "norm").pvalue > 1e-3
    again, _ = feature_samples(GRID, n, precision=precision, key=jax.random.key(3))
    np.testing.assert_array_equal(again, samples)


def test_samples_are_those_that_the_posterior_is_of():
    """The node that a draw came from has probability p with frequency p."""
    samples, parameters = feature_samples(GRID, 20_000, precision=0.5, key=jax.random.key(4))
    p = jax.vmap(lambda e: jnp.exp(log_posterior(GRID.features, e, 0.5)))(samples).reshape(-1, 30)
    node = np.argmin(np.abs(GRID.parameters[None] - parameters[:, None]).sum(-1), axis=1)
    came = np.arange(30)[None] == node[:, None]
    for low, high in ((0, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 1)):
        bin_ = np.asarray((p >= low) & (p < high))
        assert bin_.sum() > 1000
        error = np.sqrt(np.mean(np.asarray(p)[bin_]) / bin_.sum())
        assert came[bin_].mean() == pytest.approx(np.mean(np.asarray(p)[bin_]), abs=4 * error)


def test_simulators_draw_their_laws():
    feature_map = FeatureMap(Linear(WEIGHT), PLANE, two_numbers)
    key, rows = jax.random.key(5), 4096
    where = jnp.broadcast_to(T, (rows, 2))
    samples = FeatureSimulator(feature_map, 25.0)(key, where)
    assert samples.shape == (rows, 2)
    for column in np.asarray((samples - feature_map(T)[None]) * 5).T:
        assert kstest(column, "norm").pvalue > 1e-3
    chunked = FeatureSimulator(feature_map, 25.0, chunk_size=1000)(key, where)
    np.testing.assert_allclose(chunked, samples, rtol=1e-12)

    def noisy(z, key):
        return jnp.ravel(z)[:2] + jnp.array([0.5, 2.0]) * jax.random.normal(key, (2,))

    drawn = StochasticSimulator(noisy, PLANE, chunk_size=64)(key, where)
    scaled = (drawn - PLANE(T).ravel()[None, :2]) / jnp.array([[0.5, 2.0]])
    for column in np.asarray(scaled).T:
        assert kstest(column, "norm").pvalue > 1e-3
    squares = StochasticSimulator(noisy, PLANE, lambda x: x[:, None] ** 2)(key, where)
    np.testing.assert_allclose(squares, drawn**2, rtol=1e-12)


def test_updated_simulators_are_not_compiled_again():
    count = 0

    class Counted(eqx.Module):
        scale: jax.Array

        def __call__(self, t):
            nonlocal count
            count += 1
            return self.scale * t

    for scale, precision in ((1.0, 4.0), (2.0, 9.0)):
        simulator = FeatureSimulator(Counted(jnp.array(scale)), precision)
        simulator(jax.random.key(0), jnp.ones((8, 2)))
    assert count == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeatureSimulator(jnp.sin, -1.0), "`precision` must be one positive"),
        (lambda: FeatureSimulator(jnp.sin, 1.0, chunk_size=0), "`chunk_size` must be at least 1"),
        (lambda: StochasticSimulator(jnp.sin, PLANE, chunk_size=0), "`chunk_size` must be at"),
        (lambda: feature_metric(jnp.sin, 0.0), "`precision` must be one positive"),
        (lambda: draw(SliceGrid(AXES, np.ones((6, 5)), None), 3), "`grid` must hold features"),
        (lambda: draw(GRID, 0), "`n` must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_drawn(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def draw(grid, n):
    return feature_samples(grid, n, precision=1.0, key=jax.random.key(0))


# --- the metric


def test_metric_of_a_linear_generator():
    jacobian = np.asarray(WEIGHT) @ SIDES.T
    g = feature_metric(FeatureMap(Linear(WEIGHT), FLAT), 3.0)
    np.testing.assert_allclose(g(T), 3 * jacobian.T @ jacobian, rtol=1e-12)
    assert isinstance(g, jg.PullbackMetric)
    np.testing.assert_allclose(jg.geodesic_acceleration(g, T, T), 0, atol=1e-12)


def test_metric_of_the_shell_itself():
    """A renormalised slice is the central projection of its plane to a sphere of radius √D: of
    curvature 1/D, its geodesics straight lines of the plane."""
    g = feature_metric(FeatureMap(lambda z: z, PLANE), 2.0)
    y = np.asarray(FLAT(T)).ravel()
    inner, along = SIDES @ SIDES.T, SIDES @ y
    expected = 2 * 12 / (y @ y) * (inner - np.outer(along, along) / (y @ y))
    v = jnp.array([0.4, -1.1])
    found, curvature, acceleration = eqx.filter_jit(
        lambda g, t, v: (g(t), jg.scalar_curvature(g, t), jg.geodesic_acceleration(g, t, v))
    )(g, T, v)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert curvature == pytest.approx(2 / (2 * 12), rel=1e-9)
    assert np.linalg.norm(acceleration) > 0.01
    assert acceleration[0] * v[1] == pytest.approx(float(acceleration[1] * v[0]), rel=1e-9)
    a, b = (np.asarray(z).ravel() for z in (PLANE.z0, PLANE.z1))
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    line = jnp.stack([jnp.linspace(0, 1, 2001), jnp.zeros(2001)], axis=1)
    assert eqx.filter_jit(jg.length)(g, line) == pytest.approx(np.sqrt(2 * 12) * angle, rel=1e-6)


def test_metric_is_the_covariance_of_the_score_and_knows_its_acceleration():
    """∂/∂t log N(x; E(t), I/N) = N Jᵀ(x − E), an independent way; and the general acceleration."""
    feature_map = FeatureMap(Linear(WEIGHT), PLANE, two_numbers)
    g, n = feature_metric(feature_map, 4.0), 100_000
    samples = FeatureSimulator(feature_map, 4.0)(jax.random.key(6), jnp.tile(T, (n, 1)))

    def log_density(t, x):
        return -4.0 / 2 * jnp.sum((x - feature_map(t)) ** 2)

    scores = jax.jit(jax.vmap(jax.grad(log_density), in_axes=(None, 0)))(T, samples)
    covariance = np.asarray(scores).T @ np.asarray(scores) / n
    v = jnp.array([0.4, -1.1])
    found, acceleration, general = eqx.filter_jit(
        lambda g: (
            g(T),
            jg.geodesic_acceleration(g, T, v),
            jg.geodesic_acceleration(lambda t: g(t), T, v),
        )
    )(g)
    np.testing.assert_allclose(found, covariance, rtol=5 * np.sqrt(2 / n))
    np.testing.assert_allclose(acceleration, general, rtol=1e-8)


def test_feature_map_of_a_grid_is_the_generator_s():
    plane = Slice(*np.eye(3, 5))
    axes = (np.linspace(0, 1, 129),) * 2
    whole = FeatureMap(lambda z: jnp.sin(z), plane)
    between = evaluate(jnp.sin, plane, axes, features=lambda x: x, progress=False).feature_map()
    t = jnp.array([0.31, 0.72])
    np.testing.assert_allclose(between(t), whole(t), atol=1e-6)
    np.testing.assert_allclose(
        feature_metric(between, 3.0)(t), feature_metric(whole, 3.0)(t), atol=1e-4
    )
    with pytest.raises(ValueError, match="must hold features"):
        SliceGrid(axes, None, None).feature_map()
