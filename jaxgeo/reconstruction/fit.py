"""Samples of a generator to its log-partition function and its Fisher metric."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxgeo import _mesh
from jaxgeo._batching import each
from jaxgeo._files import below, claim, fingerprint
from jaxgeo._results import RESULTS
from jaxgeo._typing import Chart, Metric
from jaxgeo.reconstruction.charts import LearnedChart, identity
from jaxgeo.reconstruction.objectives import (
    PairModel,
    pairwise_mismatch,
    posterior_cross_entropy,
)
from jaxgeo.reconstruction.polynomials import PolynomialPotential, metric_of
from jaxgeo.reconstruction.posteriors import BregmanPosterior, Statistic
from jaxgeo.reconstruction.potentials import MeanPotential
from jaxgeo.reconstruction.samples import (
    MINIMUM_SAMPLES,
    Pool,
    check_domain,
    check_samples,
    pool_samples,
    stream_samples,
    summarise,
)
from jaxgeo.reconstruction.splines import SplinePotential
from jaxgeo.reconstruction.stages import (
    CrossEntropies,
    Expansion,
    NetworkFit,
    Replacement,
    Smoothing,
    raise_unless_successful,
    read,
)
from jaxgeo.reconstruction.statistic import LinearStatistic, pairs_at_all_scales
from jaxgeo.training import Schedule, Trace, minimize

MOMENTS = Schedule(steps=2_000, learning_rate=2e-2, batch_size=512)
POSTERIOR = Schedule(steps=3_000, learning_rate=2e-2, batch_size=1024)
DISPERSION = Schedule(steps=3_000, learning_rate=1e-2, batch_size=512)
CANDIDATES = 4096
HELD_OUT_ROWS = 4096
SMOOTHED = 4096
"""With fewer samples held-out ones cannot choose how smooth the potential should be."""
SHARPNESS_LIMIT = 0.8
"""A statistic whose held-out log-odds must be shrunk by more than this is called overfitted."""
GAP_LIMIT = 0.5
"""Likewise a posterior that loses more nats on held-out samples than on those it saw."""


class LogPartitionFit(eqx.Module):
    """A log-partition function learned from samples, and the metric that it implies."""

    log_partition: MeanPotential | SplinePotential | PolynomialPotential
    """ψ(η) of one whole sample, in natural coordinates, up to an affine function of η."""
    natural_coordinates: Chart
    """The chart t → η: the one given, the identity, or the one learned."""
    metric: Metric
    """t → (d, d), the Fisher information of ONE sample, in the coordinates of `parameters`."""
    ensemble: SplinePotential | PolynomialPotential | None
    """Draws of ψ from what the samples leave open, along a first axis of its coefficients, for
    `interval`; None beside networks."""
    refusal: str | None = eqx.field(static=True)
    """Why the spline or polynomial that was tried did not take the networks' place; else None."""
    posterior: BregmanPosterior
    """The amortised posterior over t; `posterior.statistic` is the learned statistic f(x)."""
    result: Any
    """A `RESULTS` member: after `overfitted` or `scale_unresolved`, trust no size."""
    held_out_cross_entropy: float
    """Nats by which held-out samples miss their own parameters among 4,096 from the prior; for a
    spline or polynomial before they joined in."""
    held_out_cross_entropy_error: float
    """Its standard error."""
    training_cross_entropy: float
    """The same on samples that the fit saw."""
    scale: float
    """The factor by which cross-fitting rescaled the statistic of the pairs: 1 if honest."""
    scale_error: float
    """Its standard error, by jackknife: what the samples leave open of the metric's size."""
    history: dict[str, Any]
    """What training saw: a `Trace` for each trained part, and the ridges tried."""


