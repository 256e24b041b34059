"""`jaxgeo geodesic` and `jaxgeo grid`: metrics by name or from files, resumed, refused."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from jaxgeo.cli import app

HALF_PLANE = "jaxgeo.problems:half_plane_metric"
GRID = ("grid", HALF_PLANE, "--axis", "-1,1,9", "--axis", "1,2,11")

OWN = """
import jax.numpy as jnp
scale = 4.0
class Shapes:
    @staticmethod
    def flat(z):
        return scale * jnp.eye(2)
def half(z):
    return jnp.diag(jnp.array([1.0, z[0]]))
def wrong(z):
    return jnp.eye(3)
number = 3
"""


def run(*arguments):
    with jax.enable_x64(False):  # what a command sets, it sets itself
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_a_geodesic_of_a_named_metric(tmp_path):
    ended = run(
        "geodesic", HALF_PLANE, "--start", "0,1", "--end", "1,1", "--out", tmp_path, "--json"
    )
    assert ended.exit_code == 0, ended.output
    facts = json.loads(ended.stdout)
    assert facts["result"] == "successful"
    np.testing.assert_allclose(facts["length"], np.arccosh(1.5), rtol=1e-10)
    points = np.load(tmp_path / "geodesic.npz")["points"]
    # the circle about (1/2, 0)
    np.testing.assert_allclose((points[:, 0] - 0.5) ** 2 + points[:, 1] ** 2, 1.25, rtol=1e-10)
    assert points.dtype == np.float64
    assert (tmp_path / "geodesic.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "report.json").read_text()) == facts


def test_a_geodesic_from_a_velocity_in_single_precision():
    ended = run(
        *("geodesic", HALF_PLANE, "--start", "0,1", "--velocity", "0,1", "--json", "--float32")
    )
    assert ended.exit_code == 0, ended.output
    np.testing.assert_allclose(json.loads(ended.stdout)["points"][-1], [0, np.e], atol=2e-5)


def test_a_geodesic_that_is_none_exits_with_1(own):
    ended = run("geodesic", f"{own}:half", "--start", "1,0", "--end", "-1,0", "--json")
    assert ended.exit_code == 1, ended.output
    assert json.loads(ended.stdout)["result"] != "successful"
    assert "positive definite" in ended.stderr


def test_a_grid_leads_to_geodesics_of_it(tmp_path):
    ended = run(*GRID, "--out", tmp_path, "--curvature", "--json", "--quiet")
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["nodes"] == [9, 11]
    with np.load(tmp_path / "metric.npz") as stored:
        y = np.broadcast_to(stored["axis_1"], (9, 11))
        exact = np.eye(2) / y[..., None, None] ** 2
        np.testing.assert_allclose(stored["metric"], exact, rtol=1e-14)
        np.testing.assert_allclose(stored["log_volume"], -2 * np.log(y), atol=1e-14)
        np.testing.assert_allclose(stored["scalar_curvature"], -2, rtol=1e-12)
    assert (tmp_path / "metric.png").exists()
    ends = ("--start", "-0.5,1.2", "--end", "0.5,1.2")
    ended = run("geodesic", tmp_path / "metric.npz", *ends, "--json")
    exact = np.arccosh(1 + 1 / (2 * 1.2**2))
    np.testing.assert_allclose(json.loads(ended.stdout)["length"], exact, rtol=2e-4)
    # the box of the file is the domain
    assert run("geodesic", tmp_path / "metric.npz", *ends[:3], "3,3").exit_code == 2


def test_a_grid_where_a_metric_fails_says_where(tmp_path, own):
    axes = ("--axis", "-1,1,4", "--axis", "0,1,3")
    ended = run("grid", f"{own}:half", *axes, "--out", tmp_path, "--json", "--quiet")
    assert ended.exit_code == 1
    facts = json.loads(ended.stdout)
    assert facts["nodes_not_positive_definite"] == 6
    assert "not positive definite" in facts["result"]


def test_a_dotted_name_and_an_odd_last_chunk(tmp_path, own):
    axes = ("--axis", "0,1,3", "--axis", "0,1,7", "--chunk", 4)
    ended = run("grid", f"{own}:Shapes.flat", *axes, "--out", tmp_path, "--float32", "--quiet")
    assert ended.exit_code == 0, ended.output
    with np.load(tmp_path / "metric.npz") as stored:
        assert stored["metric"].dtype == np.float32
        np.testing.assert_array_equal(stored["metric"], np.tile(4 * np.eye(2), (3, 7, 1, 1)))


def test_a_run_goes_on_and_refuses_to_be_another(tmp_path, own):
    """Chunks that are done are not computed again, nor taken for those of another metric."""
    axes = ("--axis", "0,1,4", "--axis", "0,1,4", "--chunk", 4, "--quiet")
    command = ("grid", f"{own}:Shapes.flat", *axes, "--out", tmp_path)
    assert run(*command).exit_code == 0
    first = (tmp_path / "metric.npz").read_bytes()
    again = run(*command)
    assert again.exit_code == 2
    assert "--resume" in again.stderr
    sums = np.load(tmp_path / "nodes" / "chunks.npy")
    sums[2] = -1
    np.save(tmp_path / "nodes" / "chunks.npy", sums)
    damaged = bytearray((tmp_path / "nodes" / "metric.npy").read_bytes())
    damaged[-1] ^= 255
    (tmp_path / "nodes" / "metric.npy").write_bytes(damaged)
    assert run(*command, "--resume").exit_code == 0
    assert (tmp_path / "metric.npz").read_bytes() == first
    own.write_text(OWN.replace("scale = 4.0", "scale = 5.0"))
    other = run(*command, "--resume")
    assert other.exit_code == 2
    assert "other data or settings" in other.stderr


SLOW = """
import time
import jax, jax.numpy as jnp
def slow(z):
    wait = lambda z: time.sleep(0.02) or z
    same = jax.ShapeDtypeStruct(z.shape, z.dtype)
    z = jax.pure_callback(wait, same, z, vmap_method="sequential")
    return jnp.eye(2) * (1 + z[0] ** 2)
