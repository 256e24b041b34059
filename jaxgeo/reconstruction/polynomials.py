r"""A log-partition function of three or more smooth coordinates, as a polynomial.

Where no phase boundary is, few numbers say all: on a box of parameters, with coordinates
stretched where the metric is large, a polynomial of low degree has a tenth of the freedom of a
network, and its coefficients solve linear equations (`expansion.py`).
"""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, Int

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Chart, Metric, Point, Scalar
from jaxgeo.metrics import HessianMetric, ReparametrizedMetric
from jaxgeo.reconstruction.charts import Jets, identity

ORDERS = range(2, 8)
"""Degrees that are tried; held-out samples choose."""
STRETCH = 0.25
"""Coordinates are stretched by this power of the metric."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
ANCHORS = 512


class PolynomialPotential(eqx.Module):
    r"""A potential $\psi$ that is known in the parameters t, of which η are a function:

    $$ \psi(\eta(t)) = A(t) = \sum_{0 < |\alpha| \le p} b_\alpha T_\alpha(u)
       + \sum_k \eta_k(t) \sum_{|\alpha| \le q} c_{k\alpha} T_\alpha(u), \qquad
       T_\alpha(u) = \prod_i T_{\alpha_i}(u_i(t_i)) $$

    with Chebyshev polynomials $T$, and $u_i$ a coordinate on [−1, 1] that runs fast where the
    metric is large: $u_i' \propto \exp(w_i)$, with $w_i$ a parabola in $t_i$. Where η is affine in
    t, q = 0; elsewhere q = p − 1, since a log-partition is ⟨E f, η⟩ less an entropy.

    `metric(t)` is $J^\top \nabla^2\psi\, J = \nabla^2 A - \sum_k \mu_k \nabla^2\eta_k$ with
    $\mu = \nabla\psi = J^{-\top} \nabla A$, the mean of the statistic. Outside the domain the
    polynomial goes on, and its metric need not be positive.

    **Fails:** ψ(η) is NaN where no t with η(t) = η is found.

    **Cost:** `at(t)` and its derivatives, products of d numbers for every coefficient; ψ(η) solves
    for t first, by a few steps of Newton's method."""

    chart: Chart
    domain: Float[Array, "d 2"]
    stretches: Float[Array, "d 2"]
    """Coefficients of $s$ and $s^2$ in $w_i$, where s in [−1, 1] is $t_i$ over the domain."""
    exponents: Int[Array, "m d"]
    """The α, those of |α| ≤ q first."""
    inner: int = eqx.field(static=True)
    """The number of α with |α| ≤ q."""
    anchors: tuple[Float[Array, "a d"], Float[Array, "a d"]]
    """Parameters, and their η, at the nearest of which the search for t starts."""
    coefficients: Float[Array, "*draws M"]

    def columns(self, t: Point) -> Float[Array, " M"]:
        """The functions of t that the coefficients multiply."""
        lower, upper = self.domain.T
        s = 2 * (t - lower) / (upper - lower) - 1
        half = (s[:, None] + 1) / 2
        slope, bend = self.stretches[:, :1], self.stretches[:, 1:]

        def speed(s):
            return jnp.exp(s * (slope + s * bend))

        nodes, weights = (jnp.asarray(a, t.dtype) for a in (NODES, WEIGHTS))
        run = half[:, 0] * (speed(half * (nodes[None, :] + 1) - 1) @ weights)
        u = 2 * run / (speed(nodes[None, :]) @ weights) - 1
        powers = [jnp.ones_like(u), u]
        for _ in range(2, len(ORDERS) + 2):
            powers.append(2 * u * powers[-1] - powers[-2])
        table = jnp.stack(powers)
        products = jnp.prod(table[self.exponents, jnp.arange(len(t))], axis=1)
        inner = products[: self.inner]
        return jnp.concatenate([products[1:], jnp.outer(self.chart(t), inner).ravel()])

    def degrees(self) -> Int[np.ndarray, " M"]:
        """Of every coefficient a number: 0 if of a quadratic b or a constant $c_k$; the |α| of
        the others of b; and of each of the $c_k$ other numbers likewise."""
        sizes = np.asarray(self.exponents).sum(axis=1)
        inner = sizes[: self.inner]
        others = [
            np.where(inner > 0, inner + k * sizes.max(), 0) for k in range(1, len(self.domain) + 1)
        ]
        return np.concatenate([np.where(sizes > 2, sizes, 0)[1:], *others])

    def with_coefficients(
        self, coefficients: Float[Array, "*k M"] | Float[np.ndarray, "*k M"]
    ) -> "PolynomialPotential":
        """The same polynomials with other coefficients, in the precision of the domain."""
        kept = jnp.asarray(coefficients, self.domain.dtype)
        return eqx.tree_at(lambda p: p.coefficients, self, kept)

    def at(self, t: Point) -> Scalar:
        """ψ(η(t))."""
        return jnp.dot(self.columns(t), self.coefficients, precision=HIGHEST)

    def metric(self, t: Point) -> Float[Array, "d d"]:
        """The Fisher information in the coordinates t."""
        mean = jnp.linalg.solve(jax.jacfwd(self.chart)(t).T, jax.grad(self.at)(t))

        def bregman(s):
            return self.at(s) - jnp.dot(mean, self.chart(s), precision=HIGHEST)

        hessian = jax.jacfwd(jax.grad(bregman))(t)
        return (hessian + hessian.T) / 2

    def __call__(self, eta: Point) -> Scalar:
        return self.at(self.preimage(eta))

    def preimage(self, eta: Point) -> Point:
        """t with η(t) = η; NaN if none is found."""
        # optimistix wants the widest floats that are enabled
        wide = jnp.promote_types(eta.dtype, jnp.result_type(float))
        parameters, images = (anchors.astype(wide) for anchors in self.anchors)
        unit = jnp.std(images, axis=0)
        nearest = jnp.argmin(jnp.sum(((images - eta[None, :]) / unit[None, :]) ** 2, axis=1))
        accuracy = float(jnp.finfo(wide).eps) ** 0.75
        found: Any = optx.root_find(
            lambda t, eta: (self.chart(t) - eta) / unit,
            optx.Dogleg(rtol=accuracy, atol=accuracy),
            parameters[nearest],
            args=eta.astype(wide),
            throw=False,
        )
        solved = found.result == optx.RESULTS.successful
        return jnp.where(solved, found.value, jnp.nan).astype(eta.dtype)


