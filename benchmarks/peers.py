"""What `geodesics.py` is compared with, each written afresh from its published description.

- `paper`: Lobashev et al. (2025), *Hessian Geometry of Latent Space in Generative Models*.
- `christoffel_shooting`: what JAX packages for Riemannian geometry do.
- `geomstats`: the package itself, its failures overheard.
- `reference`: no peer, but the answer to judge by where no closed form is known.
"""

import contextlib
import dataclasses
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxgeo as jg

try:
    import torch
except ImportError:
    torch = None

try:
    vars(np).setdefault("trapz", np.trapezoid)  # numpy 2.4 dropped it, geomstats 2.8 imports it
    from geomstats.geometry.hypersphere import Hypersphere
    from geomstats.geometry.poincare_half_space import PoincareHalfSpace
    from geomstats.information_geometry.beta import BetaDistributions
    from geomstats.information_geometry.dirichlet import DirichletDistributions
    from geomstats.information_geometry.gamma import GammaDistributions
    from geomstats.information_geometry.normal import UnivariateNormalDistributions
    from geomstats.numerics.bvp import ScipySolveBVP
    from geomstats.numerics.geodesic import LogODESolver, LogShootingSolver
    from geomstats.numerics.optimization import ScipyMinimize
except ImportError:
    Hypersphere = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a method says: its curve, its distance, its iterations, and how it ended."""

    points: np.ndarray
    claimed: float
    iterations: int | None
    reported: str


@dataclasses.dataclass(frozen=True)
class Method:
    """`solve(z0, z1)` is timed; `read(raw, z0, z1, n)` makes an `Answer`, its curve at n times.

    - `batch`: `solve` for ends (n, d), where a method is asked for it. Its time is multiplied by
      `scale`; `failures` counts in its answer.
    - `limit`: how many of a problem's pairs it is given.
    """

    name: str
    solve: Callable
    read: Callable[..., Answer]
    dtype: str = "float64"
    compiles: bool = True
    batch: Callable | None = None
    scale: float = 1.0
    failures: Callable[[Any], int | None] = lambda answer: None
    limit: int | None = None


# A polyline under Adam


def torch_log_sum_exp(theta: Any) -> Any:
    """log(1 + Σ exp θᵢ) of points (n, d)."""
    return torch.logsumexp(torch.nn.functional.pad(theta, (0, 1)), dim=1)


def torch_network(weights: dict[str, np.ndarray]) -> Callable:
    """Two layers of softplus and a sum, of points (n, d)."""
    w = {name: torch.tensor(x, dtype=torch.float32) for name, x in weights.items()}
    softplus = torch.nn.functional.softplus

    def potential(z: Any) -> Any:
        hidden = softplus(z @ w["first"] + w["first_bias"])
        return softplus(hidden @ w["second"] + w["second_bias"]) @ w["last"]

    return potential


def _hessians(potential: Callable, points: Any, graph: bool) -> Any:
    """Hessians (n, d, d) of a batched torch potential by two reverse sweeps."""
    (slope,) = torch.autograd.grad(potential(points).sum(), points, create_graph=True)
    rows = [
        torch.autograd.grad(slope[:, i].sum(), points, create_graph=graph, retain_graph=True)[0]
        for i in range(points.shape[1])
    ]
    return torch.stack(rows, dim=1)


def adam_polyline(
    potential: Callable,
    z0: np.ndarray,
    z1: np.ndarray,
    *,
    detached: bool,
    continuity: float,
    bounds: tuple[float, float] | None,
    steps: int,
    n_points: int = 90,
) -> np.ndarray:
    """The paper's curve, (…, n_points, d), for ends (…, d).

    Σ uᵀM(m)u over the segments u with midpoints m, plus `continuity` times Σ|uᵢ₊₁ − uᵢ|², under
    Adam with rate 0.01 from the straight line, in float32; the points are put back into `bounds`
    before each step. Published: `detached=True` (no derivative flows through M), 0.1 and (0, 1).
    """
    start, end = (torch.tensor(z, dtype=torch.float32).unsqueeze(-2) for z in (z0, z1))
    t = torch.linspace(0, 1, n_points)[1:-1, None]
    inner = torch.nn.Parameter(start * (1 - t) + end * t)
    optimizer = torch.optim.Adam([inner], lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        curve = torch.cat([start, inner, end], dim=-2)
        u = curve.diff(dim=-2)
        middle = ((curve[..., 1:, :] + curve[..., :-1, :]) / 2).reshape(-1, u.shape[-1])
        if detached:
            metric = _hessians(potential, middle.detach().requires_grad_(), False).detach()
        else:
            metric = _hessians(potential, middle, True)
        flat = u.reshape(-1, u.shape[-1])
        loss = torch.einsum("ni,nij,nj->", flat, metric, flat)
        if continuity:
            loss = loss + continuity * u.diff(dim=-2).square().sum()
        loss.backward()
        if bounds is not None:
            with torch.no_grad():
                inner.clamp_(bounds[0] + 1e-6, bounds[1] - 1e-6)
        optimizer.step()
    return torch.cat([start, inner, end], dim=-2).detach().numpy().astype(float)


def paper(
    metric: Callable, potential: Callable, bounds: tuple[float, float] | None, steps: int
) -> list[Method]:
    """The procedure as published, and with either of its two choices undone.

    Published, it takes one pair after another; its batch is ours, and timed over a part of the
    steps, which all cost the same.
    """

    def method(detached: bool, continuity: float) -> Method:
        def run(z0: np.ndarray, z1: np.ndarray, steps: int = steps) -> np.ndarray:
            how = {"detached": detached, "continuity": continuity, "bounds": bounds}
            return adam_polyline(potential, z0, z1, steps=steps, **how)

        def read(points: np.ndarray, z0: np.ndarray, z1: np.ndarray, n: int) -> Answer:
            return Answer(points, float(jg.length(metric, points)), steps, "nothing")

        part = max(1, steps // 50)
        return Method(
            f"paper, {'detached' if detached else 'undetached'}"
            f"{', continuity' if continuity else ''}",
            run,
            read,
            dtype="float32",
            compiles=False,
            batch=(lambda z0, z1: run(z0, z1, part)) if detached and continuity else None,
            scale=steps / part,
            limit=None if detached and continuity else 2,
        )

    return [method(detached, continuity) for detached in (True, False) for continuity in (0.1, 0)]


# Shooting with the full tensor of Christoffel symbols


class Shot(NamedTuple):
    """A trajectory at 101 times, and what such packages say of it: a flag."""

    points: jax.Array
    velocities: jax.Array
    iterations: jax.Array
    converged: jax.Array


def newton_shooting(metric: Callable, n_steps: int = 100, max_iterations: int = 100) -> Callable:
    """(z0, z1) → `Shot`: RK4 of fixed step, Newton's method on the initial velocity.

    From z1 − z0, the Jacobian by `jacfwd` through all steps, until the mean square of the miss
    is below 1e-14 (theirs is 1e-7).
    """

    def slope(state: jax.Array) -> jax.Array:
        z, v = state
        dg = jax.jacfwd(metric)(z)  # [i, j, k] = ∂ₖ gᵢⱼ
        first = (dg + jnp.swapaxes(dg, 1, 2) - jnp.moveaxis(dg, 2, 0)) / 2
        symbols = jnp.einsum("kl,lij->kij", jnp.linalg.inv(metric(z)), first)
        return jnp.stack([v, -jnp.einsum("kij,i,j->k", symbols, v, v)])

    def step(state: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        h = 1 / n_steps
        a = slope(state)
        b = slope(state + h / 2 * a)
        c = slope(state + h / 2 * b)
        new = state + h / 6 * (a + 2 * b + 2 * c + slope(state + h * c))
        return new, new

    def follow(z0: jax.Array, v: jax.Array) -> jax.Array:
        start = jnp.stack([z0, v])
        return jnp.concatenate([start[None], jax.lax.scan(step, start, None, n_steps)[1]])

    def solve(z0: jax.Array, z1: jax.Array) -> Shot:
        def miss(v: jax.Array) -> jax.Array:
            return follow(z0, v)[-1, 0] - z1

        def going(state: tuple) -> jax.Array:
            return (state[1] >= 1e-14) & (state[2] < max_iterations)  # NaN stops it too

        def newton(state: tuple) -> tuple:
            v, _, count = state
            v = v - jnp.linalg.solve(jax.jacfwd(miss)(v), miss(v))
            return v, jnp.mean(miss(v) ** 2), count + 1

        v = z1 - z0
        v, error, count = jax.lax.while_loop(going, newton, (v, jnp.mean(miss(v) ** 2), 0))
        path = follow(z0, v)
        return Shot(path[:, 0], path[:, 1], count, error < 1e-14)

    return solve


def christoffel_shooting(metric: Callable) -> Method:
    """`newton_shooting`; its distance is the speed at the start."""

    def read(shot: Shot, z0: np.ndarray, z1: np.ndarray, n: int) -> Answer:
        ts = jnp.linspace(0, 1, len(shot.points))
        curve = jg.GeodesicSolution(ts, shot.points, shot.velocities, None, {})
        points = np.asarray(jax.vmap(curve.evaluate)(jnp.linspace(0, 1, n)))
        speed = float(jg.norm(metric, z0, shot.velocities[0]))
        return Answer(points, speed, int(shot.iterations), f"flag {bool(shot.converged)}")

    return Method("RK4 + Newton, d³ Christoffel", jax.jit(newton_shooting(metric)), read)


# geomstats

CLOSED_FORMS = ("half_plane", "sphere", "normal")
SOLVERS = ("default", "20000 nodes", "shooting")
"""The default of gamma, beta and Dirichlet is collocation on 1000 nodes, never refined."""


@contextlib.contextmanager
def _overhear(heard: list[str]) -> Iterator[None]:
    """Collect every warning, by `warnings` or by `logging`, and an exception if one ends it."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())
    root = logging.getLogger()
    kept, root.handlers = root.handlers, [handler]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        heard += [str(w.message) for w in caught]
    except Exception as error:  # whatever a peer raises is its answer
        heard.append(f"{type(error).__name__}: {error}")
    finally:
        root.handlers = kept


