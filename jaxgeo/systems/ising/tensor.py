"""log Z of a 2ⁿ×2ⁿ torus at any field by tensor renormalisation.

Levin and Nave, Phys. Rev. Lett. 99 (2007) 120601. Two neighbours become one site, 2n times over;
each time the tensor, read as a matrix M from two adjacent legs to the other two, is cut to rank χ.
The lattice's rotations and inversion make M symmetric and all four corners of a plaquette alike,
so one eigendecomposition a step is enough, with the signs of the eigenvalues as a metric on bonds.

First derivatives are carried along with the tensor, by perturbing the kept eigenspace as a whole:
only gaps between kept and discarded eigenvalues enter, and degeneracies among the kept ones, which
the lattice's symmetries make certain, do no harm. Second derivatives do not survive the truncation
(its error, small as it is, is a rough function of η), hence the Hessian is a central difference of
gradients, over steps as wide as the physics allows.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgeo.systems.ising.sampler import CRITICAL_TEMPERATURE

Jet = list[Array]
"""[f, ∂f/∂β, ∂f/∂h], or [f] alone where no derivatives are asked."""

_CUT = 1e-11  # of the largest eigenvalue: below it there is only rounding error
_GAP = 0.1  # closer pairs across the cut turn too fast for a first derivative to mean much


def _product(multiply, a: Jet, b: Jet) -> Jet:
    """Leibniz' rule for a bilinear map."""
    pairs = zip(a[1:], b[1:], strict=True)
    return [multiply(a[0], b[0]), *(multiply(x, b[0]) + multiply(a[0], y) for x, y in pairs)]


def _site_tensor(eta: Float[Array, " 2"]) -> Float[Array, "2 2 2 2"]:
    """Σ_s e^{hs} W_sa W_sb W_sc W_sd, with W Wᵀ = e^{β s s'} the Boltzmann weight of a bond."""
    beta, h = eta
    cosh, sinh = jnp.sqrt(jnp.cosh(beta)), jnp.sqrt(jnp.sinh(beta))
    up, down = jnp.stack([cosh, sinh]), jnp.stack([cosh, -sinh])
    four = partial(jnp.einsum, "a,b,c,d->abcd")
    return jnp.exp(h) * four(up, up, up, up) + jnp.exp(-h) * four(down, down, down, down)


def _split(matrix: Jet, bond: int) -> tuple[Jet, Array]:
    """a and signs σ with a diag(σ) aᵀ the best approximation of rank `bond` to a symmetric matrix.

    The kept eigenspace moves as span(U₁ + U₂X), U₂ the discarded eigenvectors: to first order
    X_ji = (∂M)_ji / (λ_i − λ_j), i kept, j discarded. Inside it any split of ∂M between a and aᵀ
    will do: (∂M)_ji goes mostly to the column of the larger eigenvalue, lest small ones swell.
    """
    values, u = jnp.linalg.eigh(matrix[0])
    order = jnp.argsort(-jnp.abs(values))
    values, u = values[order], u[:, order]
    kept = (jnp.arange(values.shape[0]) < bond) & (jnp.abs(values) > _CUT * jnp.abs(values[0]))
    values_1, kept_1 = values[None, :bond], kept[None, :bond]
    root = jnp.sqrt(jnp.where(kept_1, jnp.abs(values_1), 0))
    together = jnp.sign(values_1) * (jnp.abs(values_1) + jnp.abs(values[:, None]))
    gap = jnp.where(kept[:, None], together, values_1 - values[:, None])
    wanted = kept_1 & (jnp.abs(gap) > _GAP * jnp.abs(values_1))
    weight = jnp.where(wanted, root / jnp.where(wanted, gap, 1), 0)
    factor = [u[:, :bond] * root]
    factor += [u @ ((u.T @ change @ u[:, :bond]) * weight) for change in matrix[1:]]
    signs = jnp.where(kept[:bond], jnp.sign(values[:bond]), 0)
    return factor, signs


def _coarse_grain(tensor: Jet, signs: Array, bond_dimension: int) -> tuple[Jet, Array]:
    """Two sites of the lattice become one; legs are left, up, right, down, all alike.

    The tensor does not change when its legs are rotated, so one factorisation serves all corners.
    """
    d = tensor[0].shape[0]
    bond = min(d * d, bond_dimension)
    factor, new_signs = _split([t.reshape(d * d, d * d) for t in tensor], bond)
    corner = [a.reshape(d, d, bond) for a in factor]
    # The four sites of a plaquette, clockwise from the upper left, meet at x, y, z and w.
    metric = signs[:, None, None]
    upper = _product(lambda a, b: jnp.einsum("xwi,yxj->ijyw", a * metric, b), corner, corner)
    lower = [jnp.einsum("klwy,y,w->ywkl", a, signs, signs) for a in upper]
    return _product(partial(jnp.einsum, "ijyw,ywkl->ijkl"), upper, lower), new_signs


