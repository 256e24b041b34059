"""The kernel metric: an independent float64 sum, the golden values of its peers, its support."""

import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import TraceCounter

import jaxgeo as jg
from jaxgeo.metrics import kernel as kernel_module

POINTS = np.array([[0.0, 0.0], [0.3, 0.4], [-1.1, 0.7], [2.5, -0.4], [0.8, 0.8]])


def problem(seed=0, n=7, d=2):
    rng = np.random.default_rng(seed)
    centroids = rng.normal(size=(n, d))
    factors = np.tril(0.3 * rng.normal(size=(n, d, d)), -1) + np.eye(d) * np.exp(
        0.3 * rng.normal(size=(n, d, 1))
    )
    return centroids, factors


def by_hand(z, centroids, factors, temperature, floor, normalize, kernel):
    """G⁻¹ by nested loops over Python floats."""
    n, d = centroids.shape
    total = [[0.0] * d for _ in range(d)]
    for c, l_ in zip(centroids.tolist(), factors.tolist(), strict=True):
        square = math.fsum((a - b) ** 2 for a, b in zip(z.tolist(), c, strict=True))
        k = math.exp(-square / temperature**2)
        if kernel == "cauchy":
            k = 1 / (1 + square / temperature**2)
        for i in range(d):
            for j in range(d):
                total[i][j] += k * math.fsum(l_[i][m] * l_[j][m] for m in range(d))
    share = 1 / n if normalize == "mean" else 1.0
    return np.array(total) * share + floor * np.eye(d)


