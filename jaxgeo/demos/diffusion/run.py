"""Train a diffusion model, and take its latent space apart."""

import itertools
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.spatial.distance import cdist

import jaxgeo as jg
from jaxgeo import models
from jaxgeo._batching import each
from jaxgeo._files import below, write_json, write_npz
from jaxgeo._results import describe
from jaxgeo.demos.data import Samples, digits
from jaxgeo.demos.diffusion import pictures
from jaxgeo.demos.diffusion.boundary import crossing
from jaxgeo.demos.diffusion.slices import Classes, Generator, compared, pairs, study
from jaxgeo.demos.diffusion.spacetime import voyage

STEPS = 8_000
"""That train the denoiser."""
SAMPLER_STEPS = 50
"""Of DDIM, evenly in time, as in the paper."""
CLUSTERS = 10
"""Of k-means, which stand for classes if a user's samples have none."""
DRAWS = 500


def run_diffusion(
    out: Path,
    *,
    samples: Samples | None = None,
    seed: int = 0,
    n_slices: int = 3,
    n_pairs: int = 120,
    steps: int = STEPS,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a denoiser and a classifier; find the phases, the metric and the geodesics of slices
    of the latent space, zoom into a boundary, and travel through spacetime.

    Writes report.json, slices.npz and pictures to `out`, and returns what report.json holds."""
    clock = [("start", time.perf_counter())]
    key_draws, key_slices = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1))
    trained = train(samples, seed=seed, steps=steps, checkpoint=checkpoint, progress=progress)
    model, classifier = trained.model, trained.classifier
    clock.append(("training", time.perf_counter()))
    times = model.schedule.times(SAMPLER_STEPS, last=0.0, even_in="time")
    generator = Generator(model, times)
    quality, drawn = _quality(generator, trained, key_draws)
    clock.append(("samples", time.perf_counter()))
    studies = [
        study(
            generator, classifier, key, progress=progress,
            checkpoint=below(checkpoint, f"slice-{k}"),
        )
        for k, key in enumerate(jax.random.split(key_slices, n_slices))
    ]  # fmt: skip
    clock.append(("slices", time.perf_counter()))
    share = [len(part) for part in np.array_split(np.arange(n_pairs), n_slices)]
    joined = [
        pairs(found, generator, classifier, n, seed + 1000 * k)
        for k, (found, n) in enumerate(zip(studies, share, strict=True))
    ]
    clock.append(("geodesics", time.perf_counter()))
    diagrams = [found.diagram for found in studies]
    rich = max(diagrams, key=lambda one: sum(len(border.points) for border in one.borders))
    crossed = crossing(rich, model, classifier)
    clock.append(("boundary", time.perf_counter()))
    second = int(np.argmax(trained.unseen_classes != trained.unseen_classes[0])) or 1
    travelled = voyage(model, trained.seen, trained.unseen, second, seed=seed)
    clock.append(("spacetime", time.perf_counter()))
    results = [describe(trained.result), *(found.facts["result"] for found in studies)]
    facts: dict[str, Any] = {
        "data": f"{len(trained.seen)} of {trained.name} to train on, "
        f"{len(trained.unseen)} held out",
        "seed": seed,
        "sampler_steps": SAMPLER_STEPS,
        "quality": quality,
        "slices": [found.facts for found in studies],
        "interpolation": compared(list(itertools.chain(*joined))),
        "boundary": crossed.facts,
        "spacetime": travelled.facts,
        "fit": {"result": next((r for r in results if r != "successful"), "successful")},
        "device": str(jax.devices()[0]),
        "seconds": {b[0]: b[1] - a[1] for a, b in itertools.pairwise(clock)},
    }
    write_npz(
        out / "slices.npz", axis=diagrams[0].axes[0], nodes=np.asarray(studies[0].nodes[0]),
        labels=np.stack([found.labels for found in diagrams]),
        **{
            name.replace(" ", "_"): np.stack([found.metrics[name] for found in studies])
            for name in studies[0].metrics
        },
    )  # fmt: skip
    pictures.draw(out, studies, joined, crossed, travelled, drawn, trained.history)
    write_json(out / "report.json", facts)
    return facts


class Trained(NamedTuple):
    """A denoiser and a classifier, and the samples they were trained on or not."""

    model: models.DiffusionModel
    classifier: models.Classifier
    seen: np.ndarray
    unseen: np.ndarray
    unseen_classes: np.ndarray
    name: str
    history: dict[str, Any]
    result: Any


def train(
    samples: Samples | None = None,
    *,
    seed: int,
    steps: int = STEPS,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> Trained:
    """A denoiser, and a classifier of the same samples, five sixths of all."""
    data = samples or digits()
    key_model, key_classes = jax.random.split(jax.random.key(seed))
    order = np.random.default_rng(seed).permutation(len(data.values))
    cut = len(order) // 6
    values, classes = data.values[order], _classes(data, seed)[order]
    unseen, seen = values[:cut], values[cut:]
    denoised = _denoiser(seen, key_model, steps, checkpoint, progress)
    classified = models.fit_classifier(
        seen, classes[cut:], key=key_classes, progress=progress, throw=False,
        checkpoint=below(checkpoint, "classifier"),
    )  # fmt: skip
    result = jg.RESULTS.where(
        denoised.result == jg.RESULTS.successful, classified.result, denoised.result
    )
    history = {"denoiser": denoised.history["loss"], "classifier": classified.history["loss"]}
    return Trained(
        denoised.model, classified.model, seen, unseen, classes[:cut], data.name, history, result
    )


def _denoiser(
    seen: np.ndarray, key: Array, steps: int, checkpoint: Path | None, progress: bool
) -> models.ModelFit:
    key_weights, key_fit = jax.random.split(key)
    shape = seen.shape[1:]
    images = len(shape) in (2, 3) and min(shape[:2]) >= 16
    make = models.convolutional_denoiser if images else models.dense_denoiser
    return models.fit(
        make(seen, key=key_weights), seen, key=key_fit, steps=steps, every=max(1, steps // 30),
        patience=30, checkpoint=below(checkpoint, "denoiser"), progress=progress, throw=False,
    )  # fmt: skip


def _classes(data: Samples, seed: int) -> np.ndarray:
    """Those of the samples, or clusters of k-means in their place."""
    if data.classes is not None:
        return data.classes
    from sklearn.cluster import KMeans

    rows = data.values.reshape(len(data.values), -1)
    return KMeans(CLUSTERS, n_init=4, random_state=seed).fit_predict(rows).astype(int)


def _quality(
    generator: Generator, trained: Trained, key: Array
) -> tuple[dict[str, Any], np.ndarray]:
    """Whether what is generated looks like the data, and is not simply remembered."""
    z = jax.random.normal(key, (DRAWS, *generator.model.shape))
    drawn = np.asarray(each(generator, z))
    named = Classes(trained.classifier)
    rows = [x.reshape(len(x), -1) for x in (drawn, trained.seen, trained.unseen)]
    half = len(trained.unseen)
    right = np.asarray(each(named, jnp.asarray(trained.unseen))) == trained.unseen_classes
    return {
        "classifier_accuracy_held_out": float(np.mean(right)),
        "distance_to_nearest_trained_on": {
            "generated": float(cdist(rows[0], rows[1]).min(axis=1).mean()),
            "held out": float(cdist(rows[2], rows[1]).min(axis=1).mean()),
        },
        "distance_to_nearest_of_as_many": {
            "trained on": float(cdist(rows[0], rows[1][:half]).min(axis=1).mean()),
            "held out": float(cdist(rows[0], rows[2]).min(axis=1).mean()),
        },
        "classes_generated": np.bincount(np.asarray(each(named, jnp.asarray(drawn)))),
    }, drawn
