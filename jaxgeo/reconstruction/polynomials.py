r"""A log-partition function of three or more smooth coordinates, as a polynomial.

Where no phase boundary is, few numbers say all: on a box of parameters, with coordinates
stretched where the metric is large, a polynomial of low degree has a tenth of the freedom of a
network and needs no training. Its coefficients solve linear equations, and what the samples leave
open of them is known. The statistic that belongs to it is found from the same equations: few
samples are near each other in many dimensions, so that pairs say little there.
"""

import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, Int
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import nnls

from jaxgeo._linalg import HIGHEST
from jaxgeo._typing import Chart, Metric, Point, Scalar
from jaxgeo.metrics import HessianMetric, ReparametrizedMetric
from jaxgeo.reconstruction.charts import identity
from jaxgeo.reconstruction.convexity import with_eigenvalues
from jaxgeo.reconstruction.profile import Contest, likeliest_readout

ORDERS = range(2, 8)
"""Degrees that are tried; held-out samples choose."""
SAMPLES_PER_COEFFICIENT = 48
"""No polynomial with more coefficients than so many samples each is tried."""
STRETCH = 0.25
"""Coordinates are stretched by this power of the metric."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
ANCHORS = 512
CHUNK = 512
"""Samples whose equations are written down at once."""
GROUPS = 16
"""Of samples, for the jackknife."""
CANDIDATES = 4096
"""Parameters that compete for each sample in the likelihood of the statistic."""
FLOOR = 1e-2
"""The metrics that set weights are at least this much of their mean."""
LEAST = 0.01
"""Of a sample's metric that sets its weight, the potential's is to be at least this much."""
PLANES, ROUNDS = 64, 20
"""Samples that convexity is newly asked of in a round; rounds at most."""
JITTER = 1e-9
"""Of the diagonal of the equations: what rounding leaves of directions that no sample fixes."""


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
            np.asarray(eqx.filter_jit(jax.vmap(f))(t), np.float64)
            for f in (chart, first, jax.jacfwd(first))
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


def bounded(metric: np.ndarray) -> np.ndarray:
    """Metrics (n, d, d) with eigenvalues of at least `FLOOR` of their mean's size."""
    unit = np.sqrt(np.diagonal(metric.mean(axis=0)))
    return with_eigenvalues(lambda values: np.maximum(values, FLOOR), metric, unit)


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


@eqx.filter_jit
def _columns(potential: PolynomialPotential, t: Float[Array, "n d"]) -> Float[Array, "n M"]:
    return jax.vmap(potential.columns)(t)


@eqx.filter_jit
def _slopes(potential: PolynomialPotential, t: Float[Array, "n d"]) -> Float[Array, "n M d"]:
    return jax.vmap(jax.jacfwd(potential.columns))(t)


@eqx.filter_jit
def _metrics(potential: PolynomialPotential, t: Float[Array, "n d"]) -> Float[Array, "n d d"]:
    return jax.vmap(potential.metric)(t)


@eqx.filter_jit
def _bends(potential: PolynomialPotential, t: Float[Array, "n d"]) -> Float[Array, "n M d d"]:
    return jax.vmap(jax.jacfwd(jax.jacfwd(potential.columns)))(t)