@pytest.mark.parametrize("normalize", ["sum", "mean"])
@pytest.mark.parametrize("kernel", ["gaussian", "cauchy"])
@pytest.mark.parametrize("d", [2, 6])  # written out, and by LAPACK
def test_values_determinant_and_inverse_are_those_of_an_independent_sum(normalize, kernel, d):
    centroids, factors = problem(d=d)
    points = np.random.default_rng(1).normal(size=(5, d))
    metric = jg.KernelMetric(
        centroids, factors, temperature=0.6, regularization=0.01, normalize=normalize,
        kernel=kernel,
    )  # fmt: skip

    @jax.jit
    def values(z):
        return metric.cometric(z), metric(z), jg.log_volume_density(metric, z), metric.coverage(z)

    inverse, g, volume, covered = jax.vmap(values)(points)
    for k, z in enumerate(points):
        expected = by_hand(z, centroids, factors, 0.6, 0.01, normalize, kernel)
        np.testing.assert_allclose(inverse[k], expected, rtol=1e-10)
        np.testing.assert_allclose(g[k], np.linalg.inv(expected), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(volume[k], -np.linalg.slogdet(expected)[1] / 2, rtol=1e-10)
        np.testing.assert_allclose(covered[k], 1 - 0.01 * d / np.trace(expected), rtol=1e-10)


def test_the_golden_values_and_properties_of_its_peers():
    """AutoEncoderToolkit.jl's untrained model: c = 0, M = I; and what its tests ask for."""
    still = functools.partial(jg.KernelMetric, jnp.zeros((5, 2)), temperature=0.5)
    mean = still(regularization=0.1, normalize="mean")
    np.testing.assert_allclose(mean.cometric(jnp.zeros(2)), 1.1 * np.eye(2), rtol=1e-14)
    np.testing.assert_allclose(
        mean.cometric(jnp.array([0.3, 0.4])), 0.4678794411714423 * np.eye(2), rtol=1e-14
    )
    total = still(regularization=0.1, normalize="sum")
    np.testing.assert_allclose(total.cometric(jnp.zeros(2)), 5.1 * np.eye(2), rtol=1e-14)
    centroids, factors = problem()
    metric = jg.KernelMetric(centroids, factors, temperature=0.5, regularization=0.1)
    inverse, g = jax.vmap(metric.cometric)(POINTS), jax.vmap(metric)(POINTS)
    np.testing.assert_array_equal(inverse, np.swapaxes(inverse, 1, 2))
    np.testing.assert_array_equal(g, np.swapaxes(g, 1, 2))
    assert np.all(np.diagonal(inverse, axis1=1, axis2=2) >= 0.1)
    assert np.all(np.diagonal(g, axis1=1, axis2=2) <= 10)
    for k, z in enumerate(POINTS):
        np.testing.assert_allclose(metric(jnp.asarray(z)), g[k], rtol=1e-14)
    single = jg.KernelMetric(centroids[:1], factors[:1], temperature=0.5, regularization=0.1)
    assert np.all(np.isfinite(single(jnp.zeros(2))))
    identities = jg.KernelMetric(
        centroids, np.tile(np.eye(2), (7, 1, 1)), temperature=0.5, regularization=0.1
    )
    plain = jg.KernelMetric(centroids, temperature=0.5, regularization=0.1)
    z = jnp.array([0.3, 0.4])
    np.testing.assert_allclose(identities(z), plain(z), rtol=1e-14)


def test_acceleration_through_the_inverse_agrees_with_the_metric_s():
    metric = jg.KernelMetric(*problem(), temperature=0.6, regularization=0.01)
    v = jnp.array([0.7, -0.3])

    @jax.jit
    @jax.vmap
    def both(z):
        generic = jg.geodesic_acceleration(lambda y: metric(y), z, v)
        return jg.geodesic_acceleration(metric, z, v), generic

    np.testing.assert_allclose(*both(POINTS), rtol=1e-9, atol=1e-9)


def test_derivatives_in_its_parameters_float32_and_one_trace():
    centroids, factors = problem()

    def volume(centroids, factors, temperature):
        metric = jg.KernelMetric(centroids, factors, temperature=temperature, regularization=0.1)
        return jg.log_volume_density(metric, jnp.asarray(POINTS[1], metric.centroids.dtype))

    slopes = jax.grad(volume, argnums=(0, 1, 2))(centroids, factors, 0.5)
    rng, h = np.random.default_rng(2), 1e-6
    along = [rng.normal(size=np.shape(s)) for s in slopes]
    ends = [
        volume(*(x + sign * h * u for x, u in zip((centroids, factors, 0.5), along, strict=True)))
        for sign in (1, -1)
    ]
    moved = sum(np.sum(s * u) for s, u in zip(slopes, along, strict=True))
    np.testing.assert_allclose(moved, (ends[0] - ends[1]) / (2 * h), rtol=1e-7)
    single = jg.KernelMetric(
        centroids.astype(np.float32), factors, temperature=0.5, regularization=0.1
    )
    assert single(jnp.zeros(2, jnp.float32)).dtype == jnp.float32
    counter = TraceCounter(lambda metric: metric(jnp.zeros(2)))
    again = jax.jit(counter)
    for temperature in (0.5, 0.7):
        again(jg.KernelMetric(centroids, factors, temperature=temperature, regularization=0.1))
    assert counter.count == 1


def test_memory_of_a_batch_has_no_array_of_d_d_n_n():
    n, points, d = 512, 4096, 8
    metric = jg.KernelMetric(
        np.zeros((n, d)), np.tile(np.eye(d), (n, 1, 1)), temperature=0.5, regularization=0.1
    )
    compiled = jax.jit(jax.vmap(metric)).lower(jnp.zeros((points, d))).compile()
    numbers = compiled.memory_analysis().temp_size_in_bytes / 8
    assert numbers < 8 * (points * d * d + n * points)


def test_off_the_support_it_warns():
    metric = jg.KernelMetric(np.zeros((3, 2)), temperature=0.4, regularization=0.01)
    near, far = jnp.zeros(2), jnp.array([2.0, 0.0])
    assert metric.coverage(near) > 0.99
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel_module.warn_off_support(metric, near)
        kernel_module.warn_off_support(lambda z: jnp.eye(2), far)
        jax.jit(lambda z: kernel_module.warn_off_support(metric, z))(far)
    with pytest.warns(jg.OffSupportWarning, match=r"reaches the point \[2\. 0\.\]"):
        kernel_module.warn_off_support(metric, near, far)
    heavy = jg.KernelMetric(
        np.zeros((3, 2)), temperature=0.4, regularization=0.01, kernel="cauchy"
    )
    assert heavy.coverage(far) > 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centroids": np.zeros(3)}, r"`centroids` must have shape \(N, d\), got \(3,\)"),
        ({"centroids": np.zeros((3, 2), int)}, "`centroids` must hold floats, got dtype int"),
        ({"factors": np.zeros((2, 2, 2))}, r"`factors` must have shape \(3, 2, 2\), got"),
        ({"temperature": 0.0}, r"`temperature` must be positive, got 0\.0"),
        ({"temperature": np.nan}, "`temperature` must be positive, got nan"),
        ({"regularization": -1.0}, r"`regularization` must be positive, got -1\.0"),
        ({"regularization": np.ones(2)}, r"`regularization` must be one number, got shape \(2,\)"),
        ({"normalize": "max"}, "normalize"),
        ({"kernel": "box"}, "kernel"),
    ],
)
def test_bad_settings_are_refused(change, message):
    settings = {"centroids": np.zeros((3, 2)), "temperature": 1.0, "regularization": 0.1}
    with pytest.raises(Exception, match=message):  # types are checked in tests
        jg.KernelMetric(**(settings | change))


def test_a_locally_adaptive_metric_is_the_inverse_of_local_variances():
    data = np.random.default_rng(0).normal(size=(40, 3))
    metric = jg.LocallyAdaptiveMetric(data, bandwidth=0.7, floor=0.01)
    x = np.array([0.2, -0.1, 0.5])
    expected = []
    for k in range(3):
        terms = [math.exp(-np.sum((y - x) ** 2) / 0.98) * (y[k] - x[k]) ** 2 for y in data]
        expected.append(1 / (math.fsum(terms) + 0.01))
    np.testing.assert_allclose(metric(jnp.asarray(x)), np.diag(expected), rtol=1e-12)
    np.testing.assert_allclose(metric(jnp.full(3, 50.0)), 100 * np.eye(3), rtol=1e-12)
    with pytest.raises(ValueError, match=r"`data` must have shape \(N, m\), got \(3,\)"):
        jg.LocallyAdaptiveMetric(x, bandwidth=0.7, floor=0.01)
    with pytest.raises(ValueError, match=r"`bandwidth` must be positive, got 0\.0"):
        jg.LocallyAdaptiveMetric(data, bandwidth=0.0, floor=0.01)
