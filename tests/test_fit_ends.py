"""How fit_log_partition ends where there is nothing to fit, and when it is stopped."""

import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import resumable_fit
from brief_fits import BRIEF, SQUARE, gaussian

from jaxgeo import RESULTS
from jaxgeo._batching import each
from jaxgeo._results import describe
from jaxgeo.reconstruction import Identity, fit_log_partition
from jaxgeo.training import Checkpoint, Trace


def test_overfitted_fit_is_not_called_converged():
    """200 samples with 400 features of noise: surer of the seen than of the unseen."""
    x, theta = gaussian(200, 5)
    noise = np.random.default_rng(6).normal(size=(200, 400)).astype(np.float32)
    fit = fit_log_partition(
        np.c_[3 * noise, x], theta, key=jax.random.key(0), domain=SQUARE, summary=Identity(),
        throw=False, **BRIEF,
    )  # fmt: skip
    assert bool(fit.result == RESULTS.overfitted)


def test_deterministic_samples_leave_the_scale_unresolved():
    _, theta = gaussian(256, 0)
    with pytest.raises(RuntimeError, match=describe(RESULTS.scale_unresolved)):
        fit_log_partition(
            theta, theta, key=jax.random.key(0), domain=SQUARE, summary=Identity(), **BRIEF
        )


X, T = gaussian(200, 0)


def broken(array, value):
    array = array.copy()
    array.flat[5] = value
    return array


@pytest.mark.parametrize(
    ("samples", "parameters", "domain", "message"),
    [
        (X[:150], T, SQUARE, "150 samples and 200 parameters"),
        (X, broken(T, 3.0), SQUARE, r"must lie in domain .* 3\.0\] in row 2"),
        (broken(X, np.nan), T, SQUARE, "samples must be finite, got nan in row 2"),
        (broken(X, np.inf), T, SQUARE, "samples must be finite, got inf in row 2"),
        (X, broken(T, np.nan), SQUARE, "parameters must be finite, got nan in row 2"),
        (X, T, [[2.0, -2.0], [-2.0, 2.0]], "got 2.0 >= -2.0 for parameter 0"),
        (X, T, [[-2.0, np.inf], [-2.0, 2.0]], "domain must be finite"),
        (X, T, [-2.0, 2.0], r"domain must have shape \(d, 2\).*got shape \(2,\)"),
        (X, T[:, 0], SQUARE, r"parameters must have shape \(n, 2\).*got shape \(200,\)"),
        (X[:100], T[:100], SQUARE, "at least 128 samples, got 100"),
        (np.array(["a"] * 200), T, SQUARE, "samples must be numbers, got dtype <U1"),
        (X, None, SQUARE, "parameters are needed with samples"),
        (lambda key, t: t, T, SQUARE, r"parameters must be None with a simulator.*\(200, 2\)"),
        (lambda key, t: t[:7], None, SQUARE, r"one sample a row.*\(7, 2\)"),
        (lambda key, t: t * np.nan, None, SQUARE, "not finite: nan"),
    ],
)
def test_bad_input_is_refused(samples, parameters, domain, message):
    with pytest.raises(ValueError, match=message):
        fit_log_partition(samples, parameters, key=jax.random.key(0), domain=domain)


def test_natural_coordinates_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="must map a point to a finite vector"):
        fit_log_partition(X, T, key=jax.random.key(0), domain=SQUARE, natural_coordinates=jnp.log)
    with pytest.raises(ValueError, match="got 'guessed'"):
        fit_log_partition(
            X, T, key=jax.random.key(0), domain=SQUARE, natural_coordinates="guessed"
        )


def test_no_network_is_refused():
    with pytest.raises(ValueError, match="networks must be at least 1, got 0"):
        fit_log_partition(X, T, key=jax.random.key(0), domain=SQUARE, networks=0)


def test_checkpoint_of_another_fit_is_refused(tmp_path):
    arguments = {"key": jax.random.key(0), "checkpoint": tmp_path, "domain": SQUARE}
    with pytest.raises(ValueError, match="finite vector"):  # stopped, but the directory is its own
        fit_log_partition(X, T, natural_coordinates=jnp.log, **arguments)
    with pytest.raises(ValueError, match="belongs to a fit of other data"):
        fit_log_partition(X[:150], T[:150], natural_coordinates=jnp.log, **arguments)


def resumable_fit_here(monkeypatch, folder, stop=None):
    """The potential, the metric and the traces of the fit, and how many states it saved; None for
    what it found if `stop` stopped it."""
    grid = np.linspace(1.0, 20.0, 50, dtype=np.float32)[:, None]
    with monkeypatch.context() as patch, jax.enable_x64(False):
        save, saved = resumable_fit.count_saves(stop)
        patch.setattr(Checkpoint, "save", save)
        if stop is not None:
            with pytest.raises(KeyboardInterrupt):
                resumable_fit.run(folder)
            return None, saved[0]
        fit = resumable_fit.run(folder)
        values = each(fit.log_partition, np.log(grid))
        # the best state may be older than the interruption: traces know what came after
        traces = [t.held_out_loss for t in fit.history.values() if isinstance(t, Trace)]
        return (values, each(fit.metric, grid), *traces), saved[0]


def test_a_fit_killed_and_then_interrupted_resumes_to_the_same_end(tmp_path, monkeypatch):
    """Killed in a process of its own, interrupted and resumed in this one: what it saved is saved
    once."""
    process = subprocess.run(
        [sys.executable, resumable_fit.__file__, tmp_path / "stopped", str(int(signal.SIGKILL))],
        capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == -signal.SIGKILL, process.stderr
    whole, all_states = resumable_fit_here(monkeypatch, tmp_path / "whole")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # workers may ignore it
    try:
        _, some = resumable_fit_here(monkeypatch, tmp_path / "stopped", signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    resumed, others = resumable_fit_here(monkeypatch, tmp_path / "stopped")
    assert (some, others) == (2, all_states - 4)
    for found, expected in zip(resumed, whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
