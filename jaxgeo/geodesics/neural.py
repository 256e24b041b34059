"""Geodesics as small networks, trained by descent of the energy: for any metric, in batches.

A network that is trained at fixed times can stand still at all of them and jump in between. Here
every step draws new times, one in each of equal strata of [0, 1], and no curve is judged at the
times of its training.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._batching import one_by_one
from jaxgeo._linalg import (
    HIGHEST,
    cholesky,
    cholesky_solve,
    frozen,
    quadratic_form,
    safe_sqrt,
    solve_spd,
)
from jaxgeo._results import RESULTS
from jaxgeo._typing import Metric, Point, Scalar, Vector, as_points, check_metric
from jaxgeo.geodesics.solution import (
    GeodesicSolution,
    as_domain,
    assess,
    check_inside,
    first_failure,
    metric_result,
)
from jaxgeo.metrics import warn_off_support

Boundary = Literal["bubble", "affine"]
Functional = Literal["energy", "length"]
Curve = Callable[[Scalar], Point]
Layers = tuple[tuple[Array, Array], ...]
"""Weights `(inputs, outputs)` and biases `(outputs,)`, from the time to the curve."""

SHARPNESS = 6.0
"""How fast the units of the first layer bend: within a sixth of the curve."""

PANEL = 4
"""Gauss-Legendre nodes in each segment on which a curve is measured."""


@final
class NeuralGeodesic(eqx.Module):
    r"""A curve between two points, given by a network of time; any time can be asked for.

    $$ \gamma(t) = (1 - t)\,z_0 + t\,z_1 + t(1 - t)\,A\,h(t) \quad\text{(bubble)}, \qquad
       \gamma(t) = \frac{(z_0 - z_1)\,h(t) - z_0 h(1) + z_1 h(0)}{h(0) - h(1)}
       \quad\text{(affine)} $$

    with h a perceptron of hyperbolic tangents. The bubble holds its ends exactly and, with the
    last layer zero as it is at first, is the straight line. The affine form works coordinate by
    coordinate; it is singular where h(0) = h(1), and cannot move a coordinate that is equal at
    both ends. A batch of curves is one `NeuralGeodesic` whose arrays have a leading axis.

    - `start`, `end`: z₀ and z₁, `(d,)`.
    - `frame`: A, `(d, d)`, the units of the network's output.
    - `layers`: weights and biases of h.
    - `boundary`: "bubble" or "affine".

    **Cost:** one forward sweep of the network for a point, its `jvp` for a velocity.

    **Reference:** the affine form: AutoEncoderToolkit.jl, `NeuralGeodesic`.
    """

    start: Point
    end: Point
    frame: Float[Array, "d d"]
    layers: Layers
    boundary: Boundary = eqx.field(static=True, default="bubble")

    def __call__(self, t: ArrayLike) -> Point:
        """The point at time `t` in [0, 1]; NaN outside. Vectorise with `jax.vmap`."""
        t = jnp.asarray(t, self.start.dtype)
        point = self._bubble(t) if self.boundary == "bubble" else self._affine(t)
        return _within(t, point)

    def velocity(self, t: ArrayLike) -> Vector:
        """dγ/dt at time `t` in [0, 1]; NaN outside."""
        t = jnp.asarray(t, self.start.dtype)
        return _within(t, _moving(self, t)[1])

    def velocity_by_differences(self, t: ArrayLike) -> Vector:
        """dγ/dt by differences of order 2, a check of `velocity`; NaN outside [0, 1].

        The derivative at `t` of the parabola through three points of the curve: central, and
        one-sided where [0, 1] ends. The cube root of the dtype's epsilon lies between them.
        """
        t = jnp.asarray(t, self.start.dtype)
        h = float(jnp.finfo(t.dtype).eps) ** (1 / 3)
        middle = jnp.clip(t, h, 1 - h)
        places = jnp.clip(middle + h * jnp.array([-1, 0, 1], t.dtype), 0, 1)
        before, here, after = jax.vmap(self)(places)
        bend = (after - 2 * here + before) / h**2
        return _within(t, (after - before) / (2 * h) + (t - middle) * bend)

    def _bubble(self, t: Scalar) -> Point:
        return (1 - t) * self.start + t * self.end + t * (1 - t) * self._network(t)

    def _affine(self, t: Scalar) -> Point:
        first, last = self._network(jnp.zeros_like(t)), self._network(jnp.ones_like(t))
        moved = (self.start - self.end) * self._network(t) - self.start * last + self.end * first
        return moved / (first - last)

    def _network(self, t: Scalar) -> Vector:
        weight, bias = self.layers[-1]
        h = jnp.dot(_hidden(self.layers, t), weight, precision=HIGHEST) + bias
        return jnp.dot(self.frame, h, precision=HIGHEST)


def _hidden(layers: Layers, t: Scalar) -> Float[Array, " width"]:
    """The units of the last hidden layer."""
    h = t[None]
    for weight, bias in layers[:-1]:
        h = jnp.tanh(jnp.dot(h, weight, precision=HIGHEST) + bias)
    return h


def _within(t: Scalar, value: Vector) -> Vector:
    return jnp.where((t >= 0) & (t <= 1), value, jnp.nan)


class NeuralGeodesicFit(NamedTuple):
    """What `fit_neural_geodesics` returns; every array has the pairs as its first axis.

    - `curves`: the trained networks.
    - `solution`: the curves at equal steps of t, how they ended, and their statistics.
    - `history`: `(b, steps)`, the estimate of the functional that every step descended.
    """

    curves: NeuralGeodesic
    solution: GeodesicSolution
    history: Float[Array, "b steps"]


def fit_neural_geodesics(
    metric: Metric,
    starts: ArrayLike,
    ends: ArrayLike,
    *,
    key: Array,
    curves: NeuralGeodesic | None = None,
    boundary: Boundary = "bubble",
    functional: Functional = "energy",
    width: int = 32,
    depth: int = 2,
    steps: int = 1000,
    strata: int = 64,
    learning_rate: ArrayLike = 0.01,
    n_segments: int = 64,
    rtol: ArrayLike = 0.02,
    domain: ArrayLike | None = None,
    throw: bool = True,
) -> NeuralGeodesicFit:
    r"""Geodesics between many pairs of points at once, each a network trained on the energy.

    $$ \min_h \; \frac{1}{2N} \sum_{i=0}^{N-1} g(\gamma', \gamma')\big|_{t_i}, \qquad
       t_i \sim \text{uniform in } \left[\tfrac iN, \tfrac{i+1}N\right] $$

    The estimate is unbiased, and new at every step, so no curve can learn its times. For curves
    that are wanted as smooth functions of time, and many at once; `geodesic_bvp` is far more
    accurate. Trained from the straight line, a network finds the geodesic that is downhill from
    there, not always the shortest.

    **Arguments:**

    - `metric`: any callable from a point to a positive definite matrix.
    - `starts`, `ends`: the pairs, `(b, d)` both.
    - `key`: for the first weights and the times. All pairs share them, so what is found for one
      does not depend on the others.
    - `curves`: networks to train further, as an earlier fit returned them.
    - `boundary`, `width`, `depth`: of new networks, with `depth` hidden layers of `width` units.
      The units of a bubble are the mean metric along the straight line.
    - `functional`: "energy", or "length", which leaves the speed free; its solution is given at
      constant speed, the networks are not.
    - `steps`, `learning_rate`: of Adam, the rate falling to zero on a cosine.
    - `strata`: N, the times in one step.
    - `n_segments`: segments of the solution, each measured at four Gauss-Legendre nodes.
    - `rtol`: greatest `stats["correction"]` of a geodesic; its length is then within about
      `rtol`²/2 of the exact one, relatively.
    - `domain`: `(d, 2)` bounds of the box in which the metric is known.
    - `throw`: raise if any pair failed, once, at the end.

    **Returns:** `NeuralGeodesicFit`. To the statistics of every solution comes `correction`, how
    far the curve is from a geodesic:

    $$ \min_c \int (q - c)^\top g^{-1} (q - c) \,dt \Big/ \int g(\gamma', \gamma') \,dt, \qquad
       q(t) = g\gamma' - \int_0^t \tfrac12 \partial g(\gamma', \gamma') $$

    is its square: q is constant along a geodesic (du Bois-Reymond), and the square is the share
    of the energy that a metric frozen along the curve would let it lose. A wrong speed counts as
    much as a wrong path, and no straight line passes for a geodesic that is none. (`residual`
    takes second derivatives, which a network does not settle: it stays large.)
    Energy and length differentiate in `metric`, `starts` and `ends`, by the envelope theorem and
    so to the accuracy of the training; the points do not.

    **Fails:** `ValueError` on shape, dtype, bounds and settings. Per pair:
    `metric_not_positive_definite`, `nonfinite` (also of an affine curve whose scale is singular),
    `left_domain`, `not_converged` if `correction` exceeds `rtol`.

    **Cost:** `steps` times `strata` evaluations of the metric and its gradient for every pair, in
    one compiled loop. Compiles once per shape, settings and structure of `metric`.

    **Example:**

    >>> from jaxgeo.problems import half_plane_metric
    >>> a, b = jnp.array([[0.0, 1.0]]), jnp.array([[0.0, 2.0]])
    >>> fit = fit_neural_geodesics(half_plane_metric, a, b, key=jax.random.key(0))
    >>> round(fit.solution.stats["length"][0].item(), 3)
    0.693

    **Reference:** do Carmo (1992), ch. 9; strata: Owen (2013), *Monte Carlo*, ch. 8.4; curves of
    least energy as networks: AutoEncoderToolkit.jl, `NeuralGeodesics`.
    """
    z0 = as_points(starts, "starts")
    z1 = as_points(ends, "ends", z0[0])
    if len(z0) != len(z1):
        raise ValueError(f"`ends` must have shape {z0.shape} like the starts, got {z1.shape}.")
    bounds = as_domain(domain, z0[0])
    check_inside(z0, "starts", bounds)
    check_inside(z1, "ends", bounds)
    warn_off_support(metric, z0, z1)
    if curves is not None and (curves.start.shape, curves.start.dtype) != (z0.shape, z0.dtype):
        raise ValueError(
            f"`curves` must join points of shape {z0.shape} and dtype {z0.dtype} like the starts, "
            f"got shape {curves.start.shape} and dtype {curves.start.dtype}."
        )
    plan = _Plan(boundary, functional, width, depth, steps, strata, n_segments)
    plan.check()
    numbers = jnp.asarray(learning_rate, z0.dtype), jnp.asarray(rtol, z0.dtype)
    return _fit(metric, z0, z1, key, curves, plan, *numbers, bounds, throw)


class _Plan(NamedTuple):
    """The settings that are fixed in the compiled program."""

    boundary: Boundary
    functional: Functional
    width: int
    depth: int
    steps: int
    strata: int
    n_segments: int

    def check(self) -> None:
        for name, kinds in (("boundary", Boundary), ("functional", Functional)):
            if (kind := getattr(self, name)) not in get_args(kinds):
                raise ValueError(f"`{name}` must be one of {get_args(kinds)}, got {kind!r}.")
        for name in ("width", "depth", "steps", "strata", "n_segments"):
            if (count := getattr(self, name)) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {count}.")


@eqx.filter_jit
def _fit(
    metric: Metric,
    starts: Float[Array, "b d"],
    ends: Float[Array, "b d"],
    key: Array,
    curves: NeuralGeodesic | None,
    plan: _Plan,
    learning_rate: Scalar,
    rtol: Scalar,
    domain: Float[Array, "d 2"] | None,
    throw: bool,
) -> NeuralGeodesicFit:
    check_metric(metric, starts[0])
    # closures may hold traced values: hoist them, so that derivatives can be taken in them
    g = eqx.filter_closure_convert(metric, starts[0])
    still = frozen(g)
    key_weights, key_times = jax.random.split(key)
    draws = jax.random.uniform(key_times, (plan.steps, plan.strata), starts.dtype)
    times = (jnp.arange(plan.strata, dtype=starts.dtype)[None, :] + draws) / plan.strata

    def one(z0: Point, z1: Point, curve: NeuralGeodesic | None) -> NeuralGeodesicFit:
        begin, end = jax.lax.stop_gradient((z0, z1))
        first, along = _initial(still, begin, end, curve, key_weights, plan)
        # in turn on a CPU: the weights of many curves do not fit into its nearest cache
        rest = times, along, plan.functional, frozen(learning_rate)
        trained, history = one_by_one(_train, still, first, *rest)
        live = dataclasses.replace(trained, start=z0, end=z1)
        judged, stats, solution = _judge(g, live, z0.dtype, plan, domain)
        small = stats["correction"] <= rtol
        converged = RESULTS.where(small, RESULTS.successful, RESULTS.not_converged)
        result = first_failure(metric_result(along), judged, converged)
        stats |= {"iterations": jnp.asarray(plan.steps, jnp.int32)}
        return NeuralGeodesicFit(trained, GeodesicSolution(*solution, result, stats), history)

    fit = jax.vmap(one)(starts, ends, frozen(curves))
    if throw:
        failed = fit.solution.result != RESULTS.successful
        fit = fit.solution.result.error_if(fit, failed)
    return fit


def _moving(curve: Curve, t: Scalar) -> tuple[Point, Vector]:
    """The point and the velocity."""
    return jax.jvp(curve, (t,), (jnp.ones_like(t),))


def _measured(
    metric: Metric, curve: Curve, t: Float[Array, " m"]
) -> tuple[Float[Array, "m d"], Float[Array, "m d"], Float[Array, " m"]]:
    """Points, velocities and squared speeds at times `t`."""
    z, v = jax.vmap(lambda s: _moving(curve, s))(t)
    return z, v, jax.vmap(lambda z, v: quadratic_form(metric(z), v, v))(z, v)


def _initial(
    metric: Metric,
    z0: Point,
    z1: Point,
    curve: NeuralGeodesic | None,
    key: Array,
    plan: _Plan,
) -> tuple[NeuralGeodesic, Float[Array, "n d d"]]:
    """The curve that training starts from, and the metric along it (or the straight line)."""
    t = jnp.asarray(_nodes(plan.n_segments)[0], z0.dtype)
    if curve is not None:
        curve = dataclasses.replace(curve, start=z0, end=z1)
        return curve, jax.vmap(lambda s: metric(curve(s)))(t)
    g = jax.vmap(lambda s: metric((1 - s) * z0 + s * z1))(t)
    eye = jnp.eye(z0.size, dtype=z0.dtype)
    frame, layers = eye, _layers(key, z0.size, plan, z0.dtype)
    if plan.boundary == "bubble":
        # A Aᵀ is the inverse of the mean metric times the squared length of the straight line:
        # then neither the units of the coordinates nor the scale of the metric matter
        mean = jnp.mean(g, axis=0)
        size = safe_sqrt(quadratic_form(mean, z1 - z0, z1 - z0))
        frame = size * cholesky(cholesky_solve(cholesky(mean), eye))
        layers = (*layers[:-1], jax.tree.map(jnp.zeros_like, layers[-1]))
    return NeuralGeodesic(z0, z1, frame, layers, plan.boundary), g


def _layers(key: Array, d: int, plan: _Plan, dtype: Any) -> Layers:
    """The units of the first layer bend at places spread evenly over [0, 1]."""
    width = plan.width
    shapes = [(1, width), *[(width, width)] * (plan.depth - 1), (width, d)]
    sizes = [rows * columns for rows, columns in shapes]
    # one draw, for each is a program to compile
    draws = jnp.split(jax.random.normal(key, (sum(sizes),), dtype), np.cumsum(sizes)[:-1])
    slopes, *rest = (draw.reshape(shape) for draw, shape in zip(draws, shapes, strict=True))
    slopes = SHARPNESS * slopes
    places = (jnp.arange(width, dtype=dtype) + 0.5) / width
    inner = ((weight / width**0.5, jnp.zeros(weight.shape[1], dtype)) for weight in rest)
    return ((slopes, -slopes[0] * places), *inner)


def _train(
    metric: Metric,
    curve: NeuralGeodesic,
    times: Float[Array, "steps n"],
    along: Float[Array, "m d d"],
    functional: Functional,
    learning_rate: Scalar,
) -> tuple[NeuralGeodesic, Float[Array, " steps"]]:
    """Adam on one curve; the functional is measured in units of the straight line's."""
    chord = curve.end - curve.start
    unit = quadratic_form(jnp.mean(along, axis=0), chord, chord) / 2
    unit = safe_sqrt(2 * unit) if functional == "length" else unit
    unit = jnp.where(unit == 0, 1, unit)

    def loss(layers: Layers, t: Float[Array, " n"]) -> Scalar:
        _, _, squares = _measured(metric, dataclasses.replace(curve, layers=layers), t)
        return jnp.mean(safe_sqrt(squares) if functional == "length" else squares / 2) / unit

    decay = optax.cosine_decay_schedule(learning_rate, len(times))  # type: ignore[arg-type]
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(decay, b2=0.99))

    def step(carry: tuple[Layers, Any], t: Array) -> tuple[tuple[Layers, Any], Scalar]:
        layers, state = carry
        value, gradient = jax.value_and_grad(loss)(layers, t)
        updates, state = optimizer.update(gradient, state, layers)
        return (optax.apply_updates(layers, updates), state), value

    start = (curve.layers, optimizer.init(curve.layers))
    (layers, _), values = jax.lax.scan(step, start, times)
    return dataclasses.replace(curve, layers=layers), values * unit