class Equations:
    r"""The normal equations of the coefficients c, by samples' parameters and statistics.

    In frames in which the metric is the identity, $\nabla_t A - J^\top f$ has mean 0 and
    covariance $g(t)$ of A; both are linear in c."""

    def __init__(self, potential: PolynomialPotential, jets: Jets, metric: np.ndarray):
        self.potential, self.jets = potential, jets
        self.frames = np.linalg.inv(np.linalg.cholesky(metric))

    def _parameters(self):
        for begin in range(0, len(self.jets.t), CHUNK):
            rows = slice(begin, begin + CHUNK)
            yield rows, jnp.asarray(self.jets.t[rows], self.potential.domain.dtype)

    def chunks(self, scatter: bool):
        """Rows, their J f in frames, gradients (k, d, M) in frames, Hessians (k, d, d, M)."""
        for rows, t in self._parameters():
            pull = self.frames[rows] @ self.jets.jacobian[rows].transpose(0, 2, 1)
            gradient = self._gradients(t)
            found: list[Any] = [rows, pull, self.frames[rows] @ gradient]
            if scatter:
                found.append(self._hessians(rows, t, gradient))
            yield found

    def _gradients(self, t) -> np.ndarray:
        return np.asarray(_slopes(self.potential, t), np.float64).transpose(0, 2, 1)

    def _hessians(self, rows, t, gradient) -> np.ndarray:
        hessian = np.asarray(_bends(self.potential, t), np.float64).transpose(0, 2, 3, 1)
        mean = np.linalg.solve(self.jets.jacobian[rows].transpose(0, 2, 1), gradient)
        hessian = hessian - np.einsum("nkab,nkm->nabm", self.jets.second[rows], mean)
        hessian = np.einsum("nia,nabm->nibm", self.frames[rows], hessian)
        return np.einsum("njb,nibm->nijm", self.frames[rows], hessian)

    def by_means(self, values: np.ndarray) -> np.ndarray:
        """The c (M, ...) of least squares of the means alone, of values (n, d, ...)."""
        matrix: Any = 0.0
        moments: Any = 0.0
        for rows, pull, gradient in self.chunks(scatter=False):
            flat = gradient.reshape(-1, gradient.shape[-1])
            seen = pull @ values[rows].reshape(*pull.shape[:2], -1)
            matrix = matrix + flat.T @ flat
            moments = moments + flat.T @ seen.reshape(len(flat), -1)
        return Solved(matrix).solve(moments).reshape(len(moments), *values.shape[2:])

    def linear_score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""The A (r, d) of the statistic $A^\top\varphi$, and what it changes by (GROUPS, r, d)
        without each of so many groups of samples.

        Were f among the linear functions of φ, then $\mathrm{Cov}[\varphi|\eta] A = \partial
        E[\varphi|\eta]/\partial\eta$ at every η with one A; here of both sides' means over the
        samples, each weighed by one over the size of its metric."""
        inverse = np.linalg.inv(self.jets.jacobian)
        sizes = np.sum((inverse.transpose(0, 2, 1) @ np.linalg.inv(self.frames)) ** 2, axis=2)
        weights = 1 / np.mean(sizes / np.median(sizes, axis=0), axis=1)
        columns = np.c_[np.ones(len(features)), self.columns()]
        groups = np.array_split(np.arange(len(features)), GROUPS)
        parts = [
            (columns[rows].T @ columns[rows], columns[rows].T @ features[rows]) for rows in groups
        ]
        matrix, moments = (sum(part) for part in zip(*parts, strict=True))
        means = Solved(matrix).solve(moments)
        rest = (features - columns @ means) * np.sqrt(1 / (1 - len(means) / len(features)))
        scatter, slopes = [], []
        for rows in groups:
            t = jnp.asarray(self.jets.t[rows], self.potential.domain.dtype)
            slope = np.asarray(_slopes(self.potential, t), np.float64)
            scatter.append((rest[rows] * weights[rows, None]).T @ rest[rows])
            slopes.append(np.einsum("nma,nab,n->mb", slope, inverse[rows], weights[rows]))
        every = sum(scatter), sum(slopes)
        found = np.linalg.solve(every[0], means[1:].T @ every[1])
        without = []
        for (own, moment), c, b in zip(parts, scatter, slopes, strict=True):
            other = Solved(matrix - own).solve(moments - moment)
            without.append(np.linalg.solve(every[0] - c, other[1:].T @ (every[1] - b)))
        return found, np.stack(without) - found

    def columns(self) -> np.ndarray:
        """(n, M)."""
        columns = [_columns(self.potential, t) for _, t in self._parameters()]
        return np.concatenate([np.asarray(c, np.float64) for c in columns])

    def likeliest(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The likeliest R (d, d) for values R in the place of `values` (n, d), each R with its own
        potential by means (`profile.py`); the information about R; and the c (M,) with it."""
        n, d = values.shape
        entries = np.einsum("na,kb->nkab", values, np.eye(d)).reshape(n, d, d * d)
        coefficients = self.by_means(entries)
        contest = Contest(
            values,
            self.jets.eta - self.jets.eta.mean(axis=0),
            self.columns() @ coefficients,
            np.random.default_rng(0).permutation(n)[:CANDIDATES],
        )
        mixing, information = likeliest_readout(contest, np.eye(d), np.zeros(d * d))
        return mixing, information, coefficients @ mixing.ravel()

    def by_scatter(self, values, coefficients, doubts) -> tuple[np.ndarray, np.ndarray]:
        """The c of both, residuals being those from `coefficients`, convex at every sample; and
        draws (K, M) of what is left open, with `doubts` (n, d, K) of the values."""
        i, j = np.triu_indices(values.shape[1])
        root = np.where(i == j, 0.5, 1.0) ** 0.5
        matrix: Any = 0.0
        moments: Any = 0.0
        for rows, pull, gradient, hessian in self.chunks(scatter=True):
            flat = gradient.reshape(-1, gradient.shape[-1])
            both = np.concatenate([values[rows][:, :, None], doubts[rows]], axis=2)
            seen = pull @ both
            rest = seen[:, :, 0] - gradient @ coefficients
            bends = (hessian[:, i, j] * root[:, None]).reshape(-1, flat.shape[-1])
            matrix = matrix + flat.T @ flat + bends.T @ bends
            moments = moments + flat.T @ seen.reshape(len(flat), -1)
            moments[:, 0] += bends.T @ (rest[:, i] * rest[:, j] * root).ravel()
        solved = Solved(matrix)
        found, shifts = np.split(solved.solve(moments), [1], axis=1)
        noise = np.random.default_rng(1).normal(size=shifts.shape)
        convex = self.convex(found[:, 0], solved)
        return convex, (convex[:, None] + shifts + solved.color(noise)).T

    def convex(self, coefficients: np.ndarray, solved: "Solved") -> np.ndarray:
        """The c nearest to the coefficients, in standard errors, for which the metric of every
        sample is at least `LEAST` of the one that sets its weight: cutting planes, each set by
        least distance programming (Lawson & Hanson 1974, *Solving Least Squares Problems*, §23.4).

        **Fails:** `LinAlgError` if there are none, or not in `ROUNDS`."""
        white = solved.color(np.eye(len(coefficients)))
        planes, found = np.zeros((0, len(coefficients))), coefficients
        for _ in range(ROUNDS):
            potential = self.potential.with_coefficients(found)
            metrics = [
                np.asarray(_metrics(potential, t), np.float64) for _, t in self._parameters()
            ]
            seen = self.frames @ np.concatenate(metrics) @ self.frames.transpose(0, 2, 1)
            lowest, vectors = np.linalg.eigh(seen)
            rows = np.argsort(lowest[:, 0])[:PLANES]
            rows = rows[lowest[rows, 0] < LEAST]
            if len(rows) == 0:
                return found
            t = jnp.asarray(self.jets.t[rows], self.potential.domain.dtype)
            v = vectors[rows, :, 0]
            hessian = self._hessians(rows, t, self._gradients(t))
            planes = np.concatenate([planes, np.einsum("ni,nijm,nj->nm", v, hessian, v)])
            found = coefficients + white @ nearest(
                planes @ white, 2 * LEAST - planes @ coefficients
            )
        raise np.linalg.LinAlgError(f"not convex at {len(rows)} samples after {ROUNDS} rounds")

    def losses(self, coefficients: np.ndarray, values: np.ndarray) -> np.ndarray:
        """χ² of every sample's statistic about its mean."""
        found: list[np.ndarray] = []
        for rows, pull, gradient in self.chunks(scatter=False):
            rest = np.einsum("nak,nk->na", pull, values[rows]) - gradient @ coefficients
            found.append(np.sum(rest**2, axis=1))
        return np.concatenate(found)


