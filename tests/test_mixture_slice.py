"""Phase boundaries of slices whose separatrix is known: exact mixtures, by each route apart.

With isotropic components of one deviation on one axis the exact flow is monotone transport along
it, x = F₀⁻¹(F₁(z)): the label changes where z is the quantile of the place of equal shares. With
equal weights that is the mirror of the components, to which a sampler of any steps keeps.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, stats

import jaxgeo as jg
from jaxgeo.diffusion import DDIM, Heun, ProbabilityFlow, VariancePreserving
from jaxgeo.phases import boundaries, boundary_point, growth_exponent, lipschitz_constant, ridges
from jaxgeo.slices import FeatureMap, Slice, feature_metric
from jaxgeo.systems.mixture import GaussianMixture, MixtureDenoiser, saddle_exponent

DEVIATION = 0.4
LAST = 1e-3
"""The time at which samplers end: what they decode has the law of data with that much noise."""
SCHEDULE = VariancePreserving()
WIDTH, CELLS = 3.0, 60
AXES = jnp.linspace(-1.5, 1.5, CELLS + 1), jnp.linspace(-1.5, 1.5, CELLS + 2)
MUST_HOLD = 0.01 * WIDTH
BISECTED = 1e-6 * WIDTH / CELLS * 2  # what `boundaries` leaves of an edge, rounded up
ROUNDED = 1e-12


def unit(*entries):
    v = jnp.array(entries)
    return v / jnp.linalg.norm(v)


def flat(*corners):
    return Slice(*map(jnp.array, corners), renormalize=False)


WHOLE, SKEW = (
    flat([0.0, 0.0], [1.0, 0.0], [0.0, 1.0]),
    flat([0.1, -0.2], [1.1, 0.1], [-0.1, 0.8]),
)
SHELL = Slice(*jax.random.normal(jax.random.key(10), (3, 6)))
ON_PLANE, ON_SHELL = unit(0.6, -0.8), unit(1.0, -2.0, 0.5, 1.0, 0.3, -0.7)
EQUAL, UNEQUAL = (0.5, 0.5), (0.3, 0.7)
CASES = {
    "plane, equal": (SKEW, ON_PLANE, EQUAL),
    "plane, unequal": (SKEW, ON_PLANE, UNEQUAL),
    "shell, equal": (SHELL, ON_SHELL, EQUAL),
    "shell, unequal": (SHELL, ON_SHELL, UNEQUAL),
}


class Phase(eqx.Module):
    """The component that a point of a slice is decoded to."""

    decoded: FeatureMap
    mixture: GaussianMixture

    def __call__(self, t):
        return self.mixture.component(self.decoded(t))


def pair(axis, weights, deviation=DEVIATION):
    return GaussianMixture(jnp.stack([-axis, axis]), deviation, jnp.array(weights))


def heun(mixture, steps=64):
    return Heun(MixtureDenoiser(mixture, SCHEDULE), SCHEDULE, SCHEDULE.times(steps, last=LAST))


def decoded_phase(case):
    plane, axis, weights = CASES[case]
    mixture = pair(axis, weights)
    return Phase(FeatureMap(heun(mixture), plane), mixture)


def along_axis(of, x, t, weights, deviation=DEVIATION):
    """The density or distribution function of x_t along the axis of components at ±1."""
    alpha, sigma = float(SCHEDULE.alpha(t)), float(SCHEDULE.sigma(t))
    spread = np.hypot(alpha * deviation, sigma)
    return sum(w * of(x, m * alpha, spread) for w, m in zip(weights, (-1, 1), strict=True))


def transported(x, start, end, weights, deviation=DEVIATION):
    """Where the flow carries x on the axis, from one time to another."""
    cdf, laws = stats.norm.cdf, (weights, deviation)
    share = along_axis(cdf, x, start, *laws)
    return optimize.brentq(lambda z: along_axis(cdf, z, end, *laws) - share, -9, 9, xtol=1e-15)


def separatrix(weights):
    """z* on the axis: what becomes the place at which both responsibilities are a half."""
    return transported(np.log(weights[0] / weights[1]) * DEVIATION**2 / 2, LAST, 1.0, weights)


def distance(case, points):
    """The largest, to first order, of points of a slice from its separatrix ⟨z(t), m⟩ = z*."""
    plane, axis, weights = CASES[case]
    coordinate = jax.value_and_grad(lambda t: jnp.vdot(plane(t), axis))
    along, slopes = jax.vmap(coordinate)(jnp.asarray(points))
    return np.max(np.abs(along - separatrix(weights)) / np.linalg.norm(slopes, axis=1))


def from_edge_to_edge(points, within=1e-9):
    return np.all(np.max(np.abs(points[[0, -1]]), axis=1) > WIDTH / 2 - within)


@pytest.mark.parametrize("case", CASES)
def test_by_label(case):
    [found] = boundaries(AXES, decoded_phase(case))
    assert from_edge_to_edge(found.points)
    # Heun's error alone, where the sampler keeps to no mirror
    allowed = BISECTED if CASES[case][2] == EQUAL else MUST_HOLD / 10
    assert distance(case, found.points) < allowed


@pytest.mark.parametrize("case", CASES)
def test_by_bisection(case):
    ends = jnp.array([[-1.3, 1.1], [1.4, -0.9]])
    found = boundary_point(decoded_phase(case), *ends)
    allowed = ROUNDED if CASES[case][2] == EQUAL else MUST_HOLD / 10
    assert distance(case, jnp.stack([found.before, found.after])) < allowed


@pytest.mark.parametrize("case", CASES)
def test_by_ridges_of_the_volume(case):
    metric = feature_metric(decoded_phase(case).decoded)
    [found] = ridges(AXES, jg.on_grid(lambda t: jg.log_volume_density(metric, t), AXES))
    assert from_edge_to_edge(found.points, within=WIDTH / CELLS)
    assert distance(case, found.points) < MUST_HOLD


def test_three_components_meet_in_rays():
    turns = np.deg2rad([20.0, 140.0, 260.0])
    mixture = GaussianMixture(jnp.stack([jnp.cos(turns), jnp.sin(turns)], axis=1), DEVIATION)
    decoded = FeatureMap(heun(mixture, 24), WHOLE)
    between = {(0, 1): 80.0, (1, 2): 200.0, (0, 2): 320.0}
    rays = {labels: np.exp(1j * np.deg2rad(angle)) for labels, angle in between.items()}

    def check(points, ray, allowed, reach):
        turned = (points @ np.array([1, 1j])) / ray
        assert np.abs(turned.imag).max() < allowed
        assert 0 < turned.real.min() < 1.5 * WIDTH / CELLS
        assert np.abs(points).max() > WIDTH / 2 - reach

    found = {line.labels: line.points for line in boundaries(AXES, Phase(decoded, mixture))}
    assert found.keys() == rays.keys()
    for labels, ray in rays.items():
        check(found[labels], ray, BISECTED, 1e-9)
    metric = feature_metric(decoded)
    field = jg.on_grid(lambda t: jg.log_volume_density(metric, t), AXES)
    points = np.concatenate([ridge.points for ridge in ridges(AXES, field)])
    turned = points @ np.array([[1], [1j]]) / np.array(list(rays.values()))
    nearest = np.argmax(turned.real, axis=1)
    for k, ray in enumerate(rays.values()):
        check(points[nearest == k], ray, MUST_HOLD, WIDTH / CELLS)


@pytest.mark.parametrize(("sampler", "order"), [(DDIM, 1), (Heun, 2)])
def test_an_asymmetric_boundary_converges_with_the_order_of_the_sampler(sampler, order):
    mixture = pair(jnp.ones(1), UNEQUAL)
    errors = []
    for steps in (32, 64, 128):
        times = SCHEDULE.times(steps, last=LAST)
        generator = sampler(MixtureDenoiser(mixture, SCHEDULE), SCHEDULE, times)
        label = Phase(FeatureMap(generator, jnp.asarray), mixture)
        found = boundary_point(label, jnp.full(1, -2.0), jnp.full(1, 2.0))
        errors.append(abs(found.before.item() - separatrix(UNEQUAL)))
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), order, atol=0.1)


def test_the_stretch_at_the_boundary_is_sharp_and_does_not_diverge():
    axis, deviation = ON_PLANE, 0.25
    denoiser = MixtureDenoiser(pair(axis, EQUAL, deviation), SCHEDULE)
    flow = ProbabilityFlow(denoiser, SCHEDULE, end=LAST, rtol=1e-9, atol=1e-9, max_steps=256)
    on = jnp.array([0.4, 0.3])
    top = lipschitz_constant(flow, on)
    grown, _ = integrate.quad(
        lambda t: saddle_exponent(deviation, t, SCHEDULE).item(), LAST, 1.0, epsabs=1e-10
    )
    np.testing.assert_allclose(top.value, np.exp(grown), rtol=1e-4)
    assert abs(top.direction @ axis) > 1 - 1e-9

    def exact(r):
        law = EQUAL, deviation
        ends = along_axis(stats.norm.pdf, transported(r, 1.0, LAST, *law), LAST, *law)
        return along_axis(stats.norm.pdf, r, 1.0, *law) / ends

    near, far = (
        growth_exponent(flow, on, axis, jnp.logspace(*decades, 5))
        for decades in ((-9, -6), (-2.5, -0.5))
    )
    for found in (near, far):
        expected = [exact(r) for r in found.distances.tolist()]
        np.testing.assert_allclose(found.constants, expected, rtol=1e-4)
    assert abs(near.exponent) < 1e-5  # below the width 1/L over which the jump is smooth
    assert far.exponent > 0.8
    assert far.constants[-1] < top.value / 100


def test_geodesics_of_the_interpolated_metric_cross_the_boundary():
    # the whole plane becomes the whole plane, so that geodesics become straight lines
    plane, axis, weights = CASES["plane, equal"]
    decoded = FeatureMap(heun(pair(axis, weights), 24), plane)
    axes = jnp.linspace(-0.6, 0.6, 81), jnp.linspace(-0.4, 0.8, 81)
    metric = jg.InterpolatedMetric(axes, jg.on_grid(feature_metric(decoded), axes))
    ends = jnp.array([[-0.3, 0.7], [0.3, -0.2]])
    first, last = jax.vmap(decoded)(ends)
    assert jnp.vdot(first, axis) < -0.5 < 0.5 < jnp.vdot(last, axis)
    found = jg.geodesic_bvp(metric, *ends, solver=jg.Relaxation(128, n_starts=1))
    np.testing.assert_allclose(found.stats["length"], jnp.linalg.norm(last - first), rtol=1e-3)
