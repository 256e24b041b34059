"""Train VAE and RHVAE, and ask what the geodesics of their latent space are worth."""

import functools
import itertools
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.spatial.distance import cdist

import jaxgeo as jg
from jaxgeo import models
from jaxgeo._files import below, write_json, write_npz
from jaxgeo._results import describe
from jaxgeo._typing import Metric
from jaxgeo.demos.data import Samples, digits
from jaxgeo.demos.latent import pictures
from jaxgeo.demos.latent.space import STEPS, Decoded, Space, decoder, even_steps
from jaxgeo.report import spread

CENTROIDS = 128
"""Of the kernel metric."""
AMBIENT = 300
"""Samples of the ambient metric."""
NODES = 97
"""Of the grids of maps and distances, along either axis."""
SOURCES = 100
"""Held-out samples of the matrix of distances."""
DRAWS = 640
"""Samples of the manifold, and of the prior."""


def run_latent(
    out: Path,
    *,
    samples: Samples | None = None,
    seed: int = 0,
    n_pairs: int = 120,
    steps: int = 3000,
    hamiltonian_steps: int = 300,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a VAE, then an RHVAE; ask of its metric's geodesics whether they keep to the data.

    Writes report.json, latent.npz and pictures to `out`, and returns what report.json holds."""
    clock = [("start", time.perf_counter())]
    data = samples or digits()
    keys = jax.random.split(jax.random.key(seed), 9)
    order = np.random.default_rng(seed).permutation(len(data.values))
    cut = len(order) // 6
    unseen, seen = data.values[order[:cut]], data.values[order[cut:]]
    classes = None if data.classes is None else data.classes[order]
    vae, rhvae, history = _train(
        data, seen, unseen, keys, steps, hamiltonian_steps, checkpoint, progress
    )
    clock.append(("training", time.perf_counter()))
    space = Space.of(rhvae.vae, seen, unseen, keys[4])
    metrics = _metrics(rhvae, space)
    axes = _axes(np.concatenate([space.seen, space.unseen]))
    volume = {
        name: np.asarray(jg.on_grid(functools.partial(_log_volume, metric), axes))
        for name, metric in metrics.items()
    }
    clock.append(("maps", time.perf_counter()))
    pairs = _pairs(cut, n_pairs, seed)
    curves = {name: _geodesics(metric, space, pairs) for name, metric in metrics.items()}
    closeness = _closeness(rhvae.vae, space, pairs, curves)
    clock.append(("geodesics", time.perf_counter()))
    some = space.unseen[:SOURCES]
    mapped = {name: _distances(metrics[name], some, axes) for name in list(metrics)[:2]}
    matrices = {name: matrix for name, (matrix, _) in mapped.items()}
    matrices["Euclidean"] = cdist(some, some)
    clusters = None if classes is None else _clusters(matrices, classes[: len(some)], keys[5])
    clock.append(("distances", time.perf_counter()))
    drawn, sampling = _samples(rhvae, space, axes, keys[6])
    clock.append(("samples", time.perf_counter()))
    facts: dict[str, Any] = {
        "data": f"{len(seen)} of {data.name} to train on, {cut} held out",
        "seed": seed,
        "evidence": _evidence(vae, rhvae, unseen, keys[8]),
        "distance_to_data": closeness,
        "distance_maps_failed": {name: failed for name, (_, failed) in mapped.items()},
        "clusters": clusters,
        "samples": sampling,
        "fit": {"result": describe(history.pop("result"))},
        "device": str(jax.devices()[0]),
        "seconds": {b[0]: b[1] - a[1] for a, b in itertools.pairwise(clock)},
    }
    arrays = {f"log_volume_{k}": v for k, v in enumerate(volume.values())}
    write_npz(
        out / "latent.npz", seen=space.seen, unseen=space.unseen, axis_0=np.asarray(axes[0]),
        axis_1=np.asarray(axes[1]), distances=np.stack(list(matrices.values())), **arrays,
    )  # fmt: skip
    pictures.draw(
        out, rhvae.vae, space, classes, axes, volume, curves, pairs, matrices, drawn, history
    )
    write_json(out / "report.json", facts)
    return facts


def _train(
    data: Samples,
    seen: np.ndarray,
    unseen: np.ndarray,
    keys: Array,
    steps: int,
    hamiltonian_steps: int,
    checkpoint: Path | None,
    progress: bool,
) -> tuple[models.VAE, models.RHVAE, dict[str, Any]]:
    """A VAE, and an RHVAE that goes on from it."""
    scale: dict[str, Any] = {"center": float(seen.mean()), "spread": float(seen.std())}
    shape = seen.shape[1:]
    images = len(shape) in (2, 3) and min(shape[:2]) >= 16
    make = models.convolutional_vae if images else models.dense_vae
    vae = make(shape, 2, key=keys[0], likelihood=data.likelihood, **scale)
    held = seen[: len(seen) // 10]  # what is held out of training chooses when it ends
    first = models.fit(
        vae, seen[len(held) :], held_out=held, key=keys[1], steps=steps,
        every=max(1, steps // 30), checkpoint=below(checkpoint, "vae"),
        progress=progress, throw=False,
    )  # fmt: skip
    encoded = np.asarray(models.encode_samples(first.model, seen, key=keys[2]).mean)
    centroids = models.medoid_indices(encoded, min(CENTROIDS, len(seen) // 2))
    rhvae = models.RHVAE(
        first.model, seen[centroids], key=keys[3], **scale,
        temperature=models.nearest_neighbor_distance(encoded[centroids]), regularization=0.01,
    )  # fmt: skip
    second = models.fit(
        rhvae, seen[len(held) :], held_out=held, key=keys[7], steps=hamiltonian_steps,
        learning_rate=3e-4, every=max(1, hamiltonian_steps // 10),
        checkpoint=below(checkpoint, "rhvae"), progress=progress, throw=False,
    )  # fmt: skip
    result = jg.RESULTS.where(first.result == jg.RESULTS.successful, second.result, first.result)
    history = {
        "VAE": first.history["loss"], "RHVAE": second.history["loss"],
        "result": result,
    }  # fmt: skip
    return first.model, second.model, history


def _metrics(rhvae: models.RHVAE, space: Space) -> dict[str, Metric]:
    """The metrics that are compared, the one that the rest of the report uses first."""
    few = models.medoid_indices(space.pixels, min(AMBIENT, len(space.pixels)))
    ambient = jg.LocallyAdaptiveMetric(
        space.pixels[few],
        bandwidth=0.4 * models.nearest_neighbor_distance(space.pixels),
        floor=float(space.pixels.var()) / 400,
    )
    return {
        "RHVAE": rhvae.metric(),
        "pullback, locally adaptive": jg.PullbackMetric(Decoded(rhvae.vae), ambient),
        "Fisher pullback": rhvae.vae.fisher_metric(),
    }


def _log_volume(metric: Metric, z: Array) -> Array:
    return jg.log_volume_density(metric, z)


def _axes(points: np.ndarray) -> tuple[Array, Array]:
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.08 * (high - low)
    ends = zip(low - room, high + room, strict=True)
    first, second = (jnp.linspace(a, b, NODES, dtype=points.dtype) for a, b in ends)
    return first, second


def _pairs(count: int, n_pairs: int, seed: int) -> np.ndarray:
    """Pairs of different held-out samples."""
    rng = np.random.default_rng([seed, 1])
    first = rng.integers(0, count, n_pairs)
    return np.stack([first, (first + rng.integers(1, count, n_pairs)) % count], axis=1)


def _geodesics(metric: Metric, space: Space, pairs: np.ndarray) -> list[jg.GeodesicSolution]:
    """Of every pair, from the shortest path through encoded samples."""
    chosen = models.medoid_indices(space.seen, min(CENTROIDS, len(space.seen) // 2))
    nodes = jnp.asarray(space.seen[chosen])
    # decoders are rugged: what is not found soon is not found
    solver = jg.Relaxation(32, n_starts=1, max_iterations=30)
    solutions = []
    for a, b in jnp.asarray(space.unseen)[pairs]:
        start = jg.graph_path(metric, nodes, a, b, n_points=STEPS)
        solutions.append(jg.geodesic_bvp(metric, a, b, start=start, solver=solver, throw=False))
    return solutions


def _closeness(
    vae: models.VAE,
    space: Space,
    pairs: np.ndarray,
    curves: dict[str, list[jg.GeodesicSolution]],
) -> dict[str, Any]:
    """Distances of decoded curves to the nearest sample trained on, mean over each curve.

    A pair counts for a metric if its geodesic was found; the straight line, for the same pairs."""
    decode = decoder(vae)
    ends = space.unseen[pairs]
    straight = np.array([space.nearest(even_steps(decode, end)).mean() for end in ends])
    floor = space.nearest(decode(space.unseen)).mean()
    facts: dict[str, Any] = {
        "decoded samples": floor, "straight lines": spread(straight), "pairs": len(pairs),
    }  # fmt: skip
    for name, solutions in curves.items():
        good = np.array([bool(s.result == jg.RESULTS.successful) for s in solutions])
        own = np.array(
            [space.nearest(even_steps(decode, np.asarray(s.points))).mean() for s in solutions]
        )
        facts[name] = {
            "geodesics found": int(good.sum()),
            "geodesics": spread(own[good]),
            "straight lines": spread(straight[good]),
            "nearer by": spread((straight - own)[good]),
            "share nearer": float(np.mean(own[good] < straight[good])) if good.any() else np.nan,
            "nearer by, all curves": spread(straight - own),
        }
    return facts


def _distances(
    metric: Metric, points: np.ndarray, axes: tuple[Array, Array]
) -> tuple[np.ndarray, int]:
    """Between all points, over all ways on the grid; and how many of the maps failed."""

    maps = [jg.distance_map(metric, z, axes, throw=False) for z in jnp.asarray(points)]
    failed = sum(bool(found.result != jg.RESULTS.successful) for found in maps)
    reached = np.stack([np.asarray(found.distances) for found in maps])
    cells = [
        np.clip((points[:, k] - a[0]) / (a[1] - a[0]), 0, NODES - 1.001)
        for k, a in enumerate(map(np.asarray, axes))
    ]
    i, j = (c.astype(int) for c in cells)
    u, v = (c - c.astype(int) for c in cells)
    across = (
        (1 - u) * (1 - v) * reached[:, i, j] + u * (1 - v) * reached[:, i + 1, j]
        + (1 - u) * v * reached[:, i, j + 1] + u * v * reached[:, i + 1, j + 1]
    )  # fmt: skip
    across = (across + across.T) / 2
    np.fill_diagonal(across, 0)
    return across, failed


def _clusters(matrices: dict[str, np.ndarray], classes: np.ndarray, key: Array) -> dict[str, Any]:
    """How well clusters of either distance are the classes: adjusted Rand index, ten seeds."""
    from sklearn.metrics import adjusted_rand_score

    count = len(np.unique(classes))
    scores: dict[str, Any] = {}
    for name, matrix in matrices.items():
        found = [
            jg.kmedoids(jnp.asarray(matrix), count, key=own).labels
            for own in jax.random.split(key, 10)
        ]
        scores[name] = spread(np.array([adjusted_rand_score(classes, k) for k in found]))
    return {"measure": "adjusted Rand index of k-medoids", "points": len(classes), **scores}


def _samples(
    rhvae: models.RHVAE, space: Space, axes: tuple[Array, Array], key: Array
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Decoded draws of the prior, and of the metric's inverse volume; their distance to data."""
    key_prior, key_chains = jax.random.split(key)
    prior = np.asarray(jax.random.normal(key_prior, (DRAWS, 2), jnp.float32))
    drawn = jg.distributions.sample_volume(
        rhvae.metric(), power=-1.0, key=key_chains, starts=jnp.asarray(space.seen), n_chains=64,
        domain=jnp.stack([jnp.stack([axis[0], axis[-1]]) for axis in axes]), n_draws=100,
        n_warmup=200, throw=False,
    )  # fmt: skip
    decode = decoder(rhvae.vae)
    thinned = np.asarray(drawn.points)[:, :: 100 * 64 // DRAWS].reshape(-1, 2)
    pixels = {"Gaussian prior": decode(prior), "inverse volume": decode(thinned)}
    facts: dict[str, Any] = {name: spread(space.nearest(rows)) for name, rows in pixels.items()}
    facts["chains"] = {
        "result": describe(drawn.result), "greatest R-hat": float(jnp.max(drawn.rhat)),
        "effective size": float(jnp.min(drawn.effective_size)),
        "divergent": float(jnp.mean(drawn.divergent)),
    }  # fmt: skip
    return pixels, facts


def _evidence(
    vae: models.VAE, rhvae: models.RHVAE, unseen: np.ndarray, key: Array
) -> dict[str, Any]:
    """Bounds (over draws whose flow was followed) and importance-weighted estimates, held out,
    in nats a sample."""

    @eqx.filter_jit
    def estimate(model: Any, x: Array) -> tuple[Array, ...]:
        keys = jax.random.split(key, len(x))

        def one(pair: tuple[Array, Array]) -> tuple[Array, ...]:
            sample, own = pair
            logs = jax.vmap(lambda k: model.log_weight(sample, key=k))(jax.random.split(own, 32))
            valid = jnp.isfinite(logs)
            mean = jnp.sum(jnp.where(valid, logs, 0)) / jnp.sum(valid)
            best = jax.scipy.special.logsumexp(logs) - jnp.log(len(logs))
            return mean, best, jnp.mean(~valid)

        return jax.lax.map(one, (x, keys), batch_size=64)

    return {
        name: {
            "bound": float(jnp.mean(found[0])),
            "of 32 weights": float(jnp.mean(found[1])),
            "draws not followed": float(jnp.mean(found[2])),
        }
        for name, found in (
            (name, estimate(model, jnp.asarray(unseen)))
            for name, model in (("VAE", vae), ("RHVAE", rhvae))
        )
    }
