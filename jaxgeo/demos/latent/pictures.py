"""The pictures of a run."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import jaxgeo as jg
from jaxgeo import models, plotting
from jaxgeo.demos.latent.space import Space, decoder, even_steps

SHOWN = 5
"""Pairs that are drawn."""


def draw(
    out: Path,
    vae: models.VAE,
    space: Space,
    classes: np.ndarray | None,
    axes: tuple[Array, Array],
    volume: dict[str, np.ndarray],
    curves: dict[str, list[jg.GeodesicSolution]],
    pairs: np.ndarray,
    matrices: dict[str, np.ndarray],
    drawn: dict[str, np.ndarray],
    history: dict[str, Any],
) -> None:
    """training.png, latent.png, distances.png; of images strips.png and samples.png too."""
    plotting.save(plotting.training_history(history)[0].figure, out / "training.png")
    cut = len(space.unseen)
    names = list(volume)[:2]
    shown = _shown([curves[name] for name in names], space, pairs)
    grid = plotting.panels(1, len(names), size=(6.4, 5.6))[0]
    for ax, name in zip(grid, names, strict=True):
        plotting.latent_map(
            axes, volume[name], space.seen, classes=None if classes is None else classes[cut:],
            geodesics=[np.asarray(curves[name][k].points) for k in shown], ax=ax, title=name,
        )  # fmt: skip
    plotting.save(grid[0].figure, out / "latent.png")
    own = None if classes is None else classes[: len(matrices["Euclidean"])]
    figure = plotting.distance_matrices(matrices, classes=own)[0, 0].figure
    plotting.save(figure, out / "distances.png")
    shape = vae.decode(jnp.zeros(2, jnp.float32)).shape
    if len(shape) != 2:
        return
    decode = decoder(vae)

    def images(path: np.ndarray) -> np.ndarray:
        return even_steps(decode, path).reshape(-1, *shape)

    strips = {
        "geodesic": [images(np.asarray(curves[names[0]][k].points)) for k in shown],
        "straight": [images(space.unseen[pairs[k]]) for k in shown],
    }
    plotting.save(plotting.image_strips(strips)[0, 0].figure, out / "strips.png")
    grids = {
        name: rows[:: max(1, len(rows) // 64)].reshape(-1, *shape) for name, rows in drawn.items()
    }
    plotting.save(plotting.image_grids(grids)[0, 0].figure, out / "samples.png")


def _shown(found: list[list[jg.GeodesicSolution]], space: Space, pairs: np.ndarray) -> list[int]:
    """Pairs that are drawn: the farthest apart of those found in every metric, each away from
    those before."""
    ended = np.array([[bool(s.result == jg.RESULTS.successful) for s in some] for some in found])
    good = np.flatnonzero(ended.all(axis=0)).tolist()
    ends = space.unseen[pairs].reshape(len(pairs), 4)
    far = sorted(good, key=lambda k: -np.linalg.norm(ends[k, :2] - ends[k, 2:]))
    chosen: list[int] = far[:1]
    for _ in range(min(SHOWN, len(far)) - 1):
        rest = [k for k in far[: max(len(far) // 2, SHOWN)] if k not in chosen]
        apart = [min(np.linalg.norm(ends[k] - ends[j]) for j in chosen) for k in rest]
        chosen.append(rest[int(np.argmax(apart))])
    return chosen
