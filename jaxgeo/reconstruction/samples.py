"""What a fit learns from: samples and parameters, checked; or a simulator, streamed."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from scipy.stats import qmc
from tqdm.auto import tqdm

from jaxgeo import _mesh
from jaxgeo._files import load_npz, write_npz
from jaxgeo.reconstruction.summaries import summary_for

MINIMUM_SAMPLES = 128
"""Fewer cannot be split into training, calibration and held-out samples that mean anything."""

_CHUNK = 256


class Pool(NamedTuple):
    """The features of all samples, beside their parameters; the samples where still needed."""

    features: np.ndarray
    parameters: np.ndarray
    summary: nnx.Module
    samples: np.ndarray | None


def check_domain(domain: Any) -> np.ndarray:
    """`domain` as a (d, 2) array of finite lower and upper bounds, or a `ValueError`."""
    bounds = np.asarray(domain, dtype=np.float64)
    if bounds.ndim != 2 or bounds.shape[1] != 2:
        raise ValueError(
            f"domain must have shape (d, 2), a lower and an upper bound for each parameter; "
            f"got shape {bounds.shape}"
        )
    if not np.isfinite(bounds).all():
        raise ValueError(f"domain must be finite, got {bounds.tolist()}")
    for axis, (lower, upper) in enumerate(bounds):
        if lower >= upper:
            raise ValueError(
                f"domain needs lower < upper for each parameter, got {lower} >= {upper} "
                f"for parameter {axis}"
            )
    return bounds


def check_samples(samples: Any, parameters: Any, domain: np.ndarray) -> tuple[Any, np.ndarray]:
    """Samples and parameters as arrays that a fit can use, or a `ValueError`."""
    samples, parameters = np.asarray(samples), np.asarray(parameters)
    for name, array in (("samples", samples), ("parameters", parameters)):
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
            raise ValueError(f"{name} must be numbers, got dtype {array.dtype}")
    d = len(domain)
    if parameters.ndim != 2 or parameters.shape[1] != d:
        raise ValueError(
            f"parameters must have shape (n, {d}), one column for each row of domain; "
            f"got shape {parameters.shape}"
        )
    if samples.ndim < 1:
        raise ValueError(f"samples must have shape (n, ...), got a scalar: {samples!r}")
    if len(samples) != len(parameters):
        raise ValueError(
            f"samples and parameters must be equally many, got {len(samples)} samples and "
            f"{len(parameters)} parameters"
        )
    if len(samples) < MINIMUM_SAMPLES:
        raise ValueError(f"a fit needs at least {MINIMUM_SAMPLES} samples, got {len(samples)}")
    for name, array in (("samples", samples), ("parameters", parameters)):
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if bad.any():
            row = int(np.argmax(bad))
            values = array[row].ravel()
            value = values[~np.isfinite(values)][0]
            raise ValueError(
                f"{name} must be finite, got {value} in row {row} ({int(bad.sum())} such rows)"
            )
    rounding = 4 * np.finfo(np.float32).eps * np.abs(domain).max(axis=1)
    outside = (parameters < domain[:, 0] - rounding) | (parameters > domain[:, 1] + rounding)
    if outside.any():
        row = int(np.argmax(outside.any(axis=1)))
        raise ValueError(
            f"parameters must lie in domain {domain.tolist()}, got {parameters[row].tolist()} in "
            f"row {row} ({int(outside.any(axis=1).sum())} such rows)"
        )
    return samples, parameters


@jax.jit
def _summarise(summary, samples):
    return jax.vmap(summary)(samples)


def summarise(summary: nnx.Module, samples: np.ndarray, mesh: Mesh | None = None) -> np.ndarray:
    """The features of (n, ...) samples, in chunks of one compiled size; over the devices of a
    `mesh`, where every process asks for the same, does its share of them and is told the rest."""
    own = samples
    if _mesh.spans_processes(mesh):
        own = samples[_mesh.share(mesh, len(samples))]
    return _mesh.joined(mesh, _features(summary, own, mesh), len(samples))


def _features(summary: nnx.Module, samples: np.ndarray, mesh: Mesh | None) -> np.ndarray:
    n, devices = len(samples), None if mesh is None else _mesh.own_devices(mesh)
    chunk_size = _CHUNK if devices is None else _CHUNK * devices.size
    chunks = []
    for start in range(0, n, chunk_size):
        chunk = samples[start : start + chunk_size]
        rows = len(chunk)
        if rows < chunk_size:
            chunk = np.concatenate([chunk, np.repeat(chunk[-1:], chunk_size - rows, axis=0)])
        laid = jnp.asarray(chunk) if devices is None else _mesh.Rows.of(devices, chunk).arrays
        chunks.append(np.asarray(_summarise(summary, laid))[:rows])
    features = np.concatenate(chunks)
    if features.ndim != 2:
        raise ValueError(
            f"a summary must map one sample to a vector, got shape {features.shape[1:]}"
        )
    return features


def pool_samples(
    samples: np.ndarray,
    parameters: np.ndarray,
    summary: Any,
    dtype: Any,
    key: jax.Array,
    mesh: Mesh | None = None,
) -> Pool:
    """The pool of given samples."""
    summary = summary or summary_for(samples, dtype=dtype, rngs=nnx.Rngs(key))
    return Pool(summarise(summary, samples, mesh), parameters, summary, samples)


def stream_samples(
    simulator: Callable,
    n_samples: int,
    domain: np.ndarray,
    *,
    summary: Any,
    dtype: Any,
    key: jax.Array,
    batch_size: int,
    keep_samples: bool,
    progress: bool,
    directory: Path | None,
    mesh: Mesh | None = None,
) -> Pool:
    """The pool of fresh samples from `simulator(key, parameters)`, at parameters spread evenly.

    Only the features stay in memory (and, with a `directory`, on disk, a file a batch, from
    which an interrupted run goes on), unless `keep_samples`.

    With a `mesh` the parameters lie over its devices. Each of several processes asks for its share
    of a batch, with a key of its own, from the devices that it has; the first one writes."""
    summary_key, stream_key, where_key = jax.random.split(key, 3)
    everywhere = spread_evenly(where_key, n_samples, domain)
    pools: list[tuple[np.ndarray, ...]] = []
    starts = range(0, n_samples, batch_size)
    for start in tqdm(starts, "simulate", unit="batch", disable=None if progress else True):
        rows = min(batch_size, n_samples - start)
        parameters = jnp.asarray(everywhere[start : start + rows], dtype)
        file = directory / f"samples-{start:09d}.npz" if directory else None
        stored = None
        if file and start and not keep_samples:
            stored = _mesh.by_first(mesh, functools.partial(_stored_features, file, rows))
        if stored is not None:
            pools.append((stored,))
        else:
            how = jax.random.fold_in(stream_key, start)
            drawn = _draw(simulator, how, parameters, domain, mesh)
            if summary is None:
                first = _mesh.joined(mesh, drawn, rows)
                summary = summary_for(first, dtype=dtype, rngs=nnx.Rngs(summary_key))
            features = _mesh.joined(mesh, _features(summary, drawn, mesh), rows)
            kept = (_mesh.joined(mesh, drawn, rows),) if keep_samples else ()
            pools.append((features, *kept))
            if file and _mesh.is_first(mesh):
                write_npz(file, features=features)
        pools[-1] = (np.asarray(parameters), *pools[-1])
    columns = [np.concatenate(column) for column in zip(*pools, strict=True)]
    return Pool(columns[1], columns[0], summary, columns[2] if keep_samples else None)


def _draw(simulator, key, parameters, domain, mesh) -> np.ndarray:
    """This process's share of the samples at the parameters."""
    if _mesh.spans_processes(mesh):
        parameters = parameters[_mesh.share(mesh, len(parameters))]
        key = jax.random.fold_in(key, jax.process_index())
    where = _mesh.devices_for(mesh, len(parameters))
    if where is not None:
        parameters = jax.device_put(parameters, where)
    return check_samples_of_simulator(simulator(key, parameters), parameters, domain)[0]


