"""The generalised leapfrog: reversible, of unit Jacobian, of order 2, and of the full gradient."""

import blackjax.mcmc.integrators
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgeo as jg
from jaxgeo.models import hamiltonian, inverse_temperatures, kinetic_energy, leapfrog, momentum

Z, P = jnp.array([0.3, -0.2]), jnp.array([0.8, 1.1])
RNG = np.random.default_rng(0)
WEIGHTS = jnp.asarray(RNG.normal(size=(2, 3)))
FACTORS = np.tril(0.3 * RNG.normal(size=(6, 2, 2)), -1) + np.eye(2)
METRIC = jg.KernelMetric(RNG.normal(size=(6, 2)), FACTORS, temperature=0.7, regularization=0.1)


def potential_energy(z):
    return jnp.sum(jnp.tanh(z @ WEIGHTS) ** 2) + jnp.sum(z**2) / 2


def plain(z):
    """The same metric, of no known kind."""
    return METRIC(z)


def step_of(metric):
    @jax.jit
    def run(x, step_size, scales):
        flow = leapfrog(
            potential_energy, metric, *jnp.split(x, 2), step_size=step_size, n_steps=8,
            scales=scales,
        )  # fmt: skip
        return jnp.concatenate(flow[:2]), flow.fixed_point_error

    return run


RUN = step_of(METRIC)
ONES = jnp.ones(8)
X = jnp.concatenate([Z, P])


def energy(x):
    return hamiltonian(potential_energy, METRIC, *jnp.split(x, 2))


def test_the_flow_is_reversible_keeps_volume_and_its_jacobian_is_differentiable():
    y, error = RUN(X, 0.1, ONES)
    assert error < 1e-13
    assert np.linalg.norm(y - X) > 0.5
    back, _ = RUN(y * jnp.array([1, 1, -1, -1]), 0.1, ONES)
    np.testing.assert_allclose(back * jnp.array([1, 1, -1, -1]), X, atol=1e-8)
    jacobian = jax.jacrev(lambda x: RUN(x, 0.1, ONES)[0])(X)
    assert abs(np.linalg.det(jacobian) - 1) < 1e-6
    h = 1e-5
    for k, e in enumerate(np.eye(4)):
        difference = (RUN(X + h * e, 0.1, ONES)[0] - RUN(X - h * e, 0.1, ONES)[0]) / (2 * h)
        np.testing.assert_allclose(jacobian[:, k], difference, atol=1e-8)
    scaled = jax.jacrev(lambda x: RUN(x, 0.1, ONES.at[2].set(0.5).at[5].set(0.8))[0])(X)
    np.testing.assert_allclose(np.linalg.det(scaled), 0.4**2, rtol=1e-8)


def test_energy_is_kept_to_second_order():
    errors = [abs(energy(RUN(X, eps, ONES)[0]) - energy(X)) for eps in (0.02, 0.01, 0.005)]
    # of 8 steps each, so the error of a step, of order 3
    slope = np.polyfit(np.log([0.02, 0.01, 0.005]), np.log(np.array(errors)), 1)[0]
    assert 2.8 < slope < 3.2
    over = []  # the same time with steps of half the size: order 2
    for n in (16, 32, 64):
        flow = leapfrog(potential_energy, METRIC, Z, P, step_size=0.8 / n, n_steps=n)
        over.append(abs(energy(jnp.concatenate(flow[:2])) - energy(X)))
    slope = np.polyfit(np.log([1 / 16, 1 / 32, 1 / 64]), np.log(np.array(over)), 1)[0]
    assert 1.8 < slope < 2.2


def test_the_derivative_in_position_is_that_of_the_whole_energy():
    """A kick is −∂H/∂z: against differences of H itself, whose U, log det G and p G⁻¹ p all move
    with z."""
    h, tiny = 1e-5, 1e-6
    expected = [(energy(X + h * e) - energy(X - h * e)) / (2 * h) for e in np.eye(4)[:2]]
    kicked = (RUN(X, tiny, ONES)[0][2:] - P) / (8 * tiny)
    np.testing.assert_allclose(kicked, -np.array(expected), rtol=1e-4)
    parts = [
        jax.grad(potential_energy)(Z),
        jax.grad(lambda z: kinetic_energy(METRIC, z, P))(Z),
    ]
    np.testing.assert_allclose(parts[0] + parts[1], expected, rtol=1e-7)
    assert min(np.linalg.norm(part) for part in parts) > 0.3


def test_any_metric_gives_the_same_flow():
    y, _ = RUN(X, 0.1, ONES)
    other, error = step_of(plain)(X, 0.1, ONES)
    assert error < 1e-13
    np.testing.assert_allclose(other, y, atol=1e-11)
    np.testing.assert_allclose(
        kinetic_energy(METRIC, Z, P), kinetic_energy(plain, Z, P), rtol=1e-13
    )
    noise = jax.random.normal(jax.random.key(0), (100_000, 2))
    for metric in (METRIC, plain):
        p = jax.vmap(lambda e, metric=metric: momentum(metric, Z, e))(noise)
        np.testing.assert_allclose(np.cov(p.T), METRIC(Z), rtol=0.03, atol=0.01)


def test_a_flat_metric_gives_the_ordinary_leapfrog():
    flow = leapfrog(potential_energy, jg.problems.euclidean_metric, Z, P, step_size=0.1, n_steps=5)
    verlet = blackjax.mcmc.integrators.velocity_verlet(
        lambda z: -potential_energy(z), lambda p, position=None: jnp.sum(p**2) / 2
    )
    state = blackjax.mcmc.integrators.new_integrator_state(lambda z: -potential_energy(z), Z, P)
    for _ in range(5):
        state = verlet(state, 0.1)
    np.testing.assert_allclose(flow.position, state.position, rtol=1e-12)
    np.testing.assert_allclose(flow.momentum, state.momentum, rtol=1e-12)


def test_a_step_that_is_too_long_says_so():
    _, error = RUN(X, 8.0, ONES)
    assert not error < 1e-6


def test_tempering_follows_its_schedule():
    np.testing.assert_allclose(
        inverse_temperatures(0.3, 3), [0.3, 0.3325871295, 0.4699384230, 1.0], rtol=1e-9
    )
    np.testing.assert_allclose(inverse_temperatures(0.3, 3, "constant"), 4 * [0.3])
    np.testing.assert_allclose(inverse_temperatures(1.0, 2), 3 * [1.0])


def test_float32_stays_float32():
    x = X.astype(jnp.float32)
    metric = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), METRIC)

    def U(z):
        return jnp.sum(z**2) / 2

    flow = jax.jit(lambda x: leapfrog(U, metric, *jnp.split(x, 2), step_size=0.05, n_steps=4))(x)
    assert {leaf.dtype for leaf in flow} == {jnp.dtype("float32")}
    assert flow.fixed_point_error < 1e-5


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"`scales` must have shape \(2,\), got \(8,\)"):
        leapfrog(potential_energy, METRIC, Z, P, step_size=0.1, n_steps=2, scales=ONES)
    with pytest.raises(Exception, match="kind"):
        inverse_temperatures(0.3, 3, "linear")


@pytest.mark.parametrize("name", ["quadratic", "constant"])
def test_temperatures_are_traced(name):
    slope = jax.jacfwd(lambda b: inverse_temperatures(b, 3, name))(0.3)
    assert slope[0] == pytest.approx(1)
