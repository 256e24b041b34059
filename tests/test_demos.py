"""The demonstration's exact answer, against enumeration of a lattice small enough for it."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgeo.demos import ISING_DOMAIN, exact_ising, free_energy
from jaxgeo.systems import ising

SIZE, NODES = 4, 4
AXES = tuple(np.linspace(*interval, NODES) for interval in ISING_DOMAIN)


def by_enumeration(t):
    sites = SIZE**2
    psi = lambda eta: ising.brute_force_log_partition(eta, (SIZE, SIZE))  # noqa: E731
    eta = ising.natural_coordinates(t)
    jacobian = jax.jacobian(ising.natural_coordinates)(t)
    value, gradient = jax.value_and_grad(psi)(eta)
    return value / sites, gradient / sites, jacobian.T @ jax.hessian(psi)(eta) @ jacobian


def test_exact_answer_on_the_grid_is_that_of_enumeration():
    """To the truncation of the renormalisation at its default bond dimension."""
    exact = exact_ising(SIZE, NODES)
    nodes = jnp.stack(jnp.meshgrid(*map(jnp.asarray, AXES), indexing="ij"), axis=-1)
    expected = jax.jit(jax.vmap(jax.vmap(by_enumeration)))(nodes)
    tolerances = {"log_partition": 1e-6, "gradient": 1e-4, "metric": 1e-2}
    for (name, tolerance), value in zip(tolerances.items(), expected, strict=True):
        np.testing.assert_allclose(exact[name], value, rtol=tolerance, atol=1e-4, err_msg=name)


def test_free_energy_and_its_derivatives_are_those_of_the_exact_lattice():
    exact = exact_ising(SIZE, NODES)
    fields = free_energy(AXES, exact["log_partition"], exact["gradient"])

    def f(t):
        eta = ising.natural_coordinates(t)
        return -t[0] * ising.brute_force_log_partition(eta, (SIZE, SIZE)) / SIZE**2

    t = jnp.asarray([AXES[0][2], AXES[1][0]])
    np.testing.assert_allclose(fields["F"][2, 0], f(t), rtol=1e-6)
    np.testing.assert_allclose(
        [fields["dF/dT"][2, 0], fields["dF/dH"][2, 0]], jax.grad(f)(t), rtol=1e-4
    )