def _space(name: str, solver: str) -> Any:
    """A space of geomstats, its metric with the solver."""
    space = {
        "half_plane": lambda: PoincareHalfSpace(2),
        "sphere": lambda: Hypersphere(2),
        "normal": UnivariateNormalDistributions,
        "gamma": GammaDistributions,
        "beta": BetaDistributions,
        "dirichlet": lambda: DirichletDistributions(3),
    }[name]()
    if solver == "shooting":
        # its own default needs automatic differentiation, which its numpy backend lacks
        optimizer = ScipyMinimize(save_result=True)
        space.metric.log_solver = LogShootingSolver(space, optimizer)
    elif name not in CLOSED_FORMS:
        nodes = 1000 if solver == "default" else 20000
        integrator = ScipySolveBVP(max_nodes=nodes, save_result=True)
        space.metric.log_solver = LogODESolver(space, 1000, integrator)
    return space


def geomstats(name: str, solver: str = "default", limit: int | None = None) -> Method:
    """Timed: `metric.geodesic` and its points at 65 times."""
    space = _space(name, solver)
    metric = space.metric

    def into(z: np.ndarray) -> np.ndarray:
        return space.spherical_to_extrinsic(z) if name == "sphere" else z

    def solve(z0: np.ndarray, z1: np.ndarray) -> tuple[Any, list[str]]:
        path, heard = None, []
        with _overhear(heard):
            path = metric.geodesic(into(z0), into(z1))
            path(np.linspace(0, 1, 65))
        return path, heard

    def read(raw: tuple, z0: np.ndarray, z1: np.ndarray, n: int) -> Answer:
        path, heard = raw
        own = getattr(metric, "log_solver", None)
        engine = getattr(own, "integrator", None) or getattr(own, "optimizer", None)
        scipys = getattr(engine, "result_", {})
        said = heard[0] if heard else "nothing"
        if not scipys.get("success", True):
            said += f" (SciPy's status {scipys['status']} dropped)"
        points, claimed = np.full((1, z0.size), np.nan), math.nan
        if path is not None:
            with _overhear([]):
                points = np.asarray(path(np.linspace(0, 1, n)))
                claimed = float(np.squeeze(metric.dist(into(z0), into(z1))))
        if name == "sphere":
            points = np.unwrap(space.extrinsic_to_spherical(points), axis=0)
            points += 2 * np.pi * np.round((z0 - points[0]) / (2 * np.pi))
        return Answer(points, claimed, scipys.get("nit", scipys.get("niter")), said)

    kind = "closed form" if name in CLOSED_FORMS else solver
    return Method(f"geomstats, {kind}", solve, read, compiles=False, limit=limit)


