"""The plane through three latent points, on the shell where a Gaussian latent variable lives."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._linalg import safe_sqrt
from jaxgeo._typing import Point, as_array, as_number


@final
class Slice(eqx.Module):
    r"""The latent points of a plane, two coordinates t = (α, β) to one latent array.

    $$ z(\alpha, \beta) = \sqrt{D}\, \frac{y}{\lVert y\rVert}, \qquad
       y = z_0 + \alpha (z_1 - z_0) + \beta (z_2 - z_0), $$

    D the number of entries of a latent array. The law N(0, I) of D entries lives within O(1) of
    the sphere of radius √D: off it a diffusion model or a GAN is asked what it never saw.
    A function like any other: it composes with a generator, `on_grid`, `jacfwd`, `vmap`.

    **Arguments:**

    - `z0`, `z1`, `z2`: the latent arrays at t = (0, 0), (1, 0), (0, 1), of one shape and dtype.
    - `renormalize`: False leaves out √D/‖y‖, for latent spaces that are not Gaussian.

    **Returns:** `slice(t)`, in the shape and dtype of the corners; t may be of higher precision.

    **Fails:** `ValueError` on corners of different shapes or dtypes, that are not finite, or on
    one line; with `renormalize` also if the plane passes through 0, which has no direction.
    Corners that are traced are not looked at.

    **Cost:** that of three latent arrays.

    **Example:**

    >>> plane = Slice(*(4.0 * jnp.eye(4)[:3]))
    >>> z = plane(jnp.array([0.5, 0.5]))  # 2 (0, 2, 2, 0)/√8
    >>> [round(entry, 4) for entry in z.tolist()]
    [0.0, 1.4142, 1.4142, 0.0]

    **Reference:** Lobashev et al. (2025), arXiv 2506.10632.
    """

    z0: Float[Array, "*shape"]
    z1: Float[Array, "*shape"]
    z2: Float[Array, "*shape"]
    renormalize: bool = eqx.field(static=True)

    def __init__(
        self, z0: ArrayLike, z1: ArrayLike, z2: ArrayLike, renormalize: bool = True
    ) -> None:
        self.z0, self.z1, self.z2 = (
            as_array(z, name) for z, name in ((z0, "z0"), (z1, "z1"), (z2, "z2"))
        )
        self.renormalize = renormalize
        corners = {"z0": self.z0, "z1": self.z1, "z2": self.z2}
        for name, z in corners.items():
            _check_latent(z, name, self.z0)
        if not any(isinstance(z, jax.core.Tracer) for z in corners.values()):
            _check_independent(self.z0, self.z1, self.z2, renormalize)

    def __call__(self, t: Point) -> Float[Array, "*shape"]:
        t = as_array(t, "t")
        if t.shape != (2,):
            raise ValueError(f"a slice has two coordinates, got t of shape {t.shape}.")
        if jnp.iscomplexobj(t):
            raise ValueError(f"a slice has real coordinates, got t of dtype {t.dtype}.")
        # half precision overflows in the sum of squares, and is too coarse to interpolate in
        wide = jnp.promote_types(self.z0.dtype, jnp.float32)
        z0, z1, z2 = (z.astype(wide) for z in (self.z0, self.z1, self.z2))
        y = z0 + t[0] * (z1 - z0) + t[1] * (z2 - z0)
        if self.renormalize:
            y = y * (z0.size**0.5 / jnp.sqrt(jnp.sum(y * y)))
        return y.astype(self.z0.dtype)


def _check_latent(z: Array, name: str, like: Array) -> None:
    """`ValueError` unless `z` holds finite floats in the shape and dtype of `like`."""
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise ValueError(f"`{name}` must hold floats, got dtype {z.dtype}.")
    if (z.shape, z.dtype) != (like.shape, like.dtype):
        raise ValueError(
            f"`{name}` must have shape {like.shape} and dtype {like.dtype} like the first latent "
            f"point, got shape {z.shape} and dtype {z.dtype}."
        )
    if not isinstance(z, jax.core.Tracer) and not bool(jnp.isfinite(z).all()):
        raise ValueError(f"`{name}` must be finite, got {z[~jnp.isfinite(z)][0]} in it.")


def _check_independent(z0: Array, z1: Array, z2: Array, renormalize: bool) -> None:
    """`ValueError` unless the sides span a plane, and one that misses 0 if need be."""
    origin, first, second = (np.asarray(z, np.float64).ravel() for z in (z0, z1, z2))
    sides = np.stack([first - origin, second - origin])
    for name, side in zip(("z1", "z2"), sides, strict=True):
        if not side.any():
            raise ValueError(f"`z0` and `{name}` must differ, got the same latent point twice.")
    rounding = 64 * float(jnp.finfo(z0.dtype).eps)
    if _least_singular_value(sides) <= rounding:
        raise ValueError("`z0`, `z1`, `z2` must span a plane, got three points of one line.")
    if renormalize and (
        not origin.any() or _least_singular_value(np.stack([origin, *sides])) <= rounding
    ):
        raise ValueError(
            "the plane of `z0`, `z1`, `z2` passes through 0, which cannot be renormalised: give "
            "three linearly independent latent points, or renormalize=False."
        )


def _least_singular_value(rows: Float[np.ndarray, "k n"]) -> float:
    """Of the rows at unit length; zero if there are more rows than dimensions."""
    if len(rows) > rows.shape[1]:
        return 0.0
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return float(np.linalg.svd(units, compute_uv=False)[-1])


def random_slice(
    shape: tuple[int, ...],
    *,
    key: Array,
    dtype: jax.typing.DTypeLike = jnp.float32,
    renormalize: bool = True,
) -> Slice:
    """A slice through three independent draws of N(0, I).

    **Arguments:** `shape` of a latent array; `key`, a JAX random key; `dtype`, a floating type;
    `renormalize` as of `Slice`.

    **Returns:** a `Slice`.

    **Fails:** `ValueError` on a latent space that has no such plane (three dimensions are needed,
    two without `renormalize`), or a dtype that is not floating.

    **Example:**

    >>> z = random_slice((4, 8, 8), key=jax.random.key(0))(jnp.array([0.3, 0.2]))
    >>> z.shape, round(float(jnp.sum(z**2)))
    ((4, 8, 8), 256)
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"`dtype` must be floating, got {dtype}.")
    z0, z1, z2 = jax.random.normal(key, (3, *shape), dtype)
    return Slice(z0, z1, z2, renormalize)


