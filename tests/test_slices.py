"""Slices: the plane on its shell, and a generator at every node of it."""

import signal
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import resumable_slice
from flax import nnx
from oracles import TraceCounter

import jaxgeo as jg
from jaxgeo.slices import Slice, evaluate, load_slice, random_slice, spherical_interpolation
from jaxgeo.slices.storage import Chunks

SHAPE = (2, 3, 4)
PLANE = random_slice(SHAPE, key=jax.random.key(1), dtype=jnp.float64)
AXES = (np.linspace(-0.5, 1.5, 5), np.array([0.0, 0.1, 1.0]))
NODES = np.stack(np.meshgrid(*AXES, indexing="ij"), axis=-1)
E1, E2, E3 = jnp.eye(3)


def interpolated(t, renormalize=True):
    """z(α, β) by its formula, in NumPy."""
    z0, z1, z2 = (np.asarray(z) for z in (PLANE.z0, PLANE.z1, PLANE.z2))
    y = z0 + t[0] * (z1 - z0) + t[1] * (z2 - z0)
    return y * np.sqrt(y.size / np.sum(y**2)) if renormalize else y


def decoded(f):
    return np.array([[f(interpolated(t)) for t in row] for row in NODES])


class Linear(eqx.Module):
    """A generator with parameters: an image (4, 2) of a latent array."""

    weight: jax.Array

    def __call__(self, z):
        return jnp.reshape(self.weight @ jnp.ravel(z), (4, 2))


WEIGHT = jax.random.normal(jax.random.key(2), (8, 24), jnp.float64)


def mean_and_square(x):
    return jnp.stack([jnp.mean(x), jnp.sum(x**2)])


# --- the plane


@pytest.mark.parametrize("renormalize", [True, False])
def test_points_of_a_slice(renormalize):
    plane = Slice(PLANE.z0, PLANE.z1, PLANE.z2, renormalize)
    for t in ([0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.3, -1.7]):
        expected = interpolated(t, renormalize)
        np.testing.assert_allclose(plane(jnp.array(t)), expected, rtol=1e-13)
    if renormalize:
        assert np.sum(plane(jnp.array([9.0, -4.0])) ** 2) == pytest.approx(24, rel=1e-13)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_the_latent_has_the_corners_precision(dtype):
    """Half precision too, though the squares of so many entries add up to more than it holds."""
    shape = (500, 500) if dtype == jnp.float16 else SHAPE
    plane = random_slice(shape, key=jax.random.key(0), dtype=dtype)
    for t in (jnp.array([0.3, 0.2]), jnp.array([0.3, 0.2], dtype)):
        z = plane(t)
        assert z.dtype == dtype
        mean_square = np.mean(np.asarray(z, np.float64) ** 2)
        assert mean_square == pytest.approx(1, rel=4 * float(jnp.finfo(dtype).eps))


def test_a_slice_composes_with_the_rest():
    of_nodes = jg.on_grid(lambda t: jnp.sum(PLANE(t) ** 3), AXES)
    np.testing.assert_allclose(of_nodes, decoded(lambda z: np.sum(z**3)), rtol=1e-12)
    planes = jax.vmap(lambda key: random_slice((5,), key=key))(
        jax.random.split(jax.random.key(0), 3)
    )
    points = jax.vmap(lambda plane: plane(jnp.array([0.2, 0.3])))(planes)
    np.testing.assert_allclose(np.sum(points**2, axis=1), 5, rtol=1e-6)


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ((E1, 2 * E1, 3 * E1), "three points of one line"),
        ((E1, E2, 3 * E2 - 2 * E1), "three points of one line"),
        ((E1, E1, E2), "`z0` and `z1` must differ"),
        ((E1, E2, E1), "`z0` and `z2` must differ"),
        ((E1, E2, -E1), "passes through 0"),
        ((0 * E1, E1, E2), "passes through 0"),
        ((E1[:2], E2[:2], E3[:2] + 2), "passes through 0"),
        ((E1, jnp.nan * E2, E3), "`z1` must be finite, got nan"),
        ((E1, E2, E3[:2]), r"`z2` must have shape \(3,\) and dtype float64 .* got shape \(2,\)"),
        ((E1, E2.astype(jnp.float32), E3), "got shape .* and dtype float32"),
        ((jnp.arange(3),) * 3, "must hold floats, got dtype int"),
    ],
)
def test_degenerate_corners_are_refused(corners, message):
    with pytest.raises(ValueError, match=message):
        Slice(*corners)


