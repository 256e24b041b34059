"""A simulator to a curved exponential family, hence its Fisher metric."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Shaped

from jaxgeo import _mesh
from jaxgeo._batching import each
from jaxgeo._files import below, claim, fingerprint
from jaxgeo._results import RESULTS
from jaxgeo._typing import Point, Scalar, Vector
from jaxgeo.reconstruction.networks import CurvedFamily, InformationMetric
from jaxgeo.reconstruction.objectives import (
    RIVALS,
    information_mismatch,
    likelihood_mismatch,
    nats_missed,
)
from jaxgeo.reconstruction.samples import check_domain, stream_samples
from jaxgeo.reconstruction.stages import raise_unless_successful
from jaxgeo.reconstruction.statistic import calibrate_with_error, pairs_at_all_scales
from jaxgeo.reconstruction.summaries import Identity
from jaxgeo.training import Schedule, Trace, minimize

LIKELIHOOD = Schedule(
    steps=12_000, learning_rate=1e-2, batch_size=1024, every=100, patience=1_000,
    optimizer="muon", in_order=True,
)  # fmt: skip
INFORMATION = LIKELIHOOD._replace(steps=3_000, batch_size=4096)
FRESH = 102_400
"""Samples that a simulator gives between two validations; in their order the parameters of every
1,024 are spread evenly, so that a batch's candidates stand for all."""
HELD_OUT = 4096
SHARPNESS_LIMITS = (0.9, 1.1)
"""Held-out log-odds that must be shrunk by more than the first are those of an overfitted family;
that could be stretched by more than the last, of one that is not trained to the end."""


class CurvedFamilyFit(eqx.Module):
    r"""A curved exponential family $p(x|t) \propto h(x) \exp(\langle f(x), \eta(t)\rangle - A(t))$
    learned from samples, and its Fisher metric."""

    summary: Callable
    family: CurvedFamily
    metric: InformationMetric
    """t → (d, d), the Fisher information of ONE sample, in the coordinates of `parameters`."""
    domain: Float[Array, "d 2"]
    result: Any
    """A `RESULTS` member: unless it is `successful`, trust no size."""
    held_out_cross_entropy: float
    """Nats by which held-out samples miss their own parameters among 4,096 from the prior."""
    held_out_cross_entropy_error: float
    """Its standard error."""
    scale: float
    """The factor that would make the held-out log-odds of pairs of samples honest: 1 if they are;
    the metric's size goes with its square."""
    scale_error: float
    """Its standard error, by jackknife."""
    history: dict[str, Trace]
    """What training saw."""

    def statistic(self, x: Shaped[Array, "..."]) -> Float[Array, " k"]:
        """f(x)."""
        return self.family.statistic(self.summary(x))

    def natural_coordinates(self, t: Point) -> Float[Array, " k"]:
        """η(t), k ≥ d of them: a surface in the coordinates of an exponential family."""
        return self.family.coordinates(t)[0]

    def log_normalizer(self, t: Point) -> Scalar:
        """A(t), up to a constant."""
        return self.family.coordinates(t)[1]

    def log_weight(self, x: Shaped[Array, "..."], t: Point) -> Scalar:
        """log p(x|t) up to a function of x: under a flat prior the log posterior up to a constant;
        minus infinity outside the domain."""
        weight = self.family.log_weight(self.statistic(x), t)
        inside = jnp.all((t >= self.domain[:, 0]) & (t <= self.domain[:, 1]))
        return jnp.where(inside, weight, -jnp.inf)

    def score(self, x: Shaped[Array, "..."], t: Point) -> Vector:
        """∂/∂t log p(x|t), whose covariance over samples at t is the metric."""
        return self.family.score(self.statistic(x), t)


