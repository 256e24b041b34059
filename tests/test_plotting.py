"""Pictures: what is on the axes, and that files are whole. No display, no pyplot."""

import sys

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from jaxgeo import plotting
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import GeodesicSolution
from jaxgeo.phases import Boundary, Ridge, ZoomLevel, box_dimension
from jaxgeo.training import Trace

X, Y = np.linspace(1, 5, 12), np.linspace(-2, 2, 15)
FIELD = np.add.outer(X, Y**2)
LABELS = ("temperature $T$", "field $H$")
# unit balls of half-axes 1 and 1/2 everywhere
METRIC = np.broadcast_to(np.diag([1.0, 4.0]), (12, 15, 2, 2))
TS = jnp.linspace(0, 1, 20)
PHASES = np.where(X[:, None] > 3 + Y / 4, 12, -1)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def solution(result=RESULTS.successful):
    velocities = jnp.broadcast_to(jnp.array([2.0, 1.0]), (20, 2))
    points = jnp.array([[2.0, -1.0]]) + TS[:, None] * velocities
    return GeodesicSolution(TS, points, velocities, result, {"length": jnp.array(2.828)})


@pytest.fixture(autouse=True)
def nothing_global_changes():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")  # pytest plugins may import it
    assert pyplot is None or not pyplot.get_fignums()


def test_heat_map_puts_values_where_they_belong():
    ax = plotting.heat_map((X, Y), FIELD, labels=LABELS, value_label="$F$")
    [mesh] = ax.collections
    np.testing.assert_array_equal(mesh.get_array(), FIELD.T)
    assert (ax.get_xlabel(), ax.get_ylabel()) == LABELS
    half = (X[1] - X[0]) / 2
    np.testing.assert_allclose(ax.get_xlim(), (1 - half, 5 + half))
    assert mesh.get_clim() == (FIELD.min(), FIELD.max())
    assert ax.figure.axes[1].get_ylabel() == "$F$"


def test_heat_map_of_errors_is_symmetric_and_nan_is_grey():
    field = np.linspace(-1, 3, FIELD.size).reshape(FIELD.shape)
    field[0, 0] = np.nan
    own = plotting.panels()[0, 0]
    ax = plotting.heat_map((X, Y), field, ax=own, signed=True)
    assert ax is own
    low, high = ax.collections[0].get_clim()
    assert low == -high
    assert 2.5 < high < 3
    assert ax.figure.axes[1]._colorbar.extend == "max"
    assert ax.collections[0].get_array().mask.sum() == 1


def test_heat_map_of_a_constant():
    low, high = plotting.heat_map((X, Y), 0 * FIELD).collections[0].get_clim()
    assert low < 0 < high


def test_comparison_shares_scales_and_names_errors():
    exact = {"$F$": FIELD, "$M$": -FIELD}
    axes = plotting.comparison(
        (X, Y), {name: f + 0.5 for name, f in exact.items()}, exact, labels=LABELS
    )
    assert axes.shape == (2, 3)
    for row in axes:
        assert row[0].collections[0].get_clim() == row[1].collections[0].get_clim()
        assert [ax.get_title() for ax in row] == ["reconstructed", "exact", "RMS 0.5, largest 0.5"]
    assert plotting.comparison((X, Y), exact).shape == (2, 1)


def test_metric_map_draws_balls_of_the_metric():
    points = np.array([[1.0, 0.0], [3.0, 0.1]])
    ridge = Ridge(points, np.zeros(2), np.ones(2))
    ax = plotting.metric_map((X, Y), METRIC, labels=LABELS, boundary=[ridge, points + 1])
    mesh, balls = ax.collections
    np.testing.assert_allclose(mesh.get_array(), np.log(2))
    r = float(legend(ax)[0].split("=")[-1].rstrip("$"))
    for ball in balls.get_segments():
        v = ball - (ball.max(axis=0) + ball.min(axis=0)) / 2
        np.testing.assert_allclose(v[:, 0] ** 2 + 4 * v[:, 1] ** 2, r**2, rtol=1e-6)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), points)
    assert len(ax.lines) == 2
    assert legend(ax)[1:] == ["phase boundary"]


def test_metric_map_says_what_it_shrinks_and_what_is_no_metric():
    metric = METRIC.copy()
    metric[2, :, 0, 0] = 1e-9
    metric[7, 7] = -1
    ax = plotting.metric_map((X, Y), metric, n_ellipses=12)
    assert legend(ax)[1:] == ["shrunk to the spacing", "$g$ not positive definite"]
    assert ax.collections[0].get_array().mask.sum() == 1
    shrunk = ax.collections[2]
    widths = [np.ptp(ball[:, 0]) for ball in shrunk.get_segments()]
    assert widths
    assert max(widths) < X[1] - X[0]
    assert not plotting.metric_map((X, Y), METRIC, n_ellipses=0).collections[1:]


