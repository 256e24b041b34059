"""Labels with boundaries of known dimension, cheap to evaluate."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


class Julia(eqx.Module):
    """Whether the orbit of z² + c stays bounded: its boundary is the Julia set."""

    c: jax.Array
    iterations: jax.Array | int = 150

    def __call__(self, point):
        def step(_, z):
            x, y = z
            x, y = x * x - y * y + self.c[0], 2 * x * y + self.c[1]
            far = x * x + y * y > 1e4
            return jnp.where(far, 1e4, x), jnp.where(far, 0.0, y)

        x, _ = jax.lax.fori_loop(0, self.iterations, step, (point[0], point[1]))
        return (jnp.abs(x) < 100).astype(int)


def julia(x, y=0.0, dtype=float):
    return Julia(jnp.array([x, y], dtype))


def newton(point):
    """Which third root of one Newton's method finds, 3 for none in 60 steps."""

    def step(_, z):
        x, y = z
        r = (x * x + y * y) ** 2  # z - (z³ - 1)/3z² = (2 z + 1/z²)/3
        return (2 * x + (x * x - y * y) / r) / 3, (2 * y - 2 * x * y / r) / 3

    x, y = jax.lax.fori_loop(0, 60, step, (point[0], point[1]))
    angle = 2 * jnp.pi * jnp.arange(3) / 3
    near = (x - jnp.cos(angle)) ** 2 + (y - jnp.sin(angle)) ** 2 < 0.1
    return jnp.where(jnp.any(near), jnp.argmax(near), 3)


def koch(levels):
    """Vertices of the Koch curve."""
    z = np.array([0.0, 1.0], complex)
    for _ in range(levels):
        step = np.diff(z) / 3
        corner = z[:-1, None] + step[:, None] * np.array([0, 1, 1.5 + 0.75**0.5 * 1j, 2])
        z = np.append(corner.ravel(), z[-1])
    return np.stack([z.real, z.imag], axis=1)
