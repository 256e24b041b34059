"""The diffusion demonstration on few samples: every file it promises, bad input by exit code 2."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import jaxgeo as jg
from jaxgeo._results import RESULTS, describe
from jaxgeo.cli import app
from jaxgeo.demos.diffusion import boundary, pictures, run, slices, spacetime
from jaxgeo.reconstruction import curved
from jaxgeo.slices import load_slice
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
            "--steps", 200, "--checkpoint", folder / "states",
        )  # fmt: skip
    assert result.exit_code == 1, (result.output, result.exc_info)  # twenty steps do not fit it
    facts = json.loads((folder / "out" / "report.json").read_text())
    states = folder / "states"
    return types.SimpleNamespace(
        facts=facts, out=folder / "out", text=result.output, states=states
    )


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


def test_a_slice_that_was_not_fitted_is_no_success(report):
    [found] = report.facts["slices"]
    assert found["result"] == describe(RESULTS.overfitted)
    assert report.facts["fit"]["result"] == found["result"]
    assert found["result"] in report.text
    assert found["not_positive_definite"] == []


def test_what_is_computed_is_kept(report):
    kept = {path.relative_to(report.states).parts[:2] for path in report.states.rglob("*.*")}
    assert {("slice-0", "samples"), ("slice-0", "metric")} <= kept
    assert {"denoiser", "classifier"} <= {parts[0] for parts in kept}
    assert load_slice(report.states / "slice-0" / "samples").samples.shape == (33, 33, 4, 4)


def a_pair(same_phase, **lengths):
    """Of curves with these feature lengths."""
    curve = np.zeros((2, 2))
    return slices.Pair(
        same_phase, dict.fromkeys(lengths, curve),
        {kind.replace("_", " "): {"PPL": value} for kind, value in lengths.items()}, {},
    )  # fmt: skip


def test_means_are_over_the_same_pairs():
    found = [
        a_pair(True, straight=2.0, reconstructed=1.0),
        a_pair(False, straight=8.0, reconstructed=5.0, exact_pullback=2.0),
        a_pair(False, straight=9.0),
    ]
    table = slices.compared(found)
    assert [table[group]["pairs"] for group in table] == [3, 1, 2]
    learned = table["all pairs"]["reconstructed"]
    assert learned["curves found"] == 2
    assert learned["PPL"]["mean"] == 3.0
    assert learned["PPL"]["less than straight by"] == {
        "mean": 2.0, "standard deviation": 1.0, "standard error": pytest.approx(0.5**0.5)
    }  # fmt: skip
    assert table["all pairs"]["straight"]["PPL"]["mean"] == pytest.approx(19 / 3)
    assert table["across phases"]["exact pullback"]["PPL"]["mean"] == 2.0
    assert table["same phase"]["exact pullback"] == {"curves found": 0}


@pytest.mark.parametrize(
    ("ends", "same"),
    [
        ([[-0.4, -0.4], [0.4, -0.3]], True),
        ([[-0.4, 1.4], [0.4, -0.3]], True),
        ([[0.4, 0.0], [0.6, 0.0]], False),
        ([[-0.4, 0.9], [1.4, 0.9]], False),
    ],
)
def test_ends_are_in_one_phase_or_two(ends, same):
    plane = jg.slices.Slice(*jnp.eye(3))
    numbers = np.zeros((slices.NODES, slices.NODES), int)
    numbers[slices.NODES // 2 :] = 1  # α from 0.5 on
    diagram = slices.PhaseDiagram(plane, None, numbers, [])
    found = slices.Study(diagram, None, {}, None, {}, {})
    ends = np.array(ends, np.float32)
    pair = slices._pair(found, {}, numbers, lambda z: ({"PPL": 0.0}, z), ends)
    assert pair.same_phase is same
    assert set(pair.measures) == {"straight", "spherical"}
    for line in pair.strips.values():  # what is measured begins and ends at the ends
        np.testing.assert_allclose(line[[0, -1]], jax.vmap(plane)(jnp.asarray(ends)), atol=1e-6)


def test_a_metric_that_is_none_is_left_out_and_named(tmp_path):
    axis = jnp.linspace(*slices.DOMAIN, 9)
    good = np.broadcast_to(np.eye(2), (9, 9, 2, 2)) * np.exp(np.asarray(axis))[:, None, None, None]
    bad, missing = good.copy(), good.copy()
    bad[3, 4] = [[1, 2], [2, 1]]
    missing[0, 0] = np.nan
    assert slices.is_metric(good)
    assert not slices.is_metric(bad)
    assert not slices.is_metric(missing)
    assert slices.ridges_of((axis, axis), bad) == []
    assert slices.agreement(missing, good)["median_metric_error"] < 1e-12
    kinds = {"exact pullback": good, "reconstructed": bad, "pixel pullback": missing}
    found = slices.Study(None, (axis, axis), kinds, None, {"exact pullback": []}, {})
    assert list(found.usable) == ["exact pullback"]
    pictures._draw_metrics(tmp_path, [found])
    assert (tmp_path / "metric.png").stat().st_size > 0


def test_log_z_is_levelled():
    axis = jnp.linspace(-1, 1, 9)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    levelled = slices.level((axis, axis), 3 + 2 * x - y + x * y)
    np.testing.assert_allclose(levelled, x * y, atol=1e-12)


@pytest.mark.parametrize(("result", "name"), [("successful", "geodesic"), ("other", "FAILED")])
def test_a_voyage_that_failed_is_not_drawn_as_a_geodesic(result, name):
    images = np.zeros((5, 4, 4))
    figure = pictures._draw_voyage(spacetime.Voyage(images, images, {"result": result}))
    assert [ax.get_ylabel() for ax in figure.axes] == [name, "straight"]
