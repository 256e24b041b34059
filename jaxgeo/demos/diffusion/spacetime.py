"""A geodesic of the spacetime of denoising posteriors, between two samples of the data.

The posteriors are those of a mixture of Gaussians that is fitted to the samples: those of a
network exist only as far as its Jacobian is symmetric and positive, which the report measures.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import jaxgeo as jg
from jaxgeo import models
from jaxgeo._results import describe
from jaxgeo.systems.mixture import GaussianMixture, MixtureDenoiser

START = 0.1
"""The time of both ends: there σ/α is 0.34, and what noise hides is fine detail."""
POINTS = 33
COMPONENTS, EACH = 20, 60
"""Of the mixture, and the samples that each has at least, on average."""
FLOOR = 1e-2
"""Variance that is added to those of the components, of standardised samples."""
WHOLE = 1024
"""Entries of a sample, beyond which components are isotropic."""
JACOBIANS = 8
"""Of the network, that are looked at."""


class Voyage(NamedTuple):
    """A geodesic from sample to sample through noise, and what its points denoise to."""

    geodesic: np.ndarray
    straight: np.ndarray
    facts: dict[str, Any]


class _Flattened(eqx.Module):
    """The model as a denoiser of vectors."""

    model: models.DiffusionModel

    def __call__(self, x: Array, t: Array) -> Array:
        return self.model(x.reshape(self.model.shape), t).ravel()


def voyage(
    model: models.DiffusionModel,
    seen: np.ndarray,
    unseen: np.ndarray,
    second: int,
    *,
    seed: int = 0,
) -> Voyage:
    """The geodesic between the first and another held-out sample, and the straight line in (x, t).

    Energies are those of both curves, at equal steps, in the Fisher metric of p(x₀|x_t), of the
    mixture fitted to the samples that the model has seen."""
    schedule = model.schedule
    rows = _rows(model, unseen)
    denoiser = _mixture(model, _rows(model, seen), seed)
    ends = [jnp.append(schedule.alpha(START) * x, START) for x in (rows[0], rows[second])]
    found = jg.spacetime_geodesic(
        denoiser, schedule, *ends, divergence=denoiser.divergence, n_points=POINTS, throw=False
    )
    s = jnp.linspace(0, 1, POINTS)[:, None]
    line = (1 - s) * ends[0][None] + s * ends[1][None]
    shown = [_denoised(denoiser, points) for points in (found.points, line)]
    images = [np.asarray(jax.vmap(model.decode)(x.reshape(-1, *model.shape))) for x in shown]
    times = np.asarray(found.points[:, -1])
    network = _Flattened(model)
    noisy = _noised(model, rows, jax.random.key(seed))
    return Voyage(
        images[0], images[1],
        {
            "result": describe(found.result),
            **{name: float(value) for name, value in found.stats.items()},
            "energy of the straight line": float(_energy(denoiser, line)),
            "latest time": float(times.max()),
            "squared error of denoising held-out samples": {
                "mixture": _error(denoiser, noisy, rows),
                "network": _error(network, noisy, rows),
            },
            "the network's share of negative eigenvalues": float(
                _negative(network, noisy[:JACOBIANS])
            ),
        },
    )  # fmt: skip


def _rows(model: models.DiffusionModel, samples: np.ndarray) -> Array:
    standard = jax.vmap(model.standardise)(jnp.asarray(samples, jnp.result_type(float)))
    return standard.reshape(len(samples), -1)


def _mixture(model: models.DiffusionModel, rows: Array, seed: int) -> MixtureDenoiser:
    from sklearn.mixture import GaussianMixture as Fitted

    n, d = rows.shape
    fitted = Fitted(
        min(COMPONENTS, max(1, n // EACH)), reg_covar=FLOOR, random_state=seed,
        covariance_type="full" if d <= WHOLE else "spherical",
    ).fit(np.asarray(rows, float))  # fmt: skip
    spread = fitted.covariances_ if d <= WHOLE else fitted.covariances_**0.5
    mixture = GaussianMixture(jnp.asarray(fitted.means_, rows.dtype), spread, fitted.weights_)
    return MixtureDenoiser(mixture, model.schedule)


def _noised(model: models.DiffusionModel, rows: Array, key: Array) -> Array:
    """Points (x, t) behind which are the rows."""
    noise = jax.random.normal(key, rows.shape, rows.dtype)
    x = model.schedule.alpha(START) * rows + model.schedule.sigma(START) * noise
    return jnp.concatenate([x, jnp.full((len(rows), 1), START, x.dtype)], axis=1)


def _error(denoiser: Any, points: Array, rows: Array) -> float:
    return float(jnp.mean(jnp.sum((_denoised(denoiser, points) - rows) ** 2, axis=1)))


@eqx.filter_jit
def _negative(denoiser: _Flattened, points: Array) -> Array:
    """Of the symmetric part of the Jacobian, which for a posterior mean is a covariance."""
    jacobians = jax.vmap(jax.jacfwd(lambda z: denoiser(z[:-1], z[-1])))(points)[:, :, :-1]
    return jnp.mean(jnp.linalg.eigvalsh(jacobians + jacobians.transpose(0, 2, 1)) < 0)


@eqx.filter_jit
def _denoised(denoiser: Any, points: Array) -> Array:
    return jax.vmap(lambda z: denoiser(z[:-1], z[-1]))(points)


@eqx.filter_jit
def _energy(denoiser: MixtureDenoiser, points: Array) -> Array:
    """½(n − 1) Σ⟨Δη, Δμ⟩."""
    metric = jg.SpacetimeMetric(denoiser, denoiser.schedule, denoiser.divergence)
    eta, mu = jax.vmap(metric.natural)(points), jax.vmap(metric.expectation)(points)
    return (len(points) - 1) / 2 * jnp.sum(jnp.diff(eta, axis=0) * jnp.diff(mu, axis=0))
