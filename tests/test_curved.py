"""Curved exponential families against closed forms: metric, scores, failures, resumption."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgeo as jg
from jaxgeo import report
from jaxgeo._results import describe
from jaxgeo.reconstruction import Schedule, curved, fit_curved_family
from jaxgeo.reconstruction.curved import _judge
from jaxgeo.reconstruction.objectives import information_mismatch, likelihood_mismatch
from jaxgeo.training import Trace

DOMAIN = np.array([[0.5, 2.0], [-1.0, 1.0]])
NOISE = 0.4
QUICK = (
    Schedule(1_200, 1e-2, 256, every=300, optimizer="muon"),
    Schedule(600, 1e-2, 512, every=300, optimizer="muon"),
)
SHORT = tuple(schedule._replace(steps=100, every=100) for schedule in QUICK)


def polar(key, t):
    """Points of the plane about (r cos θ, r sin θ): Fisher metric diag(1, r²) / NOISE²."""
    r, angle = t.T
    mean = jnp.stack([r * jnp.cos(angle), r * jnp.sin(angle)], axis=1)
    return mean + NOISE * jax.random.normal(key, mean.shape, mean.dtype)


def fit(simulator=polar, schedules=QUICK, **options):
    """With no more fresh samples than its steps take: to simulate them is what takes long."""
    with pytest.MonkeyPatch.context() as patch:
        first = schedules[0]
        patch.setattr(curved, "FRESH", first.every * first.batch_size)
        return fit_curved_family(
            simulator, key=jax.random.key(0), domain=DOMAIN, schedules=tuple(schedules), width=32,
            progress=False, **options,
        )  # fmt: skip


@pytest.fixture(scope="module")
def streamed():
    return fit()


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(0).uniform(*DOMAIN.T, (200, 2)).astype(np.float32)


def exact(points):
    r = points[:, 0].astype(float)
    return np.stack([np.diag([1.0, x**2]) for x in r]) / NOISE**2


def test_metric_of_a_streamed_family(streamed, points):
    assert streamed.result == jg.RESULTS.successful
    metric = np.asarray(jax.jit(jax.vmap(streamed.metric))(points), float)
    errors = report.metric_errors(metric, exact(points))
    assert np.median(errors) < 0.15
    assert np.quantile(errors, 0.95) < 0.5
    assert abs(streamed.scale - 1) < 0.05 + 2 * streamed.scale_error


def test_score_is_that_of_the_closed_form(streamed, points):
    x = polar(jax.random.key(5), jnp.asarray(points))
    found = np.asarray(jax.vmap(streamed.score)(x, points), float)
    r, angle = points.T.astype(float)
    out = np.asarray(x, float) - np.stack([r * np.cos(angle), r * np.sin(angle)], 1)
    along = np.stack([np.cos(angle), np.sin(angle)], 1)
    across = np.stack([-np.sin(angle), np.cos(angle)], 1)
    score = np.stack([np.sum(out * along, 1), r * np.sum(out * across, 1)], 1) / NOISE**2
    white = (found - score) * NOISE / np.stack([np.ones_like(r), r], 1)
    assert np.mean(white**2) < 0.05  # of a score whose components have unit variance


def test_score_is_the_derivative_of_log_weight(streamed):
    x, t = jnp.array([1.0, 0.3]), jnp.array([1.2, 0.1])
    derivative = jax.grad(lambda t: streamed.log_weight(x, t))(t)
    np.testing.assert_allclose(streamed.score(x, t), derivative, rtol=1e-5)
    weight = streamed.statistic(x) @ streamed.natural_coordinates(t) - streamed.log_normalizer(t)
    np.testing.assert_allclose(streamed.log_weight(x, t), weight, rtol=1e-4)
    assert streamed.log_weight(x, jnp.array([3.0, 0.1])) == -jnp.inf
    assert streamed.natural_coordinates(t).shape == (16,)


def test_cross_entropy_of_the_posterior_is_the_exact_one(streamed):
    key = jax.random.key(9)
    t = jax.random.uniform(key, (4096, 2), jnp.float32, *jnp.asarray(DOMAIN.T, jnp.float32))
    x = np.asarray(polar(jax.random.key(10), t), float)
    mean = np.asarray(polar_means(t), float)
    weights = -((x[:, None] - mean[None]) ** 2).sum(-1) / (2 * NOISE**2)
    nats = np.log(np.exp(weights).sum(1)) - np.diagonal(weights)
    error = np.hypot(nats.std() / 64, streamed.held_out_cross_entropy_error)
    assert abs(streamed.held_out_cross_entropy - nats.mean()) < 3 * error + 0.02


def test_every_member_is_judged_by_itself_and_their_mean_is_the_family(streamed):
    """As the formula has it, in groups of 256 samples."""
    t = jax.random.uniform(jax.random.key(1), (512, 2), minval=0.5, maxval=1.0)
    x = polar(jax.random.key(2), t)
    family = streamed.family
    f = np.asarray(jax.vmap(family.statistic)(x), float)
    losses, charts = [], []
    for member in family.chart.members:
        both = np.asarray(jax.vmap(member)(t), float)
        charts.append(both)
        for i in range(512):
            group = slice(0, 256) if i < 256 else slice(256, 512)
            weights = both[group, :-1] @ f[i] - both[group, -1]
            losses.append(np.log(np.exp(weights - weights[i % 256]).sum()))
    np.testing.assert_allclose(likelihood_mismatch(family, (x, t)), np.mean(losses), rtol=1e-4)
    assert np.abs(charts[0] - charts[1]).max() > 1e-3  # not one network four times
    mean = np.mean(charts, axis=0)
    eta = jax.vmap(streamed.natural_coordinates)(t)
    np.testing.assert_allclose(eta, mean[:, :-1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        jax.vmap(streamed.log_normalizer)(t), mean[:, -1], rtol=1e-4, atol=1e-4
    )


def test_information_of_every_member_and_of_their_mean(streamed):
    t, scores = jnp.array([[1.0, 0.2], [0.7, -0.4]]), jnp.array([[1.0, 2.0], [-3.0, 0.5]])
    roots = np.asarray(jax.vmap(streamed.metric.roots)(t), float)  # (2, 4, 2, 2)
    metrics = np.linalg.inv(np.einsum("nmka,nmkb->nmab", roots, roots))
    s = np.asarray(scores, float)
    found = [
        0.5 * s[n] @ np.linalg.solve(g, s[n]) + 0.5 * np.log(np.linalg.det(g))
        for n in range(2)
        for g in metrics[n]
    ]
    exact = information_mismatch(streamed.metric, (scores, t))
    np.testing.assert_allclose(exact, np.mean(found), rtol=1e-4)
    # entries are logarithms of sizes: their mean's determinant is the geometric mean
    logs = 0.5 * np.log(np.linalg.det(metrics)).mean(axis=1)
    middle = 0.5 * np.log(np.linalg.det(np.asarray(jax.vmap(streamed.metric)(t), float)))
    np.testing.assert_allclose(middle, logs, rtol=1e-4)


def polar_means(t):
    return jnp.stack([t[:, 0] * jnp.cos(t[:, 1]), t[:, 0] * jnp.sin(t[:, 1])], axis=1)


def test_metric_composes_with_geodesics(streamed):
    start, end = jnp.array([0.8, -0.5]), jnp.array([1.5, 0.5])
    curve = jg.geodesic_bvp(streamed.metric, start, end, solver=jg.Relaxation(64))
    assert curve.result == jg.RESULTS.successful
    a, b = np.asarray(polar_means(jnp.stack([start, end])), float)
    # the plane is flat: its geodesics are straight lines
    np.testing.assert_allclose(curve.stats["length"], np.linalg.norm(b - a) / NOISE, rtol=0.05)


def test_a_generator_that_is_never_mistaken_leaves_the_scale_open():
    with pytest.raises(RuntimeError, match=describe(jg.RESULTS.scale_unresolved)):
        fit(lambda key, t: t, schedules=SHORT)


def test_log_odds_that_held_out_samples_contradict_are_called_so():
    traces = {"likelihood": Trace(np.arange(2), np.ones(2), np.ones(2))}
    assert _judge(traces, 0.7, 0.05, True) == jg.RESULTS.overfitted
    assert _judge(traces, 0.85, 0.05, True) == jg.RESULTS.successful  # within two errors of 0.9
    assert _judge(traces, 1.3, 0.05, True) == jg.RESULTS.not_converged
    assert _judge(traces, 1.15, 0.05, True) == jg.RESULTS.successful  # within two errors of 1.1
    assert _judge(traces, np.nan, np.nan, True) == jg.RESULTS.scale_unresolved
    traces["information"] = Trace(np.arange(2), np.ones(2), np.array([1.0, np.nan]))
    assert _judge(traces, 1.0, 0.05, True) == jg.RESULTS.nonfinite


def test_training_that_diverges_is_nonfinite():
    wild = [Schedule(100, 1e30, 256, every=100)] * 2
    assert fit(schedules=wild, throw=False).result == jg.RESULTS.nonfinite


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistics": 1}, "statistics must be at least d = 2, got 1"),
        ({"simulator": lambda key, t: t[:5]}, "must return one sample a row of parameters"),
        ({"simulator": lambda key, t: t / 0}, "samples that are not finite: inf"),
        ({"schedules": [Schedule(1, 1.0, 256, optimizer="sgd")] * 2}, "got 'sgd'"),
        ({"schedules": [Schedule(1, 1.0, 300)] * 2}, "must be a multiple of 256, got 300"),
    ],
)
def test_input_that_cannot_be_fitted(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)


def test_a_run_that_was_cut_off_goes_on_to_the_same_end(tmp_path):
    calls = iter(range(10**6))

    def failing(key, t):
        if next(calls) > 20:  # samples of the second training, 13 for each
            raise KeyboardInterrupt
        return polar(key, t)

    with pytest.raises(KeyboardInterrupt):
        fit(failing, schedules=SHORT, checkpoint=tmp_path)
    resumed = fit(schedules=SHORT, checkpoint=tmp_path)
    whole = fit(schedules=SHORT)
    t = jnp.array([1.0, 0.2])
    np.testing.assert_array_equal(resumed.metric(t), whole.metric(t))
    np.testing.assert_array_equal(
        resumed.history["likelihood"].held_out_loss, whole.history["likelihood"].held_out_loss
    )
    with pytest.raises(ValueError, match="other data or settings"):
        fit_curved_family(
            polar, key=jax.random.key(1), domain=DOMAIN, checkpoint=tmp_path, progress=False
        )
