"""The diffusion demonstration on few samples: every file it promises, bad input by exit code 2."""

import json
import types

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from jaxgeo.cli import app
from jaxgeo.demos.diffusion import boundary, run, slices
from jaxgeo.reconstruction import curved
from jaxgeo.training import Schedule

FEW = {"NODES": 33, "METRIC": 17, "POINTS": 9}
BRIEF = Schedule(steps=20, learning_rate=1e-2, batch_size=256, every=10, optimizer="muon")


def invoke(*args):
    return CliRunner().invoke(app, ["demo", "diffusion", "--quiet", *map(str, args)])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A user's own images, bright spots on a ring; k-means names the phases."""
    folder = tmp_path_factory.mktemp("diffusion")
    rng = np.random.default_rng(0)
    angle = rng.integers(0, 4, 200) * np.pi / 2
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), axis=-1)
    centre = 1.5 + 1.2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    spots = np.exp(-np.sum((grid[None] - centre[:, None, None]) ** 2, axis=-1))
    np.save(folder / "x.npy", spots + 0.05 * rng.normal(size=spots.shape))
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(False):
        for name, value in FEW.items():
            patch.setattr(slices, name, value)
        patch.setattr(slices, "SHORT", (BRIEF, BRIEF))
        patch.setattr(curved, "FRESH", 2048)
        patch.setattr(run, "CLUSTERS", 4)
        patch.setattr(run, "SAMPLER_STEPS", 4)
        patch.setattr(boundary, "VIEWS", boundary.Views((("float32", 4),), (), 33, (4,)))
        result = invoke(
            "--samples", folder / "x.npy", "--out", folder / "out", "--slices", 1, "--pairs", 3,
            "--steps", 200,
        )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exc_info)
    facts = json.loads((folder / "out" / "report.json").read_text())
    return types.SimpleNamespace(facts=facts, out=folder / "out", text=result.output)


def test_every_file_is_written(report):
    names = ("training", "slice", "metric", "geodesics", "strips", "spacetime", "samples")
    for name in names:
        assert (report.out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with np.load(report.out / "slices.npz") as stored:
        assert stored["labels"].shape == (1, 33, 33)
        assert np.linalg.eigvalsh(stored["reconstructed"]).min() > 0


def test_every_figure_is_a_number(report):
    [found] = report.facts["slices"]
    assert -1 <= found["rank_correlation_of_log_volume"] <= 1
    assert found["median_metric_error"] > 0
    table = report.facts["interpolation"]
    assert table["all pairs"]["pairs"] == 3
    assert table["same phase"]["pairs"] + table["across phases"]["pairs"] == 3
    straight, arc = (table["all pairs"][kind] for kind in ("straight", "spherical"))
    # in a renormalised slice both run along one great circle, at different speeds
    assert straight["feature length"]["mean"] == pytest.approx(
        arc["feature length"]["mean"], rel=0.1
    )
    assert straight["PPL"]["less than straight by"]["mean"] == 0
    exact = table["all pairs"]["exact pullback"]
    if exact["curves found"]:
        assert exact["feature length"]["less than straight by"]["mean"] > -0.02
    travelled = report.facts["spacetime"]
    assert travelled["result"] == "successful"
    assert travelled["energy"] < travelled["energy of the straight line"]
    assert 0 <= travelled["the network's share of negative eigenvalues"] <= 1
    assert "slice 0" in report.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pairs", "0"), "must be ≥ 1, got 3, 0, 8000"),
        (("--classes", "{few}"), "belong to samples of your own: give --samples"),
        (("--samples", "{few}"), "must be finite, of shape (n, ...) with n ≥ 100, got (5, 4)"),
    ],
)
def test_bad_input_exits_with_2(tmp_path, arguments, message):
    np.save(tmp_path / "few.npy", np.zeros((5, 4)))
    filled = [a.format(few=tmp_path / "few.npy") for a in arguments]
    result = invoke("--out", tmp_path / "out", *filled)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