def _stored_features(file: Path, rows: int) -> np.ndarray | None:
    """Those that an interrupted run has left, if there are any."""
    if not file.exists():
        return None
    try:
        features = load_npz(file)["features"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{error}. Remove {str(file)!r}, and it is made again.") from error
    if len(features) != rows:
        raise ValueError(f"{str(file)!r} must hold {rows} rows, got shape {features.shape}.")
    return features


def spread_evenly(key: jax.Array, n: int, domain: np.ndarray) -> np.ndarray:
    """Points (n, d), each uniform over the `domain`, together a scrambled Sobol' sequence (Owen
    1995): of any 2^m in a row, from a multiple of 2^m, one lies in each of 2^m boxes, so that sums
    over a batch are known far better than with as many at random."""
    rng = np.random.default_rng(jax.random.key_data(key).tolist())
    points = qmc.Sobol(len(domain), rng=rng).random_base2(max(n - 1, 0).bit_length())
    return qmc.scale(points[:n], *domain.T)


def check_samples_of_simulator(samples: Any, parameters: Any, domain: np.ndarray):
    """Like `check_samples`, for one batch of a simulator: any number of rows will do."""
    samples, parameters = np.asarray(samples), np.asarray(parameters)
    if samples.ndim < 1 or len(samples) != len(parameters):
        raise ValueError(
            f"simulator(key, parameters) must return one sample a row of parameters: got samples "
            f"of shape {samples.shape} for parameters of shape {parameters.shape}"
        )
    if not np.isfinite(samples).all():
        value = samples[~np.isfinite(samples)][0]
        raise ValueError(f"simulator returned samples that are not finite: {value}")
    return samples, parameters
