"""A geodesic of the spacetime of a diffusion model, between two samples of the data."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import jaxgeo as jg
from jaxgeo import models
from jaxgeo._results import describe

START = 0.1
"""The time of both ends: there σ/α is 0.34, and what noise hides is fine detail."""
POINTS = 33


class Voyage(NamedTuple):
    """A geodesic from sample to sample through noise, and what its points denoise to."""

    times: np.ndarray
    geodesic: np.ndarray
    straight: np.ndarray
    facts: dict[str, Any]


class _Flattened(eqx.Module):
    """The model as a denoiser of vectors."""

    model: models.DiffusionModel

    def __call__(self, x: Array, t: Array) -> Array:
        return self.model(x.reshape(self.model.shape), t).ravel()


def voyage(model: models.DiffusionModel, first: np.ndarray, second: np.ndarray) -> Voyage:
    """The geodesic between two samples, and the straight line in (x, t), through the denoiser.

    Energies are those of both curves, at equal steps, in the Fisher metric of p(x₀|x_t)."""
    denoiser, schedule = _Flattened(model), model.schedule
    ends = [
        jnp.append(schedule.alpha(START) * model.standardise(jnp.asarray(x)).ravel(), START)
        for x in (first, second)
    ]
    found = jg.spacetime_geodesic(denoiser, schedule, *ends, n_points=POINTS, throw=False)
    s = jnp.linspace(0, 1, POINTS)[:, None]
    line = (1 - s) * ends[0][None] + s * ends[1][None]
    images = [np.asarray(_denoised(denoiser, points)) for points in (found.points, line)]
    times = np.asarray(found.points[:, -1])
    return Voyage(
        times, images[0], images[1],
        {
            "result": describe(found.result),
            **{name: float(value) for name, value in found.stats.items()},
            "energy of the straight line": float(_energy(denoiser, schedule, line)),
            "latest time": float(times.max()),
        },
    )  # fmt: skip


@eqx.filter_jit
def _denoised(denoiser: _Flattened, points: Array) -> Array:
    def one(z: Array) -> Array:
        model = denoiser.model
        return model.decode(denoiser(z[:-1], z[-1]).reshape(model.shape))

    return jax.vmap(one)(points)


@eqx.filter_jit
def _energy(denoiser: _Flattened, schedule: Any, points: Array) -> Array:
    """½(n − 1) Σ⟨Δη, Δμ⟩."""
    metric = jg.SpacetimeMetric(denoiser, schedule)
    eta, mu = jax.vmap(metric.natural)(points), jax.vmap(metric.expectation)(points)
    return (len(points) - 1) / 2 * jnp.sum(jnp.diff(eta, axis=0) * jnp.diff(mu, axis=0))
