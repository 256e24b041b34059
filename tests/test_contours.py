"""Pictures with level lines: the lines lie where closed forms say."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_hex

from jaxgeo import plotting
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import DistanceMap

X, Y = np.linspace(-2, 2, 41), np.linspace(-1, 3, 31)
SOURCE = np.array([-0.4, 0.7])
BY_INTERPOLATION = 0.01
"""Level lines are straight within a cell of 0.1 × 0.13: h²/(8r) at a radius r ≥ ½ is 0.005."""
OF_LEVEL = 0.03
"""A sum over some hundred cells stands for the integral of a density."""


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def euclidean(result=RESULTS.successful, axes=(X, Y), distances=None):
    away = np.hypot(X[:, None] - SOURCE[0], Y - SOURCE[1]) if distances is None else distances
    source = np.resize(SOURCE, len(axes))
    return DistanceMap(
        tuple(map(jnp.asarray, axes)), jnp.asarray(source), jnp.asarray(away),
        jnp.zeros((*away.shape, len(axes))), jnp.array(2), result, jnp.array(1),
    )  # fmt: skip


def vertices(lines):
    """Level to the points of its lines."""
    pairs = zip(lines.levels, lines.get_paths(), strict=True)
    return {round(float(level), 6): path.vertices for level, path in pairs}


def test_wavefronts_are_circles_where_the_metric_is_euclidean():
    path = np.stack([SOURCE, [1.0, 2.0]])
    own = plotting.panels()[0, 0]
    ax = plotting.wavefronts(euclidean(), ax=own, labels=("$x$", "$y$"), paths=[path], n_fronts=7)
    assert ax is own
    mesh, lines = ax.collections
    np.testing.assert_allclose(mesh.get_array(), np.asarray(euclidean().distances).T)
    fronts = vertices(lines)
    assert list(fronts) == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    for level, points in fronts.items():
        radii = np.linalg.norm(points - SOURCE, axis=1)
        np.testing.assert_allclose(radii, level, atol=BY_INTERPOLATION)
    assert legend(ax) == ["distance every 0.5", "shortest path", "source"]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), path)
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [SOURCE])
    assert ax.get_xlabel() == "$x$"


def test_wavefronts_of_a_failed_map_never_look_fine():
    away = np.array(euclidean().distances)
    away[30:] = np.inf
    ax = plotting.wavefronts(euclidean(RESULTS.not_converged, distances=away), labels=("x", "y"))
    assert ax.get_xlabel().startswith("x\nFAILED: The solver used up its iterations")
    assert to_hex(ax.xaxis.label.get_color()) == plotting.maps.FAILED.lower()
    mesh, lines = ax.collections
    assert mesh.get_array().mask.sum() == 11 * 31
    reached = np.concatenate(list(vertices(lines).values()))
    assert reached[:, 0].max() <= X[29]


def test_fronts_of_a_constant_are_none():
    ax = plotting.wavefronts(euclidean(distances=np.zeros((41, 31))))
    assert len(ax.collections) == 1
    assert legend(ax) == ["source"]


def test_curvature_map_tells_the_sign_without_colours():
    field = np.broadcast_to(X[:, None], (41, 31))
    ax = plotting.curvature_map((X, Y), field, labels=("$x$", "$y$"), limits=(-2, 2))
    mesh, above, below, zero = ax.collections
    assert mesh.get_clim() == (-2, 2)
    colours = mesh.to_rgba([-1.0, 0.0, 1.0])
    assert colours[0, 2] > colours[0, 0]  # blue below
    assert colours[2, 0] > colours[2, 2]  # red above
    assert np.all(colours[1, :3] > 0.95)
    for lines, sign in ((above, 1), (below, -1), (zero, 0)):
        for level, points in vertices(lines).items():
            assert np.sign(level) == sign
            np.testing.assert_allclose(points[:, 0], level, atol=1e-6)
    assert len(above.levels) == len(below.levels) > 1
    dashes = [lines.get_linestyle()[0][1] for lines in (above, below, zero)]
    assert [pattern is None for pattern in dashes] == [True, False, True]
    assert zero.get_linewidth()[0] > 1.5 * above.get_linewidth()[0]
    assert ax.figure.axes[1].get_ylabel() == "scalar curvature"


def test_curvature_map_of_one_sign_and_without_lines():
    [mesh, below] = plotting.curvature_map(
        (X, Y), np.full((41, 31), -1.0) - X[:, None] ** 2
    ).collections
    assert max(below.levels) < 0
    assert sum(mesh.get_clim()) == 0
    assert len(plotting.curvature_map((X, Y), X[:, None] + Y, n_levels=0).collections) == 1


@pytest.mark.parametrize("axis", [np.linspace(-5, 5, 61), np.sinh(np.linspace(-2.3, 2.3, 61))])
def test_credible_regions_of_a_normal_law(axis):
    """Within a normal law in the plane, p ≥ c · peak has the probability 1 − c."""
    logs = 7 - (axis[:, None] ** 2 + (axis - axis[:, None] / 2) ** 2) / 2
    ax = plotting.posterior_map(
        (axis, axis), logs, truth=np.array([0.5, 1.0]), levels=(0.5, 0.9, 0.2)
    )
    mesh, *regions = ax.collections
    assert len(regions) == 3
    for region, level in zip(regions, (0.5, 0.9, 0.2), strict=True):
        np.testing.assert_allclose(
            region.levels / mesh.get_array().max(), 1 - level, rtol=OF_LEVEL
        )
    np.testing.assert_allclose(mesh.get_array().max(), 1 / (2 * np.pi), rtol=OF_LEVEL)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0.5, 1.0]])
    assert legend(ax) == ["50 % credible", "90 % credible", "20 % credible", "truth"]
    assert len({str(region.get_linestyle()) for region in regions}) == 3


def test_nodes_without_density_and_regions_without_lines():
    logs = np.full((41, 31), -np.inf)
    logs[20, 10] = 3.0
    ax = plotting.posterior_map((X, Y), logs, levels=(0.4, 0.9))
    assert legend(ax) == ["40 % credible (no line)", "90 % credible"]
    flat = plotting.posterior_map((X, Y), np.zeros((41, 31)))
    assert len(flat.collections) == 1
    assert legend(flat) == ["50 % credible (no line)", "90 % credible (no line)"]
    np.testing.assert_allclose(flat.collections[0].get_array(), 1 / 16)


LOGS = -np.add.outer(X**2, Y**2)
THREE = (np.zeros(3), np.zeros(3), np.zeros(3))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: plotting.wavefronts(euclidean(axes=THREE, distances=np.zeros((3, 3, 3)))),
            "two dimensions, got 3",
        ),
        (lambda: plotting.wavefronts(euclidean(), n_fronts=0), "at least 1, got 0"),
        (
            lambda: plotting.wavefronts(euclidean(distances=np.full((41, 31), np.nan))),
            "no value is finite",
        ),
        (lambda: plotting.curvature_map((X, Y), LOGS.T), r"\(41, 31\) .* got \(31, 41\)"),
        (lambda: plotting.posterior_map((X, Y), LOGS.T), r"\(41, 31\) .* got \(31, 41\)"),
        (
            lambda: plotting.posterior_map((X, Y), np.where(LOGS < -9, np.nan, LOGS)),
            r"finite or −∞, got nan at \[ 0 +\d+\]",
        ),
        (lambda: plotting.posterior_map((X, Y), LOGS, levels=(0.5, 1.0)), r"got \(0.5, 1.0\)"),
        (lambda: plotting.posterior_map((X, Y), LOGS, levels=5 * (0.5,)), "4 numbers at most"),
        (lambda: plotting.posterior_map((X, Y), LOGS, truth=np.ones(1)), r"\(2,\), got \(1,\)"),
    ],
)  # fmt: skip
def test_bad_input_is_quoted(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