"""


def test_a_killed_grid_is_resumed_to_the_same_values(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    command = [
        sys.executable, "-m", "jaxgeo", "grid", "slow:slow", "--axis", "0,1,8", "--axis", "0,1,8",
        "--chunk", "8", "--out", "run", "--resume", "--quiet",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    sums = tmp_path / "run" / "nodes" / "chunks.npy"
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 120
    while not sums.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = np.count_nonzero(np.load(sums) >= 0)
    assert 0 < done < 8
    assert not (tmp_path / "run" / "metric.npz").exists()
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    with np.load(tmp_path / "run" / "metric.npz") as stored:
        exact = np.eye(2) * (1 + stored["axis_0"][:, None, None, None] ** 2)
        np.testing.assert_allclose(stored["metric"], np.broadcast_to(exact, (8, 8, 2, 2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("geodesic", HALF_PLANE, "--start", "0,1"), "--end or --velocity, one of the two"),
        (("geodesic", HALF_PLANE, "--start", "0,x", "--end", "1,1"), "got '0,x'"),
        (("geodesic", HALF_PLANE, "--start", "0,1", "--end", "1"), "needs 2 numbers, as --start"),
        (("geodesic", HALF_PLANE, "--start", "0,nan", "--end", "1,1"), "nan"),
        (("geodesic", "half_plane", "--start", "0,1", "--end", "1,1"), "got 'half_plane'"),
        (("geodesic", "no.such:metric", "--start", "0,1", "--end", "1,1"), "No module named"),
        (("geodesic", "no/such.py:m", "--start", "0,1", "--end", "1,1"), "No such file"),
        (("geodesic", "jaxgeo.problems:none", "--start", "0", "--end", "1"), "has no 'none'"),
        (("geodesic", "{own}:number", "--start", "0", "--end", "1"), "no callable but a int"),
        (("geodesic", "{own}.npz", "--start", "0", "--end", "1"), "no .npz archive"),
        (("geodesic", "{other}.npz", "--start", "0", "--end", "1"), "needs axis_0, axis_1"),
        (("geodesic", "{own}:wrong", "--start", "0,1", "--end", "1,1"), r"(3, 3)"),
        (("grid", HALF_PLANE, "--axis", "1,0,5", "--out", "{out}"), "LOWER < UPPER"),
        (("grid", HALF_PLANE, "--axis", "0,1,2.5", "--out", "{out}"), "got '0,1,2.5'"),
        (("grid", HALF_PLANE, "--axis", "0,1", "--out", "{out}"), "got '0,1'"),
        (("grid", "{own}:wrong", "--axis", "0,1,2", "--out", "{out}"), "(1, 1)"),
        (("grid", HALF_PLANE, "--axis", "0,1,2", "--out", "{out}", "--chunk", "0"), "got 0"),
        (("grid", HALF_PLANE, "--axis", "0,1,2", "--out", "{own}"), "cannot write"),
    ],
)
def test_bad_input_exits_with_2_and_says_what(arguments, message, own, tmp_path):
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    places = {"own": own, "out": tmp_path / "out", "other": tmp_path / "other"}
    ended = run(*(argument.format(**places) for argument in arguments))
    assert ended.exit_code == 2, ended.output
    assert message in ended.stderr
