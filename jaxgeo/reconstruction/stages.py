"""The stages in which a potential is fitted: a network, and splines in its place."""

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from jaxgeo._results import RESULTS, describe
from jaxgeo.metrics import HessianMetric
from jaxgeo.reconstruction.objectives import (
    PosteriorModel,
    dispersion_mismatch,
    moment_mismatch,
    posterior_mismatch,
)
from jaxgeo.reconstruction.potentials import ConvexPotential, MeanPotential
from jaxgeo.reconstruction.smoothing import STRENGTHS, choose_strength, smooth
from jaxgeo.reconstruction.splines import SplinePotential
from jaxgeo.reconstruction.training import Schedule, Trace, minimize


@eqx.filter_jit
def each(f, points):
    """f of every point, compiled once for each structure of f."""
    return jax.vmap(f)(points)


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
    posterior, which moves f too, and the scatter of f about its mean."""

    columns: tuple[Array, Array, Array]
    training: np.ndarray
    held_out: np.ndarray
    schedules: tuple[Schedule, Schedule, Schedule]
    size: tuple[int, int]
    """Width and depth."""
    progress: bool
    directory: Path | None

    def moments(self, readout, init_key, key, label="moments") -> tuple[ConvexPotential, Trace]:
        eta, white, _ = (column[self.training] for column in self.columns)
        scale = jnp.sqrt(jnp.mean((white @ readout * jnp.std(eta, axis=0)[None, :]) ** 2))
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
        return tuple((eta[rows], white[rows] @ readout) for rows in (self.training, self.held_out))

    def _stage(self, k, objective, model, label, key, data, held_out, constants=None):
        return minimize(
            objective, model, data, held_out, constants=constants, key=key,
            schedule=self.schedules[k], label=label, progress=self.progress,
            checkpoint=self.directory / label if self.directory else None,
        )  # fmt: skip


class Smoothing:
    """Splines in the place of a network, of any rows of the samples."""

    def __init__(self, network, features, penalty, curvature, eta):
        self.network = network
        self.metric = np.asarray(each(HessianMetric(network), eta), np.float64)
        self.features, self.penalty, self.curvature = features, penalty, curvature
        self.eta, self.dtype = np.asarray(eta, np.float64), eta.dtype

    def judged(self, readout, training, held_out, cross_entropies):
        """Potential, readout, ensemble, entropies, the loss of each strength and which was kept.

        **Fails:** `LinAlgError` with the reason if held-out samples like the network better, if
        the spline is not convex at every sample, or if it cannot be found."""
        values = self.features @ readout
        strength, losses = choose_strength(self.eta, values, self.metric, training, held_out)
        entropies = cross_entropies(*self(readout, strength, training)[:2])
        rough = cross_entropies(self.network, jnp.asarray(readout, self.dtype))
        if not entropies[0] < rough[0] + rough[1]:
            raise np.linalg.LinAlgError(
                f"held-out samples prefer the network: {rough[0]:.4g} ± {rough[1]:.2g} nats "
                f"against {entropies[0]:.4g}"
            )
        # held-out samples, having judged, join in
        found = self(readout, strength, np.arange(len(self.eta)))
        hessians = each(HessianMetric(found[0]), jnp.asarray(self.eta, self.dtype))
        lowest = np.linalg.eigvalsh(np.asarray(hessians, np.float64))[:, 0]
        if not (lowest > 0).all():
            share = f"{len(lowest) - (lowest > 0).sum()} of {len(lowest)}"
            raise np.linalg.LinAlgError(f"spline not convex at {share} samples")
        return *found, entropies, {"held_out": losses, "kept": STRENGTHS.index(strength)}

    def __call__(self, readout, strength, rows) -> tuple[SplinePotential, Array, SplinePotential]:
        """The potential, the readout with it, and the potential's ensemble."""
        found = smooth(
            self.eta[rows], self.features[rows], readout, self.penalty, self.curvature,
            self.metric[rows], strength,
        )  # fmt: skip
        spline, members = (
            found.splines.potential(c, self.dtype) for c in (found.coefficients, found.members)
        )
        return spline, jnp.asarray(found.readout, self.dtype), members
