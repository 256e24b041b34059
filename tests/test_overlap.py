"""Shares of length near another set of curves, against what is drawn."""

import numpy as np
import pytest

from jaxgeo.phases import Boundary, overlap

LINE = np.stack([np.linspace(0, 1, 6), np.zeros(6)], axis=1)


def test_shares_of_length_whatever_the_spacing_of_points():
    beside = np.array([[0.0, 0.03], [0.25, 0.03]])
    away = np.array([[0.0, 1.0], [0.75, 1.0]])
    found = overlap([Boundary(beside, (0, 1)), away], [LINE], tolerance=0.04)
    # near the end of a curve a little more is near: √(0.04² − 0.03²) of 1
    np.testing.assert_allclose(found.recovered, 0.25 + np.sqrt(0.04**2 - 0.03**2), atol=0.006)
    np.testing.assert_allclose(found.confirmed, 0.25, atol=1e-3)


def test_nothing_near_nothing():
    assert overlap([], [LINE], tolerance=0.1).recovered == 0
    assert np.isnan(overlap([], [LINE], tolerance=0.1).confirmed)
    assert overlap([LINE + 1], [LINE], tolerance=0.1) == (0, 0)


def test_bad_input():
    with pytest.raises(ValueError, match="must be positive, got 0"):
        overlap([LINE], [LINE], tolerance=0)
    with pytest.raises(ValueError, match=r"shape \(n, 2\), got \(2, 3\)"):
        overlap([np.zeros((2, 3))], [LINE], tolerance=1)
