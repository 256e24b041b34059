"""Natural coordinates: the parameters themselves, or learned; and their derivatives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxgeo._batching import each
from jaxgeo._typing import Chart, Point


def identity(t: Point) -> Point:
    """The parameters themselves as natural coordinates."""
    return t


class LearnedChart(nnx.Module):
    r"""For families without natural coordinates: $\eta(t) = u + N(u)$.

    $u$ is the point scaled to $[-1, 1]^d$ over the domain, and $N$ a small network that starts at
    zero, so the chart starts as the identity and bends as far as the samples ask for. Any analytic
    two-dimensional metric is a Hessian metric in some chart; in d ≥ 3 none need be.
    """

    def __init__(self, domain: Float[Array, "d 2"], *, width: int = 32, rngs: nnx.Rngs):
        dtype = domain.dtype
        d = domain.shape[0]
        self.center = nnx.Variable(jnp.mean(domain, axis=1))
        self.halfwidth = nnx.Variable((domain[:, 1] - domain[:, 0]) / 2)
        self.first = nnx.Linear(d, width, rngs=rngs, param_dtype=dtype)
        self.second = nnx.Linear(width, width, rngs=rngs, param_dtype=dtype)
        self.last = nnx.Linear(
            width, d, rngs=rngs, param_dtype=dtype, kernel_init=nnx.initializers.zeros_init()
        )

    def __call__(self, t: Point) -> Point:
        u = (t - self.center[...]) / self.halfwidth[...]
        return u + self.last(jax.nn.tanh(self.second(jax.nn.tanh(self.first(u)))))


class Jets(NamedTuple):
    """What a chart does at the parameters of samples."""

    t: Float[np.ndarray, "n d"]
    eta: Float[np.ndarray, "n d"]
    jacobian: Float[np.ndarray, "n d d"]
    second: Float[np.ndarray, "n d d d"]

    @classmethod
    def of(cls, chart: Chart, t: Float[Array, "n d"]) -> "Jets":
        """**Fails:** `LinAlgError` if the chart has no inverse at a sample."""
        first = jax.jacfwd(chart)
        eta, jacobian, second = (
            np.asarray(each(f, t), np.float64) for f in (chart, first, jax.jacfwd(first))
        )
        if jacobian.shape[1] != jacobian.shape[2]:
            raise np.linalg.LinAlgError(
                f"{jacobian.shape[1]} natural coordinates of {jacobian.shape[2]} parameters"
            )
        rows = np.linalg.norm(jacobian, axis=2, keepdims=True)
        singular = np.linalg.svd(jacobian / np.where(rows > 0, rows, 1.0), compute_uv=False)
        share = singular[:, -1] / singular[:, 0]
        if not (share > 1e-5).all():
            where = np.asarray(t)[np.argmin(share)].tolist()
            raise np.linalg.LinAlgError(f"natural coordinates have no inverse at t = {where}")
        return cls(np.asarray(t, np.float64), eta, jacobian, second)

    def bent(self) -> bool:
        """Whether the chart is not affine."""
        change = np.abs(self.second).max(axis=0) * np.ptp(self.t, axis=0)[None, None, :]
        return bool((change > 1e-4 * np.abs(self.jacobian).max(axis=0)[:, :, None]).any())