def fit_log_partition(
    samples: Any,
    parameters: Any = None,
    *,
    key: jax.Array,
    domain: Any,
    natural_coordinates: Chart | str | None = None,
    summary: Callable | None = None,
    train_summary: bool = False,
    n_samples: int = 16_384,
    simulator_batch: int = 2_048,
    schedules: tuple[Schedule, Schedule, Schedule] = (MOMENTS, POSTERIOR, DISPERSION),
    width: int = 64,
    depth: int = 3,
    networks: int = 4,
    checkpoint: str | Path | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    throw: bool = True,
) -> LogPartitionFit:
    r"""Learn the log-partition function of a generator, hence its Fisher metric, from samples.

    For $p(x|t) = h(x) \exp(\langle f(x), \eta(t)\rangle - \psi(\eta(t)))$ the metric is
    $g = J_\eta^\top \nabla^2\psi\, J_\eta$. Three steps:

    1. *Statistic.* $f = A\varphi$, with $\varphi$ a summary network, from the pairwise
       conditional likelihood (`statistic.py`): convex in $A$, blind to $\psi$. A chart that is
       learned, or a summary that is trained, is trained here by the same loss.
    2. *Scale.* Cross-fitting: each of four folds judges a statistic fitted on the others, and one
       factor makes the pooled held-out log-odds honest. The sharpness of the posterior is the
       metric's size, so this factor is what overfitting would otherwise inflate.
    3. *Potential.* A `ConvexPotential` with $\nabla\psi(\eta) = E[f|\eta]$ by least squares, in
       whose place, with 4,096 samples or more, comes the solution of linear and convex equations,
       which use the scatter $\mathrm{Cov}[f|\eta] = \nabla^2\psi(\eta)$ too: with two natural
       coordinates a `SplinePotential` beside the likeliest statistic (`smoothing.py`), with three
       or more, as many as parameters, a `PolynomialPotential` beside the statistic of score
       matching (`expansion.py`). Otherwise, or
       should held-out samples not prefer it, or no such solution be convex at every sample
       (`refusal` says), the network is trained on: together with $f$ by the likelihood of the
       Bregman posterior over the prior, $f$ moving within what the pairs leave open; last by the
       score of Dawid & Sebastiani, for the scatter. Other networks learn from that $f$ what it
       did, each from a beginning of its own, and ψ is the mean of all (`MeanPotential`).

    **Arguments:**

    - `samples`: array (n, ...), one sample a row; or a callable
      `simulator(key, parameters (m, d)) -> samples (m, ...)`, with `parameters=None`, from which
      `n_samples` are streamed in batches of `simulator_batch`.
    - `parameters`: (n, d), inside the domain; ideally uniform over it.
    - `key`: a JAX random key.
    - `domain`: (d, 2), lower and upper bounds of the flat prior over the parameters.
    - `natural_coordinates`: the chart $\eta(t)$ of one point; None for $\eta = t$; or "learned".
    - `summary`: an `nnx.Module` (or callable pytree) from one sample to a vector; by default
      chosen by shape (`summaries.summary_for`).
    - `train_summary`: also train the summary's own parameters. By default its random features
      stay as they are, and only the linear readout is learned.
    - `schedules`: training on the moments, on the posterior, and on the dispersion (step 3).
    - `width`, `depth`: size of a network.
    - `networks`: how many are averaged where nothing takes their place.
    - `checkpoint`: a directory to write states to and to go on from after an interruption.
    - `mesh`: samples, their pairs and every training batch are laid over all devices of this mesh,
      of one process or of all: each of several passes the same arguments (or the same simulator,
      which is asked for the process's share of a batch, with a key of its own), computes the
      features of its share of the samples, and returns the same fit, on its default device. The
      features of all, and the equations of splines and polynomials, are on every host. Only the
      first process reads and writes the `checkpoint`, and shows progress.
    - `progress`: show progress bars (never when the output is no terminal).
    - `throw`: raise if the fit did not succeed; with False look at `.result`.

    **Returns:** a `LogPartitionFit`.

    **Fails:** `ValueError` for input that cannot be fitted, quoting it. `RESULTS.overfitted` if
    the statistic or the posterior is surer of the samples it saw than of those held out;
    `RESULTS.scale_unresolved` if no pair of neighbouring samples is ever mistaken, so that the
    scale is not determined; `RESULTS.nonfinite` if training diverged;
    `RESULTS.metric_not_positive_definite` if the metric is not so at a training parameter.

    **Cost:** O(n·8·(m d)²) per Newton step in the statistic for m features, 20 to 60 steps in
    all; then the gradient steps of `schedules`, of which a spline or a polynomial needs the first
    third only, and each network after the first that is averaged the first and the last.

    **Reference:** the problem: Lobashev, Guskov, Larchenko, Tamm (2025), arXiv 2506.10632. Step
    1: Liang & Qin (2000), J. R. Stat. Soc. B 62, 773. Step 3: Dawid & Sebastiani (1999), Ann.
    Statist. 27, 65.
    """
    bounds = check_domain(domain)
    learned = isinstance(natural_coordinates, str)
    if learned and natural_coordinates != "learned":
        raise ValueError(
            "natural_coordinates must be a callable, None or 'learned', "
            f"got {natural_coordinates!r}"
        )
    if networks < 1:
        raise ValueError(f"networks must be at least 1, got {networks}")
    mesh = _mesh.automatic(mesh)
    progress = progress and _mesh.is_first(mesh)
    directory = Path(checkpoint) if checkpoint is not None else None
    dtype = jnp.result_type(float) if parameters is None else _float_dtype(parameters)
    (
        pool_key, chart_key, split_key, pair_key, init_key, prior_key, moment_key, posterior_key,
        dispersion_key, candidate_key,
    ) = jax.random.split(key, 10)  # fmt: skip
    pool = _pool(
        samples, parameters, bounds, pool_key, summary, dtype, n_samples, simulator_batch,
        train_summary, progress, directory, mesh,
        settings=(
            jax.random.key_data(key).tolist(), schedules, width, depth, networks, train_summary,
            natural_coordinates if learned else "given",
        ),
    )  # fmt: skip
    t = jnp.asarray(pool.parameters, dtype)
    order = np.asarray(jax.random.permutation(split_key, len(t)))
    held_out, training = order[: len(t) // 8], order[len(t) // 8 :]

    chart: Any = natural_coordinates or identity
    if learned:
        chart = LearnedChart(jnp.asarray(bounds, dtype), rngs=nnx.Rngs(chart_key))
    statistic = LinearStatistic.fit(pool, _images(chart, t), training, held_out, dtype, mesh)
    history: dict[str, Any] = {}
    if learned or train_summary:
        pool, chart, history["pairs"] = _train_on_pairs(
            pool, chart if learned else None, chart, t, statistic, training, held_out,
            key=pair_key, train_summary=train_summary, progress=progress, directory=directory,
            mesh=mesh,
        )  # fmt: skip
        statistic = LinearStatistic.fit(pool, _images(chart, t), training, held_out, dtype, mesh)
    history["ridges"] = statistic.ridge_losses
    scale, scale_error = statistic.cross_fit(pool, order)

    honest = scale if np.isfinite(scale) else 1.0
    features = statistic.white(pool.features)
    readout = honest * statistic.readout()
    of_pairs = statistic.likelihood_of_pairs(pool, training)
    white = jnp.asarray(features, dtype) if mesh is None else features.astype(dtype)
    eta = _images(chart, t)
    prior = each(chart, _uniform(prior_key, t.shape, bounds, dtype))

    def cross_entropies(potential, readout):
        return _cross_entropies(
            potential, chart, read(white, readout), t, training, held_out, bounds, candidate_key
        )

    network = NetworkFit(
        (eta, white, prior), training, held_out[:HELD_OUT_ROWS], schedules, (width, depth),
        progress, directory, mesh,
    )  # fmt: skip
    start, history["moments"] = network.moments(jnp.asarray(readout, dtype), init_key, moment_key)
    potential: MeanPotential | SplinePotential | PolynomialPotential
    final, ensemble, refusal = jnp.asarray(readout, dtype), None, None
    if eta.shape[1] > 1 and len(t) >= SMOOTHED and np.isfinite(scale):
        try:
            replacement: Replacement
            if eta.shape[1] == 2:
                replacement = Smoothing(
                    start, chart, t, features, statistic.prior_precision(), of_pairs
                )
            else:
                replacement = Expansion(start, chart, t, features, bounds)
            potential, final, ensemble, entropies, seen = _mesh.agreed(
                mesh,
                lambda: replacement.judged(readout, training, held_out, cross_entropies),
            )
            history |= seen
        except np.linalg.LinAlgError as error:
            refusal = str(error)
    if ensemble is None:
        spread = honest * statistic.uncertainty(of_pairs[1])
        first, final, history["posterior"] = network.likelihood(
            start, final, jnp.asarray(spread, dtype), statistic.reuse, posterior_key
        )
        potential, traces = network.dispersion(first, final, dispersion_key, networks)
        history |= traces
        entropies = cross_entropies(potential, final)
    matrix = jnp.asarray(statistic.whitening.matrix @ np.asarray(final, np.float64), dtype)
    f = Statistic(pool.summary, jnp.asarray(statistic.whitening.mean, dtype), matrix)
    metric = metric_of(potential, chart)
    fit = LogPartitionFit(
        log_partition=potential,
        natural_coordinates=chart,
        metric=metric,
        ensemble=ensemble,
        refusal=refusal,
        posterior=BregmanPosterior(potential, chart, f, jnp.asarray(bounds, dtype)),
        result=_judge(metric, t[training], scale, entropies, history),
        held_out_cross_entropy=entropies.mean,
        held_out_cross_entropy_error=entropies.error,
        training_cross_entropy=float(entropies.training.mean()),
        scale=scale,
        scale_error=scale_error,
        history=history,
    )
    if throw:
        beside = f", on samples seen {fit.training_cross_entropy:.4g}"
        raise_unless_successful("fit_log_partition", fit, beside)
    return fit


def _float_dtype(parameters: Any) -> Any:
    """The precision of a fit is that of its parameters."""
    dtype = jax.dtypes.canonicalize_dtype(np.asarray(parameters).dtype)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)