def nearest(planes: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """The smallest x with planes x ≥ heights. **Fails:** `LinAlgError` if there is none."""
    target = np.r_[np.zeros(planes.shape[1]), 1.0]
    both = np.c_[planes, heights].T
    try:
        rest = both @ nnls(both, target)[0] - target
    except RuntimeError as error:
        raise np.linalg.LinAlgError(f"nearest convex polynomial not found: {error}") from error
    if not np.abs(rest[-1]) > 1e-9:
        raise np.linalg.LinAlgError("no polynomial is convex at every sample")
    return -rest[:-1] / rest[-1]


class Solved:
    """A positive definite matrix, factored in units of its own diagonal."""

    def __init__(self, matrix: np.ndarray):
        self.unit = 1 / np.sqrt(np.diagonal(matrix))
        scaled = matrix * np.outer(self.unit, self.unit)
        self.factor = cho_factor(scaled + JITTER * np.eye(len(matrix)), lower=True)

    def solve(self, b: np.ndarray) -> np.ndarray:
        """For (m, k)."""
        return self.unit[:, None] * cho_solve(self.factor, self.unit[:, None] * b)

    def color(self, noise: np.ndarray) -> np.ndarray:
        """White noise (m, k), with the inverse for covariance."""
        lower = np.tril(self.factor[0])
        return self.unit[:, None] * solve_triangular(lower, noise, trans="T", lower=True)