def test_geodesic_map():
    straight = solution().points
    curves = [
        solution(),
        plotting.Curve("mixture", straight, 3.0),
        plotting.Curve("exponential", straight),
    ]
    ax = plotting.geodesic_map((X, Y), METRIC, [curves], labels=LABELS)
    assert legend(ax) == [
        "A–B Levi-Civita, length 2.828",
        "A–B mixture, length 3",
        "A–B exponential",
    ]
    assert [line.get_linestyle() for line in ax.lines[:3]] == ["-", "--", ":"]
    ends = [line.get_xydata()[0] for line in ax.lines[3:]]
    np.testing.assert_allclose(ends, [[2, -1], [4, 0]])
    assert [text.get_text() for text in ax.texts] == ["A", "B"]


def test_the_legend_of_a_geodesic_map_takes_no_room_from_the_axes():
    """Two columns of these would be wider than the axes, which would shrink to nothing."""
    points = solution().points
    curves = [plotting.Curve(kind, points, 2.828) for kind in ("mixture", "exponential")]
    ax = plotting.geodesic_map((X, Y), METRIC, [[solution(), *curves]])
    figure = ax.figure
    for _ in range(2):  # the layout settles at the second drawing
        figure.draw_without_rendering()
    box, axes = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert box.width < axes.width
    assert axes.width > 0.6 * figure.bbox.width


def test_a_failed_curve_never_looks_fine():
    lost = solution().points.at[5:].set(jnp.nan)
    unmeasured = plotting.Curve("exponential", solution().points, np.nan)  # where g is no metric
    pairs = [
        [solution(RESULTS.not_converged)], [plotting.Curve("mixture", lost, 2.0)], [unmeasured],
    ]  # fmt: skip
    ax = plotting.geodesic_map((X, Y), METRIC, pairs)
    unwrapped = [label.replace("\n", " ") for label in legend(ax)]
    assert unwrapped[0].startswith("A–B Levi-Civita FAILED: The solver used up its iterations")
    assert unwrapped[1] == "C–D mixture FAILED: 15 of 20 points are not finite"
    assert unwrapped[2] == "E–F exponential FAILED: its length is nan"
    assert not any(", length" in label for label in unwrapped)
    failed = [line for line in ax.lines if line.get_marker() == "x"]
    assert len(failed) == 3


def test_training_history():
    steps = np.arange(1, 5) * 250
    held_out = np.array([1.0, 0.1, 0.2, np.nan])
    history = {
        "ridges": {"held_out": [0.5, 0.4, 0.6]},
        "potential": Trace(steps, held_out / 2, held_out),
        "posterior": Trace(steps, -held_out, held_out),
    }
    axes = plotting.training_history(history)
    assert [ax.get_title() for ax in axes] == list(history)
    assert [ax.get_yscale() for ax in axes] == ["log", "log", "linear"]
    assert legend(axes[1]) == ["training (1 not finite)", "held out (1 not finite)", "kept"]
    np.testing.assert_allclose(axes[1].lines[2].get_xydata(), [[500, 0.1]])
    np.testing.assert_allclose(axes[0].lines[1].get_xydata(), [[2, 0.4]])
    many = plotting.training_history({str(k): history["potential"] for k in range(5)})
    assert [len(many), len(many[0].figure.axes)] == [5, 5]  # two rows, no empty panel


def test_phase_map_draws_labels_boundaries_and_curves():
    line = np.stack([3 + Y / 4, Y], axis=1)
    ridge = Ridge(line + 1, np.zeros(15), np.ones(15))
    curves = {"geodesic": [line - 1, line - 0.5], "straight": [line[[0, -1]]]}
    ax = plotting.phase_map(
        (X, Y),
        PHASES,
        boundaries=[Boundary(line, (-1, 12)), ridge, line + 2],
        curves=curves,
        names={12: "ordered"},
        title="a slice",
    )
    [mesh] = ax.collections
    shown = mesh.to_rgba(mesh.get_array())[..., :3]  # rows are of β
    for label in (-1, 12):
        ours = shown[label == PHASES.T]
        np.testing.assert_allclose(ours, [to_rgb(phase_colour(label))] * len(ours))
    drawn = [found.get_xydata() for found in ax.lines]
    for found, expected in zip(drawn, [line, line + 1, line + 2], strict=False):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(drawn[3], line - 1)
    np.testing.assert_array_equal(drawn[4], (line - 1)[[0, -1]])  # its ends are marked
    assert [ax.lines[k].get_linestyle() for k in (3, 5, 7)] == ["-", "-", "--"]
    assert legend(ax) == ["-1", "ordered", "geodesic", "straight"]
    assert ax.get_xlabel() == "$\\alpha$\na slice"
    assert (ax.get_xlim(), ax.get_ylim()) == ((1, 5), (-2, 2))