def _pool(
    samples, parameters, bounds, key, summary, dtype, n_samples, batch_size, keep, progress,
    directory, mesh, settings,
) -> Pool:  # fmt: skip
    """The features of the samples, given or streamed; claims the checkpoint directory."""
    if callable(samples):
        if parameters is not None:
            raise ValueError(
                "parameters must be None with a simulator, which is asked at parameters drawn "
                f"from domain; got an array of shape {np.shape(parameters)}"
            )
        if n_samples < MINIMUM_SAMPLES:
            raise ValueError(f"a fit needs at least {MINIMUM_SAMPLES} samples, got {n_samples}")
        shares = {"processes": jax.process_count()} if _mesh.spans_processes(mesh) else {}
        mark = fingerprint(bounds, settings=settings, n=n_samples, batch=batch_size, **shares)
        claim(directory, mark, mesh=mesh)
        return stream_samples(
            samples, n_samples, bounds, summary=summary, dtype=dtype, key=key,
            batch_size=batch_size, keep_samples=keep, progress=progress, directory=directory,
            mesh=mesh,
        )  # fmt: skip
    if parameters is None:
        raise ValueError("parameters are needed with samples: got parameters=None")
    samples, parameters = check_samples(samples, parameters, bounds)
    claim(directory, fingerprint(bounds, samples, parameters, settings=settings), mesh=mesh)
    return pool_samples(samples, parameters, summary, dtype, key, mesh)