def log_normalizer(potential, chart: Chart, t: Point) -> Scalar:
    """ψ(η(t)) of any potential."""
    return potential.at(t) if isinstance(potential, PolynomialPotential) else potential(chart(t))


def metric_of(potential: Any, chart: Chart) -> Metric:
    """The Fisher metric of any potential, in the coordinates that the chart starts from."""
    if isinstance(potential, PolynomialPotential):
        return potential.metric
    metric = HessianMetric(potential)
    return metric if chart is identity else ReparametrizedMetric(metric, chart)


def template(
    jets: Jets, chart: Chart, domain: Float[np.ndarray, "d 2"], metric, order: int, dtype
) -> PolynomialPotential:
    """The polynomials of an order, all coefficients zero; `metric` (n, d, d) in t."""
    lower, upper = domain.T
    s = 2 * (jets.t - lower) / (upper - lower) - 1
    sizes = STRETCH * np.log(np.diagonal(metric, axis1=1, axis2=2))
    parabolas = [np.polyfit(*column, 2) for column in zip(s.T, sizes.T, strict=True)]
    stretches = np.array([[slope, bend] for bend, slope, _ in parabolas])
    d = len(domain)
    highest = order - 1 if jets.bent() else 0
    exponents = sorted(
        (a for a in itertools.product(range(order + 1), repeat=d) if sum(a) <= order), key=sum
    )
    inner = sum(sum(a) <= highest for a in exponents)
    few = slice(None, None, max(1, len(jets.t) // ANCHORS))
    return PolynomialPotential(
        chart=chart,
        domain=jnp.asarray(domain, dtype),
        stretches=jnp.asarray(stretches, dtype),
        exponents=jnp.asarray(exponents, jnp.int32),
        inner=inner,
        anchors=(jnp.asarray(jets.t[few], dtype), jnp.asarray(jets.eta[few], dtype)),
        coefficients=jnp.zeros(len(exponents) - 1 + d * inner, dtype),
    )