def phase_colour(label):
    return plotting.slices.PHASES[label % 10]


@pytest.mark.parametrize("n", [3, 12])
def test_the_legend_of_a_phase_map_is_whole_and_off_the_data(n):
    names = {label: f"phase {label}" for label in range(n)}
    curves = {name: [np.eye(2)] for name in ("reconstructed", "exact pullback", "straight")}
    labels = np.add.outer(np.arange(12), np.arange(15)) % n
    ax = plotting.phase_map((X, Y), labels, names=names, curves=curves)
    figure = ax.figure
    for _ in range(2):  # the layout settles at the second drawing
        figure.draw_without_rendering()
    box = ax.get_legend().get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert ax.get_window_extent().y1 <= box.y0 < box.y1 <= figure.bbox.y1
    assert ax.get_legend()._ncols > 1


@pytest.mark.parametrize("colours", [(), (3,)])
def test_image_map_puts_each_image_at_its_place(colours):
    images = np.zeros((12, 15, 2, 4, *colours))
    for node in ((0, 0), (11, 14), (3, 14)):
        images[node][0, 0] = 1  # its own corner: above on the left
    line = np.stack([3 + Y / 4, Y], axis=1)
    ax = plotting.image_map((X, Y), images, boundaries=[Boundary(line, (0, 1))])
    [picture] = ax.images
    pixels = picture.get_array()
    assert pixels.shape == (15 * 2, 12 * 4, *colours)
    left, right, bottom, top = picture.get_extent()
    assert picture.origin == "upper"
    rows, columns = np.nonzero(np.reshape(pixels, (30, 48, -1)).max(axis=-1))
    x = left + (right - left) * (columns + 0.5) / 48
    y = top - (top - bottom) * (rows + 0.5) / 30
    dx, dy = X[1] - X[0], Y[1] - Y[0]
    expected = [(X[i] - 3 / 8 * dx, Y[j] + dy / 4) for i, j in ((3, 14), (11, 14), (0, 0))]
    np.testing.assert_allclose(np.stack([x, y], axis=1), expected)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), line)
    ax.figure.draw_without_rendering()
    box = ax.get_window_extent()
    np.testing.assert_allclose(box.height / box.width, 30 / 48, rtol=1e-6)  # pixels are square


def test_image_map_of_bytes():
    images = np.full((12, 15, 2, 2, 3), 255, np.uint8)
    images[0, 0] = 7
    [picture] = plotting.image_map((X, Y), images).images
    assert picture.get_array().dtype == np.uint8
    assert picture.get_array()[-1, 0].tolist() == [7, 7, 7]


def level(width, labels):
    return ZoomLevel((3 + width * X, width * Y), labels, True)


def test_zoom_strip_has_the_colours_of_the_phase_map():
    few = [level(10.0 ** (1 - k) / 4, np.roll(PHASES, k)) for k in range(3)]
    many = [level(10.0**-k, PHASES) for k in range(9)]
    axes = plotting.zoom_strip({"few": few, "many": many}, columns=5)
    assert axes.shape == (2, 5)
    assert [ax.axison for ax in axes[0]] == [True] * 3 + [False] * 2
    assert axes[0, 0].get_ylabel() == "few"
    exponents = [ax.get_title().split("^")[1] for ax in axes[1]]
    assert exponents == ["{0}$", "{-2}$", "{-4}$", "{-6}$", "{-8}$"]
    assert axes[0, 1].get_title() == r"$1\times10^{0}$"
    [mesh] = plotting.phase_map((X, Y), np.roll(PHASES, 1)).collections
    [picture] = axes[0, 1].images
    assert picture.origin == "lower"
    np.testing.assert_allclose(
        picture.to_rgba(picture.get_array()), mesh.to_rgba(mesh.get_array())
    )
    assert plotting.zoom_strip({"few": few}).shape == (1, 3)


def test_box_counts_fill_what_was_fitted():
    x = np.linspace(-1, 1, 160)
    found = box_dimension((x[:, None] ** 2 + x**2 < 0.7).astype(int))
    ax = plotting.box_counts({"circle": found}, title="boundary")
    fitted, others, fit = ax.lines
    np.testing.assert_array_equal(fitted.get_xdata(), found.scales[found.fitted])
    np.testing.assert_array_equal(fitted.get_ydata(), found.counts[found.fitted])
    np.testing.assert_array_equal(others.get_ydata(), found.counts[~found.fitted])
    assert others.get_markerfacecolor() == "none"
    (x0, x1), (y0, y1) = np.log(fit.get_data())
    np.testing.assert_allclose((y1 - y0) / (x1 - x0), -found.dimension)
    assert abs(np.exp(y0) / fitted.get_ydata()[0] - 1) < 0.1
    assert legend(ax) == [f"circle: $D={found.dimension:.3f}\\pm{found.error:.3f}$"]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_title()) == ("log", "log", "boundary")


