"""Dimensions against curves whose own is known, by two estimators that share no code but a fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from basins import julia, koch, newton
from oracles import TraceCounter

import jaxgeo as jg
from jaxgeo.phases import boundary_point, box_dimension, uncertainty_dimension

SMOOTH, FRACTAL = 0.03, 0.05
BASILICA, RABBIT = 1.26835, 1.3934
"""McMullen (1998), Am. J. Math. 120, 691: of z² − 1 and z² − 0.123 + 0.745i."""
BOX = jnp.array([[-1.7, 1.7], [-1.6, 1.8]])


def labels_of(label, n):
    return np.asarray(jg.on_grid(label, [jnp.linspace(*side, n) for side in BOX]))


@pytest.mark.parametrize("n", [200, 257, 700])
@pytest.mark.parametrize("shape", ["ellipse", "slanted", "aligned", "wave"])
def test_smooth_separatrices(n, shape):
    x, y = np.linspace(-1, 1, n)[:, None], np.linspace(-1, 1, n)[None]
    inside = {
        "ellipse": x**2 + 2 * y**2 < 0.6,
        "slanted": 0.7 * x + y < 0.2,
        "aligned": x + 0 * y < 0.21,
        "wave": y < 0.4 * np.sin(4 * x),
    }[shape]
    found = box_dimension(inside.astype(int))
    assert abs(found.dimension - 1) < SMOOTH
    assert abs(found.dimension - 1) < 3 * found.error
    assert found.error < 0.05


@pytest.mark.parametrize("levels", [6, 7])
def test_koch_curve(levels):
    found = box_dimension(koch(levels))
    assert abs(found.dimension - np.log(4) / np.log(3)) < FRACTAL
    assert abs(found.dimension - np.log(4) / np.log(3)) < 3 * found.error
    assert found.scales[0] < 0.02


def test_a_set_of_cells_and_of_other_dimension():
    cantor = np.zeros((1, 1))
    for _ in range(11):
        cantor = np.concatenate([cantor, cantor + 2]) / 3
    found = box_dimension(cantor)
    assert abs(found.dimension - np.log(2) / np.log(3)) < 3 * found.error < 0.2
    twins = np.repeat(np.eye(2), 50, axis=0)  # of a finite set it is 0
    assert box_dimension(twins).dimension == pytest.approx(0, abs=1e-9)
    assert box_dimension(np.ones((200, 200), bool)).dimension == pytest.approx(2, abs=0.01)
    sheet = np.zeros((140, 141, 142), int)
    sheet[:, 50:] = 1
    assert box_dimension(sheet).dimension == pytest.approx(2, abs=SMOOTH)


@pytest.fixture(scope="module")
def both():
    """Both estimates of the dimension of each set."""

    def of(label, seed):
        walked = uncertainty_dimension(label, BOX, key=jax.random.key(seed), n=1 << 15)
        return box_dimension(labels_of(label, 450)), walked

    return {
        "basilica": of(julia(-1.0), 0),
        "rabbit": of(julia(-0.123, 0.745), 1),
        "newton": of(newton, 2),
    }


@pytest.mark.parametrize(("name", "exact"), [("basilica", BASILICA), ("rabbit", RABBIT)])
def test_julia_sets(both, name, exact):
    for found in both[name]:
        assert abs(found.dimension - exact) < FRACTAL
        assert abs(found.dimension - exact) < 3 * found.error
        assert found.error < FRACTAL


def test_both_estimators_agree(both):
    for boxes, walked in both.values():
        difference = abs(boxes.dimension - walked.dimension)
        assert difference < 2 * np.hypot(boxes.error, walked.error)
        assert difference < FRACTAL


def test_what_was_fitted(both):
    boxes, walked = both["rabbit"]
    assert np.all(np.diff(boxes.counts) <= 0)
    assert set(boxes.scales[boxes.fitted]) == set(
        boxes.scales[(boxes.scales >= 6) & (boxes.scales < 45)]
    )
    np.testing.assert_allclose(
        boxes.slopes, -np.diff(np.log(boxes.counts)) / np.diff(np.log(boxes.scales))
    )
    assert np.all(walked.uncertain[walked.fitted] >= 50)
    np.testing.assert_allclose(walked.fractions * (1 << 15), walked.uncertain)
    narrow = box_dimension(labels_of(julia(-1.0), 200), smallest=2, largest=12)
    assert narrow.scales[narrow.fitted].tolist() == [2, 3, 4, 6, 8, 11]


def test_uncertain_steps_below_any_grid():
    label = julia(-0.123, 0.745)
    place = boundary_point(label, jnp.zeros(2), jnp.array([1.5, 0.2])).before
    width = 1e-6
    near = place[:, None] + width * jnp.array([[-0.5, 0.5]])
    found = uncertainty_dimension(label, near, key=jax.random.key(3), n=1 << 14)
    assert found.steps[found.fitted][-1] < 1e-9
    assert abs(found.dimension - RABBIT) < max(3 * found.error, FRACTAL)
    with pytest.raises(ValueError, match=r"must decrease to 4\.44"):
        uncertainty_dimension(label, near, key=jax.random.key(3), steps=[1e-8, 1e-16])


@pytest.mark.parametrize(("d", "dtype"), [(1, jnp.float64), (2, jnp.float32), (3, jnp.float64)])
def test_uncertain_points_near_spheres(d, dtype):
    counter = TraceCounter(lambda z: jnp.sum(z**2) < 0.6)
    box = jnp.array([[-1.0, 1.0]] * d, dtype)
    found = uncertainty_dimension(counter, box, key=jax.random.key(d), n=1 << 16)
    assert counter.count <= 4  # not once a step
    assert abs(found.dimension - (d - 1)) < SMOOTH
    assert abs(found.dimension - (d - 1)) < 3 * found.error
    if d == 1:  # two boundaries, each with 2ε about it, in a length of 2
        share = (found.fractions / found.steps)[found.fitted]
        off = (share / 2 - 1) * found.uncertain[found.fitted] ** 0.5
        assert np.abs(off).max() < 4  # standard deviations


def test_errors_are_honest_over_many_keys():
    def disc(z):
        return jnp.sum(z**2) < 0.6

    keys = jax.random.split(jax.random.key(0), 12)
    box = jnp.array([[-1.0, 1.0]] * 2)
    found = [uncertainty_dimension(disc, box, key=key, n=1 << 13) for key in keys]
    z = [(one.dimension - 1) / one.error for one in found]
    assert np.sqrt(np.mean(np.square(z))) < 1.5
    spread = np.std([one.dimension for one in found])
    assert np.mean([one.error for one in found]) < 4 * spread


def test_bad_input():
    with pytest.raises(ValueError, match="must not be empty"):
        box_dimension(np.zeros((50, 50), int))
    with pytest.raises(ValueError, match="resolved on four scales or more between 6 and"):
        box_dimension(np.eye(40, dtype=int))
    with pytest.raises(ValueError, match=r"finite and of shape \(n, d\)"):
        box_dimension(np.full((5, 2), np.nan))
    with pytest.raises(ValueError, match="points that differ, got 4"):
        box_dimension(np.ones((4, 2)))
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="finite lower < upper"):
        uncertainty_dimension(newton, BOX[:, ::-1], key=key)
    with pytest.raises(ValueError, match=r"floats \(d, 2\), got shape \(2,\)"):
        uncertainty_dimension(newton, BOX[0], key=key)
    with pytest.raises(ValueError, match="50 uncertain points at four steps or more"):
        uncertainty_dimension(lambda z: z[0] > 5, BOX, key=key, n=1024)
    with pytest.raises(ValueError, match="one integer"):
        uncertainty_dimension(jnp.sum, BOX, key=key)