def _images(chart: Chart, t: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """η of every parameter, checked to be finite and as many."""
    eta = each(chart, t)
    if eta.ndim != 2 or not np.isfinite(np.asarray(eta)).all():
        bad = ~np.isfinite(np.asarray(eta)).reshape(len(t), -1).all(axis=1)
        where = np.asarray(t)[np.argmax(bad)].tolist()
        raise ValueError(
            f"natural_coordinates must map a point to a finite vector; got shape {eta.shape[1:]}, "
            f"and at t = {where} the value {np.asarray(eta)[np.argmax(bad)].tolist()}"
        )
    return eta


def _train_on_pairs(
    pool, trained_chart, chart, t, statistic, training, held_out, *, key, train_summary, progress,
    directory, mesh,
) -> tuple[Pool, Any, Trace]:  # fmt: skip
    """Train the chart, the summary, or both, with the readout, on the pairwise likelihood."""
    dtype = t.dtype
    whitening = tuple(jnp.asarray(a, dtype) for a in statistic.whitening[:2])
    inputs = pool.samples if train_summary else statistic.white(pool.features).astype(dtype)
    constants = {
        "inputs": jnp.asarray(inputs) if mesh is None else _mesh.Rows.of(mesh, inputs).arrays,
        "parameters": t if trained_chart is not None else _images(chart, t),
        "whitening": whitening,
    }
    model = PairModel(
        jnp.asarray(statistic.readout(), dtype),
        trained_chart,
        pool.summary if train_summary else None,
    )
    unit = np.ptp(pool.parameters, axis=0)
    near = [
        jnp.asarray(rows[pairs_at_all_scales(pool.parameters[rows] / unit)])
        for rows in (training, held_out)
    ]
    schedule = Schedule(steps=4_000, learning_rate=2e-3, batch_size=4096)
    if train_summary:
        schedule = Schedule(steps=1_000, learning_rate=1e-3, batch_size=64, every=100)
    model, trace = minimize(
        pairwise_mismatch, model, near[0], near[1][:4096], constants=constants, key=key,
        schedule=schedule, label="pairs", progress=progress,
        checkpoint=below(directory, "pairs"), mesh=mesh,
    )  # fmt: skip
    if train_summary:
        pool = pool._replace(
            summary=model.summary, features=summarise(model.summary, pool.samples, mesh)
        )
    return pool, (model.chart if trained_chart is not None else chart), trace


def _uniform(key, shape, bounds, dtype) -> Float[Array, "m d"]:
    """Points of the flat prior over the domain."""
    lower, upper = (jnp.asarray(bound, dtype) for bound in bounds.T)
    return jax.random.uniform(key, shape, dtype, lower, upper)


def _cross_entropies(
    potential, chart, values, t, training, held_out, bounds, key
) -> CrossEntropies:
    """Of the posterior among the same candidates, whatever the potential."""
    candidates = _uniform(key, (CANDIDATES, t.shape[1]), bounds, t.dtype)
    both = []
    for rows in (held_out, training[: len(held_out)]):
        nats = eqx.filter_jit(posterior_cross_entropy)(
            potential, chart, values[rows], t[rows], candidates
        )
        both.append(np.asarray(nats, np.float64))
    return CrossEntropies(*both)


def _judge(metric, t, scale, entropies, history) -> Any:
    """Whether the fit may be called one."""
    unseen, error, seen = entropies.mean, entropies.error, entropies.training.mean()
    losses = [trace.held_out_loss for trace in history.values() if isinstance(trace, Trace)]
    if not np.isfinite(np.concatenate([[unseen], *losses])).all():
        return RESULTS.nonfinite
    if not np.isfinite(scale):
        return RESULTS.scale_unresolved
    if scale < SHARPNESS_LIMIT or unseen - seen > max(GAP_LIMIT, 4 * error):
        return RESULTS.overfitted
    eigenvalues = jnp.linalg.eigvalsh(each(metric, t))
    if not bool(jnp.all(eigenvalues > 0)):
        return RESULTS.metric_not_positive_definite
    return RESULTS.successful