def fit_curved_family(
    simulator: Callable,
    *,
    key: jax.Array,
    domain: Any,
    summary: Callable | None = None,
    statistics: int = 16,
    width: int = 256,
    depth: int = 3,
    simulator_batch: int = 2_048,
    schedules: tuple[Schedule, Schedule] = (LIKELIHOOD, INFORMATION),
    checkpoint: str | Path | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    throw: bool = True,
) -> CurvedFamilyFit:
    r"""Learn a curved exponential family, hence the Fisher metric, of any smooth simulator.

    A generator without natural coordinates (`fit_log_partition` needs them, or a chart of as many)
    still has, to any accuracy, $p(x|t) = h(x) \exp(\langle f(x), \eta(t)\rangle - A(t))$ with
    enough components of f and η. Two steps:

    1. *Likelihood ratios.* f, η and A, all networks, minimise, over groups of 256 samples,
       $$ -\sum_i \log \frac{\exp(\langle f(x_i), \eta(t_i)\rangle - A(t_i))}
          {\sum_j \exp(\langle f(x_i), \eta(t_j)\rangle - A(t_j))}, $$
       the cross-entropy of the posterior among the parameters of a group: least at the true
       likelihood ratios. The score is $s = \partial_t \log p(x|t) = J_\eta^\top f - \nabla A$.
    2. *Information.* $g(t) = E[s s^\top|t]$, a positive definite network, by the likelihood of a
       normal law of the scores of samples that step 1 has not seen.

    η, A and g are each the mean of four networks that are trained side by side, so that what
    chance leaves of errors in one averages out. An error $e$ of the score enters the metric as
    $E[e e^\top]$ where it is noise, and is missing from it where f lacks what the samples know;
    `scale` and the cross-entropy tell of both.

    **Arguments:**

    - `simulator`: a callable `(key, parameters (m, d)) -> samples (m, ...)`. It is asked at
      parameters spread evenly over the domain (a scrambled Sobol' sequence), `simulator_batch` at
      a time, for some 15 million samples with the defaults: no sample serves in more than a few
      steps, so nothing can be overfitted. (Of a few thousand given samples a network's score is
      too noisy for a metric.)
    - `key`: a JAX random key.
    - `domain`: (d, 2), lower and upper bounds of the parameters.
    - `summary`: a callable pytree from one sample to a vector, not trained; by default the
      sample itself if that is a vector, else `summaries.summary_for`.
    - `statistics`: k, the number of components of f and of η.
    - `width`, `depth`: hidden layers of f. Those of η, A and g are 3 of 64.
    - `schedules`: training of step 1, in batches of a multiple of 256, and of step 2.
    - `checkpoint`: a directory to write states to and to go on from after an interruption.
    - `mesh`: the parameters that the simulator is asked at, and every training batch, are laid
      over all devices of this mesh, of one process or of all: each of several passes the same
      arguments, simulates its share of a batch with a key of its own, and returns the same fit,
      on its default device. Only the first reads and writes the `checkpoint`, and shows progress.
    - `progress`: show progress bars (never when the output is no terminal).
    - `throw`: raise if the fit did not succeed; with False look at `.result`.

    **Returns:** a `CurvedFamilyFit`.

    **Fails:** `ValueError` for input that cannot be fitted, quoting it. `RESULTS.overfitted` if
    held-out log-odds are too sure of themselves, `RESULTS.not_converged` if they are not sure
    enough: training has not brought out what the samples know; `RESULTS.scale_unresolved` if no
    held-out pair of samples is ever mistaken; `RESULTS.nonfinite` if training diverged.

    **Cost:** `steps` of `batch_size` samples, and as many logits a sample: on two cores some eight
    minutes with the defaults for samples of 128 numbers, simulation included.

    **Reference:** the family: Efron (1975), Ann. Statist. 3, 1189. Step 1: van den Oord, Li &
    Vinyals (2018), arXiv 1807.03748; Durkan, Murray & Papamakarios (2020), arXiv 2002.03712.
    """
    bounds = check_domain(domain)
    if statistics < len(bounds):
        raise ValueError(f"statistics must be at least d = {len(bounds)}, got {statistics}")
    if schedules[0].batch_size % RIVALS:
        raise ValueError(
            f"batch_size of the likelihood must be a multiple of {RIVALS}, "
            f"got {schedules[0].batch_size}"
        )
    mesh = _mesh.automatic(mesh)
    directory = Path(checkpoint) if checkpoint is not None else None
    held_key, init_key, metric_key, *keys = jax.random.split(key, 7)
    dtype = jnp.result_type(float)
    settings = (jax.random.key_data(key).tolist(), schedules, statistics, width, depth)
    shares = {"processes": jax.process_count()} if _mesh.spans_processes(mesh) else {}
    mark = fingerprint(bounds, settings=settings, batch=simulator_batch, **shares)
    claim(directory, mark, mesh=mesh)
    if summary is None:
        one = jnp.asarray(bounds.mean(axis=1), dtype)[None]
        summary = Identity(dtype) if np.ndim(simulator(held_key, one)) <= 2 else None

    def stream(key, n=FRESH):
        pool = stream_samples(
            simulator, n, bounds, summary=summary, dtype=dtype, key=key,
            batch_size=simulator_batch, keep_samples=False, progress=False, directory=None,
            mesh=mesh,
        )  # fmt: skip
        if mesh is not None:
            return pool.summary, (pool.features.astype(dtype), pool.parameters)
        return pool.summary, (jnp.asarray(pool.features, dtype), jnp.asarray(pool.parameters))

    summary, held_out = stream(held_key, HELD_OUT)
    family = CurvedFamily(
        np.asarray(held_out[0], np.float64), bounds, statistics=statistics, width=width,
        depth=depth, dtype=dtype, rngs=nnx.Rngs(init_key),
    )  # fmt: skip
    history = {}
    family, history["likelihood"] = minimize(
        likelihood_mismatch, family, lambda k: stream(jax.random.fold_in(keys[0], k))[1], held_out,
        key=keys[1], schedule=schedules[0], label="likelihood", progress=progress,
        checkpoint=below(directory, "likelihood"), mesh=mesh,
    )  # fmt: skip

    def scores(rows):
        if mesh is None:
            return _scores(family, *rows), rows[1]
        laid = _mesh.Rows.of(mesh, rows)
        return _mesh.to_host(_scores(family, *laid.arrays))[: laid.count], rows[1]

    unseen = scores(held_out)
    s = np.asarray(unseen[0], np.float64)
    nats = np.asarray(_cross_entropy(family, *held_out), np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # where training diverged
        typical = s.T @ s / len(s)
        error = float(nats.std() / len(nats) ** 0.5)
    finite = bool(np.isfinite(typical).all())
    metric = InformationMetric(
        bounds, typical if finite else np.eye(len(bounds)), dtype=dtype, rngs=nnx.Rngs(metric_key)
    )
    if finite:
        metric, history["information"] = minimize(
            information_mismatch, metric,
            lambda k: scores(stream(jax.random.fold_in(keys[2], k))[1]), unseen, key=keys[3],
            schedule=schedules[1], label="information", progress=progress,
            checkpoint=below(directory, "information"), mesh=mesh,
        )  # fmt: skip
    scale, scale_error = _calibration(family, *held_out) if finite else (np.nan, np.nan)
    fit = CurvedFamilyFit(
        summary=summary,
        family=family,
        metric=metric,
        domain=jnp.asarray(bounds, dtype),
        result=_judge(history, scale, scale_error, finite),
        held_out_cross_entropy=float(nats.mean()),
        held_out_cross_entropy_error=error,
        scale=scale,
        scale_error=scale_error,
        history=history,
    )
    if throw:
        raise_unless_successful("fit_curved_family", fit)
    return fit


@eqx.filter_jit
def _scores(family, features, t):
    return jax.vmap(lambda phi, t: family.score(family.statistic(phi), t))(features, t)


@eqx.filter_jit
def _cross_entropy(family, features, t):
    return nats_missed(jax.vmap(family.statistic)(features), jax.vmap(family.chart)(t))


def _calibration(family, features, t) -> tuple[float, float]:
    """The factor that makes the log-odds of held-out pairs honest, and its standard error."""
    t = np.asarray(t)
    f = np.asarray(each(family.statistic, features), np.float64)
    eta = np.asarray(each(lambda t: family.coordinates(t)[0], jnp.asarray(t)), np.float64)
    i, j = pairs_at_all_scales(t / t.std(axis=0), 6).T
    return calibrate_with_error([np.sum((f[i] - f[j]) * (eta[i] - eta[j]), axis=1)])


def _judge(history, scale, scale_error, finite) -> Any:
    """Whether the fit may be called one."""
    losses = np.concatenate([trace.held_out_loss for trace in history.values()])
    if not (finite and np.isfinite(losses).all()):
        return RESULTS.nonfinite
    if not np.isfinite(scale):
        return RESULTS.scale_unresolved
    if scale < SHARPNESS_LIMITS[0] - 2 * scale_error:
        return RESULTS.overfitted
    if scale > SHARPNESS_LIMITS[1] + 2 * scale_error:
        return RESULTS.not_converged
    return RESULTS.successful
