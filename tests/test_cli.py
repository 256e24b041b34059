"""The command line: arrays in, report and pictures out; bad input is refused by exit code 2."""

import functools
import json

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import jaxgeo
from jaxgeo.cli import app
from jaxgeo.reconstruction import Schedule, fit_log_partition
from jaxgeo.report import metric_errors


@pytest.fixture
def arrays(tmp_path):
    rng = np.random.default_rng(0)
    parameters = rng.uniform(-1, 1, (600, 2))
    np.save(tmp_path / "x.npy", 2 * parameters + rng.normal(size=(600, 2)))
    np.save(tmp_path / "t.npy", parameters)
    return tmp_path


def invoke(folder, *more, samples="x.npy", parameters="t.npy", out="out"):
    return CliRunner().invoke(
        app,
        ["reconstruct", "--samples", str(folder / samples), "--parameters",
         str(folder / parameters), "--out", str(folder / out), "--quiet", *more],
    )  # fmt: skip


def test_reconstruct_writes_report_metric_and_pictures(arrays, monkeypatch):
    """x ~ N(2t, 1): the metric is 4·1 everywhere, here from 600 samples, roughly."""
    quick = Schedule(steps=200, learning_rate=1e-2, batch_size=128, every=100)
    monkeypatch.setattr(
        jaxgeo,
        "fit_log_partition",
        functools.partial(fit_log_partition, schedules=3 * (quick,), width=8, networks=2),
        raising=False,
    )
    with jax.enable_x64(False):
        result = invoke(arrays, "--domain", "-1,1", "--domain", "-1,1", "--nodes", "9", "--json")
    assert result.exit_code in (0, 1), result.output
    report = json.loads((arrays / "out" / "report.json").read_text())
    assert report["samples"] == 600
    assert np.isfinite(report["fit"]["held_out_cross_entropy"])
    assert set(report["geodesics"]) == {"diagonal", "anti-diagonal"}
    with np.load(arrays / "out" / "metric.npz") as stored:
        metric = stored["metric"]
    assert metric.shape == (9, 9, 2, 2)
    exact = np.broadcast_to(4 * np.eye(2), (9, 9, 2, 2))
    assert np.median(metric_errors(metric, exact)) < 1
    for name in ("log_partition", "metric", "geodesics", "training"):
        assert (arrays / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("spoil", "more", "message"),
    [
        (lambda d: np.save(d / "x.npy", np.zeros((7, 2))), (), "7 samples and 600 parameters"),
        (lambda d: (d / "x.npy").write_text("1,2,3"), (), "not a .npy file that can be read"),
        (
            lambda d: np.save(d / "x.npy", np.array(["a", "b"])),
            (),
            "holds no numbers but dtype <U1",
        ),
        (lambda d: (d / "x.npy").unlink(), (), "not a .npy file that can be read"),
        (lambda d: (d / "out").write_text("a file"), (), "cannot write to the directory"),
        (lambda d: None, ("--domain", "1;2"), "two numbers; got '1;2'"),
        (lambda d: None, ("--domain", "1,-1", "--domain", "-1,1"), "got 1.0 >= -1.0"),
        (lambda d: None, ("--domain", "-1,0", "--domain", "-1,1"), "must lie in domain"),
        (lambda d: None, ("--natural-coordinates", "best"), "got 'best'"),
        (lambda d: None, ("--nodes", "2"), "at least 4 nodes a side, got 2"),
    ],
)
def test_bad_input_exits_with_2_and_says_what(arrays, spoil, more, message):
    spoil(arrays)
    result = invoke(arrays, *more)
    assert result.exit_code == 2
    assert message in result.output


def test_pickles_are_never_loaded(arrays):
    np.save(arrays / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    result = invoke(arrays)
    assert result.exit_code == 2
    assert "not a .npy file that can be read" in result.output


def test_version():
    assert CliRunner().invoke(app, ["--version"]).output.strip() == jaxgeo.__version__


def test_metric_errors_are_those_of_the_affine_invariant_distance():
    g = np.array([[2.0, 0.3], [0.3, 1.0]])
    assert metric_errors(np.e * g[None], g[None])[0] == pytest.approx(2**0.5)
    assert metric_errors(-g[None], g[None])[0] == np.inf
    assert np.isnan(metric_errors(g[None], -g[None])[0])
