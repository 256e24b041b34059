"""Spaces of constant curvature in random charts, whole or broken, all of one compiled program.

The stereographic model: g = 4f A'A / (1 + K|w|²)² with w = A(z − c)/s, in units of s². Curvature
is K/f; distance, exponential map and connection are known in closed form, computed here in
NumPy's long doubles without any of jaxgeo's code.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

WHOLE, INDEFINITE, SINGULAR, SKEW, NAN_EVERYWHERE, NAN_WITHIN, NEGATIVE = range(7)
BREAKS = {
    INDEFINITE: "indefinite",
    SINGULAR: "of rank 1",
    SKEW: "not symmetric",
    NAN_EVERYWHERE: "NaN",
    NAN_WITHIN: "NaN at an end",
    NEGATIVE: "negative",
}


class Space(eqx.Module):
    """A metric; everything in it is traced."""

    curvature: jax.Array  # K: −1, 0, 1, or near them
    factor: jax.Array  # f
    matrix: jax.Array  # A
    centre: jax.Array  # c
    scale: jax.Array  # s
    flaw: jax.Array  # added to A'A, in units of the metric
    poison: jax.Array  # a place around which the metric is NaN, in units of w
    radius: jax.Array  # how far

    def __call__(self, z: jax.Array) -> jax.Array:
        w = self.matrix @ ((z - self.centre) / self.scale)
        conformal = 2 / (1 + self.curvature * jnp.sum(w * w)) / self.scale
        g = self.factor * conformal * (self.matrix.T @ self.matrix + self.flaw) * conformal
        return jnp.where(jnp.sum((w - self.poison) ** 2) < self.radius**2, jnp.nan, g)


def space(
    rng: np.random.Generator,
    dtype: type,
    *,
    d: int = 2,
    factor: float = 1.0,
    scale: float = 1.0,
    broken: int = WHOLE,
) -> Space:
    """A random space; `broken` says how."""
    turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
    matrix = (turn * np.exp(rng.uniform(-0.7, 0.7, d))) @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    square = matrix.T @ matrix
    flaw = np.zeros((d, d))
    values, axes = np.linalg.eigh(square)
    if broken == INDEFINITE:
        flaw = -2 * values[0] * np.outer(axes[:, 0], axes[:, 0])
    elif broken == SINGULAR:
        flaw = -square + np.ones((d, d))
    elif broken == SKEW:
        flaw[0, 1], flaw[1, 0] = values[0] / 2, -values[0] / 2
    elif broken == NEGATIVE:
        flaw = -2 * square
    centre = rng.normal(size=d) * scale * rng.integers(2)

    def number(x: float | np.ndarray) -> jax.Array:
        return jnp.asarray(x, dtype)

    return Space(
        curvature=number(rng.choice([-1.0, 0.0, 1.0, -0.3, 0.5])),
        factor=number(factor),
        matrix=number(matrix),
        centre=number(centre),
        scale=number(scale),
        flaw=number(flaw),
        poison=number(np.zeros(d)),
        radius=number(10.0 if broken == NAN_EVERYWHERE else 0.0),
    )


def point(rng: np.random.Generator, where: Space, reach: float = 0.75) -> np.ndarray:
    """A random point with |w| < `reach`, in the dtype of the space."""
    w = rng.normal(size=where.centre.size)
    w *= reach * rng.uniform() ** 0.5 / np.linalg.norm(w)
    z = np.asarray(where.centre, float) + float(where.scale) * np.linalg.solve(
        np.asarray(where.matrix, float), w
    )
    return z.astype(where.centre.dtype)


class Exact:
    """The closed forms of a whole space, in long doubles."""

    def __init__(self, where: Space):
        def wide(x: jax.Array) -> np.ndarray:
            return np.asarray(x).astype(np.longdouble)

        self.k, self.f, self.s = (wide(x) for x in (where.curvature, where.factor, where.scale))
        self.matrix, self.centre = wide(where.matrix), wide(where.centre)

    def w(self, z: np.ndarray) -> np.ndarray:
        return self.matrix @ ((np.asarray(z).astype(np.longdouble) - self.centre) / self.s)

    def conformal(self, z: np.ndarray) -> np.longdouble:
        w = self.w(z)
        return 2 / (1 + self.k * (w @ w))

    def metric(self, z: np.ndarray) -> np.ndarray:
        root = self.conformal(z) / self.s * self.matrix
        return self.f * (root.T @ root)

    def inner(self, z: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.longdouble:
        a, b = (self.matrix @ (np.asarray(x).astype(np.longdouble) / self.s) for x in (u, v))
        return self.f * self.conformal(z) ** 2 * (a @ b)

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.longdouble:
        x = self.w(a)
        # from the difference of the points, which is exact where they are near
        step = self.matrix @ ((b.astype(np.longdouble) - a.astype(np.longdouble)) / self.s)
        y = x + step
        half = np.sqrt(step @ step) / np.sqrt((1 + self.k * (x @ x)) * (1 + self.k * (y @ y)))
        root = np.sqrt(abs(self.k))
        if self.k > 0:
            half = np.arcsin(min(root * half, np.longdouble(1))) / root
        elif self.k < 0:
            half = np.arcsinh(root * half) / root
        return 2 * np.sqrt(self.f) * half

    def acceleration(self, z: np.ndarray, v: np.ndarray) -> np.ndarray:
        """−Γ(v, v): of a conformally flat metric e^(2h), |v|²∂h − 2⟨∂h, v⟩v."""
        w = self.w(z)
        u = self.matrix @ (np.asarray(v).astype(np.longdouble) / self.s)
        slope = -2 * self.k * w / (1 + self.k * (w @ w))
        a = (u @ u) * slope - 2 * (slope @ u) * u
        return self.s * np.linalg.solve(self.matrix.astype(float), a.astype(float))

    def exp(self, z: np.ndarray, v: np.ndarray) -> np.ndarray:
        """w ⊕ tan_K(λ|u|/2) u/|u|, with Möbius addition ⊕."""
        x = self.w(z)
        u = self.matrix @ (np.asarray(v).astype(np.longdouble) / self.s)
        size = np.sqrt(u @ u)
        if size == 0:
            return np.asarray(z, float)
        root = np.sqrt(abs(self.k))
        half = self.conformal(z) * size / 2
        if self.k > 0:
            half = np.tan(root * half) / root
        elif self.k < 0:
            half = np.tanh(root * half) / root
        y = half * u / size
        k, xy, xx, yy = self.k, x @ y, x @ x, y @ y
        added = (1 - 2 * k * xy - k * yy) * x + (1 + k * xx) * y
        w = added / (1 - 2 * k * xy + k * k * xx * yy)
        moved = np.linalg.solve(self.matrix.astype(float), w.astype(float))
        return np.asarray(self.centre + self.s * moved, float)
