"""Every public differentiable function against differences, through `jit` and `vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import wavy

import jaxgeo as jg
from jaxgeo.problems import sphere_embedding

METRIC = wavy(2)
SOLVER = jg.Shooting(jg.Relaxation(8, n_starts=1))  # enough for such short curves, and cheap
AXIS = jnp.linspace(-1.0, 1.0, 7)
TABULATED = jg.InterpolatedMetric((AXIS, AXIS), jg.on_grid(METRIC, (AXIS, AXIS)))
GAUSSIAN = jg.likelihoods.Gaussian()
TS = jnp.linspace(0, 1, 4)
SCHEDULE = jg.diffusion.VariancePreserving()
POINTS = jnp.array([[0.1, 0.5, 0.4, -0.2], [-0.3, 0.2, 0.25, 0.35]])
DIRECTION = jnp.array([0.6, -0.5, 0.4, 0.7])
STEP = 2e-3

WITHOUT_DERIVATIVES = {
    *("RESULTS", "DistanceMap", "FrechetMean", "GeodesicSolution", "JacobiField", "KMeans"),
    *("CurvedFamilyFit", "LogPartitionFit", "NeuralGeodesic", "NeuralGeodesicFit", "Relaxation"),
    *("FixedPoint", "Shooting", "OffSupportWarning", "KMedoids", "kmedoids"),
    *("TangentPCA", "distance_map", "graph_path", "shortest_path", "conjugate_time", "kmeans"),
    *("fit_curved_family", "fit_log_partition", "fit_neural_geodesics"),
}
"""Containers, settings, and functions that document that they have none."""


def potential(theta):
    return jax.nn.logsumexp(jnp.pad(theta, (0, 1))) + theta[0] ** 2 * theta[1] ** 2 / 9


def swirl(z):
    return jnp.sin(z) * z[::-1]


def curve(x):
    return jnp.stack([x[:2], jnp.array([0.3, 0.1]), x[2:]])


def expectations(x):
    return 0.3 + 0.1 * jnp.tanh(x[:2])


def bvp(x):
    return jg.geodesic_bvp(METRIC, x[:2], x[2:], solver=SOLVER)


def ivp(x):
    return jg.geodesic_ivp(METRIC, x[:2], x[2:], ts=TS)


def scaled(z):
    return jnp.exp(z[0] * z[1])


def gaussian_decoder(z):
    return curve(jnp.concatenate([z, z[::-1]])).ravel(), jnp.sin(jnp.concatenate([z, 2 * z, z]))


def noisy(x):
    means = jnp.stack([x[:1], 1 + x[1:2]])
    return jg.systems.mixture.MixtureDenoiser(
        jg.systems.mixture.GaussianMixture(means, 0.4), SCHEDULE
    )


def time_of(x):
    return x.at[1].set(0.3 + x[1] / 10)


FUNCTIONS = {
    "HessianMetric": lambda x: jg.HessianMetric(potential)(x[:2]),
    "PullbackMetric": lambda x: jg.PullbackMetric(sphere_embedding)(x[:2]),
    "FisherPullbackMetric": lambda x: jg.FisherPullbackMetric(gaussian_decoder, GAUSSIAN)(x[:2]),
    "expected_pullback_metric": lambda x: jg.expected_pullback_metric(gaussian_decoder, GAUSSIAN)(
        x[:2]
    ),
    "KernelMetric": lambda x: jg.KernelMetric(curve(x), temperature=0.8, regularization=0.1)(
        x[:2] + 0.2
    ),
    "GridSpline": lambda x: TABULATED.entries(x[:2] / 4),
    "InterpolatedMetric": lambda x: TABULATED(x[:2] / 4),
    "LocallyAdaptiveMetric": lambda x: jg.LocallyAdaptiveMetric(
        curve(x), bandwidth=0.8, floor=0.1
    )(x[:2] + 0.2),
    "SpacetimeMetric": lambda x: jg.SpacetimeMetric(noisy(x), SCHEDULE)(time_of(x[:2])),
    "spacetime_geodesic": lambda x: jg.spacetime_geodesic(
        noisy(x), SCHEDULE, time_of(x[:2]), time_of(x[2:]), n_points=5, rtol=1e-7
    ).stats["energy"],
    "ReparametrizedMetric": lambda x: jg.ReparametrizedMetric(METRIC, swirl)(x[:2]),
    "RegularizedMetric": lambda x: jg.RegularizedMetric(METRIC, jnp.abs(x[2]))(x[:2]),
    "ConformalMetric": lambda x: jg.ConformalMetric(METRIC, scaled)(x[:2]),
    "SumMetric": lambda x: jg.SumMetric((METRIC, wavy(2, 1)))(x[:2]),
    "ProductMetric": lambda x: jg.ProductMetric((METRIC, wavy(2, 1)), (2, 2))(x),
    "christoffel": lambda x: jg.christoffel(METRIC, x[:2]),
    "christoffel_first": lambda x: jg.christoffel_first(METRIC, x[:2]),
    "alpha_christoffel": lambda x: jg.alpha_christoffel(potential, x[:2], x[3]),
    "covariant_derivative": lambda x: jg.covariant_derivative(METRIC, swirl, x[:2]),
    "geodesic_acceleration": lambda x: jg.geodesic_acceleration(METRIC, x[:2], x[2:]),
    "riemann": lambda x: jg.riemann(METRIC, x[:2]),
    "ricci": lambda x: jg.ricci(METRIC, x[:2]),
    "scalar_curvature": lambda x: jg.scalar_curvature(METRIC, x[:2]),
    "sectional_curvature": lambda x: jg.sectional_curvature(METRIC, x[:2], x[2:], x[:2] + 1),
    "inner": lambda x: jg.inner(METRIC, x[:2], x[2:], x[:2]),
    "norm": lambda x: jg.norm(METRIC, x[:2], x[2:]),
    "volume_density": lambda x: jg.volume_density(METRIC, x[:2]),
    "log_volume_density": lambda x: jg.log_volume_density(METRIC, x[:2]),
    "length": lambda x: jg.length(METRIC, curve(x)),
    "energy": lambda x: jg.energy(METRIC, curve(x)),
    "resample": lambda x: jg.resample(METRIC, curve(x), 4),
    "expectation_parameters": lambda x: jg.expectation_parameters(potential, x[:2]),
    "natural_parameters": lambda x: jg.natural_parameters(potential, expectations(x)),
    "conjugate_potential": lambda x: jg.conjugate_potential(potential, expectations(x)),
    "bregman_divergence": lambda x: jg.bregman_divergence(potential, x[:2], x[2:]),
    "symmetrized_divergence": lambda x: jg.symmetrized_divergence(potential, x[:2], x[2:]),
    "exponential_geodesic": lambda x: jg.exponential_geodesic(x[:2], x[2:], TS),
    "mixture_geodesic": lambda x: jg.mixture_geodesic(potential, x[:2], x[2:], TS),
    "alpha_geodesic": lambda x: jg.alpha_geodesic(potential, x[:2], x[2:], TS, 0.3),
    "on_grid": lambda x: jg.on_grid(METRIC, (x[:2], x[2:])),
    "geodesic_ivp": lambda x: ivp(x).points,
    "exp": lambda x: jg.exp(METRIC, x[:2], x[2:]),
    "geodesic_bvp": lambda x: bvp(x).points,
    "distance": lambda x: jg.distance(METRIC, x[:2], x[2:], solver=SOLVER),
    "log": lambda x: jg.log(METRIC, x[:2], x[2:], solver=SOLVER),
    "parallel_transport": lambda x: jg.parallel_transport(METRIC, ivp(x), x[:2]),
    "jacobi_field": lambda x: jg.jacobi_field(METRIC, ivp(x), x[2:], x[:2]).values,
    "pairwise_distances": lambda x: jg.pairwise_distances(METRIC, curve(x), solver=SOLVER),
    "frechet_mean": lambda x: jg.frechet_mean(METRIC, curve(x), solver=SOLVER).point,
    "tangent_pca": lambda x: (
        jg.tangent_pca(METRIC, curve(x), jnp.array([0.2, 0.15]), solver=SOLVER).variances
    ),
}


def test_no_public_function_is_left_out():
    names = [name for name in dir(jg) if not name.startswith("_")]
    homes = {name: getattr(getattr(jg, name), "__module__", "") for name in names}
    public = {name for name, home in homes.items() if home.startswith("jaxgeo")}
    assert public - WITHOUT_DERIVATIVES == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivative_against_differences(name):
    """Central differences of fourth order: good to 1e-7 even of adaptive solvers."""

    def value(x):
        out = FUNCTIONS[name](x)
        return jnp.sum(out * jnp.cos(jnp.arange(out.size)).reshape(out.shape))

    moves = STEP * jnp.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    around = POINTS[:, None, :] + moves[None, :, None] * DIRECTION[None, None, :]
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(value)))(around.reshape(-1, 4))
    values = np.asarray(values).reshape(2, 5)
    expected = values @ np.array([1, -8, 0, 8, -1]) / (12 * STEP)
    found = np.asarray(slopes).reshape(2, 5, 4)[:, 2] @ np.asarray(DIRECTION)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
