"""Measures of a curve by what it decodes to: pure functions of samples or features in order."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import safe_sqrt
from jaxgeo._typing import Scalar


def _steps(decoded: ArrayLike, least: int = 2) -> Float[Array, "n_minus_1 m"]:
    """The differences of neighbours among `least` or more rows, each row flattened."""
    rows = jnp.asarray(decoded)
    if rows.ndim < 2 or rows.shape[0] < least:
        raise ValueError(
            f"`decoded` must have shape (n, ...) with n ≥ {least}, one row a point of the curve, "
            f"got {rows.shape}."
        )
    if not jnp.issubdtype(rows.dtype, jnp.floating):
        raise ValueError(f"`decoded` must hold floats, got dtype {rows.dtype}.")
    return jnp.diff(rows.reshape(len(rows), -1), axis=0)


def _lengths(steps: Float[Array, "n m"]) -> Float[Array, " n"]:
    return safe_sqrt(jnp.sum(steps**2, axis=1))


def path_length(decoded: ArrayLike) -> Scalar:
    r"""The length of a decoded curve as a polyline, $\sum_i \lVert x_{i+1} - x_i\rVert$.

    **Arguments:** `decoded`, `(n, ...)`: samples or features in order along the curve, n ≥ 2.

    **Returns:** a number, from below of second order in the spacing.

    **Fails:** `ValueError` on a wrong shape or dtype.

    **Example:**

    >>> path_length(jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])).item()
    6.0
    """
    return jnp.sum(_lengths(_steps(decoded)))


def perceptual_path_length(decoded: ArrayLike) -> Scalar:
    r"""The mean squared speed of a decoded curve, $\int_0^1 \lVert \dot x(s)\rVert^2\, ds$.

    $$ \mathrm{PPL} = \frac1{n-1} \sum_{i=1}^{n-1}
       \frac{\lVert x_{i+1} - x_i\rVert^2}{\epsilon^2}, \qquad \epsilon = \frac1{n-1}, $$

    which tends to StyleGAN's limit ε → 0 as the curve is sampled more finely, the distance of
    images being the squared Euclidean one of features. The curve has parameter s ∈ [0, 1], so it
    is twice the `energy`, and no less than the square of the `path_length`: equal if the decoded
    speed is constant. Published figures differ by the features, and some by a factor.

    **Arguments:** `decoded`, `(n, ...)`: features at s = 0, 1/(n−1), …, 1, n ≥ 2.

    **Returns:** a number, of second order in the spacing.

    **Fails:** `ValueError` on a wrong shape or dtype.

    **Example:** speeds 2 and 4.

    >>> perceptual_path_length(jnp.array([[0.0], [1.0], [3.0]])).item()
    10.0

    **Reference:** Karras, Laine & Aila (2019), *A style-based generator architecture*, eq. 2.
    """
    steps = _steps(decoded)
    return len(steps) * jnp.sum(steps**2)


def total_curvature(decoded: ArrayLike) -> Scalar:
    r"""The total turning of a decoded curve in radians, $\int \lVert \kappa\rVert\, d\ell$.

    The sum of the angles between successive steps of the polyline: 0 for a straight line at any
    speed, 2π(n−2)/(n−1) for a circle in n points that ends where it began. Divide by n − 2 for the
    mean angle of a step.

    **Arguments:** `decoded`, `(n, ...)`: samples or features in order along the curve, n ≥ 3.

    **Returns:** a number in [0, (n − 2)π], of second order in the spacing but for the half steps
    at the ends. Differentiable where no angle is 0 or π.

    **Fails:** `ValueError` on a wrong shape or dtype, or if neighbouring points coincide, a step
    without direction; NaN for these where they are traced.

    **Example:** two right angles.

    >>> corners = jnp.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [1.0, 1.0]])
    >>> round(total_curvature(corners).item(), 4)
    3.1416

    **Reference:** Milnor (1950), *On the total curvature of knots*, section 1. The angle, exact
    where the cosine is blind: Kahan (2006), *How futile are mindless assessments of roundoff*,
    section 12.
    """
    steps = _steps(decoded, 3)
    lengths = _lengths(steps)
    if not isinstance(lengths, jax.core.Tracer) and bool(jnp.any(lengths == 0)):
        row = int(jnp.argmin(lengths))
        raise ValueError(
            f"`decoded` must not have equal neighbours, got the same row at {row} and {row + 1}."
        )
    units = steps / lengths[:, None]
    return 2 * jnp.sum(
        jnp.arctan2(_lengths(units[1:] - units[:-1]), _lengths(units[1:] + units[:-1]))
    )


def largest_step(decoded: ArrayLike) -> Scalar:
    r"""The longest step of a decoded curve, $\max_i \lVert x_{i+1} - x_i\rVert$.

    Where it is many times `path_length`/(n − 1) the curve jumps: it crosses a boundary of phases.

    **Arguments:** `decoded`, `(n, ...)`: samples or features in order along the curve, n ≥ 2.

    **Returns:** a number; differentiable where one step alone is the longest.

    **Fails:** `ValueError` on a wrong shape or dtype.

    **Example:**

    >>> largest_step(jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])).item()
    5.0
    """
    return jnp.max(_lengths(_steps(decoded)))
