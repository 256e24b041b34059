"""Measures of decoded curves: arcs, lines and helices, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgeo as jg
from jaxgeo.problems import euclidean_metric
from jaxgeo.slices import (
    largest_step,
    path_length,
    perceptual_path_length,
    total_curvature,
)

MEASURES = (path_length, perceptual_path_length, total_curvature, largest_step)
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]


def turned(points):
    """In twelve dimensions, as images of 3 × 4."""
    return jnp.asarray((points @ ROTATION[: points.shape[1]]).reshape(-1, 3, 4))


@pytest.mark.parametrize("n", [3, 8, 200])
@pytest.mark.parametrize("angle", [0.1, np.pi, 2 * np.pi])
def test_arc_of_a_circle(n, angle):
    s, radius = np.linspace(0, angle, n), 2.5
    arc = turned(radius * np.stack([np.cos(s), np.sin(s)], axis=1))
    chord = 2 * radius * np.sin(angle / (2 * (n - 1)))
    assert path_length(arc) == pytest.approx((n - 1) * chord, rel=1e-12)
    assert perceptual_path_length(arc) == pytest.approx(((n - 1) * chord) ** 2, rel=1e-12)
    assert total_curvature(arc) == pytest.approx((n - 2) / (n - 1) * angle, rel=1e-9)
    assert largest_step(arc) == pytest.approx(chord, rel=1e-12)


def test_helix():
    n, radius, pitch, turn = 30, 1.5, 0.4, 0.3
    s = turn * np.arange(n)
    helix = turned(np.stack([radius * np.cos(s), radius * np.sin(s), pitch * s], axis=1))
    across, up = 2 * radius * np.sin(turn / 2), pitch * turn
    step = np.hypot(across, up)
    assert path_length(helix) == pytest.approx((n - 1) * step, rel=1e-12)
    angle = np.arccos((across**2 * np.cos(turn) + up**2) / step**2)
    assert total_curvature(helix) == pytest.approx((n - 2) * angle, rel=1e-12)


def test_straight_line_of_uneven_speed():
    s = np.array([0.0, 0.1, 0.5, 0.6, 1.0])
    line = jnp.asarray(np.outer(s, [3.0, 0.0, 4.0]) + 1)
    assert path_length(line) == pytest.approx(5, rel=1e-14)
    assert perceptual_path_length(line) == pytest.approx(
        4 * 25 * np.sum(np.diff(s) ** 2), rel=1e-14
    )
    assert perceptual_path_length(line) > path_length(line) ** 2
    assert largest_step(line) == pytest.approx(2, rel=1e-14)
    assert total_curvature(line) == pytest.approx(0, abs=1e-14)
    assert total_curvature(line[jnp.array([0, 2, 1])]) == pytest.approx(np.pi, abs=1e-14)


def test_angles_of_which_the_cosine_knows_nothing():
    corner = jnp.array([[0.0, 0.0], [1.0, 0.0], [2.0, 1e-10]])
    assert total_curvature(corner) == pytest.approx(1e-10, rel=1e-6)


def test_perceptual_path_length_is_twice_the_energy():
    curve = np.random.default_rng(1).normal(size=(9, 3))
    energy = jg.energy(euclidean_metric, curve)
    assert perceptual_path_length(curve) == pytest.approx(2 * float(energy), rel=1e-13)


def test_limits_of_fine_curves():
    """x = (s, s²), 0 ≤ s ≤ 1: the integral of the speed squared, and of the turning."""
    s = np.linspace(0, 1, 2001)
    curve = np.stack([s, s**2], axis=1)
    assert perceptual_path_length(curve) == pytest.approx(1 + 4 / 3, rel=1e-6)
    assert total_curvature(curve) == pytest.approx(np.arctan(2), rel=1e-3)


@pytest.mark.parametrize("measure", MEASURES)
def test_derivatives_types_and_batches(measure):
    rows = jnp.asarray(np.random.default_rng(2).normal(size=(5, 2, 2)))
    direction = jnp.cos(jnp.arange(20.0)).reshape(5, 2, 2)
    slope = jax.jvp(measure, (rows,), (direction,))[1]
    h = 1e-5
    difference = (measure(rows + h * direction) - measure(rows - h * direction)) / (2 * h)
    assert slope == pytest.approx(float(difference), rel=1e-7)
    assert measure(rows.astype(jnp.float32)).dtype == jnp.float32
    batch = jax.jit(jax.vmap(measure))(jnp.stack([rows, 2 * rows]))
    assert batch[1] == pytest.approx(float(measure(2 * rows)), rel=1e-13)
    straight = jnp.outer(jnp.arange(4.0), jnp.ones(2))
    assert np.isfinite(jax.grad(measure)(straight)).all()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (jnp.ones(4), r"shape \(n, \.\.\.\) with n ≥ [23].*, got \(4,\)"),
        (jnp.ones((1, 4)), r"with n ≥ [23].*, got \(1, 4\)"),
        (jnp.ones((4, 2), int), "must hold floats, got dtype int"),
    ],
)
def test_what_is_no_curve(measure, rows, message):
    with pytest.raises(ValueError, match=message):
        measure(rows)


def test_a_step_without_direction_has_no_angle():
    rows = jnp.array([[0.0], [1.0], [1.0], [2.0]])
    with pytest.raises(ValueError, match="got the same row at 1 and 2"):
        total_curvature(rows)
    assert np.isnan(jax.jit(total_curvature)(rows))
    with pytest.raises(ValueError, match=r"n ≥ 3.*, got \(2, 1\)"):
        total_curvature(rows[:2])
    assert path_length(rows) == 2
