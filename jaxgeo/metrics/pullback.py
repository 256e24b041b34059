"""The metric that a map takes from the space it maps into."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Chart, Metric, Point, as_point, matrix_at, vector_at


@final
class PullbackMetric(eqx.Module):
    r"""The pullback of an ambient metric by an immersion, $g = J^\top A(f(z))\,J$.

    For a decoder f this measures a latent step by the change of what is decoded.
    `geodesic_acceleration` recognises it and solves a Gauss–Newton system.

    **Arguments:**

    - `f`: point `(d,)` to `(m,)`, m ≥ d, with a Jacobian J of full rank, twice differentiable.
    - `ambient`: metric of the `(m,)` space; `None` is the Euclidean one.

    **Returns:** `metric(z)`, `(d, d)`.

    **Fails:** nothing here; where J loses rank, solvers report `metric_not_positive_definite`.

    **Cost:** d forward derivatives of f, one evaluation of `ambient`.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from jaxgeo.problems import sphere_embedding
    >>> PullbackMetric(sphere_embedding)(jnp.array([jnp.pi / 6, 0.0]))[1, 1].round(4).item()
    0.25

    **Reference:** Shao, Kumar & Fletcher (2018), *The Riemannian geometry of deep generative
    models*, eq. 1.
    """

    f: Chart
    ambient: Metric | None = None

    def __call__(self, z: Point) -> Float[Array, "d d"]:
        z = as_point(z, "z")
        jacobian = jax.jacfwd(lambda y: vector_at(self.f, y, "f"))(z)
        if self.ambient is None:
            return jnp.dot(jacobian.T, jacobian, precision=HIGHEST)
        lowered = jnp.dot(matrix_at(self.ambient, self.f(z)), jacobian, precision=HIGHEST)
        g = jnp.dot(jacobian.T, lowered, precision=HIGHEST)
        return (g + g.T) / 2
