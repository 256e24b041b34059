"""What every rival method starts from and ends with."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

import jaxgeo as jg
from baselines.networks import pattern_counts
from jaxgeo._typing import Chart, Metric


class Baseline(NamedTuple):
    """What a rival method found."""

    log_partition: Any
    """ψ(η) of one whole sample, up to an affine function; None where there is only a metric."""
    natural_coordinates: Chart
    metric: Metric
    """t → (d, d), in the coordinates of `parameters`."""
    seconds: float
    """Of training, compilation included."""
    settings: dict[str, Any]
    """Sizes, what was tuned and how, and what training saw."""


class Data(NamedTuple):
    """Checked samples: what the networks read, parameters in several scales, and the split."""

    samples: np.ndarray
    inputs: Array
    t: Array
    unit: np.ndarray
    eta: Array
    bounds: np.ndarray
    training: np.ndarray
    held_out: np.ndarray


def prepare(samples, parameters, domain, chart, key) -> Data:
    samples, bounds = np.asarray(samples), np.asarray(domain, np.float64)
    t = jnp.asarray(parameters, jnp.float32)
    if samples.ndim not in (2, 3) or len(samples) != len(t) or bounds.shape != (t.shape[1], 2):
        raise ValueError(
            "expected samples (n, sites) or (n, a, b), parameters (n, d) and domain (d, 2); got "
            f"shapes {samples.shape}, {t.shape} and {bounds.shape}"
        )
    if samples.ndim == 3 and len(values := np.unique(samples)) > 2:
        raise ValueError(f"a lattice must hold two values, got {values[:5].tolist()} ...")
    if samples.ndim == 3:
        inputs = pattern_counts(samples)
    else:
        inputs = (samples - samples.mean()) / (samples.std() or 1.0)
    order = np.asarray(jax.random.permutation(key, len(t)))
    return Data(
        samples=samples,
        inputs=jnp.asarray(inputs, jnp.float32),
        t=t,
        unit=((np.asarray(t) - bounds[:, 0]) / np.ptp(bounds, axis=1)).astype(np.float32),
        eta=jax.vmap(chart)(t),
        bounds=bounds,
        training=order[len(t) // 8 :],
        held_out=order[: len(t) // 8],
    )


@eqx.filter_jit
def evaluate(network, inputs):
    return network(inputs)


def outputs(network, inputs: Array, chunk: int = 1024) -> np.ndarray:
    """The network of each sample by itself."""
    rows = [inputs[k : k + chunk, None] for k in range(0, len(inputs), chunk)]
    return np.concatenate([np.asarray(evaluate(network, some)) for some in rows])


def count_parameters(model: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def hessian_metric(potential, chart: Chart) -> Metric:
    return jg.ReparametrizedMetric(jg.HessianMetric(potential), chart)


def to_domain(unit: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    return bounds[:, 0] + unit * np.ptp(bounds, axis=1)
