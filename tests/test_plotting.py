"""Pictures: what is on the axes, and that files are whole. No display, no pyplot."""

import sys

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from jaxgeo import plotting
from jaxgeo._results import RESULTS
from jaxgeo.geodesics import GeodesicSolution
from jaxgeo.phases import Ridge
from jaxgeo.training import Trace

X, Y = np.linspace(1, 5, 12), np.linspace(-2, 2, 15)
FIELD = np.add.outer(X, Y**2)
LABELS = ("temperature $T$", "field $H$")
# unit balls of half-axes 1 and 1/2 everywhere
METRIC = np.broadcast_to(np.diag([1.0, 4.0]), (12, 15, 2, 2))
TS = jnp.linspace(0, 1, 20)


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
        (lambda: plotting.training_history({}), "at least one trace"),
        (lambda: plotting.training_history({"a": 3}), r"history\['a'\] is no trace"),
        (lambda: plotting.save(plotting.panels()[0, 0].figure, "a.jpg"), r"got 'a\.jpg'"),
    ],
)  # fmt: skip
def test_bad_input_is_quoted(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
