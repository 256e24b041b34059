"""What is left open, by leaving out groups of samples."""

import numpy as np

from jaxgeo.reconstruction.jackknife import GROUPS, doubts, groups


def test_groups_are_at_random_and_hold_every_sample_once():
    found = groups(1000)
    assert len(found) == GROUPS
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(1000))
    middles = [rows.mean() for rows in found]
    np.testing.assert_allclose(middles, 499.5, atol=4 * 1000 / 12**0.5 / (1000 / GROUPS) ** 0.5)


def test_doubts_are_those_of_the_jackknife():
    deviations = np.random.default_rng(0).normal(size=(GROUPS, 3, 2))
    found = doubts(deviations, 20_000)
    expected = np.sqrt((GROUPS - 1) * np.var(deviations, axis=0))
    np.testing.assert_allclose(found.std(axis=2), expected, rtol=0.03)


def test_the_error_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(1).normal(size=4000)
    deviations = np.array([np.delete(x, rows).mean() - x.mean() for rows in groups(len(x))])
    found = doubts(deviations, 4000).std()
    np.testing.assert_allclose(found, x.std() / len(x) ** 0.5, rtol=3 / (2 * GROUPS) ** 0.5)
