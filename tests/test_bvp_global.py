"""Boundary values that are hard: wide pairs, several geodesics, conjugate points, lost rank."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import AnyOf

from jaxgeo import problems
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import Relaxation, Shooting, geodesic_bvp
from jaxgeo.metrics import HessianMetric, PullbackMetric
from jaxgeo.systems import families

PROMISED = {jnp.float64: 1e-6, jnp.float32: 1e-3}

# Without a closed form: polylines of up to 2,048 segments extrapolated twice, collocation with
# checked status and shooting by DOP853, and for gamma the Clairaut integral, agree to 1e-12.
WIDE = [
    ("gamma", [0.05, 8.0], [50.0, 0.1], 6.0389017278133),
    ("gamma", [50.0, 0.05], [0.05, 50.0], 6.5563549179701),
    ("gamma", [0.05, 0.05], [0.05, 50.0], 1.5070564280076),
    ("gamma", [1.0, 1.0], [2.0, 3.0], 1.3694741637944),
    ("beta", [0.05, 50.0], [50.0, 0.05], 5.1827309772759),
    ("beta", [0.05, 0.05], [50.0, 50.0], 5.7570895235995),
    ("beta", [0.5, 30.0], [40.0, 0.2], 5.6678278916022),
    ("beta", [1.0, 1.0], [2.0, 5.0], 1.2681542253619),
    ("dirichlet", [0.05, 50.0, 1.0], [50.0, 0.05, 1.0], 8.3131661825366),
    ("dirichlet", [0.05, 0.05, 50.0], [50.0, 50.0, 0.05], 8.9386580805467),
]


def family_metric(name):
    if name == "dirichlet":
        return families.dirichlet.metric
    pair = (families.gamma.metric, families.beta.metric)
    return AnyOf(pair, jnp.asarray(("gamma", "beta").index(name)))


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize(("name", "a", "b", "expected"), WIDE)
def test_wide_pairs_there_and_back(name, a, b, expected, dtype):
    a, b, metric = jnp.asarray(a, dtype), jnp.asarray(b, dtype), family_metric(name)
    there, back = geodesic_bvp(metric, a, b), geodesic_bvp(metric, b, a)
    lengths = np.array([there.stats["length"], back.stats["length"]])
    np.testing.assert_allclose(lengths, expected, rtol=PROMISED[dtype])
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=PROMISED[dtype])
    assert there.stats["residual"] < 10 * PROMISED[dtype]
    assert abs(there.stats["excess_energy"]) < PROMISED[dtype] * there.stats["energy"]


FLAT = (
    families.geometric,
    families.exponential,
    families.binomial(10),
    families.poisson,
    families.multinomial(3),
)
FLAT_PAIR = jnp.array([[0.1, 0.3], [0.6, 0.2]])


@pytest.mark.parametrize("index", range(len(FLAT)), ids=[family.name for family in FLAT])
def test_closed_forms_of_families(index):
    metric = AnyOf(tuple(family.metric for family in FLAT), jnp.asarray(index))
    solution = geodesic_bvp(metric, *FLAT_PAIR)
    np.testing.assert_allclose(
        solution.stats["length"], FLAT[index].distance(*FLAT_PAIR), rtol=1e-6
    )


def test_closed_form_of_covariances():
    a, b = jnp.array([2.0, 0.3, 1.0]), jnp.array([0.5, -0.2, 3.0])
    solution = geodesic_bvp(families.centered_normal.metric, a, b)
    expected = families.centered_normal.distance(a, b)
    np.testing.assert_allclose(solution.stats["length"], expected, rtol=1e-6)


def ridge_metric(z):
    """A ridge across the straight line, its top nearer to the upper way round."""
    height = 30 * jnp.exp(-(z[0] ** 2 + (z[1] + 0.15) ** 2) / 0.08)
    return (1 + height) * jnp.eye(2)


def test_the_shorter_way_round_is_returned_and_the_longer_one_on_request():
    a, b = jnp.array([-1.0, 0.0]), jnp.array([1.0, 0.0])
    shortest = geodesic_bvp(ridge_metric, a, b)
    assert shortest.points[32, 1] > 0.2
    assert not shortest.stats["shorter_found"]
    below = jnp.array([[-1.0, 0.0], [0.0, -1.2], [1.0, 0.0]])
    longer = geodesic_bvp(ridge_metric, a, b, start=below)
    assert longer.result == RESULTS.successful
    assert longer.points[32, 1] < -0.4
    assert longer.stats["length"] > 1.05 * shortest.stats["length"]
    assert longer.stats["shorter_found"]


def test_beyond_a_conjugate_point_is_no_minimum():
    # round the sphere the wrong way: a geodesic, but the short way is 2π − 4 long
    a, b = jnp.array([np.pi / 2, 0.0]), jnp.array([np.pi / 2, 4.0])
    solution = geodesic_bvp(problems.sphere_metric, a, b, start=jnp.stack([a, b]), throw=False)
    assert solution.result == RESULTS.conjugate_point
    with pytest.raises(RuntimeError, match="passes a point conjugate"):
        geodesic_bvp(problems.sphere_metric, a, b, start=jnp.stack([a, b]))


def test_an_end_outside_the_domain_that_only_the_compiled_program_sees():
    domain = jnp.array([[-1.0, 1.0], [0.5, 2.0]])

    @jax.jit
    def solve(a, b):
        return geodesic_bvp(problems.half_plane_metric, a, b, domain=domain, throw=False).result

    assert solve(jnp.array([0.0, 1.0]), jnp.array([3.0, 1.0])) == RESULTS.left_domain


def test_far_corners_need_more_segments_and_are_refused_with_few():
    metric = HessianMetric(lambda theta: jax.nn.logsumexp(jnp.pad(theta, (0, 1))))
    a, b = jnp.array([-5.0, 4.0]), jnp.array([6.0, -3.0])
    few = geodesic_bvp(metric, a, b, throw=False)
    assert few.result == RESULTS.not_converged
    more = geodesic_bvp(metric, a, b, solver=Shooting(Relaxation(256)))
    p, q = (jax.nn.softmax(jnp.pad(theta, (0, 1))) for theta in (a, b))
    exact = 2 * jnp.arccos(jnp.sum(jnp.sqrt(p * q)))
    np.testing.assert_allclose(more.stats["length"], exact, rtol=1e-6)


def test_a_pullback_that_loses_rank_is_refused():
    fold = PullbackMetric(lambda z: jnp.stack([z[0], z[0] ** 2, 0 * z[1]]))
    solution = geodesic_bvp(fold, jnp.array([0.0, 0.0]), jnp.array([1.0, 1.0]), throw=False)
    assert solution.result == RESULTS.metric_not_positive_definite


def test_a_start_is_checked():
    a, b = jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0])
    with pytest.raises(
        ValueError, match=r"`start` must have shape \(n, 2\) with n ≥ 2, got \(3,\)"
    ):
        geodesic_bvp(problems.half_plane_metric, a, b, start=jnp.zeros(3))


def test_distances_obey_the_triangle_and_the_chart_does_not_matter():
    chart = jax.jit(lambda z: z + jnp.stack([jnp.sin(z[1]), jnp.sin(z[0])]) / 4)

    def moved(z):
        jacobian = jax.jacfwd(chart)(z)
        return jacobian.T @ problems.half_plane_metric(chart(z)) @ jacobian

    rng = np.random.default_rng(3)
    points = jnp.asarray(np.stack([rng.uniform(-1, 1, 6), rng.uniform(1, 3, 6)], axis=1))
    i, j = np.triu_indices(6, 1)
    lengths = jax.jit(
        jax.vmap(lambda a, b: geodesic_bvp(moved, a, b, throw=False).stats["length"])
    )(points[i], points[j])
    exact = jax.vmap(problems.half_plane_distance)(
        jax.vmap(chart)(points[i]), jax.vmap(chart)(points[j])
    )
    np.testing.assert_allclose(lengths, exact, rtol=1e-8)
    matrix = np.zeros((6, 6))
    matrix[i, j] = matrix[j, i] = lengths
    assert np.all(matrix[:, None, :] <= matrix[:, :, None] + matrix[None, :, :] + 1e-9)