def _nodes(n_segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the composite Gauss-Legendre rule on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(PANEL)
    t = (np.arange(n_segments)[:, None] + (x[None, :] + 1) / 2) / n_segments
    return t.ravel(), np.tile(w / 2, n_segments) / n_segments


def _primitive(f: Float[Array, "m k"]) -> Float[Array, "m k"]:
    """∫₀ᵗ f at the nodes, where `f` is given: exact for cubics on a segment."""
    n = f.shape[0] // PANEL
    c, w = _nodes(1)
    power = np.arange(PANEL)
    inner = (c[:, None] ** (power + 1) / (power + 1)) @ np.linalg.inv(c[:, None] ** power)
    panels = f.reshape(n, PANEL, -1) / n
    whole = jnp.einsum("j,njk->nk", jnp.asarray(w, f.dtype), panels, precision=HIGHEST)
    parts = jnp.einsum("ij,njk->nik", jnp.asarray(inner, f.dtype), panels, precision=HIGHEST)
    return (parts + (jnp.cumsum(whole, axis=0) - whole)[:, None, :]).reshape(f.shape)


def _judge(
    metric: Metric, curve: Curve, dtype: Any, plan: _Plan, domain: Float[Array, "d 2"] | None
) -> tuple[Any, dict[str, Scalar], tuple[Array, Array, Array]]:
    """The result, the statistics, and times, points and velocities of a curve.

    Integrals are over nodes between the points of the solution, so what happens there counts.
    """
    t, weights = (jnp.asarray(x, dtype) for x in _nodes(plan.n_segments))
    z, v, squares = _measured(metric, curve, t)
    speeds = safe_sqrt(squares)
    length = jnp.dot(weights, speeds, precision=HIGHEST)
    ts = when = jnp.linspace(0, 1, plan.n_segments + 1, dtype=dtype)
    rate = jnp.ones_like(t)
    if plan.functional == "length":  # the same curve at constant speed: ds = |v| dt / length
        rate = jnp.where(length == 0, rate, speeds / jnp.where(length == 0, 1, length))
        v = v / jnp.where(rate == 0, 1, rate)[:, None]
        squares = jnp.full_like(squares, length**2)
        gone = _primitive(rate[:, None])[:, 0]
        when = jnp.interp(ts, jnp.pad(gone, 1).at[-1].set(1), jnp.pad(t, 1).at[-1].set(1))
    points, velocities, pace = _measured(metric, curve, when)
    if plan.functional == "length":
        velocities *= (length / jnp.where(pace == 0, 1, safe_sqrt(pace)))[:, None]
    points, velocities = jax.lax.stop_gradient((points, velocities))
    result, stats = assess(metric, ts, points, velocities, domain)
    energy = jnp.dot(weights * rate, squares, precision=HIGHEST) / 2
    stats |= {
        "energy": energy,
        "length": length,
        "excess_energy": jax.lax.stop_gradient(energy - length**2 / 2),
        "correction": _correction(metric, weights, *jax.lax.stop_gradient((z, v, rate))),
    }
    return result, stats, (ts, points, velocities)


def _correction(
    metric: Metric,
    weights: Float[Array, " m"],
    z: Float[Array, "m d"],
    v: Float[Array, "m d"],
    rate: Float[Array, " m"],
) -> Scalar:
    """How far a curve is from a geodesic, see `fit_neural_geodesics`, with rate·dt for dt."""

    def one(z: Point, v: Vector) -> tuple[Array, Array]:
        g, pull = jax.vjp(metric, z)
        (force,) = pull((v[:, None] * v[None, :] / 2).astype(g.dtype))
        return g, force

    g, force = jax.lax.stop_gradient(jax.vmap(one)(z, v))
    weights = weights * rate
    momentum = jnp.einsum("nij,nj->ni", g, v, precision=HIGHEST)
    q = momentum - _primitive(rate[:, None] * force)
    eye = jnp.broadcast_to(jnp.eye(z.shape[1], dtype=z.dtype), g.shape)
    inverse = jax.vmap(cholesky_solve)(cholesky(g), eye)
    raised = jnp.einsum("n,nij,nj->i", weights, inverse, q, precision=HIGHEST)
    mean = solve_spd(jnp.einsum("n,nij->ij", weights, inverse, precision=HIGHEST), raised)
    rest = q - mean[None, :]
    lost = jnp.einsum("n,ni,nij,nj->", weights, rest, inverse, rest, precision=HIGHEST)
    total = jnp.einsum("n,ni,ni->", weights, momentum, v, precision=HIGHEST)
    return jnp.sqrt(jnp.maximum(lost, 0) / jnp.where(total == 0, 1, total))