def test_what_a_slice_cannot_be_asked():
    with pytest.raises(ValueError, match=r"two coordinates, got t of shape \(3,\)"):
        PLANE(jnp.zeros(3))
    with pytest.raises(ValueError, match="`dtype` must be floating"):
        random_slice(SHAPE, key=jax.random.key(0), dtype=jnp.int32)
    assert Slice(E1, E2, -E1, renormalize=False)(jnp.array([0.0, 0.5])).tolist() == [0, 0, 0]


# --- great circles


def test_great_circle():
    """Constant angle, on the shell; the norm goes linearly."""
    angle, (u, v, *_) = 2.9, np.linalg.qr(np.asarray(WEIGHT)[:, :8])[0]
    a, b = 2 * u, 3 * (np.cos(angle) * u + np.sin(angle) * v)
    for s in (0.0, 0.25, 1.0, 1.3):
        expected = (2 + s) * (np.cos(s * angle) * u + np.sin(s * angle) * v)
        np.testing.assert_allclose(spherical_interpolation(a, b, s), expected, atol=1e-13)


def test_parallel_points_join_by_a_segment_and_have_derivatives():
    a = jnp.array([[1.0, 2.0], [-1.0, 0.5]])
    for b in (a, 3 * a, a * (1 + 1e-9)):
        found = spherical_interpolation(a, b, 0.3)
        np.testing.assert_allclose(found, 0.7 * a + 0.3 * b, rtol=1e-12)
    slope = jax.jacfwd(lambda b: spherical_interpolation(a, b, 0.3))(a)
    np.testing.assert_allclose(slope.reshape(4, 4), 0.3 * np.eye(4), atol=1e-12)


def test_antiparallel_points_have_no_great_circle():
    a = jnp.array([1.0, 2.0, 2.0])
    for b in (-a, -2 * a, 0 * a):
        with pytest.raises(ValueError, match="must differ from 0 and not be antiparallel"):
            spherical_interpolation(a, b, 0.5)
        assert np.isnan(jax.jit(spherical_interpolation)(a, b, 0.5)).all()


# --- evaluation


