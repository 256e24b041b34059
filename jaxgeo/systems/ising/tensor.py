"""log Z of a 2ⁿ×2ⁿ torus at any field by tensor renormalisation.

Levin and Nave, Phys. Rev. Lett. 99 (2007) 120601. Two neighbours become one site, 2n times over;
each time the tensor, read as a matrix M, is replaced by P M with P the projector on its χ leading
left singular vectors. First derivatives are carried along with the tensor: dP follows from
perturbing the invariant subspace, so that only gaps between kept and discarded singular values
enter, and degeneracies among the kept ones, which the lattice's symmetries make certain, do no harm.
Second derivatives do not survive the truncation (its error, small as it is, is a rough function of
η), hence the Hessian is a central difference of gradients, over steps as wide as the physics allows.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgeo.systems.ising.sampler import CRITICAL_TEMPERATURE

Jet = list[Array]
"""[f, ∂f/∂β, ∂f/∂h], or [f] alone where no derivatives are asked."""

_CUT = 1e-4  # of the largest singular value: below it the derivative is rounding error
_FLOOR = 1e-8  # the same for the value alone
_GAP = 0.1  # of σ²: closer pairs across the cut turn too fast for a first derivative to mean much


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


def _split(matrix: Jet, bond: int) -> tuple[Jet, Jet]:
    """Factors a, b of the projection a b = P M on the `bond` leading left singular vectors.

    The kept subspace moves as span(U₁ + U₂X), U₂ the discarded vectors. To first order its
    invariance under N = M Mᵀ reads X_ji = (∂N)_ji / (σ_i² − σ_j²), i kept, j discarded.
    """
    squares, u = jnp.linalg.eigh(matrix[0] @ matrix[0].T)
    u, s = u[:, ::-1], jnp.sqrt(jnp.maximum(squares[::-1], 0))
    cut = _CUT if len(matrix) > 1 else 0
    kept = (jnp.arange(s.shape[0]) < bond) & (s > cut * s[0])
    rotated = [u.T @ m for m in matrix]
    inside = [jnp.where(kept[:bond, None], m[:bond], 0) for m in rotated]
    outside = [jnp.where(kept[:, None], 0, m) for m in rotated]
    gap = s[None, :bond] ** 2 - s[:, None] ** 2
    wanted = kept[None, :bond] & ~kept[:, None] & (gap > _GAP * s[None, :bond] ** 2)
    moved = _product(lambda x, y: x @ y.T, outside, inside)[1:]
    x = [jnp.where(wanted, n / jnp.where(wanted, gap, 1), 0) for n in moved]
    scale = jnp.sqrt(jnp.maximum(s[:bond], _FLOOR * s[0]))
    left = [jnp.where(kept[None, :bond], u[:, :bond], 0), *(u @ xk for xk in x)]
    right = [inside[0], *(m + xk.T @ outside[0] for m, xk in zip(inside[1:], x, strict=True))]
    return [a * scale[None] for a in left], [b / scale[:, None] for b in right]


def _coarse_grain(tensor: Jet, bond_dimension: int) -> Jet:
    """Two sites of the lattice become one; legs are left, up, right, down."""
    d = tensor[0].shape[0]
    bond = min(d * d, bond_dimension)
    s1, s3 = _split([t.reshape(d * d, d * d) for t in tensor], bond)
    turned = [t.transpose(1, 2, 3, 0).reshape(d * d, d * d) for t in tensor]
    s2, s4 = _split(turned, bond)
    s1, s2 = ([s.reshape(d, d, bond) for s in jet] for jet in (s1, s2))
    s3, s4 = ([s.reshape(bond, d, d) for s in jet] for jet in (s3, s4))
    # The four sites of a plaquette, clockwise from the upper left, meet at x, y, z and w.
    upper = _product(partial(jnp.einsum, "ixw,jyx->ijyw"), s3, s4)
    lower = _product(partial(jnp.einsum, "zyk,wzl->ywkl"), s1, s2)
    return _product(partial(jnp.einsum, "ijyw,ywkl->ijkl"), upper, lower)


def renormalise(
    eta: Float[Array, " 2"], size: int, bond_dimension: int, derivatives: bool
) -> Float[Array, " k"]:
    """log Z / L², followed by its gradient where `derivatives` are asked."""
    tensor = [_site_tensor(eta)]
    if derivatives:
        tensor += list(jnp.moveaxis(jax.jacfwd(_site_tensor)(eta), -1, 0))
    total = jnp.zeros(len(tensor), eta.dtype)
    steps = 2 * (size.bit_length() - 1)
    step = 0
    while step < steps and tensor[0].shape[0] < bond_dimension:
        tensor, logs = _normalise(tensor)
        total = total + logs / 2**step
        tensor = _coarse_grain(tensor, bond_dimension)
        step += 1

    def same_shape(carry, weight):
        tensor, total = carry
        tensor, logs = _normalise(tensor)
        return (_coarse_grain(tensor, bond_dimension), total + logs * weight), None

    weights = jnp.asarray(0.5 ** np.arange(step, steps), eta.dtype)
    (tensor, total), _ = jax.lax.scan(same_shape, (tensor, total), weights)
    return total + _normalise(tensor)[1] / 2**steps


def _normalise(tensor: Jet) -> tuple[Jet, Float[Array, " k"]]:
    """The tensor over its trace, itself a function of η, so that nothing extensive piles up."""
    trace = jnp.stack([jnp.einsum("abab->", t) for t in tensor])
    slope = trace[1:] / trace[0]
    first = [t - tensor[0] * k for t, k in zip(tensor[1:], slope, strict=True)]
    logs = jnp.concatenate([jnp.log(trace[:1]), slope])
    return [t / trace[0] for t in (tensor[0], *first)], logs


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def log_partition(eta, size, bond_dimension):
    return renormalise(eta, size, bond_dimension, False)[0]


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def gradient(eta, size, bond_dimension):
    return renormalise(eta, size, bond_dimension, True)[1:]


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def hessian(eta, size, bond_dimension):
    """Fourth-order central differences of the gradient, symmetrised."""
    steps = _difference_steps(eta, size)
    offsets = jnp.array([-2, -1, 1, 2], eta.dtype)
    weights = jnp.array([1, -8, 8, -1], eta.dtype) / 12
    displaced = eta[None, None] + offsets[None, :, None] * jnp.diag(steps)[:, None, :]
    gradients = jax.lax.map(
        lambda e: gradient(e, size, bond_dimension), displaced.reshape(-1, 2)
    ).reshape(2, 4, 2)
    matrix = jnp.einsum("k,ikj->ij", weights, gradients) / steps[:, None]
    # The h-step resolves the field, the β-step the temperature: each is right about its own row.
    return (matrix + matrix.T) / 2


def _difference_steps(eta, size):
    """A fraction of the distance over which the gradient changes, by the scaling forms at T_c."""
    beta, h = eta
    critical = 1 / CRITICAL_TEMPERATURE
    above = jnp.maximum(critical - beta, 0) / critical
    near = jnp.maximum(jnp.abs(beta - critical), jnp.abs(h) ** (8 / 15) / 8)
    beta_step = 0.04 * jnp.maximum(near, 0.5 / size)
    field = jnp.maximum(0.2 * above ** (15 / 8), jnp.abs(h))
    h_step = 0.07 * jnp.maximum(field, 1 / size**2)
    return jnp.stack([jnp.minimum(beta_step, 0.2 * beta), h_step])


@log_partition.defjvp
def _log_partition_jvp(size, bond_dimension, primals, tangents):
    (eta,), (direction,) = primals, tangents
    slope = gradient(eta, size, bond_dimension)
    return log_partition(eta, size, bond_dimension), jnp.dot(slope, direction)


@gradient.defjvp
def _gradient_jvp(size, bond_dimension, primals, tangents):
    (eta,), (direction,) = primals, tangents
    matrix = hessian(eta, size, bond_dimension)
    return gradient(eta, size, bond_dimension), jnp.dot(matrix, direction)


@hessian.defjvp
def _hessian_jvp(size, bond_dimension, primals, tangents):
    raise NotImplementedError("the renormalised log-partition has two derivatives, not three")
