"""Boundaries of labels, points on them, and zooms, against curves that are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from basins import julia
from oracles import TraceCounter

from jaxgeo._results import RESULTS
from jaxgeo.phases import boundaries, boundary_point, regions, zoom_series

AXES = (jnp.linspace(-1, 1, 21), jnp.linspace(-1.1, 1.2, 24))
STEPS = tuple(float(axis[1] - axis[0]) for axis in AXES)

JUNCTION = np.array([0.013, 0.007])


class Disc(eqx.Module):
    """Inside or outside of an ellipse with half-axes √s and √(s/2)."""

    square: jax.Array

    def __call__(self, z):
        return jnp.where(z[0] ** 2 + 2 * z[1] ** 2 < self.square, 4, -2)


def sectors(z):
    """Three phases that meet at angles of 120°."""
    angle = jnp.arctan2(z[1] - JUNCTION[1], z[0] - JUNCTION[0]) + jnp.pi
    return jnp.minimum(angle * 3 / (2 * jnp.pi), 2).astype(int)


def test_a_closed_curve_to_the_tolerance():
    [found] = boundaries(AXES, Disc(jnp.array(0.6)), tolerance=1e-9)
    assert found.labels == (-2, 4)
    np.testing.assert_array_equal(found.points[0], found.points[-1])
    x, y = found.points.T
    # a step along an edge changes x² + 2y² by no more than 4 times as much
    np.testing.assert_allclose(x**2 + 2 * y**2, 0.6, atol=4e-9 * max(STEPS))
    turns = np.unwrap(np.arctan2(y, x))
    assert np.all(np.diff(turns) != 0)
    assert len(set(np.sign(np.diff(turns)))) == 1  # in order along the curve
    np.testing.assert_allclose(abs(turns[-1] - turns[0]), 2 * np.pi)


def test_labels_alone_are_good_to_half_a_cell():
    nodes = jnp.stack(jnp.meshgrid(*AXES, indexing="ij"), -1).reshape(-1, 2)
    label = Disc(jnp.array(0.6))
    labels = jax.vmap(label)(nodes).reshape(21, 24)
    [found], [exact] = boundaries(AXES, labels), boundaries(AXES, label)
    off = np.abs(found.points - exact.points)
    assert np.all(off <= np.array(STEPS) / 2 + 1e-9)
    assert off.max() > 0.4 * min(STEPS)


def test_labels_that_are_known_are_not_computed_again():
    nodes = jnp.stack(jnp.meshgrid(*AXES, indexing="ij"), -1).reshape(-1, 2)
    label = Disc(jnp.array(0.6))
    labels = jax.vmap(label)(nodes).reshape(21, 24)
    [found], [exact] = boundaries(AXES, label, labels=labels), boundaries(AXES, label)
    np.testing.assert_array_equal(found.points, exact.points)
    assert boundaries(AXES, label, labels=jnp.zeros((21, 24), int)) == []  # those are believed
    with pytest.raises(ValueError, match="of a callable `label`, got values for both"):
        boundaries(AXES, labels, labels=labels)


def test_chains_end_where_three_phases_meet():
    found = boundaries(AXES, sectors)
    assert sorted(b.labels for b in found) == [(0, 1), (0, 2), (1, 2)]
    for b in found:
        steps = np.linalg.norm(np.diff(b.points, axis=0), axis=1)
        assert steps.max() < np.hypot(*STEPS)
        near, far = sorted(np.linalg.norm(b.points[[0, -1]] - JUNCTION, axis=1))
        assert near < np.hypot(*STEPS)
        assert far > 0.9
        # the boundaries are the rays at ±60° and at 180°
        angles = np.arctan2(*(b.points - JUNCTION).T[::-1])
        np.testing.assert_allclose(np.cos(3 * angles), -1, atol=1e-8)


def test_every_crossed_edge_is_on_one_chain():
    labels = np.random.default_rng(0).integers(0, 4, (15, 17))
    found = boundaries((jnp.arange(15.0), jnp.arange(17.0)), labels)
    crossed = sum(np.sum(np.diff(labels, axis=axis) != 0) for axis in (0, 1))
    closed = sum(len(b.points) > 1 and np.array_equal(b.points[0], b.points[-1]) for b in found)
    assert sum(len(b.points) for b in found) - closed == crossed
    for b in found:
        for x, y in b.points:
            ends = {
                int(labels[int(np.floor(x)), int(np.floor(y))]),
                int(labels[int(np.ceil(x)), int(np.ceil(y))]),
            }
            assert ends == set(b.labels)
        assert np.all(np.abs(np.diff(b.points, axis=0)) <= 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_centre_of_a_saddle_decides(sign):
    axes = (jnp.array([-1.0, 1.0]), jnp.array([-1.0, 1.0]))
    found = boundaries(axes, lambda z: z[0] * z[1] + 0.2 * sign > 0)
    assert [len(b.points) for b in found] == [2, 2]
    for b in found:
        # each branch of the hyperbola xy = ∓0.2 has its two points in one quadrant
        np.testing.assert_allclose(np.prod(b.points, axis=1), -0.2 * sign, atol=2e-6)
        x, y = b.points.sum(axis=0)
        assert np.sign(x * y) == -sign
    # without a label to ask, the smaller is joined: (−1, 1) is cut off, as where it is 1 only
    lone = boundaries(axes, np.array([[0, 1], [1, 0]]))
    assert {tuple(sorted(map(tuple, b.points.tolist()))) for b in lone} == {
        ((-1.0, 0.0), (0.0, 1.0)),
        ((0.0, -1.0), (1.0, 0.0)),
    }


def test_no_boundary_is_no_chain_and_one_trace_serves_all_numbers():
    assert boundaries(AXES, lambda z: jnp.zeros((), int)) == []
    counter = TraceCounter(Disc(jnp.array(0.6)))
    boundaries(AXES, counter)
    traced = counter.count
    [found] = boundaries((AXES[0] + 0.01, AXES[1]), counter, tolerance=1e-3)
    assert counter.count == traced + 1  # by the check of what it returns
    assert len(found.points) > 10


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.float16, jnp.bfloat16])
def test_boundary_points_are_neighbours(dtype):
    start, end = jnp.array([0.3, 2.0], dtype), jnp.array([1.7, 1.4], dtype)
    found = boundary_point(lambda z: z[0] * z[0] > z[1], start, end)
    before, after = (np.asarray(z) for z in (found.before, found.after))
    assert before.dtype == dtype
    assert found.labels.tolist() == [0, 1]
    up, down = (np.asarray(jnp.nextafter(found.before, jnp.array(x, dtype))) for x in (9, -9))
    assert np.all((after == before) | (after == up) | (after == down))
    assert np.any(after != before)
    # on the line, where z₀² = z₁: z₀ = 0.3 + 1.4 s, z₁ = 2 − 0.6 s
    s = np.roots([1.96, 1.44, -1.91]).max()
    off = np.abs(before.astype(float) - [0.3 + 1.4 * s, 2 - 0.6 * s])
    assert off.max() < 4 * float(jnp.finfo(dtype).eps)


def test_a_boundary_at_zero_is_found_among_the_smallest_floats():
    found = boundary_point(lambda z: z[0] > 0, -jnp.ones(1), jnp.ones(1))
    assert found.before.item() <= 0 < found.after.item() < 1e-300


def test_segments_without_a_boundary():
    def at(end, throw=False):
        return boundary_point(Disc(jnp.array(0.6)), jnp.zeros(2), end, throw=throw)

    ends = jnp.array([[0.1, 0.1], [2.0, 0.0], [jnp.nan, 1.0]])
    found = jax.jit(jax.vmap(at))(ends)
    expected = (RESULTS.no_boundary, RESULTS.successful, RESULTS.nonfinite)
    for i, result in enumerate(expected):
        one = jax.tree.map(lambda x, i=i: x[i], found)
        assert one.result == result
        assert bool(jnp.all(jnp.isnan(one.before))) == (result != RESULTS.successful)
        assert bool(jnp.all(jnp.isnan(one.after))) == (result != RESULTS.successful)
    np.testing.assert_allclose(found.before[1, 0], 0.6**0.5, rtol=1e-15)
    assert found.labels[0].tolist() == [4, 4]
    with pytest.raises(eqx.EquinoxRuntimeError, match="one label"):
        at(ends[0], throw=True)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.float16])
def test_zoom_goes_as_deep_as_floats_do_and_no_deeper(dtype):
    counter = TraceCounter(lambda z: z[0] + z[1] > 1)
    series = zoom_series(counter, jnp.zeros(2, dtype), jnp.array([1.6, 0.8], dtype), n=12)
    assert counter.count <= 5  # not once a level
    for level in series:
        assert level.seen
        assert level.labels.shape == (12, 12)
        for axis in level.axes:
            assert axis.dtype == dtype
            assert np.all(np.diff(axis.astype(np.float64)) > 0)
        sums = level.axes[0][:, None] + level.axes[1]
        np.testing.assert_array_equal(level.labels, sums > 1)
    widths = np.array([np.ptp(level.axes[0].astype(float)) for level in series])
    ulp = float(jnp.finfo(dtype).eps) / 2  # of numbers from ½ to 1, as 2/3 is
    assert widths[-1] / 11 >= 0.9 * ulp
    assert widths[-1] / 110 < ulp
    np.testing.assert_allclose(widths[:2], np.hypot(1.6, 0.8) * np.array([1, 0.1]), rtol=2e-3)


def test_zoom_follows_a_fractal_and_says_where_it_sees_nothing():
    label = julia(-0.123, 0.745)
    series = zoom_series(label, jnp.zeros(2), jnp.array([1.5, 0.2]), n=24, levels=4, width=1.0)
    assert len(series) == 4
    assert all(level.seen for level in series)

    # a boundary that the grid's nodes step over
    def sliver(z):
        return jnp.abs(z[0] - 0.3123) < 1e-7

    wide, *_ = zoom_series(sliver, jnp.array([0.3123, 0.0]), jnp.ones(2), n=8, levels=1)
    assert not wide.seen


def test_regions_and_their_areas():
    x = np.array([0.0, 1.0, 3.0, 4.0])
    labels = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]])
    found = regions(labels, (x, np.arange(3.0)))
    assert found.labels.tolist().count(0) == 2
    assert found.labels.tolist().count(1) == 3
    np.testing.assert_array_equal(found.labels[found.numbers], labels)
    assert np.all(np.diff(found.areas) <= 0)
    np.testing.assert_allclose(found.areas.sum(), 8)
    # row 2 and 3 of column 0, (1.5 + ½)·½, and so on around
    np.testing.assert_allclose(found.areas[found.numbers[3, 0]], 1.0 + 0.5 + 1.0)
    counts = regions(labels)
    assert counts.areas.sum() == labels.size
    assert counts.areas[counts.numbers[2, 1]] == 1
    cube = np.zeros((3, 3, 3), int)
    cube[1, 1, 1] = 7
    assert regions(cube).areas.tolist() == [26, 1]


def test_bad_input():
    with pytest.raises(ValueError, match="two vectors, got 1"):
        boundaries(AXES[:1], sectors)
    with pytest.raises(ValueError, match=r"`axes\[1\]` must be 2 or more increasing"):
        boundaries((AXES[0], AXES[1][::-1]), sectors)
    with pytest.raises(ValueError, match=r"shape \(21, 24\) like the axes, got \(24, 21\)"):
        boundaries(AXES, np.zeros((24, 21), int))
    with pytest.raises(ValueError, match="must be integers, got dtype float64"):
        boundaries(AXES, np.zeros((21, 24)))
    with pytest.raises(ValueError, match="one integer at a point"):
        boundaries(AXES, lambda z: z[0])
    with pytest.raises(ValueError, match=r"in \(0, 0.5\], got 0"):
        boundaries(AXES, sectors, tolerance=0)
    with pytest.raises(ValueError, match="one integer at a point"):
        boundary_point(lambda z: z > 0, jnp.zeros(2), jnp.ones(2))
    with pytest.raises(ValueError, match="greater than 1, got 1"):
        zoom_series(sectors, jnp.zeros(2), jnp.ones(2), factor=1)
    with pytest.raises(ValueError, match=r"must have shape \(2,\), got \(3,\)"):
        zoom_series(sectors, jnp.zeros(3), jnp.ones(3))
    with pytest.raises(ValueError, match="`width` must give 64 nodes"):
        zoom_series(Disc(jnp.array(0.6)), jnp.zeros(2), jnp.ones(2), width=1e-15)
    with pytest.raises(ValueError, match=r"have sizes \(2, 2\), got \(2, 3\)"):
        regions(np.zeros((2, 2), int), (np.arange(2.0), np.arange(3.0)))
