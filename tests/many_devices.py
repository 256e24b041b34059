"""Programs that a test runs in processes of their own, each with so many CPU devices:
`many_devices.py NAME [PROCESS PROCESSES PORT DIRECTORY]`, the latter under `jax.distributed`."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brief_fits import BRIEF, SQUARE, gaussian
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from resumable_fit import poisson_samples
from tqdm import tqdm

import jaxgeo as jg
from jaxgeo import _mesh, training
from jaxgeo.reconstruction import Schedule, curved, fit_log_partition, networks, samples

ODD = 1003
"""Samples that no number of devices here divides."""
FITTED = BRIEF | {"networks": 1, "depth": 2}
POINTS = np.random.default_rng(1).uniform(-1.5, 1.5, (20, 2)).astype(np.float32)


def all_devices():
    return jax.make_mesh((jax.device_count(),), ("samples",))


def outer(z):
    return {"outer": jnp.outer(z, z), "norm": jnp.sin(z @ z)}


def whole(tree):
    return multihost_utils.process_allgather(tree, tiled=True)


def grids():
    """Values over a mesh are those of one device, whatever divides what."""
    for mesh in (all_devices(), jax.make_mesh((2, jax.device_count() // 2), ("a", "b"))):
        for shape in ((8, 3), (5, 3), (4, 16)):
            axes = tuple(np.linspace(1, 2, n, dtype=np.float32) for n in shape)
            found = jg.on_grid(outer, axes, mesh=mesh, chunk_size=2)
            alone = jg.on_grid(outer, axes, chunk_size=2)
            for part, expected in zip(*map(jax.tree.leaves, (found, alone)), strict=True):
                assert part.sharding.device_set == set(jax.devices())
                np.testing.assert_array_equal(whole(part), expected)
                if shape[0] == 8:
                    rows = 8 // jax.device_count()
                    assert {len(shard.data) for shard in part.addressable_shards} == {rows}


def geodesics():
    """Distances of pairs over a mesh are those of one device, and those of the closed form."""
    mesh = all_devices()
    rng = np.random.default_rng(0)
    a, b = (np.c_[rng.uniform(-1, 1, 16), rng.uniform(0.5, 2, 16)] for _ in range(2))
    a, b = a.astype(np.float32), b.astype(np.float32)

    def distance(a, b):
        return jg.distance(lambda z: jnp.eye(2) / z[1] ** 2, a, b)

    over = PartitionSpec("samples")
    laid = [
        jax.make_array_from_callback(x.shape, NamedSharding(mesh, over), lambda rows, x=x: x[rows])
        for x in (a, b)
    ]
    spread = jax.shard_map(
        jax.vmap(distance), mesh=mesh, in_specs=over, out_specs=over, check_vma=False
    )
    found = jax.jit(spread)(*laid)
    assert {len(shard.data) for shard in found.addressable_shards} == {16 // jax.device_count()}
    alone = jax.jit(jax.vmap(distance))(a, b)
    np.testing.assert_allclose(whole(found), alone, rtol=1e-6)
    exact = np.arccosh(1 + np.sum((a - b) ** 2, axis=1) / (2 * a[:, 1] * b[:, 1]))
    np.testing.assert_allclose(alone, exact, rtol=1e-5)


def rows():
    """What is laid over the devices, and comes back."""
    mesh = _mesh.automatic(all_devices())
    x = np.random.default_rng(0).normal(size=(13, 3)).astype(np.float32)
    laid = _mesh.Rows.of(mesh, {"x": x})
    assert len(laid.arrays["x"]) == 16
    np.testing.assert_array_equal(_mesh.to_host(laid.arrays["x"])[:13], x)
    chosen = jnp.array([12, 0, 7, 7, 3])
    taken = jax.jit(lambda data: _mesh.on_all(data, data.take(chosen)))(laid)["x"]
    np.testing.assert_array_equal(_mesh.to_host(taken), x[np.asarray(chosen)])
    mean = jax.jit(lambda data: jnp.mean(_mesh.all_rows(data)["x"], axis=0))(laid)
    np.testing.assert_allclose(_mesh.to_host(mean), x.mean(axis=0), rtol=1e-5)


def refused():
    for wrong in ("all", AbstractMesh((2,), ("a",))):
        with pytest.raises(ValueError, match=r"mesh must be a jax.sharding.Mesh or None"):
            _mesh.automatic(wrong)


def fit(mesh, n=ODD, seed=0, **options):
    x, t = gaussian(n, seed)
    return fit_log_partition(
        x, t, key=jax.random.key(0), domain=SQUARE, mesh=mesh, throw=False,
        **FITTED | options,
    )  # fmt: skip


def compare_fits(found, alone):
    """Sums over samples in another order: what float32 rounds, and Newton's tolerance."""
    metrics = [np.asarray(jax.vmap(f.metric)(POINTS)) for f in (found, alone)]
    np.testing.assert_allclose(*metrics, rtol=0, atol=1e-4 * np.abs(metrics[1]).max())
    for name in ("scale", "scale_error", "held_out_cross_entropy", "training_cross_entropy"):
        np.testing.assert_allclose(getattr(found, name), getattr(alone, name), rtol=1e-3)
    assert found.result == alone.result
    assert found.history.keys() == alone.history.keys()
    traces = [
        [t.held_out_loss for t in f.history.values() if isinstance(t, training.Trace)]
        for f in (found, alone)
    ]
    np.testing.assert_allclose(*traces, rtol=1e-4)
    assert all(a.is_fully_addressable for a in jax.tree.leaves(found) if isinstance(a, jax.Array))


