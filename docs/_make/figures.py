"""The pictures of the documentation: `python docs/_make/figures.py`, from the root."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxgeo as jg
from jaxgeo import plotting

DOCS = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LABELS = (r"$z_1$", r"$z_2$")


def decoder_and_kernels() -> None:
    """Left the pullback metric of a decoder, right the kernel metric of encoded data."""
    keys = jax.random.split(jax.random.key(3), 4)
    hidden = jax.random.normal(keys[0], (2, 32))
    last = jax.random.normal(keys[1], (32, 64)) / 8
    bias = 2 * jax.random.normal(keys[3], (32,))
    pullback = jg.PullbackMetric(lambda z: jnp.tanh(2 * z @ hidden + bias) @ last)
    angles = jnp.pi * jnp.linspace(0.0, 1.5, 90)
    encoded = 1.4 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    encoded += 0.1 * jax.random.normal(keys[2], encoded.shape)
    kernel = jg.KernelMetric(encoded, temperature=0.35, regularization=0.02)
    axes = (jnp.linspace(-2.1, 2.1, 140),) * 2

    left, right = plotting.panels(1, 2, size=(5.4, 5.0))[0]
    plotting.metric_map(axes, jg.on_grid(pullback, axes), ax=left, labels=LABELS, n_ellipses=12)
    for turn in jnp.linspace(0, 2 * jnp.pi, 16, endpoint=False):
        away = jnp.array([jnp.cos(turn), jnp.sin(turn)])
        v = 12.0 * away / jg.norm(pullback, jnp.zeros(2), away)
        ray = jg.geodesic_ivp(pullback, jnp.zeros(2), v, domain=[[-2.4, 2.4]] * 2, throw=False)
        left.plot(*ray.points.T, color="white", lw=1.4)
    left.set(xlim=(-2.1, 2.1), ylim=(-2.1, 2.1))
    left.set_xlabel("$z_1$\npullback metric of a decoder, geodesics from 0")

    ends = [(encoded[4], encoded[60]), (encoded[20], encoded[85])]
    curves = []
    for a, b in ends:
        start = jg.graph_path(kernel, encoded, a, b, n_points=65)
        curves.append(jg.geodesic_bvp(kernel, a, b, start=start).points)
    volume = jg.on_grid(lambda z: jg.log_volume_density(kernel, z), axes)
    title = "kernel metric of encoded data"
    plotting.latent_map(axes, volume, encoded, geodesics=curves, ax=right, title=title)
    plotting.save(left.figure, DOCS / "start.png", dpi=110)


def slice_of_a_mixture() -> None:
    """What the tutorial on slices computes, drawn."""
    page: dict = {}
    for block in BLOCK.finditer((DOCS / "tutorials" / "slices.md").read_text()):
        exec(block[1], page)
    labels = (r"$\alpha$", r"$\beta$")
    size = r"$\log\,\sqrt{\det\,g}$"
    grid = (page["axis"], page["axis"])
    ax = plotting.heat_map(grid, page["log_volume"], labels=labels, value_label=size)
    for crease in page["creases"]:
        ax.plot(*crease.points.T, color="#D81B60", lw=2)
    for border in page["borders"]:
        ax.plot(*border.points.T, color="white", ls=":", lw=2)
    ax.plot(*page["path"].points.T, "o-", color="#7FD8FF", ms=3)
    plotting.save(ax.figure, DOCS / "tutorials" / "slice.png", dpi=110)


if __name__ == "__main__":
    decoder_and_kernels()
    slice_of_a_mixture()