def test_growth_says_what_is_not_finite():
    r = np.logspace(-3, 0, 4)
    ax = plotting.growth({"jump": (r, 1 / r), "lost": (r, np.where(r < 0.1, np.nan, 1.0))})
    np.testing.assert_allclose(ax.lines[0].get_xydata(), np.stack([r, 1 / r], axis=1))
    assert legend(ax) == ["jump", "lost (2 not finite)"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlabel() == "distance to the boundary"


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_save_writes_the_whole_file_and_nothing_else(tmp_path, suffix):
    ax = plotting.metric_map((X, Y), METRIC, labels=LABELS)
    path = plotting.save(ax.figure, tmp_path / f"metric{suffix}", dpi=50)
    assert list(tmp_path.iterdir()) == [path]
    if suffix == ".png":
        assert imread(path).shape == (240, 270, 4)
        assert np.std(imread(path)) > 0.1
    else:
        assert path.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", ["missing/a.png", "file/a.png", "folder.png"])
def test_save_quotes_a_path_that_it_cannot_write(tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=f"cannot write the picture '.*{name}'"):
        plotting.save(plotting.panels()[0, 0].figure, tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plotting.heat_map((X, Y), FIELD.T), r"shape \(12, 15\) .* got \(15, 12\)"),
        (lambda: plotting.heat_map((X[::-1], Y), FIELD), "two or more increasing numbers"),
        (lambda: plotting.heat_map((X,), FIELD), "two vectors, got 1"),
        (lambda: plotting.heat_map((X, Y), FIELD * np.nan), "no value is finite"),
        (lambda: plotting.comparison((X, Y), {"F": FIELD}, {"M": FIELD}), r"\['F'\] and \['M'\]"),
        (lambda: plotting.comparison((X, Y), {}), "same labels"),
        (
            lambda: plotting.comparison((X, Y), {"F": FIELD}, axes=plotting.panels(1, 2)),
            r"shape \(1, 1\), got \(1, 2\)",
        ),
        (lambda: plotting.metric_map((X, Y), FIELD), r"\(n₁, n₂, 2, 2\), got \(12, 15\)"),
        (lambda: plotting.metric_map((X, Y), -METRIC), "at no node"),
        (
            lambda: plotting.geodesic_map((X, Y), METRIC, [[plotting.Curve("e", np.eye(2))]]),
            "kind must be one of .* got 'e'",
        ),
        (
            lambda: plotting.geodesic_map((X, Y), METRIC, [[plotting.Curve("mixture", X)]]),
            r"shape \(n, 2\), got \(12,\)",
        ),
        (lambda: plotting.phase_map((X, Y), PHASES.T), r"shape \(12, 15\) .* got \(15, 12\)"),
        (lambda: plotting.phase_map((X, Y), FIELD), "integers, got dtype float64"),
        (lambda: plotting.phase_map((X, Y[::-1]), PHASES), r"`axes\[1\]` must be two or more"),
        (
            lambda: plotting.phase_map((X, Y), PHASES, curves={key: [] for key in "abcde"}),
            r"4 names at most, got \['a', 'b', 'c', 'd', 'e'\]",
        ),
        (lambda: plotting.image_map((X, Y), FIELD), r"\(height, width\) .* got \(12, 15\)"),
        (
            lambda: plotting.image_map((X, Y), np.zeros((12, 15, 2, 2, 4))),
            r"width, 3\), got \(12, 15, 2, 2, 4\)",
        ),
        (lambda: plotting.image_map((X**2, Y), np.zeros((12, 15, 2, 2))), "evenly spaced"),
        (
            lambda: plotting.image_map((X, Y), np.full((12, 15, 2, 2, 3), -1.0)),
            r"\[0, 1\], .* float64 from -1.0 to -1.0",
        ),
        (lambda: plotting.zoom_strip({}), "at least one level"),
        (lambda: plotting.zoom_strip({"a": []}), "at least one level"),
        (lambda: plotting.box_counts({}), "at least one"),
        (lambda: plotting.growth({}), "at least one"),
        (lambda: plotting.training_history({}), "at least one trace"),
        (lambda: plotting.training_history({"a": 3}), r"history\['a'\] is no trace"),
        (lambda: plotting.save(plotting.panels()[0, 0].figure, "a.jpg"), r"got 'a\.jpg'"),
    ],
)  # fmt: skip
def test_bad_input_is_quoted(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
