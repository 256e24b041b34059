"""The oracle table against itself: an oracle that is wrong would make every other test lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CASES, name

from jaxgeo import problems
from jaxgeo.problems import PROBLEMS

EXACT = 1e-12
NEIGHBOUR = 1e-4  # step at which a distance shows the metric, to relative order of the step


@pytest.mark.parametrize(("problem", "pair"), CASES, ids=name)
def test_distance_is_symmetric_and_pairs_are_in_the_domain(problem, pair):
    a, b = jnp.asarray(pair)
    there, back = problem.distance(a, b), problem.distance(b, a)
    assert there > 0
    np.testing.assert_allclose(there, back, rtol=EXACT)
    assert np.all((problem.domain[:, 0] <= pair) & (pair <= problem.domain[:, 1]))


@pytest.mark.parametrize("problem", PROBLEMS, ids=name)
def test_distance_of_neighbours_is_the_norm_of_the_metric(problem):
    a, b = jnp.asarray(problem.pairs[0])
    step = NEIGHBOUR * (b - a)
    expected = jnp.sqrt(step @ problem.metric(a) @ step)
    np.testing.assert_allclose(problem.distance(a, a + step), expected, rtol=2 * NEIGHBOUR)


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.exp is not None], ids=name)
def test_exp_goes_as_far_as_the_velocity_is_long(problem):
    a, b = jnp.asarray(problem.pairs[0])
    v = 0.3 * (b - a)
    expected = jnp.sqrt(v @ problem.metric(a) @ v)
    np.testing.assert_allclose(problem.distance(a, problem.exp(a, v)), expected, rtol=EXACT)


@pytest.mark.parametrize(
    ("distance", "a", "b", "expected"),
    [
        (problems.normal_distance, [0.0, 1.0], [1.0, 2.0], 1.189381),
        (problems.ball_distance, [0.5, 0.5], [0.5, -0.5], 2.887271),
        (problems.half_plane_distance, [0.0, 1.0], [0.0, np.e], 1.0),
        (problems.sphere_distance, [0.0, 0.0], [np.pi / 2, 1.0], np.pi / 2),
        (problems.poisson_distance, [1.0], [4.0], 2.0),
    ],
)
def test_published_distances(distance, a, b, expected):
    np.testing.assert_allclose(distance(jnp.array(a), jnp.array(b)), expected, atol=1e-6)


def test_log_sum_exp_makes_the_categorical_metric_and_stays_finite():
    theta = jnp.array([0.3, -1.0, 2.0])
    probabilities = problems.categorical_probabilities(theta)
    slope = jax.grad(problems.log_sum_exp)(theta)
    np.testing.assert_allclose(slope, probabilities[:-1], rtol=EXACT)
    hessian = jax.hessian(problems.log_sum_exp)(theta)
    np.testing.assert_allclose(hessian, problems.categorical_metric(theta), atol=EXACT)
    assert problems.log_sum_exp(jnp.array([1000.0, -1000.0])) == 1000
