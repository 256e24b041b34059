"""The stages in which a potential is fitted: a network, and what may take its place."""

import abc
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array

from jaxgeo._batching import each
from jaxgeo._results import RESULTS, describe
from jaxgeo.metrics import HessianMetric
from jaxgeo.reconstruction.charts import Jets
from jaxgeo.reconstruction.expansion import SAMPLES_PER_COEFFICIENT, Equations, bounded
from jaxgeo.reconstruction.jackknife import doubts
from jaxgeo.reconstruction.objectives import (
    PosteriorModel,
    dispersion_mismatch,
    moment_mismatch,
    posterior_mismatch,
)
from jaxgeo.reconstruction.polynomials import ORDERS, metric_of, template
from jaxgeo.reconstruction.potentials import ConvexPotential, MeanPotential
from jaxgeo.reconstruction.smoothing import MEMBERS, choose_strength, smooth
from jaxgeo.reconstruction.splines import SplinePotential
from jaxgeo.training import Schedule, Trace, minimize


def raise_unless_successful(name: str, fit: Any, beside: str = "") -> None:
    """`RuntimeError` with how the fit ended, and by what it was judged."""
    if fit.result != RESULTS.successful:
        error = fit.held_out_cross_entropy_error
        raise RuntimeError(
            f"{name}: {describe(fit.result)} Held-out cross-entropy "
            f"{fit.held_out_cross_entropy:.4g} ± {error:.2g} nats{beside}; calibration factor "
            f"{fit.scale:.3g}. With throw=False the fit is returned all the same."
        )


class NetworkFit(NamedTuple):
    """`ConvexPotential`s on columns (η, features, η of the prior): the moments of f; then the
    posterior, which moves f too, and the scatter of f about its mean. For a mesh the columns stay
    on the host until they are laid over it."""

    columns: tuple[Any, Any, Any]
    training: np.ndarray
    held_out: np.ndarray
    schedules: tuple[Schedule, Schedule, Schedule]
    size: tuple[int, int]
    """Width and depth."""
    progress: bool
    directory: Path | None
    mesh: Mesh | None = None

    def moments(self, readout, init_key, key, label="moments") -> tuple[ConvexPotential, Trace]:
        eta, white, _ = (column[self.training] for column in self.columns)
        statistic = read(white, readout)
        scale = jnp.sqrt(jnp.mean((statistic * jnp.std(eta, axis=0)[None, :]) ** 2))
        width, depth = self.size
        start = ConvexPotential(
            eta, scale=scale, width=width, depth=depth, rngs=nnx.Rngs(init_key)
        )
        return self._stage(0, moment_mismatch, start, label, key, *self._values(readout))

    def likelihood(
        self, potential, readout, spread, reuse, key
    ) -> tuple[ConvexPotential, Array, Trace]:
        seen, unseen = (
            tuple(column[rows] for column in self.columns)
            for rows in (self.training, self.held_out)
        )
        model, trace = self._stage(
            1, posterior_mismatch, PosteriorModel(potential, readout, spread), "posterior",
            key, seen, unseen, jnp.asarray(1 / (reuse * len(seen[0])), seen[0].dtype),
        )  # fmt: skip
        return model.potential, model.readout(), trace

    def dispersion(self, first, readout, key, networks) -> tuple[MeanPotential, dict[str, Trace]]:
        """The mean of so many networks: the `first`, and others that start from nothing."""
        history, found = {}, []
        for k in range(networks):
            init_key, moment_key, own = jax.random.split(jax.random.fold_in(key, k), 3)
            start, moments, label = first, f"moments {k}", f"dispersion {k}" if k else "dispersion"
            if k:
                start, history[moments] = self.moments(readout, init_key, moment_key, moments)
            last, history[label] = self._stage(
                2, dispersion_mismatch, start, label, own, *self._values(readout)
            )
            found.append(last)
        return MeanPotential.of(found), history

    def _values(self, readout):
        eta, white, _ = self.columns
        return tuple(
            (eta[rows], read(white[rows], readout)) for rows in (self.training, self.held_out)
        )

    def _stage(self, k, objective, model, label, key, data, held_out, constants=None):
        return minimize(
            objective, model, data, held_out, constants=constants, key=key,
            schedule=self.schedules[k], label=label, progress=self.progress,
            checkpoint=self.directory / label if self.directory else None, mesh=self.mesh,
        )  # fmt: skip


def read(white, readout):
    """The statistic of features, where they are: on the host or on the device."""
    return white @ (np.asarray(readout) if isinstance(white, np.ndarray) else readout)


class CrossEntropies(NamedTuple):
    """Nats by which each sample misses its own parameter among others of the prior."""

    held_out: np.ndarray
    training: np.ndarray

    @property
    def mean(self) -> float:
        """Of held-out samples."""
        return float(self.held_out.mean())

    @property
    def error(self) -> float:
        """Standard error of `mean`."""
        return standard_error(self.held_out)


def standard_error(values: np.ndarray) -> float:
    return float(values.std() / np.sqrt(len(values)))


def lowest_as_good(losses: list[np.ndarray]) -> int:
    """The first of the held-out losses (each of every sample) within a standard error of the
    least."""
    best = min(losses, key=np.mean)
    worse = (loss - best for loss in losses)
    return next(k for k, w in enumerate(worse) if w.mean() <= standard_error(w))