@pytest.mark.parametrize("chunk_size", [1, 4, 15, 100])
def test_samples_and_features_are_where_their_nodes_are(chunk_size):
    grid = evaluate(Linear(WEIGHT), PLANE, AXES, features=mean_and_square, chunk_size=chunk_size)
    expected = decoded(lambda z: (np.asarray(WEIGHT) @ z.ravel()).reshape(4, 2))
    np.testing.assert_allclose(grid.samples, expected, rtol=1e-12, atol=1e-13)
    moments = np.stack([expected.mean((2, 3)), (expected**2).sum((2, 3))], axis=-1)
    np.testing.assert_allclose(grid.features, moments, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(grid.parameters, NODES.reshape(-1, 2))


def test_an_updated_network_is_not_compiled_again():
    count = 0

    class Counted(eqx.Module):
        scale: jax.Array

        def __call__(self, z):
            nonlocal count
            count += 1
            return self.scale * z

    features = TraceCounter(jnp.ravel)
    first = evaluate(Counted(jnp.array(1.0)), PLANE, AXES, features=features, chunk_size=4)
    assert count == features.count == 1
    other = random_slice(SHAPE, key=jax.random.key(8), dtype=jnp.float64)
    evaluate(Counted(jnp.array(2.0)), other, AXES, features=features, chunk_size=4)
    second = evaluate(Counted(jnp.array(3.0)), PLANE, AXES, features=features, chunk_size=4)
    np.testing.assert_allclose(second.features, 3 * first.features, rtol=1e-14)
    assert count == features.count == 1


@pytest.mark.parametrize(
    ("dtype", "expected"), [("uint8", "uint8"), ("float32", "float32"), ("bfloat16", "float32")]
)
def test_types_of_samples(tmp_path, dtype, expected):
    def generator(z):
        return jnp.clip(100 + 10 * z, 0, 255).astype(dtype)

    for directory in (None, tmp_path):
        grid = evaluate(generator, PLANE, AXES, directory=directory)
        assert grid.samples.dtype == expected
        assert grid.features is None
        exact = decoded(lambda z: np.clip(100 + 10 * z, 0, 255))
        np.testing.assert_allclose(grid.samples, exact, atol=1)


def test_a_network_of_flax_generates():
    network = nnx.Linear(24, 7, rngs=nnx.Rngs(0))
    grid = evaluate(lambda z: network(z.ravel()), PLANE, AXES)
    direct = decoded(lambda z: np.asarray(network(z.ravel().astype(np.float32))))
    np.testing.assert_allclose(grid.samples, direct, atol=1e-5)
    as_module = evaluate(network, lambda t: PLANE(t).ravel(), AXES)
    np.testing.assert_allclose(as_module.samples, grid.samples, atol=1e-6)


def test_keys_belong_to_nodes_and_not_to_chunks():
    def noisy(z, key):
        return z + jax.random.normal(key, z.shape)

    key = jax.random.key(5)
    whole = evaluate(noisy, PLANE, AXES, key=key)
    for size in (1, 4):
        chunked = evaluate(noisy, PLANE, AXES, key=key, chunk_size=size)
        np.testing.assert_allclose(chunked.samples, whole.samples, atol=1e-14)
    noise = whole.samples - decoded(lambda z: z)
    own = jax.random.normal(jax.random.fold_in(key, 7), SHAPE)  # node [2, 1] of 5 × 3
    np.testing.assert_allclose(noise[2, 1], own, atol=1e-13)
    assert len(np.unique(noise)) == noise.size


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"axes": (AXES[0],)}, "must hold two vectors, got 1"),
        (
            {"axes": (AXES[0], AXES[1][::-1])},
            r"`axes\[1\]` must be 1 or more increasing",
        ),
        (
            {"axes": (AXES[0], np.array([0, np.nan]))},
            r"`axes\[1\]` must be 1 or more increasing",
        ),
        ({"chunk_size": 0}, "`chunk_size` must be at least 1, got 0"),
        ({"keep_samples": False}, "would leave nothing"),
        ({"generator": lambda z: (z, z)}, "`generator` must return one array, got tuple"),
        ({"features": lambda x: x}, r"must return a vector \(m,\), got shape \(2, 3, 4\)"),
        ({"generator": lambda z: jnp.log(z - z[0, 0, 0])}, r"samples must be finite, got .* at"),
        (
            {"plane": lambda t: jnp.where(t[1] == 0.1, jnp.nan, t)},
            r"got nan at \(α, β\) = \(-0.5, 0.1\) \(5 such nodes",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused(changed, message):
    arguments = {"generator": jnp.sin, "plane": PLANE, "axes": AXES} | changed
    with pytest.raises(ValueError, match=message):
        evaluate(**arguments)


# --- runs that stop, and go on


def run(directory, **changed):
    settings = {"features": mean_and_square, "chunk_size": 4, "key": None} | changed
    generator = settings.pop("generator", Linear(WEIGHT))
    plane, axes = settings.pop("plane", PLANE), settings.pop("axes", AXES)
    return evaluate(generator, plane, axes, directory=directory, progress=False, **settings)


@pytest.fixture
def chunks_written(monkeypatch):
    """The numbers of chunks written so far; `chunks_written.stop` chunks interrupt the run."""
    written, write = Written(), Chunks.write

    def write_and_stop(self, k, values):
        write(self, k, values)
        written.append(k)
        if len(written) == written.stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(Chunks, "write", write_and_stop)
    return written


class Written(list):
    stop = None


def assert_same(found, expected):
    for a, b in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_interrupted_run_goes_on(tmp_path, chunks_written):
    whole = run(None)
    chunks_written.stop = 2
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    with pytest.raises(ValueError, match="no record"):
        load_slice(tmp_path)
    chunks_written.stop = None
    resumed = run(tmp_path)
    assert chunks_written == [0, 1, 2, 3]
    assert_same(resumed, whole)
    assert isinstance(resumed.samples.base, np.memmap)
    assert_same(run(tmp_path), whole)
    assert len(chunks_written) == 4
    stored = load_slice(tmp_path)
    assert_same(stored, whole)
    np.testing.assert_array_equal(stored.parameters, whole.parameters)


def test_a_killed_process_leaves_what_another_goes_on_from(tmp_path, chunks_written):
    done = subprocess.run(
        [sys.executable, resumable_slice.__file__, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = resumable_slice.run(tmp_path)
    assert chunks_written == [2, 3]
    assert_same(resumed, resumable_slice.run(None))


def cut(path):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)  # in chunk 1 of 0 to 3


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "again"),
    [
        ("samples.npy", cut, [1, 2, 3]),
        ("features.npy", flip, [3]),
        ("samples.npy", lambda path: path.unlink(), [0, 1, 2, 3]),
        ("features.npy", lambda path: path.write_bytes(b""), [0, 1, 2, 3]),
        ("chunks.npy", cut, [0, 1, 2, 3]),
        ("chunks.npy", lambda path: np.save(path, np.zeros(3)), [0, 1, 2, 3]),
        ("parameters.npy", lambda path: path.unlink(), []),
    ],
)
def test_damaged_chunks_are_computed_again(tmp_path, chunks_written, name, damage, again):
    whole = [np.array(a) for a in run(tmp_path)[1:]]
    del chunks_written[:]
    damage(tmp_path / name)
    assert_same(run(tmp_path), (None, *whole))
    assert chunks_written == again
    assert_same(load_slice(tmp_path), (None, *whole))