def spherical_interpolation(a: ArrayLike, b: ArrayLike, s: ArrayLike) -> Float[Array, "..."]:
    r"""The point a fraction s of the way from a to b, along the great circle of their directions.

    $$ z(s) = \bigl((1-s)\lVert a\rVert + s\lVert b\rVert\bigr)\,
       \frac{\sin((1-s)\omega)\, \hat a + \sin(s\omega)\, \hat b}{\sin\omega} $$

    with ω the angle between the directions â and b̂. Of points of a sphere it is the geodesic of
    the sphere; of others the norm goes linearly. A straight line between latent points of a
    Gaussian instead cuts through the empty inside of its shell.

    **Arguments:** `a`, `b`, latent arrays of one shape and dtype, neither 0; `s`, a number, 0 at
    a and 1 at b. Batch over s with `jax.vmap`.

    **Returns:** an array in the shape and dtype of `a`. Of parallel points it is the segment
    between them, the limit of the formula.

    **Fails:** `ValueError` if a or b is 0 or not finite, or if they are antiparallel: infinitely
    many great circles join these. NaN instead where they are traced.

    **Example:** the middle of a quarter circle.

    >>> a, b = jnp.array([2.0, 0.0]), jnp.array([0.0, 2.0])
    >>> round(spherical_interpolation(a, b, 0.5)[1].item(), 4)
    1.4142

    **Reference:** Shoemake (1985), *Animating rotation with quaternion curves*; for latent spaces
    White (2016), arXiv 1609.04468. The angle: Kahan (2006), *How futile are
    mindless assessments of roundoff*, section 12.
    """
    a, b = as_array(a, "a"), as_array(b, "b")
    _check_latent(a, "a", a)
    _check_latent(b, "b", a)
    s = as_number(s, "s", a.dtype)
    norm_a, norm_b = (safe_sqrt(jnp.sum(z * z)) for z in (a, b))
    u, v = a / norm_a, b / norm_b
    apart, along = safe_sqrt(jnp.sum((u - v) ** 2)), safe_sqrt(jnp.sum((u + v) ** 2))
    defined = along > 16 * jnp.finfo(a.dtype).eps  # false for NaN, hence for a norm of 0
    if not isinstance(defined, jax.core.Tracer) and not bool(defined):
        raise ValueError(
            f"`a` and `b` must differ from 0 and not be antiparallel, got norms {norm_a:g} and "
            f"{norm_b:g} and, between the directions, a cosine of {jnp.sum(u * v):g}."
        )
    angle = 2 * jnp.arctan2(apart, along) / jnp.pi

    def weight(r: Array) -> Array:
        # sin(rω)/sin ω, which for parallel points is r
        return r * jnp.sinc(r * angle) / jnp.sinc(angle)

    direction = weight(1 - s) * u + weight(s) * v
    return jnp.where(defined, ((1 - s) * norm_a + s * norm_b) * direction, jnp.nan)
