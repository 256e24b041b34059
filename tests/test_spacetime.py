"""The spacetime of a diffusion model: closed forms, the Hessian metric, another solver."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import TraceCounter

import jaxgeo as jg
from jaxgeo import RESULTS, HessianMetric, ReparametrizedMetric, SpacetimeMetric
from jaxgeo.diffusion import VariancePreserving
from jaxgeo.geodesics import Relaxation, Shooting
from jaxgeo.systems.mixture import GaussianMixture, MixtureDenoiser

SCHEDULE = VariancePreserving()
MIXTURE = GaussianMixture(
    jnp.array([[-1.0, 0.3], [1.0, -0.2]]),
    jnp.array([[[0.09, 0.02], [0.02, 0.04]], [[0.06, 0.0], [0.0, 0.08]]]),
    jnp.array([0.4, 0.6]),
)
DENOISER = MixtureDenoiser(MIXTURE, SCHEDULE)
METRIC = SpacetimeMetric(DENOISER, SCHEDULE)
LINE = MixtureDenoiser(GaussianMixture(jnp.array([[-1.0], [1.0]]), 0.4, jnp.array([0.4, 0.6])))
A, B = jnp.array([-0.5, 0.2]), jnp.array([0.4, 0.3])


class Normal(eqx.Module):
    """The denoiser of N(m, s²I), which is linear."""

    mean: jax.Array
    variance: float

    def __call__(self, x, t):
        alpha, v = SCHEDULE.alpha(t), self.variance
        pull = alpha * v / (alpha**2 * v + SCHEDULE.sigma(t) ** 2)
        return self.mean + pull * (x - alpha * self.mean)


def normal(d, deviation):
    return Normal(jnp.linspace(-0.5, 0.8, d), deviation**2)


def normal_distance(denoiser, a, b):
    """2√d… of the isotropic normals N(m, s²I): (|dm|² + 2d ds²)/s², a hyperbolic space."""

    def posterior(z):
        ratio2 = SCHEDULE.noise_ratio(z[-1]) ** 2
        v = 1 / (1 / denoiser.variance + 1 / ratio2)
        return denoiser(z[:-1], z[-1]), jnp.sqrt(v)

    (m0, s0), (m1, s1), d = posterior(a), posterior(b), a.size - 1
    apart = jnp.sum((m1 - m0) ** 2) / (2 * d) + (s1 - s0) ** 2
    return jnp.sqrt(2 * d) * 2 * jnp.arcsinh(jnp.sqrt(apart / (4 * s0 * s1)))


def test_metric_is_the_hessian_metric_in_the_coordinates_x_t():
    hessian = ReparametrizedMetric(HessianMetric(MIXTURE.log_partition), METRIC.natural)
    z = jax.random.uniform(jax.random.key(0), (12, 3), minval=-1.5, maxval=1.5)
    z = z.at[:, 2].set(jnp.linspace(0.03, 0.95, 12))
    found, expected = (jax.jit(jax.vmap(m))(z) for m in (METRIC, hessian))
    sizes = jnp.sqrt(jnp.einsum("nii,njj->nij", expected, expected))
    assert jnp.max(jnp.abs(found - expected) / sizes) < 1e-10
    assert jnp.all(jnp.linalg.eigvalsh(found / sizes) > 0)
    np.testing.assert_array_equal(found, found.transpose(0, 2, 1))
    theta = jax.vmap(METRIC.natural)(z)
    mu = jax.vmap(jax.grad(MIXTURE.log_partition))(theta)
    np.testing.assert_allclose(jax.vmap(METRIC.expectation)(z), mu, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 3])
def test_one_normal_component_has_constant_curvature(d):
    """−1/(2d): the hyperbolic space of isotropic normals, (|dm|² + 2d ds²)/s²."""
    metric = SpacetimeMetric(normal(d, 0.7), SCHEDULE)
    u, v = jnp.linspace(0.3, 1, d + 1), jnp.linspace(1, -0.5, d + 1) ** 2 + 0.1

    sectional = jax.jit(lambda z: jg.sectional_curvature(metric, z, u, v))
    for t in (0.1, 0.6):
        found = sectional(jnp.append(jnp.linspace(-0.4, 1, d), t))
        np.testing.assert_allclose(found, -1 / (2 * d), rtol=1e-6)


def test_a_mixture_is_curved_otherwise():
    """Unlike the pullback by an invertible sampler, which is flat (test_diffusion)."""
    # of the same metric in other coordinates, which compiles in a fraction
    hessian, natural = HessianMetric(LINE.mixture.log_partition), METRIC.natural
    scalar = jax.jit(lambda z: jg.scalar_curvature(hessian, natural(z)))
    scalars = [scalar(jnp.array(z)) for z in ([0.05, 0.25], [0.9, 0.25], [-1.0, 0.05])]
    assert abs(scalars[0] + 1) > 0.1
    np.testing.assert_allclose(scalars[2], -1, atol=0.02)  # one component alone


def test_distance_of_normals_and_the_order():
    denoiser = normal(2, 0.8)
    a, b = jnp.array([-0.6, -0.6, 0.1]), jnp.array([0.2, 0.9, 0.25])
    exact = normal_distance(denoiser, a, b)
    solutions = [
        jg.spacetime_geodesic(denoiser, SCHEDULE, a, b, n_points=n + 1, rtol=1e-5)
        for n in (16, 32)
    ]
    errors = np.array([s.stats["length"] - exact for s in solutions])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 2, atol=0.1)
    assert abs(errors[-1]) < 2e-3 * exact
    errors = np.array([(2 * s.stats["energy"]) ** 0.5 - exact for s in solutions])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 2, atol=0.1)


def test_agrees_with_the_solver_of_boundary_values():
    # the same metric by another formula, and in its own coordinates, which compile fast
    hessian, natural = HessianMetric(LINE.mixture.log_partition), METRIC.natural
    solver = Shooting(Relaxation(16, n_starts=1))
    exact = jg.geodesic_bvp(hessian, natural(A), natural(B), solver=solver)

    def back(theta):
        ratio = jnp.sqrt(-1 / (2 * theta[-1]))
        t = SCHEDULE.time(ratio)
        return jnp.append(ratio**2 * SCHEDULE.alpha(t) * theta[:-1], t)

    points, velocities = jax.vmap(lambda *pair: jax.jvp(back, pair[:1], pair[1:]))(
        exact.points, exact.velocities
    )
    found = [
        jg.spacetime_geodesic(LINE, SCHEDULE, A, B, n_points=n + 1, rtol=1e-6) for n in (32, 64)
    ]
    coarse, fine = found
    np.testing.assert_array_equal(fine.points[jnp.array([0, -1])], jnp.stack([A, B]))
    size = exact.stats["length"]
    assert abs(fine.stats["length"] - size) < 1e-3 * size

    def order(errors):
        return np.log2(errors[0] / errors[1])

    gaps = [abs(s.stats["length"] - size) for s in found]
    np.testing.assert_allclose(order(gaps), 2, atol=0.15)
    gaps = [jnp.max(jnp.abs(s.points[::k] - points)) for s, k in ((coarse, 2), (fine, 4))]
    np.testing.assert_allclose(order(gaps), 2, atol=0.3)
    gaps = [jnp.max(jnp.abs(s.velocities[::k] - velocities)) for s, k in ((coarse, 2), (fine, 4))]
    np.testing.assert_allclose(order(gaps), 2, atol=0.5)
    # the figures of the divergences are those of the metric, and the line costs more
    for measure in ("length", "energy"):
        of_metric = [getattr(jg, measure)(hessian, jax.vmap(natural)(s.points)) for s in found]
        gaps = [abs(s.stats[measure] - m) for s, m in zip(found, of_metric, strict=True)]
        np.testing.assert_allclose(order(gaps), 2, atol=0.2)
    line = A[None, :] + fine.ts[:, None] * (B - A)[None, :]
    assert jg.energy(hessian, jax.vmap(natural)(line)) > 1.05 * fine.stats["energy"]


def test_a_tighter_tolerance_changes_little():
    loose, tight = (
        jg.spacetime_geodesic(LINE, SCHEDULE, A, B, n_points=17, rtol=rtol)
        for rtol in (1e-3, 1e-7)
    )
    lost = loose.stats["energy"] / tight.stats["energy"] - 1
    assert 0 <= lost < 30 * 1e-3**2
    again = jg.spacetime_geodesic(LINE, SCHEDULE, A, B, n_points=17, start=tight.points, rtol=1e-6)
    assert again.stats["iterations"] == 1
    np.testing.assert_allclose(again.points, tight.points, atol=1e-12)


def test_failures_by_their_codes():
    def run(denoiser=LINE, a=A, b=B, **options):
        found = jg.spacetime_geodesic(denoiser, SCHEDULE, a, b, n_points=9, throw=False, **options)
        return found.result

    assert run() == RESULTS.successful
    assert run(max_iterations=3) == RESULTS.not_converged
    assert run(Normal(jnp.zeros(1), jnp.nan)) == RESULTS.nonfinite
    # no variance is negative: of such a denoiser neither is the metric positive
    assert run(Normal(jnp.zeros(1), -0.01)) == RESULTS.metric_not_positive_definite
    with pytest.raises(Exception, match="used up its iterations"):
        jg.spacetime_geodesic(LINE, SCHEDULE, A, B, n_points=9, max_iterations=3)
    # t = 1 is no wall: nearly nothing is left of data as small as these
    brief = VariancePreserving(0.1, 0.1)
    wide = MixtureDenoiser(GaussianMixture(jnp.array([[-9.0], [9.0]]), 0.4), brief)
    ends = jnp.array([-2.0, 0.9]), jnp.array([2.0, 0.9])
    found = jg.spacetime_geodesic(wide, brief, *ends, n_points=9, throw=False)
    assert found.result == RESULTS.left_domain
    same = jg.spacetime_geodesic(LINE, SCHEDULE, A, A, n_points=9)
    assert same.stats["length"] == 0


@pytest.mark.parametrize(
    ("a", "options", "message"),
    [
        (jnp.array([0.1, 0.0]), {}, r"`a` must be finite with its time in \(0, 1\], got"),
        (jnp.array([jnp.nan, 0.5]), {}, "`a` must be finite"),
        (jnp.array([0.5]), {}, r"`a` must be \(x, t\) of shape \(d \+ 1,\), d ≥ 1, got \(1,\)"),
        (A[None], {}, r"`a` must have shape \(d,\)"),
        (A, {"n_points": 2}, "`n_points` must be at least 3, got 2"),
        (A, {"start": jnp.ones((4, 2))}, r"`start` must have shape \(33, 2\), got \(4, 2\)"),
    ],
)
def test_refusals(a, options, message):
    with pytest.raises(ValueError, match=message):
        jg.spacetime_geodesic(LINE, SCHEDULE, a, B if a.shape == B.shape else a, **options)


def test_single_precision_traces_and_batches():
    mixture = GaussianMixture(LINE.mixture.means.astype(jnp.float32), 0.4, LINE.mixture.weights)
    counter = TraceCounter(None)

    class Counted(eqx.Module):
        denoiser: MixtureDenoiser

        def __call__(self, x, t):
            counter.count += 1
            return self.denoiser(x, t)

    a, b = A.astype(jnp.float32), B.astype(jnp.float32)
    counts = []
    for scale in (1.0, 1.1):
        own = Counted(
            MixtureDenoiser(eqx.tree_at(lambda m: m.means, mixture, scale * mixture.means))
        )
        found = jg.spacetime_geodesic(own, SCHEDULE, a, scale * b, n_points=9, rtol=scale / 100)
        counts.append(counter.count)
    assert counts[0] == counts[1]
    assert found.points.dtype == found.stats["length"].dtype == jnp.float32
    ends = jnp.stack([B, 1.1 * B])
    many = jax.vmap(lambda b: jg.spacetime_geodesic(LINE, SCHEDULE, A, b, n_points=9).points)(ends)
    for row, b in zip(many, ends, strict=True):
        one = jg.spacetime_geodesic(LINE, SCHEDULE, A, b, n_points=9)
        np.testing.assert_allclose(row, one.points, atol=1e-6)


def test_in_sixty_five_dimensions():
    """Ten random means of digits' size, and the divergence that their mixture knows."""
    means = jnp.asarray(np.random.default_rng(0).normal(size=(10, 64)))
    denoiser = MixtureDenoiser(GaussianMixture(means, 0.3), SCHEDULE)
    a, b = jnp.append(means[0], 0.1), jnp.append(means[1], 0.1)
    found, early = (
        jg.spacetime_geodesic(
            denoiser, SCHEDULE, a, b, divergence=denoiser.divergence, n_points=9, rtol=1e-2,
            max_iterations=most, throw=False,
        )
        for most in (500, 1)
    )  # fmt: skip
    assert found.result == RESULTS.successful
    assert early.result == RESULTS.not_converged
    assert found.stats["energy"] < 0.99 * early.stats["energy"]
    assert jnp.max(found.points[:, -1]) > 0.3
    # the energy is that of the potential, which knows no denoiser
    eta = jax.vmap(SpacetimeMetric(denoiser, SCHEDULE).natural)(found.points)
    psi = denoiser.mixture.log_partition
    mu = jax.jit(jax.vmap(jax.grad(psi)))(eta)
    energy = 8 / 2 * np.sum(np.diff(eta, axis=0) * np.diff(mu, axis=0))
    np.testing.assert_allclose(found.stats["energy"], energy, rtol=1e-8)
