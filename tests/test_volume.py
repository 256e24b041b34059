"""Laws of a metric's volume: marginals in closed form and by quadrature, failures."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgeo import RESULTS, problems
from jaxgeo.distributions import sample_volume

BOX = np.array([[-2.0, 2.0], [0.5, 3.0]])
CHAINS, DRAWS = 16, 400
ERRORS = 4.5  # standard errors of a mean of as many draws as are independent
CENTRES = np.array([[-1.0, 1.0], [0.8, 1.2], [0.5, 2.4]])
FACTORS = np.array([[[1.0, 0.0], [0.6, 0.5]], [[0.7, 0.0], [-0.4, 1.2]], [[1.0, 0.0], [0.0, 0.3]]])


class Either(eqx.Module):
    """The half-plane, or a metric whose inverse is a sum of kernels; `sign` spoils it."""

    kernels: jax.Array
    sign: jax.Array

    def __call__(self, z):
        near = jnp.exp(-jnp.sum((z[None] - CENTRES) ** 2, axis=1) / 0.8**2)
        products = jnp.asarray(FACTORS @ np.swapaxes(FACTORS, 1, 2))
        inverse = jnp.tensordot(near, products, 1) + 0.1 * jnp.eye(2)
        plane = problems.half_plane_metric(z)
        return self.sign * jnp.where(self.kernels, jnp.linalg.inv(inverse), plane)


def either(kernels, sign=1.0):
    return Either(jnp.asarray(kernels), jnp.asarray(sign, float))


HALF_PLANE, KERNELS = either(False), either(True)


def draw(metric, power, seed=0):
    return sample_volume(
        metric,
        power=power,
        key=jax.random.key(seed),
        domain=BOX,
        n_chains=CHAINS,
        n_draws=DRAWS,
        n_warmup=300,
        throw=False,
    )


def check_mean(values, effective, exact):
    error = np.std(values) / np.sqrt(effective)
    assert abs(np.mean(values) - exact) < ERRORS * error
    return error


@pytest.mark.parametrize("power", [1.0, -1.0, 0.0])
def test_marginals_in_the_half_plane(power):
    found = draw(HALF_PLANE, power)
    assert found.result == RESULTS.successful
    assert found.points.shape == (CHAINS, DRAWS, 2)
    points = np.asarray(found.points)
    assert np.all((points >= BOX[:, 0]) & (points <= BOX[:, 1]))
    assert np.all(found.rhat < 1.05)
    assert np.all(found.effective_size > 1000)
    assert np.all((found.acceptance > 0.6) & (found.acceptance <= 1))
    assert np.mean(found.divergent) < 0.01
    # √det g is y⁻², so that y has the density y^(−2s) and x none of its own
    y = np.linspace(*BOX[1], 20001)
    density = y ** (-2 * power)
    x_drawn, y_drawn = np.moveaxis(points, -1, 0)
    for f in (lambda y: y, lambda y: y**2):
        exact = np.trapezoid(f(y) * density, y) / np.trapezoid(density, y)
        error = check_mean(f(y_drawn), float(found.effective_size[1]), exact)
        assert ERRORS * error < 0.1 * exact
    check_mean(x_drawn, float(found.effective_size[0]), 0.0)
    check_mean(x_drawn**2, float(found.effective_size[0]), 4 / 3)


@pytest.mark.parametrize("power", [1.0, -1.0])
def test_moments_of_a_kernel_metric_are_those_of_a_grid(power):
    found = draw(KERNELS, power, seed=1)
    assert found.result == RESULTS.successful
    axes = [np.linspace(*bounds, 201) for bounds in BOX]
    nodes = jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2))
    logdets = np.linalg.slogdet(np.asarray(jax.vmap(KERNELS)(nodes)))[1]
    weights = np.exp(power * logdets / 2).reshape(201, 201)
    weights[[0, -1]] /= 2
    weights[:, [0, -1]] /= 2
    weights = weights.ravel() / weights.sum()
    assert weights.max() > 2.5 * np.median(weights)  # far from uniform
    x, y = np.asarray(found.points).reshape(-1, 2).T
    size = float(found.effective_size.min())
    for f in (lambda x, y: x, lambda x, y: y, lambda x, y: x * y, lambda x, y: x**2):
        error = check_mean(f(x, y), size, weights @ f(*np.asarray(nodes).T))
        assert ERRORS * error < 0.3


def test_a_proper_prior_needs_no_box():
    def log_prior(z):
        return -jnp.sum((z - jnp.array([1.0, -1.0])) ** 2) / 2

    def metric(z):
        # √det g is exp(z₀), which moves the mean of the first coordinate by s
        return jnp.diag(jnp.stack([jnp.exp(2 * z[0]), jnp.ones_like(z[0])]))

    starts = np.array([[0.0, 0.0], [2.0, -2.0], [1.0, 1.0]])
    how = {"n_chains": 8, "n_draws": 250, "n_warmup": 200, "key": jax.random.key(5)}
    found = sample_volume(metric, power=1, log_prior=log_prior, starts=starts, **how)
    for axis, mean in enumerate((2.0, -1.0)):
        values = np.asarray(found.points[..., axis])
        check_mean(values, float(found.effective_size[axis]), mean)
        np.testing.assert_allclose(values.var(), 1, atol=0.2)
    again = sample_volume(metric, power=1, log_prior=log_prior, starts=starts, **how)
    np.testing.assert_array_equal(again.points, found.points)


def test_failures_are_named():
    assert draw(either(False, -1.0), 1.0).result == RESULTS.metric_not_positive_definite
    assert draw(either(False, np.nan), 1.0).result == RESULTS.nonfinite
    # three modes with nothing between them: no chain leaves its own
    stuck = draw(KERNELS, -60.0)
    assert stuck.result == RESULTS.not_converged
    assert np.max(stuck.rhat) > 1.5


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "`domain` must be given"),
        ({"starts": BOX}, "`domain` or `log_prior` must be given"),
        ({"domain": BOX, "n_draws": 3}, "`n_draws` must be at least 4, got 3"),
        ({"domain": BOX[0]}, r"`domain` must have shape \(d, 2\), got \(2,\)"),
        ({"domain": np.array([[0.0, np.inf]])}, "`domain` must be finite"),
        ({"domain": BOX[:, ::-1]}, "must have lower < upper"),
        ({"domain": BOX, "starts": 2 * BOX.T[::-1]}, r"`starts\[0\]` must lie in `domain`"),
        ({"domain": BOX, "power": np.ones(2)}, r"`power` must be one number, got sha"),
    ],
)
def test_bad_arguments_are_quoted(how, message):
    with pytest.raises(ValueError, match=message):
        sample_volume(HALF_PLANE, **{"power": 1, "key": KEY, **how})