class Replacement(abc.ABC):
    """What may take the place of a network: the solution of linear or convex equations."""

    def __init__(self, network, chart, t, features):
        self.network, self.chart, self.t, self.features = network, chart, t, features

    @abc.abstractmethod
    def metrics(self, potential) -> Array:
        """Of every sample, (n, d, d): positive definite if the potential is convex there."""

    @abc.abstractmethod
    def tolerated(self, rough: CrossEntropies, worse: np.ndarray) -> float:
        """By how many nats it may miss held-out samples by more than the network does: `rough`
        are the network's, `worse` the differences."""

    @abc.abstractmethod
    def choose(self, values, training, held_out) -> tuple[float, dict[str, Any]]:
        """How smooth it is to be by the values of held-out samples, and the losses seen."""

    @abc.abstractmethod
    def fit(self, readout, choice, rows) -> tuple[Any, Array, Any]:
        """The potential, the readout with it, and the potential's ensemble."""

    def judged(self, readout, training, held_out, cross_entropies):
        """Potential, readout, ensemble, entropies, and what `choose` saw.

        **Fails:** `LinAlgError` with the reason if held-out samples like the network better, if
        it is not convex at every sample, or if it cannot be found."""
        choice, losses = self.choose(self.features @ readout, training, held_out)
        entropies = cross_entropies(*self.fit(readout, choice, training)[:2])
        rough = cross_entropies(self.network, jnp.asarray(readout, self.t.dtype))
        worse = entropies.held_out - rough.held_out
        if not worse.mean() <= self.tolerated(rough, worse):
            raise np.linalg.LinAlgError(
                f"held-out samples prefer the network: {rough.mean:.4g} ± {rough.error:.2g} nats "
                f"against {entropies.mean:.4g}"
            )
        # held-out samples, having judged, join in
        found = self.fit(readout, choice, np.arange(len(self.t)))
        lowest = np.linalg.eigvalsh(np.asarray(self.metrics(found[0]), np.float64))[:, 0]
        if not (lowest > 0).all():
            share = f"{len(lowest) - (lowest > 0).sum()} of {len(lowest)}"
            raise np.linalg.LinAlgError(f"potential not convex at {share} samples")
        return *found, entropies, losses


class Smoothing(Replacement):
    """A spline of two natural coordinates, and the likeliest statistic with it."""

    def __init__(self, network, chart, t, features, penalty, pairs):
        super().__init__(network, chart, t, features)
        self.penalty, self.pairs = penalty, pairs
        self.eta = np.asarray(each(chart, t), np.float64)
        self.metric = np.asarray(self.metrics(network), np.float64)

    def tolerated(self, rough, worse):
        return rough.error

    def metrics(self, potential):
        return each(HessianMetric(potential), jnp.asarray(self.eta, self.t.dtype))

    def choose(self, values, training, held_out):
        strength, losses = choose_strength(self.eta, values, self.metric, training, held_out)
        return strength, {"strengths": {"held_out": losses, "kept": int(np.argmin(losses))}}

    def fit(self, readout, choice, rows) -> tuple[SplinePotential, Array, SplinePotential]:
        found = smooth(
            self.eta[rows], self.features[rows], readout, self.penalty, self.pairs,
            self.metric[rows], choice,
        )  # fmt: skip
        dtype = self.t.dtype
        spline, members = (
            found.splines.potential(c, dtype) for c in (found.coefficients, found.members)
        )
        return spline, jnp.asarray(found.readout, dtype), members


class Expansion(Replacement):
    """A polynomial of the parameters, and the statistic of score matching with it. It cannot bend
    sharply, so at a phase boundary the network stays."""

    def __init__(self, network, chart, t, features, domain):
        super().__init__(network, chart, t, features)
        self.domain = domain
        self.jets = Jets.of(chart, t)
        self.metric = bounded(np.asarray(self.metrics(network), np.float64))

    def tolerated(self, rough, worse):
        return standard_error(worse)

    def metrics(self, potential):
        return each(metric_of(potential, self.chart), self.t)

    def _equations(self, order, rows) -> Equations:
        jets, metric = Jets(*(a[rows] for a in self.jets)), self.metric[rows]
        potential = template(jets, self.chart, self.domain, metric, order, self.t.dtype)
        return Equations(potential, jets, metric)

    def choose(self, values, training, held_out):
        most = len(training) // SAMPLES_PER_COEFFICIENT
        losses: list[np.ndarray] = []
        for order in ORDERS:
            seen = self._equations(order, training)
            if seen.potential.coefficients.size > most and losses:
                break
            unseen = Equations(
                seen.potential, Jets(*(a[held_out] for a in self.jets)), self.metric[held_out]
            )
            losses.append(unseen.losses(seen.by_means(values[training]), values[held_out]))
        kept = lowest_as_good(losses)
        means = [float(loss.mean()) for loss in losses]
        return ORDERS[kept], {"orders": {"held_out": means, "kept": kept}}

    def fit(self, readout, choice, rows):
        equations, features = self._equations(choice, rows), self.features[rows]
        readout, deviations = equations.score_matching(features)
        open_ = np.einsum("nr,rdk->ndk", features, doubts(deviations, MEMBERS), optimize=True)
        found = equations.by_scatter(features @ readout, open_)
        potential, ensemble = (equations.potential.with_coefficients(c) for c in found)
        return potential, jnp.asarray(readout, self.t.dtype), ensemble