def renormalise(
    eta: Float[Array, " 2"], size: int, bond_dimension: int, derivatives: bool
) -> Float[Array, " k"]:
    """log Z / L², followed by its gradient where `derivatives` are asked."""
    tensor = [_site_tensor(eta)]
    if derivatives:
        tensor += list(jnp.moveaxis(jax.jacfwd(_site_tensor)(eta), -1, 0))
    signs = jnp.ones(2, eta.dtype)
    total = jnp.zeros(len(tensor), eta.dtype)
    steps = 2 * (size.bit_length() - 1)
    step = 0
    while step < steps and tensor[0].shape[0] < bond_dimension:
        tensor, logs = _normalise(tensor, signs)
        total = total + logs / 2**step
        tensor, signs = _coarse_grain(tensor, signs, bond_dimension)
        step += 1

    def same_shape(carry, weight):
        tensor, signs, total = carry
        tensor, logs = _normalise(tensor, signs)
        return (*_coarse_grain(tensor, signs, bond_dimension), total + logs * weight), None

    weights = jnp.asarray(0.5 ** np.arange(step, steps), eta.dtype)
    (tensor, signs, total), _ = jax.lax.scan(same_shape, (tensor, signs, total), weights)
    return total + _normalise(tensor, signs)[1] / 2**steps


def _normalise(tensor: Jet, signs: Array) -> tuple[Jet, Float[Array, " k"]]:
    """The tensor over its trace, itself a function of η, so that nothing extensive piles up."""
    trace = jnp.stack([jnp.einsum("abab,a,b->", t, signs, signs) for t in tensor])
    slope = trace[1:] / trace[0]
    first = [t - tensor[0] * k for t, k in zip(tensor[1:], slope, strict=True)]
    logs = jnp.concatenate([jnp.log(trace[:1]), slope])
    return [t / trace[0] for t in (tensor[0], *first)], logs


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def log_partition(eta, size, bond_dimension):
    return renormalise(eta, size, bond_dimension, False)[0]


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def value_and_gradient(eta, size, bond_dimension):
    """(3,): log Z / L² and its gradient."""
    return renormalise(eta, size, bond_dimension, True)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def two_derivatives(eta, size, bond_dimension):
    """Value and gradient (3,), and the Hessian (2, 2): fourth-order differences of gradients.

    One loop over nine points, so that no two batched eigendecompositions can run side by side:
    jaxlib 0.10 and 0.11 wait for a thread pool from inside it, and two at once may wait for ever.
    """
    steps = _difference_steps(eta, size)
    offsets = jnp.array([-2, -1, 1, 2], eta.dtype)
    weights = jnp.array([1, -8, 8, -1], eta.dtype) / 12
    displaced = eta[None, None] + offsets[None, :, None] * jnp.diag(steps)[:, None, :]
    points = jnp.concatenate([eta[None], displaced.reshape(-1, 2)])
    jets = jax.lax.map(lambda e: renormalise(e, size, bond_dimension, True), points)
    gradients = jets[1:, 1:].reshape(2, 4, 2)
    matrix = jnp.einsum("k,ikj->ij", weights, gradients) / steps[:, None]
    # The h-step resolves the field, the β-step the temperature: each is right about its own row.
    return jets[0], (matrix + matrix.T) / 2


def _difference_steps(eta, size):
    """A fraction of the distance over which the gradient changes, by the scaling forms at T_c."""
    beta, h = eta
    critical = 1 / CRITICAL_TEMPERATURE
    above = jnp.maximum(critical - beta, 0) / critical
    near = jnp.maximum(jnp.abs(beta - critical), jnp.abs(h) ** (8 / 15) / 3)
    beta_step = 0.04 * jnp.maximum(near, 0.5 / size)
    field = jnp.maximum(0.2 * above ** (15 / 8), jnp.abs(h))
    h_step = 0.07 * jnp.maximum(field, 1 / size**2)
    return jnp.stack([jnp.minimum(beta_step, 0.2 * beta), h_step])


@log_partition.defjvp
def _log_partition_jvp(size, bond_dimension, primals, tangents):
    (eta,), (direction,) = primals, tangents
    jet = value_and_gradient(eta, size, bond_dimension)
    return jet[0], jnp.dot(jet[1:], direction)


@value_and_gradient.defjvp
def _value_and_gradient_jvp(size, bond_dimension, primals, tangents):
    (eta,), (direction,) = primals, tangents
    jet, hessian = two_derivatives(eta, size, bond_dimension)
    return jet, jnp.concatenate([jnp.dot(jet[1:], direction)[None], jnp.dot(hessian, direction)])


@two_derivatives.defjvp
def _two_derivatives_jvp(size, bond_dimension, primals, tangents):
    raise NotImplementedError("the renormalised log-partition has two derivatives, not three")