def fits():
    """The networks of a fit, whose rows the devices do not divide; the samples are not whole on
    any of them."""
    held = []
    summarised = training._advance

    def advance(graph, objective, schedule, *arguments):
        held.extend(jax.tree.leaves(arguments[3]))
        return summarised(graph, objective, schedule, *arguments)

    training._advance = advance
    mesh = Mesh(np.array(jax.devices()).reshape(2, -1), ("a", "b"))
    found = fit(mesh)
    for array in held:
        share = -(-(ODD - ODD // 8) // 8)
        assert {len(shard.data) for shard in array.addressable_shards} == {share}
    training._advance = summarised
    compare_fits(found, fit(None))


SHARDINGS: list = []


def gaussian_samples(key, parameters):
    SHARDINGS.append(parameters.sharding)
    return parameters + jax.random.normal(key, parameters.shape, parameters.dtype)


def streams():
    """A simulator that is asked at parameters over the devices, for both kinds of fit; those of
    one process draw what one device draws."""
    curved.FRESH, networks.MEMBERS = 2048, 1
    schedules = tuple(
        s._replace(steps=40, batch_size=512, every=20, optimizer="adam")
        for s in (curved.LIKELIHOOD, curved.INFORMATION)
    )

    def curved_fit(mesh):
        return curved.fit_curved_family(
            gaussian_samples, key=jax.random.key(0), domain=SQUARE, schedules=schedules,
            statistics=2, width=16, progress=False, throw=False, mesh=mesh,
        )  # fmt: skip

    found = curved_fit(all_devices())
    assert all(len(s.device_set) == jax.device_count() for s in SHARDINGS[1:])  # the first is one
    alone = curved_fit(None)
    metrics = [np.asarray(jax.vmap(f.metric)(POINTS)) for f in (found, alone)]
    np.testing.assert_allclose(*metrics, rtol=1e-4)
    np.testing.assert_allclose(found.scale, alone.scale, rtol=1e-4)


def agreement():
    """Between processes: what the first has, what all say, who fails."""
    mesh, process = _mesh.automatic(all_devices()), jax.process_index()
    assert _mesh.of_first(mesh, {"process": process, "long": "x" * (3 - 2 * process)}) == {
        "process": 0, "long": "xxx",
    }  # fmt: skip
    exact = np.pi * np.arange(3)  # float64, to the last bit where jax has float32
    np.testing.assert_array_equal(_mesh.gathered(exact), np.stack([exact] * 2))
    n = 7
    own = np.arange(n)[_mesh.share(mesh, n)]
    np.testing.assert_array_equal(_mesh.joined(mesh, own[:, None], n)[:, 0], np.arange(n))
    value, word = _mesh.agreed(mesh, lambda: (np.full(2, process), "not an array"))
    np.testing.assert_array_equal(value, 0)
    assert word == "not an array"
    for who in (0, 1):
        with pytest.raises(np.linalg.LinAlgError, match=r"not convex|another process"):
            _mesh.agreed(mesh, lambda who=who: one_fails(np.linalg.LinAlgError, who))
    with pytest.raises(ValueError, match="not convex"):
        _mesh.by_first(mesh, lambda: one_fails(ValueError, 0))
    with pytest.raises(ValueError, match=r"processes .1. differ from those of process 0"):
        fit(all_devices(), seed=process)
    some = [d for d in jax.devices() if d.process_index == 1 - process]
    with pytest.raises(ValueError, match=f"got those of .{1 - process}."):
        fit(Mesh(some, "samples"))


def one_fails(kind, who):
    if jax.process_index() == who:
        raise kind("not convex")
    return 0.0


def same_fit():
    """Both processes return the fit that each would find by itself."""
    found = fit(all_devices())
    metrics = np.asarray(jax.vmap(found.metric)(POINTS))
    np.testing.assert_array_equal(*_mesh.gathered(metrics))
    if jax.process_index() == 0:
        compare_fits(found, fit(None))


def resumed(directory):
    """A fit that is stopped after two states goes on to the end it would have had; the first
    process alone writes, and the others see no directory."""
    own, first = Path(directory) / str(jax.process_index()), jax.process_index() == 0
    bars = []

    def bar(*items, disable, **options):
        bars.append(disable)
        return tqdm(*items, disable=True, **options)

    training.tqdm = samples.tqdm = bar

    def run(checkpoint):
        return fit_log_partition(
            poisson_samples, key=jax.random.key(3), domain=[[1.0, 20.0]],
            natural_coordinates=jnp.log, n_samples=500, simulator_batch=256, width=8, depth=2,
            schedules=3 * (Schedule(30, 1e-2, 128, every=10),), networks=1, progress=True,
            throw=False, checkpoint=checkpoint, mesh=all_devices(),
        )  # fmt: skip

    save, saved = training.Checkpoint.save, []

    def stop_after_two(self, done, state):
        save(self, done, state)
        saved.append(done)
        if len(saved) == 2:
            raise KeyboardInterrupt

    training.Checkpoint.save = stop_after_two
    with pytest.raises(KeyboardInterrupt):
        run(own)
    training.Checkpoint.save = save
    assert set(bars) == {None if first else True}  # None: hidden only where there is no terminal
    drawn = {path.name for path in own.glob("*")}
    assert drawn >= {"fit.sha256", "moments", "samples-000000000.npz"} if first else not drawn
    again, never_stopped = run(own), run(None)
    for a, b in zip(*map(jax.tree.leaves, (again, never_stopped)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert own.exists() == first


def alone(directory):
    """The first process may save states of its own while others are elsewhere; no other may."""
    if jax.process_index() == 1:
        with pytest.raises(
            ValueError, match="only the first writes checkpoints, and this is process 1"
        ):
            training.Checkpoint(Path(directory) / "alone")
        return
    store = training.Checkpoint(Path(directory) / "alone")
    state = {"params": jnp.arange(3.0), "loss": np.array([0.5, np.nan])}
    store.save(4, state)
    done, restored = store.restore(jax.tree.map(np.zeros_like, state))
    assert done == 4
    jax.tree.map(np.testing.assert_array_equal, restored, jax.tree.map(np.asarray, state))


def main(name, process=None, processes=None, port=None, directory=None):
    if process is not None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            f"localhost:{port}", num_processes=int(processes), process_id=int(process)
        )
    programs = name.split(",")
    for program in programs:
        arguments = (directory,) if program in ("resumed", "alone") else ()
        globals()[program](*arguments)
        print(f"{program} done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
