"""How fit_log_partition ends where there is nothing to fit, and when it is stopped."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brief_fits import BRIEF, SQUARE, gaussian

from jaxgeo import RESULTS
from jaxgeo._results import describe
from jaxgeo.reconstruction import Identity, fit_log_partition


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


def run_fit(folder, name, stop=None):
    """Run resumable_fit.py with the checkpoint `name`; with `stop`, that signal must end it. Later
    runs find what the first one compiled."""
    script, out = Path(__file__).with_name("resumable_fit.py"), folder / f"{name}.npz"
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    arguments = [folder / name, out] if stop is None else [folder / name, out, str(int(stop))]
    process = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True,
        env=os.environ | cache,
    )  # fmt: skip
    if stop is None:
        assert process.returncode == 0, process.stderr
        return np.load(out)
    assert process.returncode != 0, "the fit was not stopped"
    assert not out.exists()
    return None


def test_a_fit_killed_and_then_interrupted_resumes_to_the_same_end(tmp_path):
    whole = run_fit(tmp_path, "whole")
    for stop in (signal.SIGKILL, signal.SIGINT):
        run_fit(tmp_path, "stopped", stop=stop)
    resumed = run_fit(tmp_path, "stopped")
    for name in ("log_partition", "metric"):
        np.testing.assert_allclose(resumed[name], whole[name], rtol=1e-5)