# The independent answer


def reference(
    metric: Callable, z0: np.ndarray, z1: np.ndarray, logarithmic: bool
) -> tuple[float, float]:
    """The distance of `z1` from `z0`, and how far the last two extrapolations are apart.

    Polylines of 256 to 2048 segments, each relaxed from the one before (the first from a straight
    line, of log z where `logarithmic`) by the recursion of GEORCE (Rygaard & Hauberg, 2025) with
    the metric at midpoints; the length is of second order in 1/N, extrapolated twice.
    """

    def local(x: jax.Array) -> jax.Array:
        scale = jnp.exp(x) if logarithmic else jnp.ones_like(x)
        return metric(jnp.exp(x) if logarithmic else x) * scale[:, None] * scale[None, :]

    def segment(middle: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        g, pull = jax.vjp(local, middle)
        return g, pull(jnp.outer(u, u))[0]

    sweep = jax.jit(jax.vmap(segment))
    ends = np.log([z0, z1]) if logarithmic else np.array([z0, z1])
    x, lengths = ends[:1] + np.linspace(0, 1, 257)[:, None] * (ends[1:] - ends[:1]), []
    while len(x) <= 2049:
        x, energy = _relaxed(sweep, x)
        lengths.append(math.sqrt((len(x) - 1) * energy))
        t = np.linspace(0, len(x) - 1, 2 * len(x) - 1)
        x = np.stack([np.interp(t, np.arange(len(x)), column) for column in x.T], axis=1)
    once = [(4 * fine - coarse) / 3 for coarse, fine in pairwise(lengths)]
    twice = [(16 * fine - coarse) / 15 for coarse, fine in pairwise(once)]
    return twice[-1], abs(twice[-1] - twice[-2])


def _relaxed(sweep: Callable, x: np.ndarray) -> tuple[np.ndarray, float]:
    """The polyline of least energy Σ uᵀGu, by descent along the frozen model's solution."""

    def measure(x: np.ndarray) -> tuple:
        u = np.diff(x, axis=0)
        g, nu = (np.asarray(a) for a in sweep((x[1:] + x[:-1]) / 2, u))
        return u, g, nu, float(np.einsum("nij,ni,nj->", g, u, u))

    u, g, nu, energy = measure(x)
    step = 1.0
    for _ in range(2000):
        inverse = np.linalg.inv(g)
        force = np.zeros_like(u)
        force[:-1] = np.cumsum(((nu[1:] + nu[:-1]) / 2)[::-1], axis=0)[::-1]
        pull = np.einsum("nij,nj->ni", inverse, force)
        multiplier = -np.linalg.solve(inverse.sum(0), pull.sum(0) + 2 * u.sum(0))
        change = -(inverse @ multiplier + pull) / 2 - u
        decrement = np.einsum("nij,ni,nj->", g, change, change)
        if decrement < 1e-14 * energy:
            break
        move = np.pad(np.cumsum(change, axis=0)[:-1], ((1, 1), (0, 0)))
        step = min(1.0, 2 * step)
        trial = measure(x + step * move)
        while not trial[3] <= energy - 2e-4 * step * decrement and step > 1e-9:
            step /= 2
            trial = measure(x + step * move)
        if step <= 1e-9:  # the energy's rounding is reached
            break
        x = x + step * move
        u, g, nu, energy = trial
    return x, energy
