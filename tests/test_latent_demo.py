"""The latent demonstration on few samples: every file it promises, bad input by exit code 2."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from jaxgeo import plotting
from jaxgeo.cli import app
from jaxgeo.demos.latent import pictures, run

FEW = {"CENTROIDS": 12, "AMBIENT": 20, "NODES": 15, "SOURCES": 12, "DRAWS": 64}


def invoke(*args):
    return CliRunner().invoke(app, ["demo", "latent", "--quiet", *map(str, args)])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A user's own images, bright spots on a ring, with the side they are on as class."""
    folder = tmp_path_factory.mktemp("latent")
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 150)
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing="ij"), axis=-1)
    centre = 2.5 + 1.6 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    spots = np.exp(-np.sum((grid[None] - centre[:, None, None]) ** 2, axis=-1) / 2)
    np.save(folder / "x.npy", spots + 0.05 * rng.normal(size=spots.shape))
    np.save(folder / "y.npy", (angle > np.pi).astype(int))
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(False):
        for name, value in FEW.items():
            patch.setattr(run, name, value)
        patch.setattr(pictures, "SHOWN", 2)
        whole = run._metrics
        patch.setattr(run, "_metrics", lambda *a: {"RHVAE": whole(*a)["RHVAE"]})
        result = invoke(
            "--samples", folder / "x.npy", "--classes", folder / "y.npy", "--out", folder / "out",
            "--likelihood", "gaussian:0.1", "--pairs", 3, "--steps", 300, "--flow-steps", 5,
        )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exc_info)
    facts = json.loads((folder / "out" / "report.json").read_text())
    return types.SimpleNamespace(facts=facts, out=folder / "out", text=result.output)


def test_every_file_is_written_and_every_figure_is_a_number(report):
    for name in ("training", "latent", "distances", "strips", "samples"):
        assert (report.out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    near = report.facts["distance_to_data"]
    assert near["pairs"] == 3
    found = near["RHVAE"]
    assert found["geodesics found"] >= 2
    assert found["nearer by"]["mean"] == pytest.approx(
        found["straight lines"]["mean"] - found["geodesics"]["mean"], abs=1e-9
    )
    assert 0 < near["decoded samples"] < 1
    assert report.facts["clusters"]["points"] == 12
    assert report.facts["distance_maps_failed"] == {"RHVAE": 0}
    assert np.isfinite(report.facts["samples"]["inverse volume"]["mean"])
    assert report.facts["fit"]["result"] == "successful"
    for model in ("VAE", "RHVAE"):
        evidence = report.facts["evidence"][model]
        assert evidence["bound"] < evidence["of 32 weights"]
    assert "nearer by" in report.text


def test_distances_of_the_report_are_between_their_bounds(report):
    stored = np.load(report.out / "latent.npz")
    own, euclidean = stored["distances"]
    np.testing.assert_allclose(own, own.T)
    chart = np.linalg.norm(stored["unseen"][:12, None] - stored["unseen"][None, :12], axis=-1)
    np.testing.assert_allclose(euclidean, chart, rtol=1e-6)
    # no way is shorter than the least metric allows, none need be longer than the floor's line
    least, most = np.exp(stored["log_volume_0"].min() / 2) * 0.5, 10.0
    away = ~np.eye(12, dtype=bool)
    assert np.all(own[away] > least * chart[away])
    assert np.all(own[away] < most * chart[away] + 0.1)
    assert stored["log_volume_0"].shape == (15, 15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--likelihood", "poisson"), "belong to samples of your own: give --samples"),
        (("--pairs", "0"), "must be ≥ 1, got 0"),
        (("--samples", "{few}"), "must be finite, of shape (n, ...) with n ≥ 100, got (5, 4)"),
        (("--samples", "{few}", "--likelihood", "cauchy"), "or gaussian:SIGMA, got 'cauchy'"),
        (("--samples", "{few}", "--likelihood", "binomial:x"), "got 'binomial:x'"),
        (("--samples", "{enough}", "--classes", "{few}"), "classes must have shape (100,)"),
    ],
)
def test_bad_input_exits_with_2(tmp_path, arguments, message):
    paths = {"few": (5, 4), "enough": (100, 4)}
    for name, shape in paths.items():
        np.save(tmp_path / f"{name}.npy", np.zeros(shape))
    filled = [a.format(**{k: tmp_path / f"{k}.npy" for k in paths}) for a in arguments]
    result = invoke("--out", tmp_path / "out", *filled)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_the_pictures_put_things_where_they_belong():
    axes = np.linspace(-1, 1, 5), np.linspace(0, 2, 7)
    points = np.random.default_rng(0).uniform(size=(9, 2))
    curve = np.array([[0.0, 0.0], [0.5, 1.0], [1.0, 0.0]])
    ax = plotting.latent_map(
        axes, np.zeros((5, 7)), points, classes=np.arange(9) % 3, geodesics=[curve], title="g"
    )
    drawn = [line.get_xydata() for line in ax.lines]
    assert (
        sum(len(d) == 3 and np.array_equal(d, points[k::3]) for d in drawn for k in range(3)) == 3
    )
    assert any(np.array_equal(d, curve) for d in drawn)
    assert any(np.array_equal(d, curve[[0, -1]]) for d in drawn)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["0", "1", "2", "geodesic", "straight"]
    rows = {"a": [np.zeros((20, 3, 4))], "b": [np.ones((20, 3, 4))]}
    grid = plotting.image_strips(rows, shades=5)
    assert grid.shape == (2, 1)
    assert grid[0, 0].images[0].get_array().shape == (3, 5 * 5 - 1)
    assert grid[1, 0].get_ylabel() == "b"
    with pytest.raises(ValueError, match="as many rows of every kind"):
        plotting.image_strips({"a": rows["a"], "b": []})
    tiles = plotting.image_grids({"x": jnp.zeros((17, 3, 4))}, columns=8)
    assert tiles[0, 0].images[0].get_array().shape == (
        11,
        39,
    )  # with room for the seven that are missing
    matrix = np.arange(9.0).reshape(3, 3)
    ax = plotting.distance_matrices({"d": matrix}, classes=np.array([1, 0, 1]))[0, 0]
    expected = matrix[np.ix_([1, 0, 2], [1, 0, 2])]
    np.testing.assert_array_equal(ax.images[0].get_array(), expected)
