"""Pictures as they look, pixel by pixel, beside those in tests/images.

Text is left out and nothing is laid out by its size, so what differs between versions of
matplotlib is a smoothed edge here and there. When a picture changes on purpose,

    python tests/test_pictures.py

draws all of them anew: look at each before it is committed.
"""

import io
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from jaxgeo import plotting
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import DistanceMap

IMAGES = Path(__file__).parent / "images"
TOLERANCE = 0.02
"""Root mean square over pixels and colours, each in [0, 1]: five of 255."""

X, Y = np.linspace(-2, 2, 25), np.linspace(-1, 3, 21)


def metric_map(ax):
    """Longer along x above, along y below; not positive definite in a corner."""
    g = np.zeros((25, 21, 2, 2))
    g[..., 0, 0] = np.exp(Y)
    g[..., 1, 1] = np.exp(-Y / 2 + X[:, None] / 2)
    g[:3, :3] = -1
    line = np.stack([np.sin(Y), Y], axis=1)
    plotting.metric_map((X, Y), g, ax=ax, boundary=[line], n_ellipses=6)


def wavefronts(ax):
    """Circles about a point, and a ray."""
    source = np.array([-0.5, 0.5])
    away = np.hypot(X[:, None] - source[0], Y - source[1])
    found = DistanceMap(
        (jnp.asarray(X), jnp.asarray(Y)), jnp.asarray(source), jnp.asarray(away),
        jnp.zeros((25, 21, 2)), jnp.array(2), RESULTS.successful, jnp.array(1),
    )  # fmt: skip
    plotting.wavefronts(found, ax=ax, paths=[np.array([source, [1.5, 2.5]])], n_fronts=8)


def curvature_map(ax):
    """A saddle: red and solid to the left and right, blue and dashed above and below."""
    plotting.curvature_map((X, Y), X[:, None] ** 2 - (Y - 1) ** 2, ax=ax)


def posterior_map(ax):
    """A banana, its two credible regions, and a star."""
    logs = -(X[:, None] ** 2 + 3 * (Y - X[:, None] ** 2 / 2) ** 2) / 2
    plotting.posterior_map((X, Y), logs, ax=ax, truth=np.array([0.5, 0.5]))


def phase_map(ax):
    """Three phases, a border, a geodesic and a straight line."""
    labels = (X[:, None] > Y / 2) + 2 * np.tile(Y > 2, (25, 1))
    curves = {
        "geodesic": [np.stack([X / 2, X**2 - 0.5], 1)],
        "straight": [np.array([[-1.5, -0.5], [1.5, 2.5]])],
    }
    plotting.phase_map((X, Y), labels, boundaries=[np.stack([Y / 2, Y], 1)], curves=curves, ax=ax)


PICTURES = (metric_map, wavefronts, curvature_map, posterior_map, phase_map)


def pixels(draw) -> tuple[bytes, np.ndarray]:
    """The picture as PNG, and its red, green and blue."""
    figure = Figure(figsize=(3.2, 2.4), dpi=50)
    ax = figure.add_axes((0.04, 0.04, 0.92, 0.92))
    draw(ax)
    legend = ax.get_legend()
    if legend is not None:
        legend.remove()
    for text in figure.findobj(Text):
        text.set_visible(False)
    with io.BytesIO() as file:
        figure.savefig(file, format="png", metadata={"Software": None})
        file.seek(0)
        return file.getvalue(), imread(file)[..., :3]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.sqrt(np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)
def test_picture(draw):
    """A picture is like its own, and none of the others'."""
    found = pixels(draw)[1]
    for other in PICTURES:
        known = imread(IMAGES / f"{other.__name__}.png")[..., :3]
        assert (difference(found, known) < TOLERANCE) == (other is draw)


def without_lines(ax):
    wavefronts(ax)
    ax.collections[1].remove()


def without_path(ax):
    wavefronts(ax)
    ax.lines[0].remove()


def without_ellipses(ax):
    metric_map(ax)
    ax.collections[1].remove()


def without_credible_regions(ax):
    posterior_map(ax)
    for region in ax.collections[1:]:
        region.remove()


def without_dashes(ax):
    curvature_map(ax)
    ax.collections[2].set_linestyle("-")


@pytest.mark.parametrize(
    ("draw", "known"),
    [
        (without_lines, wavefronts),
        (without_path, wavefronts),
        (without_ellipses, metric_map),
        (without_credible_regions, posterior_map),
        (without_dashes, curvature_map),
    ],
)
def test_the_tolerance_sees_what_is_missing(draw, known):
    assert difference(pixels(draw)[1], pixels(known)[1]) > TOLERANCE


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    for draw in PICTURES:
        path = IMAGES / f"{draw.__name__}.png"
        path.write_bytes(pixels(draw)[0])
        print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