def test_a_damaged_slice_is_no_whole_one_until_it_is_repaired(tmp_path, chunks_written):
    run(tmp_path)
    cut(tmp_path / "samples.npy")
    chunks_written.stop = 5  # after one of the three that are missing
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    with pytest.raises(ValueError, match="holds no record"):
        load_slice(tmp_path)


def scaled_by(weight, scale):
    return lambda z: scale * (weight @ z.ravel()).reshape(4, 2)


def test_the_directory_of_another_run_is_refused(tmp_path):
    key = jax.random.key(0)
    base = {"generator": lambda z, key: scaled_by(WEIGHT, 2.0)(z), "key": key}
    run(tmp_path, **base)
    run(tmp_path, **base | {"generator": lambda z, key: scaled_by(WEIGHT, 2.0)(z)})
    near = WEIGHT.at[0, 0].add(1e-9)
    others = [
        {"generator": lambda z, key: scaled_by(WEIGHT, 3.0)(z)},
        {"generator": lambda z, key: scaled_by(near, 2.0)(z)},
        {"generator": lambda z, key: scaled_by(WEIGHT, 2.0)(z) ** 1},
        {"plane": Slice(PLANE.z0, PLANE.z1, PLANE.z2, renormalize=False)},
        {"plane": Slice(PLANE.z0 + 1e-9, PLANE.z1, PLANE.z2)},
        {"axes": (AXES[0], AXES[1] + 1e-9)},
        {"chunk_size": 5},
        {"key": jax.random.key(1)},
        {"features": jnp.ravel},
        {"keep_samples": False},
    ]
    for other in others:
        with pytest.raises(ValueError, match="belongs to a slice of other data or settings"):
            run(tmp_path, **base | other)
    (tmp_path / "slice.sha256").unlink()
    with pytest.raises(ValueError, match="is not empty, and holds no run of a slice"):
        run(tmp_path, **base)


def test_features_alone(tmp_path):
    grid = run(tmp_path, keep_samples=False)
    assert grid.samples is None
    assert not (tmp_path / "samples.npy").exists()
    np.testing.assert_array_equal(grid.features, run(None).features)
    assert load_slice(tmp_path).samples is None


def test_no_bar_unless_on_a_terminal(capsys):
    evaluate(jnp.sin, PLANE, AXES, progress=True)
    assert capsys.readouterr().err == ""
